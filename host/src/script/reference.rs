//! The reference of the script API, generated from the registrations.

use std::collections::BTreeMap;

use super::{engine, fields, shape};
use crate::hooks::{Hook, Limits};

/// The script API: functions by kind, and the fields of `ctx` by hook.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reference {
    /// Methods of `ctx`: signature -> description.
    pub methods: BTreeMap<String, String>,
    /// Methods of every part of `ctx`.
    pub parts: BTreeMap<String, String>,
    /// Functions without a receiver.
    pub helpers: BTreeMap<String, String>,
    /// Hook function -> field -> its description.
    pub fields: BTreeMap<&'static str, BTreeMap<String, FieldReference>>,
}

/// A field of `ctx`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldReference {
    /// `text`, `int`, `float`, `bool`, `list`, `map`, or `any`.
    pub kind: &'static str,
    /// Its meaning; empty where its parts tell it.
    pub meaning: &'static str,
    /// All values that it may have; empty if they are not a closed list.
    pub values: &'static [&'static str],
}

/// Builds the reference from the engine that scripts run in.
pub fn reference() -> Reference {
    let engine = engine::engine(&Limits::default());
    let (mut methods, mut parts, mut helpers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let registered = engine.collect_fn_metadata(
        None,
        |info| {
            let about = info.metadata;
            let text = about.comments.first()?.to_string();
            let params: Vec<String> = about.params_info.iter().map(ToString::to_string).collect();
            Some((about.name.to_string(), params, text))
        },
        false,
    );
    for (name, params, text) in registered {
        let names: Vec<&str> = params.iter().map(|param| param.split(':').next().unwrap_or(param)).collect();
        match names.split_first() {
            Some((&"ctx", rest)) => drop(methods.insert(format!("ctx.{name}({})", rest.join(", ")), text)),
            Some((&"part", rest)) => drop(parts.insert(format!("part.{name}({})", rest.join(", ")), text)),
            _ => drop(helpers.insert(format!("{name}({})", names.join(", ")), text)),
        }
    }
    let described = |(path, kind): (String, &'static str)| {
        let (meaning, values) = fields::find(&path).map_or(("", &[][..]), |field| (field.meaning, field.values));
        (path, FieldReference { kind, meaning, values })
    };
    let of_hook = |hook: Hook| (hook.function(), shape::fields(hook).into_iter().map(described).collect());
    let fields = Hook::ALL.into_iter().map(of_hook).collect();
    Reference { methods, parts, helpers, fields }
}

impl Reference {
    /// Returns the functions as Markdown tables, for `docs/scripts.md`.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (head, functions) in
            [("method", &self.methods), ("method of a part", &self.parts), ("function", &self.helpers)]
        {
            text.push_str(&format!("| {head} | description |\n| --- | --- |\n"));
            for (signature, what) in functions {
                text.push_str(&format!("| `{signature}` | {what} |\n"));
            }
            text.push('\n');
        }
        text
    }
}
