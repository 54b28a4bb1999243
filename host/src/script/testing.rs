//! Tests of scripts, written in Rhai: `pre-create.test.rhai` tests `pre-create.rhai`. Each function whose name starts
//! with `test_` is a test: it creates a fixture, lets the script decide, and asserts.

use rhai::{AST, CallFnOptions, Dynamic, Engine, EvalAltResult, ImmutableString, NativeCallContext, Scope};
use serde_json::{Map, Value, json};

use super::document::{Document, Open, from_dynamic, to_dynamic};
use super::{Imports, OPEN_MAPS, RhaiPolicy, diagnostic, engine};
use crate::hooks::case::{Case, result};
use crate::hooks::validate::Invariants;
use crate::hooks::{Chain, Entry, Hook, Limits, LocalTime, PolicyError};

type Fallible<T> = Result<T, Box<EvalAltResult>>;

/// A test gets this multiple of the limits of one policy call, because it makes many calls.
const MORE: u32 = 40;

/// The result of one test.
#[derive(Debug)]
pub struct TestRun {
    /// Name of its function.
    pub name: String,
    /// The failure, with the marked line.
    pub error: Option<PolicyError>,
    /// The lines that it logged.
    pub logs: Vec<String>,
}

/// A script under test: its name, text, imports, and the limits of its calls.
#[derive(Clone, Default)]
pub struct Tested {
    /// Its name.
    pub name: String,
    /// Its text.
    pub source: String,
    /// Its imports.
    pub imports: Imports,
    /// Limits of one call.
    pub limits: Limits,
}

/// Runs the tests of a test script.
///
/// # Errors
/// An error if the test script does not compile, or has no test.
pub fn run_tests(name: &str, source: &str, tested: &Tested) -> Result<Vec<TestRun>, PolicyError> {
    let limits = Limits {
        timeout: tested.limits.timeout * MORE,
        operations: tested.limits.operations.saturating_mul(MORE.into()),
        ..tested.limits
    };
    let mut engine = engine::engine(&limits);
    register(&mut engine, tested.clone());
    let ast = engine.compile(source).map_err(|error| diagnostic::parse(name, source, &error))?;
    let mut tests: Vec<String> = ast
        .iter_functions()
        .filter(|function| function.name.starts_with("test_") && function.params.is_empty())
        .map(|function| function.name.to_owned())
        .collect();
    tests.sort();
    if tests.is_empty() {
        let text = format!("{name}: contains no test; write a function such as fn test_the_team_is_set()");
        return Err(PolicyError::new("script", text));
    }
    Ok(tests.into_iter().map(|test| one(&engine, &ast, name, source, &limits, test)).collect())
}

fn one(engine: &Engine, ast: &AST, name: &str, source: &str, limits: &Limits, test: String) -> TestRun {
    let options = CallFnOptions::new().eval_ast(true).rewind_scope(true);
    let call = || engine.call_fn_with_options::<Dynamic>(options, &mut Scope::new(), ast, &test, ());
    let (result, _, logs) = engine::bounded(limits, call);
    let imports = Imports::default();
    let script = diagnostic::Script { name, source, imports: &imports, has_entry: false, limits: *limits };
    let error = result.err().map(|error| diagnostic::run(&script, &error, None, None));
    TestRun { name: test, error, logs }
}

/// Registers the additional functions for tests.
pub(super) fn register(engine: &mut Engine, tested: Tested) {
    engine.register_fn("fixture", |context: NativeCallContext, hook: &str| -> Fallible<Document> {
        let hook = hook_named(hook, &context)?;
        let case: Case = serde_json::from_value(json!({ "hook": hook, "expect": { "outcome": "" } }))
            .map_err(|error| fail(error.to_string(), &context))?;
        let record = case.record().map_err(|text| fail(text, &context))?;
        let root = super::input(&record.input, &json!({}));
        // A test may write all fields; names are checked as for hooks.
        Ok(Document::new(root, vec![vec![]], Open::Named(OPEN_MAPS)))
    });
    engine.register_fn(
        "decide",
        move |context: NativeCallContext, hook: &str, fixture: Document| -> Fallible<Dynamic> {
            let hook = hook_named(hook, &context)?;
            let decided = decide(&tested, hook, fixture.value()).map_err(|text| fail(text, &context))?;
            Ok(to_dynamic(&decided))
        },
    );
    engine.register_fn("assert", |context: NativeCallContext, holds: bool| -> Fallible<()> {
        if holds { Ok(()) } else { Err(fail("the assertion failed".into(), &context)) }
    });
    engine.register_fn("assert", |context: NativeCallContext, holds: bool, text: &str| -> Fallible<()> {
        if holds { Ok(()) } else { Err(fail(text.into(), &context)) }
    });
    engine.register_fn("assert_eq", |context: NativeCallContext, is: Dynamic, expected: Dynamic| -> Fallible<()> {
        let read = |value: &Dynamic| from_dynamic(value, &mut 0).map_err(|text| fail(text, &context));
        let (is, expected) = (read(&is)?, read(&expected)?);
        if is == expected { Ok(()) } else { Err(fail(format!("it is {is}, expected was {expected}"), &context)) }
    });
}

fn fail(text: String, context: &NativeCallContext) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorRuntime(ImmutableString::from(text).into(), context.call_position()))
}

fn hook_named(name: &str, context: &NativeCallContext) -> Fallible<Hook> {
    Hook::of_any_spelling(name).ok_or_else(|| {
        let all: Vec<_> = Hook::ALL.iter().map(|hook| hook.function()).collect();
        fail(format!("'{name}' is not a hook; the hooks are {}", all.join(", ")), context)
    })
}

/// Lets the script decide on a fixture. Returns the keys that `expect` of a case can name, and `logs`.
fn decide(tested: &Tested, hook: Hook, root: Value) -> Result<Value, String> {
    let Value::Object(mut root) = root else { return Err("the fixture is not a map".into()) };
    let mut take = |key: &str| root.remove(key).unwrap_or_default();
    let map = |value: Value| if let Value::Object(map) = value { map } else { Map::new() };
    let (settings, now_ms, spec) = (take("settings"), take("now_ms"), take("spec"));
    let clock = [take("local_hour"), take("local_minute"), take("local_weekday")];
    let local_time = local_time(hook, &clock)?;
    let facts = json!({
        "workspace": take("workspace"), "project": take("project"), "engine": take("engine"),
        "caller": take("caller"), "image_config": take("image_config"),
        "local_images": take("images"), "local_time": local_time,
    });
    let subject = match hook {
        Hook::PreExec => take("exec"),
        Hook::Event => take("event"),
        Hook::Cleanup => {
            let [_, minute, weekday] = clock;
            let minute = local_time.map_or(minute, |time| time.minute.into());
            root.extend([("local_minute".to_owned(), minute), ("local_weekday".to_owned(), weekday)]);
            Value::Object(root)
        }
        _ => Value::Object(root),
    };
    let case = Case {
        about: String::new(),
        from: None,
        hook,
        policies: Vec::new(),
        now_ms: now_ms.as_u64().ok_or("now_ms is a number of milliseconds")?,
        facts: map(facts),
        spec: map(spec),
        subject: map(subject),
        owners: Default::default(),
        began: None,
        paths: Default::default(),
        expect: map(json!({ "outcome": "" })),
    };
    let record = case.record()?;
    let policy = RhaiPolicy::load_with(&tested.name, &tested.source, &tested.imports, settings, tested.limits);
    let policy = policy.map_err(|error| error.to_string())?;
    let hooks = crate::hooks::Policy::hooks(&policy).to_vec();
    if !hooks.contains(&hook) {
        return Err(format!("{} defines no fn {}", tested.name, hook.function()));
    }
    let entry = Entry::new(std::sync::Arc::new(policy));
    let decision = Chain::new(vec![entry], no_invariants(&case)).again(&record);
    let mut decided = result(&decision);
    let step = decision.steps.first();
    let logs: Vec<String> = step.map(|step| step.logs.clone()).unwrap_or_default();
    decided.insert("logs".into(), logs.into());
    let error = step.and_then(|step| step.error.as_ref()).map(|error| error.message.clone());
    decided.insert("error".into(), error.into());
    // Every key is present, so that a test can read each.
    for key in ["policy", "code", "reason", "changed", "actions", "delay_ms", "sweep"] {
        decided.entry(key).or_insert(Value::Null);
    }
    Ok(Value::Object(decided))
}

/// Returns the local time of a fixture from its hour, minute and weekday. The hour follows from the minute, unless the
/// test has set it.
fn local_time(hook: Hook, [hour, minute, weekday]: &[Value; 3]) -> Result<Option<LocalTime>, String> {
    let (Some(minute), Some(weekday)) = (minute.as_u64(), weekday.as_u64()) else { return Ok(None) };
    let usual = if hook == Hook::Cleanup { 0 } else { 12 };
    let minute = hour.as_u64().filter(|hour| *hour != usual).map_or(minute, |hour| hour * 60 + minute % 60);
    match (u16::try_from(minute), u8::try_from(weekday)) {
        (Ok(minute @ 0..1440), Ok(weekday @ 0..=7)) => Ok(Some(LocalTime { minute, weekday })),
        _ => Err("local_hour is 0 to 23, local_minute 0 to 1439, and local_weekday 1 (Monday) to 7".to_owned()),
    }
}

/// Returns invariants without limits: a test is about the script, and the host's invariants belong to the
/// configuration.
fn no_invariants(case: &Case) -> Invariants {
    let listed = case.spec.get("security").and_then(|security| security.get("capabilities"));
    Invariants {
        memory: u64::MAX,
        cpus: f64::MAX,
        pids: u32::MAX,
        bind_roots: vec!["/".into()],
        secrets: None,
        guarded: Vec::new(),
        hostnames: [case.spec.get("hostname").and_then(Value::as_str).unwrap_or_default().to_owned()].into(),
        apparmor: Default::default(),
        selinux: Default::default(),
        docker_socket: true,
        host_network: true,
        public_ports: true,
        unconfined: true,
        capabilities: listed.and_then(|list| serde_json::from_value(list.clone()).ok()).unwrap_or_default(),
    }
}
