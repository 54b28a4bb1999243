//! Operations that Rhai allows but a policy must not use: comparisons with missing values, and errors inside
//! callbacks.
//!
//! Rhai evaluates `5 > ()` to false, so a misspelled name disables a limit. Its array and map functions that call a
//! closure treat a non-boolean answer as "no", or lose the closure's error: `sort` continues after a denial or a
//! deadline. This module has the same functions without these defects.

use std::cmp::Ordering;

use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, FuncRegistration, ImmutableString, Map, NativeCallContext};

type Fallible<T> = Result<T, Box<EvalAltResult>>;

fn fail<T>(text: String, context: &NativeCallContext) -> Fallible<T> {
    Err(Box::new(EvalAltResult::ErrorRuntime(text.into(), context.call_position())))
}

/// Registers all functions. The engine must not prefer its own operators (`set_fast_operators`).
pub(super) fn register(engine: &mut Engine) {
    comparisons(engine);
    super::nothing::register(engine);
    arrays(engine);
    maps(engine);
}

/// Tests whether an ordering satisfies an operator.
type Holds = fn(Ordering) -> bool;

fn comparisons(engine: &mut Engine) {
    let operators: [(&str, Holds); 4] =
        [("<", Ordering::is_lt), ("<=", Ordering::is_le), (">", Ordering::is_gt), (">=", Ordering::is_ge)];
    for (name, holds) in operators {
        engine.register_fn(name, move |context: NativeCallContext, left: Dynamic, right: Dynamic| -> Fallible<bool> {
            match order(&left, &right) {
                Some(order) => Ok(order.is_some_and(holds)),
                None => fail(incomparable(name, &left, &right), &context),
            }
        });
    }
}

/// Compares two values. The inner none means that a number is NaN; the outer none, that they are not comparable.
fn order(left: &Dynamic, right: &Dynamic) -> Option<Option<Ordering>> {
    if let (Ok(left), Ok(right)) = (left.as_int(), right.as_int()) {
        return Some(Some(left.cmp(&right)));
    }
    if let (Some(left), Some(right)) = (number(left), number(right)) {
        // The same rule as in Rhai: numbers that differ by at most the last bit are equal.
        let most = left.abs().max(right.abs());
        let equal = left == right || (left - right).abs() <= f64::EPSILON * most;
        return Some(if equal { Some(Ordering::Equal) } else { left.partial_cmp(&right) });
    }
    if let (Ok(left), Ok(right)) = (left.as_bool(), right.as_bool()) {
        return Some(Some(left.cmp(&right)));
    }
    Some(Some(text(left)?.cmp(&text(right)?)))
}

fn number(value: &Dynamic) -> Option<f64> {
    #[allow(clippy::cast_precision_loss)]
    value.as_float().ok().or_else(|| value.as_int().ok().map(|int| int as f64))
}

fn text(value: &Dynamic) -> Option<ImmutableString> {
    let own = value.read_lock::<ImmutableString>().map(|text| text.clone());
    own.or_else(|| value.as_char().ok().map(|char| char.to_string().into()))
}

fn incomparable(operator: &str, left: &Dynamic, right: &Dynamic) -> String {
    let (shown, other) = (kind(left), kind(right));
    if left.is_unit() || right.is_unit() {
        return format!(
            "{shown} {operator} {other} compares with (), which is no value: test 'if value != ()' first, or correct \
             the name that gave ()"
        );
    }
    format!("{shown} {operator} {other} compares values of different kinds")
}

/// Returns the type of a value, as scripts and messages name it.
pub(super) fn kind(value: &Dynamic) -> String {
    if value.is_unit() {
        return "()".into();
    }
    if let Some(document) = value.read_lock::<super::Document>() {
        return if document.value().is_array() { "a list".into() } else { "a map".into() };
    }
    match value.type_name() {
        "i64" => "an integer".into(),
        "f64" => "a float".into(),
        "bool" => "a bool".into(),
        "string" | "char" => "a text".into(),
        "array" => "a list".into(),
        "map" => "a map".into(),
        "Fn" => "a function".into(),
        other => format!("a value of type {other}"),
    }
}

/// Converts a closure's answer to a boolean.
fn truth(name: &str, answer: &Dynamic, context: &NativeCallContext) -> Fallible<bool> {
    answer
        .as_bool()
        .or_else(|_| fail(format!("the function of {name} returns {}, not true or false", kind(answer)), context))
}

fn index(at: usize) -> Dynamic {
    i64::try_from(at).unwrap_or(i64::MAX).into()
}

/// Calls a closure for an element: it gets the element (or has it as `this`), and its index if it takes one.
fn asked(name: &str, context: &NativeCallContext, test: &FnPtr, item: &mut Dynamic, at: usize) -> Fallible<bool> {
    let answer = test.call_raw_with_extra_args(name, context, Some(item), [], [index(at)], Some(0))?;
    truth(name, &answer, context)
}

/// Calls a closure for an entry of a map.
fn asked_entry(name: &str, context: &NativeCallContext, test: &FnPtr, key: &str, item: &mut Dynamic) -> Fallible<bool> {
    let key = Dynamic::from(ImmutableString::from(key));
    let answer = test.call_raw_with_extra_args(name, context, Some(item), [key], [], Some(1))?;
    truth(name, &answer, context)
}

/// Returns the start index: a negative number counts from the end.
fn begin(list: &Array, start: i64) -> usize {
    let back = || usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX);
    usize::try_from(start).unwrap_or_else(|_| list.len().saturating_sub(back()))
}

fn position(
    name: &str,
    context: &NativeCallContext,
    list: &mut Array,
    test: &FnPtr,
    start: i64,
) -> Fallible<Option<usize>> {
    let start = begin(list, start);
    for (at, item) in list.iter_mut().enumerate().skip(start) {
        if asked(name, context, test, item, at)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Removes and returns the elements for which a closure returns `out`.
fn part(name: &str, context: &NativeCallContext, list: &mut Array, test: &FnPtr, out: bool) -> Fallible<Array> {
    let (mut kept, mut gone) = (Array::new(), Array::new());
    for (at, mut item) in std::mem::take(list).into_iter().enumerate() {
        match asked(name, context, test, &mut item, at)? == out {
            true => gone.push(item),
            false => kept.push(item),
        }
    }
    *list = kept;
    Ok(gone)
}

/// Removes and returns the map entries for which a closure returns `out`.
fn part_map(name: &str, context: &NativeCallContext, map: &mut Map, test: &FnPtr, out: bool) -> Fallible<Map> {
    let (mut kept, mut gone) = (Map::new(), Map::new());
    for (key, mut item) in std::mem::take(map) {
        match asked_entry(name, context, test, &key, &mut item)? == out {
            true => gone.insert(key, item),
            false => kept.insert(key, item),
        };
    }
    *map = kept;
    Ok(gone)
}

/// Converts a closure's answer about two elements to an ordering: a number as usual, or whether they are in order.
fn compared(context: &NativeCallContext, by: &FnPtr, left: &Dynamic, right: &Dynamic) -> Fallible<Ordering> {
    let answer = by.call_raw(context, None, [left.clone(), right.clone()])?;
    if let Ok(number) = answer.as_int() {
        return Ok(number.cmp(&0));
    }
    match answer.as_bool() {
        Ok(true) => Ok(Ordering::Less),
        Ok(false) => Ok(Ordering::Greater),
        Err(_) => fail(format!("the function of sort returns {}, not a number or a bool", kind(&answer)), context),
    }
}

/// Sorts by merging, so that the first error stops it and an inconsistent answer does no harm.
fn sort(context: &NativeCallContext, list: &mut Array, by: &FnPtr) -> Fallible<()> {
    let mut runs: std::collections::VecDeque<Array> = std::mem::take(list).into_iter().map(|item| vec![item]).collect();
    // Merge only neighbours, one round over all runs at a time, so that equal elements keep their order.
    while runs.len() > 1 {
        let mut merged = std::collections::VecDeque::with_capacity(runs.len().div_ceil(2));
        while let Some(left) = runs.pop_front() {
            merged.push_back(match runs.pop_front() {
                Some(right) => merge(context, left, right, by)?,
                None => left,
            });
        }
        runs = merged;
    }
    *list = runs.pop_front().unwrap_or_default();
    Ok(())
}

fn merge(context: &NativeCallContext, left: Array, right: Array, by: &FnPtr) -> Fallible<Array> {
    let mut merged = Array::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(first), Some(second)) = (left.peek(), right.peek()) {
        let from = if compared(context, by, first, second)?.is_gt() { &mut right } else { &mut left };
        merged.extend(from.next());
    }
    merged.extend(left.chain(right));
    Ok(merged)
}

/// Removes each element that a closure considers equal to the element before it.
fn dedup(context: &NativeCallContext, list: &mut Array, same: &FnPtr) -> Fallible<()> {
    let mut kept = Array::new();
    for item in std::mem::take(list) {
        let double = match kept.last() {
            Some(before) => {
                let answer = same.call_raw(context, None, [before.clone(), item.clone()])?;
                truth("dedup", &answer, context)?
            }
            None => false,
        };
        if !double {
            kept.push(item);
        }
    }
    *list = kept;
    Ok(())
}

/// Registers a function that takes a list and a closure. The closure may also be given by its name, as Rhai allows.
fn with_closure<T: Clone + Send + Sync + 'static>(
    engine: &mut Engine,
    name: &'static str,
    pure: bool,
    run: fn(&NativeCallContext, &mut Array, &FnPtr) -> Fallible<T>,
) {
    FuncRegistration::new(name)
        .with_purity(pure)
        .register_into_engine(engine, move |context: NativeCallContext, list: &mut Array, closure: FnPtr| {
            run(&context, list, &closure)
        });
    FuncRegistration::new(name)
        .with_purity(pure)
        .register_into_engine(engine, move |context: NativeCallContext, list: &mut Array, function: &str| {
            run(&context, list, &FnPtr::new(function)?)
        });
}

fn arrays(engine: &mut Engine) {
    with_closure(engine, "filter", true, |context, list, test| {
        let mut found = Array::new();
        for (at, item) in list.iter_mut().enumerate() {
            if asked("filter", context, test, item, at)? {
                found.push(item.clone());
            }
        }
        Ok(found)
    });
    with_closure(engine, "some", true, |context, list, test| Ok(position("some", context, list, test, 0)?.is_some()));
    with_closure(engine, "all", true, |context, list, test| {
        for (at, item) in list.iter_mut().enumerate() {
            if !asked("all", context, test, item, at)? {
                return Ok(false);
            }
        }
        Ok(true)
    });
    with_closure(engine, "drain", false, |context, list, test| part("drain", context, list, test, true));
    with_closure(engine, "retain", false, |context, list, test| part("retain", context, list, test, false));
    with_closure(engine, "dedup", false, dedup);
    with_closure(engine, "sort", false, sort);
    with_closure(engine, "sort_by", false, sort);
    for name in ["order", "order_by"] {
        with_closure(engine, name, true, |context, list, by| {
            let mut copy = list.clone();
            sort(context, &mut copy, by)?;
            Ok(copy)
        });
    }
    // Only for closures: with a text, `index_of` looks up the text.
    let found = |at: Option<usize>| at.map_or(-1, |at| i64::try_from(at).unwrap_or(i64::MAX));
    let index_of = move |context: NativeCallContext, list: &mut Array, test: FnPtr| -> Fallible<i64> {
        Ok(found(position("index_of", &context, list, &test, 0)?))
    };
    engine.register_fn("index_of", index_of);
    let index_from = move |context: NativeCallContext, list: &mut Array, test: FnPtr, start: i64| -> Fallible<i64> {
        Ok(found(position("index_of", &context, list, &test, start)?))
    };
    engine.register_fn("index_of", index_from);
    let taken = |list: &Array, at: Option<usize>| at.and_then(|at| list.get(at).cloned()).unwrap_or(Dynamic::UNIT);
    let find = move |context: NativeCallContext, list: &mut Array, test: FnPtr| -> Fallible<Dynamic> {
        let at = position("find", &context, list, &test, 0)?;
        Ok(taken(list, at))
    };
    engine.register_fn("find", find);
    let find_from = move |context: NativeCallContext, list: &mut Array, test: FnPtr, start: i64| -> Fallible<Dynamic> {
        let at = position("find", &context, list, &test, start)?;
        Ok(taken(list, at))
    };
    engine.register_fn("find", find_from);
}

fn maps(engine: &mut Engine) {
    engine.register_fn("filter", |context: NativeCallContext, map: &mut Map, test: FnPtr| -> Fallible<Map> {
        let mut found = Map::new();
        for (key, item) in map.iter_mut() {
            if asked_entry("filter", &context, &test, key, item)? {
                found.insert(key.clone(), item.clone());
            }
        }
        Ok(found)
    });
    for (name, out) in [("drain", true), ("retain", false)] {
        FuncRegistration::new(name)
            .with_purity(false)
            .register_into_engine(engine, move |context: NativeCallContext, map: &mut Map, test: FnPtr| {
                part_map(name, &context, map, &test, out)
            });
    }
}
