//! The keys of the map in which a key was missing: Rhai tells the key and its place, and not what the map has.
//!
//! An engine can tell them, with a function that is called for each missing key; but then also for those that a script
//! sets anew. So nothing is known when a call fails, and it is made again, with that function, until it fails at the same
//! place. A script has no other input than its request, so it comes there again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rhai::{Dynamic, Engine, EvalAltResult, Position};

use super::engine;
use super::imports::{Imports, Resolver};
use crate::hooks::Limits;

/// Makes the call again, in the engine that is given.
pub(super) type Again<'a> = dyn Fn(&Engine) -> Result<Dynamic, Box<EvalAltResult>> + 'a;

/// Most times that it is made again: a script that sets the same key in many maps before is not looked through.
const TIMES: usize = 8;

/// The keys, if a key was missing and they can be told.
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
