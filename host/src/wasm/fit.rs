//! Describes an export of a plugin that has the contract's name but another type: interface, function, the expected
//! type (as in the WIT) and the type found.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};

/// The contract's source.
const WIT: [&str; 5] = [
    include_str!("../../wit/v0.1/settings.wit"),
    include_str!("../../wit/v0.1/image.wit"),
    include_str!("../../wit/v0.1/security.wit"),
    include_str!("../../wit/v0.1/hooks.wit"),
    include_str!("../../wit/v0.1/cleanup.wit"),
];

/// Maximum depth of shown types.
const DEPTH: usize = 3;

/// Describes which functions of an interface do not match, and wasmtime's reason.
pub(super) fn explain(engine: &Engine, component: &Component, interface: &str, why: &wasmtime::Error) -> String {
    let why = why.root_cause().to_string().replace('\n', " ");
    let full = format!("wharf:policy/{interface}@{}", super::WIT_VERSION);
    let found = found(engine, component, interface);
    let expected = expected(interface);
    let each = expected.iter().map(|(name, expected)| match found.iter().find(|(function, _)| function == name) {
        Some((_, found)) => format!("{name}: expected {expected}, found {found}"),
        None => format!("{name}: expected {expected}, but it is missing"),
    });
    let each: Vec<_> = each.collect();
    format!("its interface {full} has another type than wit/v0.1 ({why}); {}", each.join("; "))
}

/// Returns the functions of an interface of the contract.
fn expected(interface: &str) -> Vec<(String, String)> {
    let begin = format!("interface {interface} {{");
    let Some(text) = WIT.iter().find_map(|text| text.split_once(&begin)).map(|(_, rest)| rest) else {
        return Vec::new();
    };
    let own = text.split("\n}").next().unwrap_or(text);
    let function = |line: &str| {
        let (name, ty) = line.trim().split_once(": func")?;
        Some((name.to_owned(), format!("func{}", ty.trim_end_matches(';'))))
    };
    own.lines().filter_map(function).collect()
}

/// Returns the functions of a component's interface, which may have another version of 0.1.
fn found(engine: &Engine, component: &Component, interface: &str) -> Vec<(String, String)> {
    let begin = format!("wharf:policy/{interface}@");
    let ty = component.component_type();
    let Some((_, export)) = ty.exports(engine).find(|(name, _)| name.starts_with(&begin)) else { return Vec::new() };
    let ComponentItem::ComponentInstance(instance) = export.ty else { return Vec::new() };
    let functions = instance.exports(engine).filter_map(|(name, export)| match export.ty {
        ComponentItem::ComponentFunc(function) => Some((name.to_owned(), signature(&function))),
        _ => None,
    });
    functions.collect()
}

fn signature(function: &ComponentFunc) -> String {
    let params: Vec<_> = function.params().map(|(name, ty)| format!("{name}: {}", shown(&ty, DEPTH))).collect();
    let results: Vec<_> = function.results().map(|ty| shown(&ty, DEPTH)).collect();
    let arrow = if results.is_empty() { "" } else { " -> " };
    format!("func({}){arrow}{}", params.join(", "), results.join(", "))
}

fn shown(ty: &Type, depth: usize) -> String {
    let Some(below) = depth.checked_sub(1) else { return "...".into() };
    let inner = |ty: Option<Type>| ty.map_or("_".into(), |ty| shown(&ty, below));
    let list = |all: Vec<String>| all.join(", ");
    match ty {
        Type::List(list) => format!("list<{}>", shown(&list.ty(), below)),
        Type::Option(option) => format!("option<{}>", shown(&option.ty(), below)),
        Type::Result(result) => match (result.ok(), result.err()) {
            (None, None) => "result".into(),
            (ok, None) => format!("result<{}>", inner(ok)),
            (ok, err) => format!("result<{}, {}>", inner(ok), inner(err)),
        },
        Type::Tuple(tuple) => format!("tuple<{}>", list(tuple.types().map(|ty| shown(&ty, below)).collect())),
        Type::Record(record) => {
            format!("record {{ {} }}", list(record.fields().map(|field| field.name.to_owned()).collect()))
        }
        Type::Variant(variant) => {
            format!("variant {{ {} }}", list(variant.cases().map(|case| case.name.to_owned()).collect()))
        }
        Type::Enum(all) => format!("enum {{ {} }}", list(all.names().map(str::to_owned).collect())),
        Type::Bool => "bool".into(),
        Type::Float32 => "f32".into(),
        Type::Float64 => "f64".into(),
        Type::Char => "char".into(),
        Type::String => "string".into(),
        Type::Own(_) | Type::Borrow(_) => "resource".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_of_the_contract_has_its_functions() {
        for hook in crate::hooks::Hook::ALL {
            let interface = if hook == crate::hooks::Hook::SelectImage { "image-selection" } else { hook.as_str() };
            let functions = expected(interface);
            assert!(functions.iter().all(|(_, ty)| ty.starts_with("func(")), "{functions:?}");
            assert!(!functions.is_empty(), "{interface}");
        }
        assert_eq!(expected("settings"), [("check".into(), "func(settings: json) -> result<_, string>".into())]);
        assert_eq!(
            expected("pre-stop"),
            [("pre-stop".into(), "func(input: input, settings: json) -> result<reply, string>".into())]
        );
    }
}
