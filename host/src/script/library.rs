//! What scripts see: the type `Context` (the `ctx` of every hook function), `Document`, and a few helpers.

use std::sync::{Arc, Mutex};

use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, NativeCallContext, Position};

use super::document::{Document, to_dynamic};
use super::weight::{self, charge, charge_value};
use crate::hooks::{Action, SweepChoice, SweepVerdict};

type Fallible<T> = Result<T, Box<EvalAltResult>>;

/// What a script asked for by calling methods of `ctx`.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) denial: Option<(String, String, usize)>,
    pub(super) actions: Vec<Action>,
    pub(super) delay_ms: Option<u32>,
    pub(super) verdicts: Vec<SweepVerdict>,
}

/// The argument of every hook function.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) document: Document,
    pub(super) asked: Arc<Mutex<Asked>>,
}

impl Context {
    pub(super) fn new(document: Document) -> Self {
        Self { document, asked: Arc::default() }
    }

    fn ask(&self, change: impl FnOnce(&mut Asked)) {
        change(&mut self.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

/// What an action or verdict weighs besides its texts.
const EACH: usize = 16;

fn weight_of(command: &Array, at: Position) -> Fallible<()> {
    charge(EACH, at)?;
    command.iter().try_for_each(|word| charge_value(word, at))
}

fn fail<T>(text: impl Into<String>, at: Position) -> Fallible<T> {
    Err(Box::new(EvalAltResult::ErrorRuntime(text.into().into(), at)))
}

/// Marks the end of a script by `ctx.deny`: scripts cannot catch it.
#[derive(Debug, Clone)]
pub(super) struct Denied;

fn words(list: &Array, what: &str, at: Position) -> Fallible<Vec<String>> {
    let all: Option<Vec<_>> =
        list.iter().map(|word| word.read_lock::<ImmutableString>().map(|word| word.to_string())).collect();
    match all {
        Some(words) if !words.is_empty() => Ok(words),
        _ => fail(format!("{what} takes a list of texts, e.g. [\"npm\", \"ci\"]"), at),
    }
}

/// Registers everything.
pub(super) fn register(engine: &mut Engine) {
    register_document(engine);
    register_context(engine);
    weight::register(engine);

    // Sizes in bytes and times in milliseconds, so that scripts can be read aloud.
    engine.register_fn("kib", |n: i64| n.saturating_mul(1 << 10));
    engine.register_fn("mib", |n: i64| n.saturating_mul(1 << 20));
    engine.register_fn("gib", |n: i64| n.saturating_mul(1 << 30));
    engine.register_fn("seconds", |n: i64| n.saturating_mul(1_000));
    engine.register_fn("minutes", |n: i64| n.saturating_mul(60_000));
    engine.register_fn("hours", |n: i64| n.saturating_mul(3_600_000));
    engine.register_fn("days", |n: i64| n.saturating_mul(86_400_000));
    engine.register_fn("glob", |pattern: &str, text: &str| crate::hooks::record::glob(pattern, text));
    engine.register_fn("parse_json", |context: NativeCallContext, text: &str| -> Fallible<Dynamic> {
        match serde_json::from_str(text) {
            Ok(value) => Ok(to_dynamic(&value)),
            Err(error) => fail(format!("not JSON: {error}"), context.call_position()),
        }
    });
}

fn register_document(engine: &mut Engine) {
    engine.register_type_with_name::<Document>("Document");
    engine.register_indexer_get(|context: NativeCallContext, document: &mut Document, key: ImmutableString| {
        document.get(&key, context.call_position())
    });
    engine.register_indexer_set(
        |context: NativeCallContext, document: &mut Document, key: ImmutableString, value: Dynamic| {
            document.set(&key, value, context.call_position())
        },
    );
    engine.register_indexer_get(|context: NativeCallContext, document: &mut Document, index: i64| {
        document.get(&index.to_string(), context.call_position())
    });
    engine.register_indexer_set(|context: NativeCallContext, document: &mut Document, index: i64, value: Dynamic| {
        document.set(&index.to_string(), value, context.call_position())
    });
    engine.register_iterator::<Document>();
    engine.register_fn("len", |document: &mut Document| i64::try_from(document.keys().len()).unwrap_or(i64::MAX));
    engine.register_fn("is_empty", |document: &mut Document| document.keys().is_empty());
    engine.register_fn("keys", |document: &mut Document| -> Array {
        document.keys().into_iter().map(Dynamic::from).collect()
    });
    engine.register_fn("contains", |document: &mut Document, wanted: &str| document.contains(wanted));
    engine.register_fn("push", |context: NativeCallContext, document: &mut Document, value: Dynamic| {
        document.push(value, context.call_position())
    });
    engine.register_fn("remove", |context: NativeCallContext, document: &mut Document, key: &str| {
        document.set(key, Dynamic::UNIT, context.call_position())
    });
    // A copy as plain Rhai values, for everything that arrays and maps can do (filter, map, sort, ...).
    engine.register_fn("copy", |document: &mut Document| to_dynamic(&document.value()));
    engine.register_fn("to_string", |document: &mut Document| document.value().to_string());
    engine.register_fn("to_debug", |document: &mut Document| document.value().to_string());
}

fn register_context(engine: &mut Engine) {
    engine.register_type_with_name::<Context>("Context");
    engine.register_indexer_get(|context: NativeCallContext, ctx: &mut Context, key: ImmutableString| {
        ctx.document.get(&key, context.call_position())
    });
    engine.register_indexer_set(
        |context: NativeCallContext, ctx: &mut Context, key: ImmutableString, value: Dynamic| {
            ctx.document.set(&key, value, context.call_position())
        },
    );
    engine.register_fn("log", |_: &mut Context, line: &str| super::engine::log(line));
    engine.register_fn(
        "deny",
        |context: NativeCallContext, ctx: &mut Context, code: &str, reason: &str| -> Fallible<()> {
            let at = context.call_position();
            if code.is_empty() || !code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
                return fail(format!("deny: the code '{code}' is not a word such as 'team-missing'"), at);
            }
            charge(code.len() + reason.len(), at)?;
            ctx.ask(|asked| asked.denial = Some((code.into(), reason.into(), at.line().unwrap_or(0))));
            // Ends the script: a denial that a script forgets to return must not get lost.
            Err(Box::new(EvalAltResult::ErrorTerminated(Dynamic::from(Denied), at)))
        },
    );
    engine.register_fn(
        "choose",
        |context: NativeCallContext, ctx: &mut Context, reference: &str, reason: &str| -> Fallible<()> {
            let at = context.call_position();
            let image = serde_json::json!({ "reference": reference, "pull": "missing", "reason": reason });
            match ctx.document.get("spec", at)?.try_cast::<Document>() {
                Some(spec) => spec.set("image", to_dynamic(&image), at),
                None => fail("choose: only select_image chooses an image", at),
            }
        },
    );
    engine.register_fn("run", |context: NativeCallContext, ctx: &mut Context, command: Array| -> Fallible<()> {
        let at = context.call_position();
        weight_of(&command, at)?;
        let command = words(&command, "run", at)?;
        ctx.ask(|asked| asked.actions.push(Action::Run { command, timeout_ms: 60_000 }));
        Ok(())
    });
    engine.register_fn(
        "run",
        |context: NativeCallContext, ctx: &mut Context, command: Array, timeout_ms: i64| -> Fallible<()> {
            let at = context.call_position();
            weight_of(&command, at)?;
            let command = words(&command, "run", at)?;
            let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
            ctx.ask(|asked| asked.actions.push(Action::Run { command, timeout_ms }));
            Ok(())
        },
    );
    engine.register_fn("note", |context: NativeCallContext, ctx: &mut Context, text: &str| -> Fallible<()> {
        charge(text.len() + EACH, context.call_position())?;
        ctx.ask(|asked| asked.actions.push(Action::Note(text.into())));
        Ok(())
    });
    engine.register_fn("stop", |context: NativeCallContext, ctx: &mut Context, why: &str| -> Fallible<()> {
        charge(why.len() + EACH, context.call_position())?;
        ctx.ask(|asked| asked.actions.push(Action::Stop(why.into())));
        Ok(())
    });
    engine.register_fn("delay", |ctx: &mut Context, ms: i64| {
        ctx.ask(|asked| asked.delay_ms = Some(u32::try_from(ms).unwrap_or(0)));
    });
    for (name, choice) in [("keep", SweepChoice::Keep), ("stop", SweepChoice::Stop), ("remove", SweepChoice::Remove)] {
        engine.register_fn(
            name,
            move |context: NativeCallContext, ctx: &mut Context, id: &str, reason: &str| -> Fallible<()> {
                charge(id.len() + reason.len() + EACH, context.call_position())?;
                ctx.ask(|asked| {
                    let (id, reason) = (id.into(), reason.into());
                    asked.verdicts.push(SweepVerdict { id, choice, reason, by: String::new() });
                });
                Ok(())
            },
        );
    }
}
