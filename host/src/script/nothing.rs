//! The value of a missing key in a free map (labels, environment): a marked `()`, so that it is not used by mistake.
//!
//! Users choose free keys, so no check can detect a misspelled key. But a rule that compares a missing value says
//! nothing useful: `ctx.spec.labels.tema != "x"` would be true for every user. A marked `()` can be compared with
//! `()`, be replaced with `??`, and be passed on. All other operations that Rhai allows with `()` are errors here:
//! comparing it with a value, looking it up in a list, making it part of a text, and setting a field to it. A `()`
//! that a script writes, or that `get` returns, is not marked.

use std::any::TypeId;
use std::cell::RefCell;

use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, Map, NativeCallContext};

use super::{Context, Document};

type Fallible<T> = Result<T, Box<EvalAltResult>>;

/// The mark for a missing key.
const MISSING: i32 = 1;

thread_local! {
    /// The reason to terminate the running script, for places where Rhai accepts no error.
    static MISSED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Returns the value of a missing key.
pub(super) fn missing() -> Dynamic {
    let mut value = Dynamic::UNIT;
    value.set_tag(MISSING);
    value
}

/// Returns whether a value comes from a missing key.
pub(super) fn is_missing(value: &Dynamic) -> bool {
    value.is_unit() && value.tag() == MISSING
}

/// Returns whether a value contains the value of a missing key.
pub(super) fn holds_missing(value: &Dynamic) -> bool {
    let in_list = value.read_lock::<Array>().is_some_and(|list| list.iter().any(holds_missing));
    is_missing(value) || in_list || value.read_lock::<Map>().is_some_and(|map| map.values().any(holds_missing))
}

/// Takes the reason that was stored since the last call.
pub(super) fn missed() -> Option<String> {
    MISSED.with(|slot| slot.borrow_mut().take())
}

/// The remedy.
pub(super) const INSTEAD: &str =
    "a missing label or variable is (): test 'if \"key\" in map', or use map.key ?? \"default\" or map.get(\"key\")";

fn refuse<T>(text: &str, context: &NativeCallContext) -> Fallible<T> {
    Err(Box::new(EvalAltResult::ErrorRuntime(format!("{text}: {INSTEAD}").into(), context.call_position())))
}

/// Registers all functions. Rhai's own functions for the same types come after these.
pub(super) fn register(engine: &mut Engine) {
    let nothing = TypeId::of::<()>();
    let text = TypeId::of::<ImmutableString>();
    let others = [
        TypeId::of::<i64>(),
        TypeId::of::<f64>(),
        TypeId::of::<bool>(),
        TypeId::of::<char>(),
        text,
        TypeId::of::<Array>(),
        TypeId::of::<Map>(),
        TypeId::of::<FnPtr>(),
        TypeId::of::<Document>(),
        TypeId::of::<Context>(),
    ];
    let pairs = others.into_iter().flat_map(|other| [[nothing, other], [other, nothing]]).chain([[nothing, nothing]]);
    for pair in pairs {
        for (name, says) in [("==", true), ("!=", false)] {
            engine.register_raw_fn(name, pair, move |context: NativeCallContext, args: &mut [&mut Dynamic]| {
                let [left, right] = args else { return Ok(!says) };
                let both = left.is_unit() && right.is_unit();
                let missing = (is_missing(left), is_missing(right));
                // Two missing keys are equal.
                if missing == (true, true) || (!both && (missing.0 || missing.1)) {
                    return refuse(&format!("{name} compares with a missing key"), &context);
                }
                Ok(both == says)
            });
        }
    }
    engine.register_raw_fn(
        "contains",
        [TypeId::of::<Array>(), nothing],
        |context: NativeCallContext, args: &mut [&mut Dynamic]| {
            let [list, value] = args else { return Ok(false) };
            if is_missing(value) {
                return refuse("a list is searched for a missing key", &context);
            }
            Ok(list.read_lock::<Array>().is_some_and(|list| list.iter().any(Dynamic::is_unit)))
        },
    );
    for pair in [[text, nothing], [nothing, text]] {
        engine.register_raw_fn("+", pair, |context: NativeCallContext, args: &mut [&mut Dynamic]| {
            let [left, right] = args else { return Ok(Dynamic::UNIT) };
            if is_missing(left) || is_missing(right) {
                return refuse("a string is concatenated with a missing key", &context);
            }
            Ok(if left.is_unit() { right.clone() } else { left.clone() })
        });
    }
    engine.register_raw_fn("+=", [text, nothing], |context: NativeCallContext, args: &mut [&mut Dynamic]| {
        match args.get(1).is_some_and(|value| is_missing(value)) {
            true => refuse("a string is concatenated with a missing key", &context),
            false => Ok(()),
        }
    });
    // Rhai accepts no error within `${...}`, so the reason is stored and the call ends with it.
    for name in ["to_string", "to_debug"] {
        engine.register_raw_fn(name, [nothing], move |context: NativeCallContext, args: &mut [&mut Dynamic]| {
            if args.first().is_some_and(|value| is_missing(value)) {
                let text = format!("a string contains a missing key: {INSTEAD}");
                let at = context.call_position();
                MISSED.with(|slot| {
                    slot.borrow_mut().get_or_insert(match at.line() {
                        Some(line) => format!("line {line}: {text}"),
                        None => text,
                    });
                });
            }
            Ok(ImmutableString::from(if name == "to_debug" { "()" } else { "" }))
        });
    }
}
