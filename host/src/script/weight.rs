//! The weight of values that a script builds, determined before anything is created from them.
//!
//! Rhai checks the size of a value only after creating it, and texts are shared: a list with the same text ten
//! thousand times weighs nothing until it is printed or passed to the host, where it becomes gigabytes. Therefore
//! every function that creates something new from a value weighs it first. The data that a script passes to the host
//! in one call has a budget, the policy's `output`.

use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, Map, NativeCallContext, Position};

use super::document::Document;

type Fallible<T> = Result<T, Box<EvalAltResult>>;

/// Returns the bytes that a value would take as text; none if it exceeds `most`.
pub(super) fn weigh(value: &Dynamic, most: usize) -> Option<usize> {
    let mut left = most;
    take(value, &mut left).then(|| most - left)
}

fn take(value: &Dynamic, left: &mut usize) -> bool {
    let mut spend = |bytes: usize| left.checked_sub(bytes).map(|rest| *left = rest).is_some();
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return spend(text.len() + 2);
    }
    if let Some(list) = value.read_lock::<Array>() {
        return spend(2) && list.iter().all(|value| take(value, left));
    }
    if let Some(map) = value.read_lock::<Map>() {
        return spend(3) && map.iter().all(|(key, value)| take_text(key, left) && take(value, left));
    }
    if let Some(document) = value.read_lock::<Document>() {
        return spend(document.value().to_string().len());
    }
    spend(8)
}

fn take_text(text: &str, left: &mut usize) -> bool {
    left.checked_sub(text.len() + 4).map(|rest| *left = rest).is_some()
}

pub(super) fn too_large<T>(what: &str, at: Position) -> Fallible<T> {
    Err(Box::new(EvalAltResult::ErrorDataTooLarge(what.to_owned(), at)))
}

/// Deducts data passed to the host from the budget of the call.
pub(super) fn charge(bytes: usize, at: Position) -> Fallible<()> {
    match super::engine::spend(bytes) {
        true => Ok(()),
        false => too_large("all data passed to the host; raise 'output' or return less", at),
    }
}

/// Deducts the weight of a value passed to the host.
pub(super) fn charge_value(value: &Dynamic, at: Position) -> Fallible<()> {
    // No policy's budget is larger than this.
    const MOST: usize = 64 << 20;
    charge(weigh(value, MOST).unwrap_or(usize::MAX), at)
}

/// Registers conversions of lists and maps to text, and replacements in texts: Rhai's own functions, with a size
/// check first.
pub(super) fn register(engine: &mut Engine) {
    for name in ["to_string", "to_debug", "print", "debug"] {
        engine.register_fn(name, |context: NativeCallContext, list: &mut Array| {
            text(&context, Dynamic::from(list.clone()))
        });
        engine
            .register_fn(name, |context: NativeCallContext, map: &mut Map| text(&context, Dynamic::from(map.clone())));
    }
    engine.register_fn("to_json", |context: NativeCallContext, map: &mut Map| -> Fallible<ImmutableString> {
        let map = Dynamic::from(map.clone());
        weighed(&context, &map)?;
        let json = super::document::from_dynamic(&map, &mut 0);
        json.map(|json| json.to_string().into())
            .map_err(|text| EvalAltResult::ErrorRuntime(text.into(), context.call_position()).into())
    });
    engine.register_fn("replace", |context: NativeCallContext, text: &mut ImmutableString, from: &str, to: &str| {
        replace(&context, text, from, to)
    });
    engine.register_fn("replace", |context: NativeCallContext, text: &mut ImmutableString, from: &str, to: char| {
        replace(&context, text, from, to.encode_utf8(&mut [0; 4]))
    });
    engine.register_fn("replace", |context: NativeCallContext, text: &mut ImmutableString, from: char, to: &str| {
        replace(&context, text, from.encode_utf8(&mut [0; 4]), to)
    });
}

fn weighed(context: &NativeCallContext, value: &Dynamic) -> Fallible<()> {
    match weigh(value, context.engine().max_string_size()) {
        Some(_) => Ok(()),
        None => too_large("Length of string", context.call_position()),
    }
}

fn text(context: &NativeCallContext, value: Dynamic) -> Fallible<ImmutableString> {
    weighed(context, &value)?;
    Ok(format!("{value:?}").into())
}

/// Replaces in place, unless the result would exceed the maximum size of a text.
fn replace(context: &NativeCallContext, text: &mut ImmutableString, from: &str, to: &str) -> Fallible<()> {
    let found = text.matches(from).count();
    let rest = text.len().saturating_sub(found.saturating_mul(from.len()));
    if rest.saturating_add(found.saturating_mul(to.len())) > context.engine().max_string_size() {
        return too_large("Length of string", context.call_position());
    }
    if found > 0 {
        *text = text.replace(from, to).into();
    }
    Ok(())
}
