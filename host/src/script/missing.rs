//! Finds the keys of a map in which a key is missing: Rhai reports the missing key and its position, but not the
//! map's keys.
//!
//! An engine can provide them through a callback for missing keys, but it also calls that callback for keys that a
//! script sets for the first time. So the keys are unknown when a call fails, and the call is repeated with the
//! callback until it fails at the same position. A script has no input except its request, so it fails there again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rhai::{Dynamic, Engine, EvalAltResult, Position};

use super::engine;
use super::imports::{Imports, Resolver};
use crate::hooks::Limits;

/// Repeats the call in the given engine.
pub(super) type Again<'a> = dyn Fn(&Engine) -> Result<Dynamic, Box<EvalAltResult>> + 'a;

/// Maximum number of repetitions. A script that first sets the same key in many maps is not searched further.
const TIMES: usize = 8;

/// Returns the keys, if a key was missing and they can be determined.
pub(super) fn keys(error: &EvalAltResult, limits: &Limits, imports: &Imports, again: &Again) -> Option<Vec<String>> {
    let EvalAltResult::ErrorPropertyNotFound(missing, at) = innermost(error) else { return None };
    (0..TIMES).find_map(|skip| {
        let (keys, place) = once(missing, skip, limits, imports, again);
        (place == *at).then_some(keys)
    })
}

fn once(missing: &str, skip: usize, limits: &Limits, imports: &Imports, again: &Again) -> (Vec<String>, Position) {
    let mut engine = engine::engine(limits);
    engine.set_module_resolver(Resolver::new(imports));
    let (wanted, seen) = (missing.to_owned(), AtomicUsize::new(0));
    let found: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = found.clone();
    engine.on_map_missing_property(move |map, key, _| {
        if key == wanted && seen.fetch_add(1, Ordering::Relaxed) == skip {
            let keys = map.keys().map(ToString::to_string).collect();
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = keys;
            return Err(Box::new(EvalAltResult::ErrorPropertyNotFound(key.to_owned(), Position::NONE)));
        }
        map.insert(key.into(), Dynamic::UNIT);
        map.get_mut(key).map_or_else(|| Ok(Dynamic::UNIT.into()), TryInto::try_into)
    });
    let (result, _, _) = engine::bounded(limits, || again(&engine));
    let keys = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    (keys, result.err().map_or(Position::NONE, |error| innermost(&error).position()))
}

fn innermost(mut error: &EvalAltResult) -> &EvalAltResult {
    while let EvalAltResult::ErrorInFunctionCall(_, _, inner, _) | EvalAltResult::ErrorInModule(_, inner, _) = error {
        error = inner;
    }
    error
}
