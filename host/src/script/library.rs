//! The API for scripts: the type `Context` (the `ctx` of every hook function), `Document`, and a few helpers.

use std::sync::{Arc, Mutex};

use rhai::{Array, Dynamic, Engine, EvalAltResult, FuncRegistration, ImmutableString, NativeCallContext, Position};

use super::document::{Document, to_dynamic};
use super::weight::{self, charge, charge_value};
use crate::hooks::{Action, SweepChoice, SweepVerdict};

type Fallible<T> = Result<T, Box<EvalAltResult>>;

/// The requests that a script made by calling methods of `ctx`.
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

/// The weight of an action or verdict in addition to its texts.
const EACH: usize = 16;

fn weight_of(command: &Array, at: Position) -> Fallible<()> {
    charge(EACH, at)?;
    command.iter().try_for_each(|word| charge_value(word, at))
}

fn fail<T>(text: impl Into<String>, at: Position) -> Fallible<T> {
    Err(Box::new(EvalAltResult::ErrorRuntime(text.into().into(), at)))
}

/// Marks the termination of a script by `ctx.deny`, which scripts cannot catch.
#[derive(Debug, Clone)]
pub(super) struct Denied;

fn words(list: &Array, what: &str, at: Position) -> Fallible<Vec<String>> {
    let all: Option<Vec<_>> =
        list.iter().map(|word| word.read_lock::<ImmutableString>().map(|word| word.to_string())).collect();
    match all {
        Some(words) if !words.is_empty() => Ok(words),
        _ => fail(format!("{what} takes a list of strings, e.g. [\"npm\", \"ci\"]"), at),
    }
}

/// Registers a function with its text for the reference.
fn documented(name: &str, params: &[&str], text: &str) -> FuncRegistration {
    FuncRegistration::new(name).with_params_info(params).with_comments([text])
}

/// Registers all functions.
pub(super) fn register(engine: &mut Engine) {
    register_document(engine);
    register_context(engine);
    weight::register(engine);

    // Sizes in bytes and times in milliseconds, so that scripts are easy to read.
    documented("kib", &["n: int"], "n KiB in bytes").register_into_engine(engine, |n: i64| n.saturating_mul(1 << 10));
    documented("mib", &["n: int"], "n MiB in bytes").register_into_engine(engine, |n: i64| n.saturating_mul(1 << 20));
    documented("gib", &["n: int"], "n GiB in bytes").register_into_engine(engine, |n: i64| n.saturating_mul(1 << 30));
    documented("seconds", &["n: int"], "n seconds in milliseconds")
        .register_into_engine(engine, |n: i64| n.saturating_mul(1_000));
    documented("minutes", &["n: int"], "n minutes in milliseconds")
        .register_into_engine(engine, |n: i64| n.saturating_mul(60_000));
    documented("hours", &["n: int"], "n hours in milliseconds")
        .register_into_engine(engine, |n: i64| n.saturating_mul(3_600_000));
    documented("days", &["n: int"], "n days in milliseconds")
        .register_into_engine(engine, |n: i64| n.saturating_mul(86_400_000));
    documented("glob", &["pattern: text", "text: text"], "whether a string matches a pattern, with `*` for any text")
        .register_into_engine(engine, |pattern: &str, text: &str| crate::hooks::record::glob(pattern, text));
    documented("parse_json", &["text: text"], "the value of a JSON string, as plain values").register_into_engine(
        engine,
        |context: NativeCallContext, text: &str| -> Fallible<Dynamic> {
            match serde_json::from_str(text) {
                Ok(value) => Ok(to_dynamic(&value)),
                Err(error) => fail(format!("not JSON: {error}"), context.call_position()),
            }
        },
    );
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
    documented("len", &["part: part"], "the number of elements of a list, or of keys of a map")
        .register_into_engine(engine, |document: &mut Document| {
            i64::try_from(document.keys().len()).unwrap_or(i64::MAX)
        });
    documented("is_empty", &["part: part"], "whether it is empty")
        .register_into_engine(engine, |document: &mut Document| document.keys().is_empty());
    documented("keys", &["part: part"], "the keys of a map, or the indexes of a list")
        .register_into_engine(engine, |document: &mut Document| -> Array {
            document.keys().into_iter().map(Dynamic::from).collect()
        });
    documented("contains", &["part: part", "wanted: text"], "whether a map has this key, or a list this string")
        .register_into_engine(engine, |document: &mut Document, wanted: &str| document.contains(wanted));
    documented("get", &["part: part", "key: text"], "the value of a key, or `()` if it is missing")
        .register_into_engine(engine, |context: NativeCallContext, document: &mut Document, key: &str| {
            document.find(key, context.call_position())
        });
    documented("push", &["part: part", "value: any"], "appends to a list").register_into_engine(
        engine,
        |context: NativeCallContext, document: &mut Document, value: Dynamic| {
            document.push(value, context.call_position())
        },
    );
    documented("remove", &["part: part", "key: text"], "removes a key").register_into_engine(
        engine,
        |context: NativeCallContext, document: &mut Document, key: &str| {
            document.set(key, Dynamic::UNIT, context.call_position())
        },
    );
    // A copy as plain Rhai values, for all array and map functions (filter, map, sort, ...).
    documented("copy", &["part: part"], "a copy as plain values, with all functions of arrays and maps")
        .register_into_engine(engine, |document: &mut Document| to_dynamic(&document.value()));
    documented("to_string", &["part: part"], "JSON")
        .register_into_engine(engine, |document: &mut Document| document.value().to_string());
    documented("to_debug", &["part: part"], "JSON")
        .register_into_engine(engine, |document: &mut Document| document.value().to_string());
}

// Long because it registers everything that a script can call on `ctx`.
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
    documented("log", &["ctx: ctx", "text: text"], "writes a line to the trail and the record, as `print` does")
        .register_into_engine(engine, |_: &mut Context, line: &str| super::engine::log(line));
    documented(
        "deny",
        &["ctx: ctx", "code: text", "reason: text"],
        "denies the request and ends the script; the code is a word of `a-z`, `0-9` and `-`",
    )
    .register_into_engine(
        engine,
        |context: NativeCallContext, ctx: &mut Context, code: &str, reason: &str| -> Fallible<()> {
            let at = context.call_position();
            if code.is_empty() || !code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
                return fail(format!("deny: the code '{code}' is not a word such as 'team-missing'"), at);
            }
            charge(code.len() + reason.len(), at)?;
            ctx.ask(|asked| asked.denial = Some((code.into(), reason.into(), at.line().unwrap_or(0))));
            // Terminate the script: a denial must not get lost if the script does not return it.
            Err(Box::new(EvalAltResult::ErrorTerminated(Dynamic::from(Denied), at)))
        },
    );
    documented(
        "choose",
        &["ctx: ctx", "reference: text", "reason: text"],
        "chooses an image, which is pulled if it is missing",
    )
    .register_into_engine(
        engine,
        |context: NativeCallContext, ctx: &mut Context, reference: &str, reason: &str| -> Fallible<()> {
            let at = context.call_position();
            let image = serde_json::json!({ "reference": reference, "pull": "missing", "reason": reason });
            match ctx.document.get("spec", at)?.try_cast::<Document>() {
                Some(spec) => spec.set("image", to_dynamic(&image), at),
                None => fail("choose: only select_image chooses an image", at),
            }
        },
    );
    documented("run", &["ctx: ctx", "words: list"], "runs a command in the workspace, for at most one minute")
        .register_into_engine(
            engine,
            |context: NativeCallContext, ctx: &mut Context, command: Array| -> Fallible<()> {
                let at = context.call_position();
                weight_of(&command, at)?;
                let command = words(&command, "run", at)?;
                ctx.ask(|asked| asked.actions.push(Action::Run { command, timeout_ms: 60_000 }));
                Ok(())
            },
        );
    documented(
        "run",
        &["ctx: ctx", "words: list", "milliseconds: int"],
        "runs a command with a time limit of at most ten minutes",
    )
    .register_into_engine(
        engine,
        |context: NativeCallContext, ctx: &mut Context, command: Array, timeout_ms: i64| -> Fallible<()> {
            let at = context.call_position();
            weight_of(&command, at)?;
            let command = words(&command, "run", at)?;
            let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
            ctx.ask(|asked| asked.actions.push(Action::Run { command, timeout_ms }));
            Ok(())
        },
    );
    documented("note", &["ctx: ctx", "text: text"], "adds a note, shown by `wharf inspect`").register_into_engine(
        engine,
        |context: NativeCallContext, ctx: &mut Context, text: &str| -> Fallible<()> {
            charge(text.len() + EACH, context.call_position())?;
            ctx.ask(|asked| asked.actions.push(Action::Note(text.into())));
            Ok(())
        },
    );
    documented("stop", &["ctx: ctx", "why: text"], "stops the workspace").register_into_engine(
        engine,
        |context: NativeCallContext, ctx: &mut Context, why: &str| -> Fallible<()> {
            charge(why.len() + EACH, context.call_position())?;
            ctx.ask(|asked| asked.actions.push(Action::Stop(why.into())));
            Ok(())
        },
    );
    documented("delay", &["ctx: ctx", "ms: int"], "delays the stop once, by at most one minute").register_into_engine(
        engine,
        |ctx: &mut Context, ms: i64| {
            ctx.ask(|asked| asked.delay_ms = Some(u32::try_from(ms).unwrap_or(0)));
        },
    );
    for (name, choice) in [("keep", SweepChoice::Keep), ("stop", SweepChoice::Stop), ("remove", SweepChoice::Remove)] {
        let text = format!("{name} a candidate; any keep wins, and a candidate without a verdict is kept");
        documented(name, &["ctx: ctx", "id: text", "why: text"], &text).register_into_engine(
            engine,
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
