//! The Rhai engine of policies: raw, with only the packages that hooks need, and every limit explicit.

use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::Instant;

use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicIteratorPackage, BasicMapPackage, BasicStringPackage, LogicPackage,
    MoreStringPackage, Package,
};
use rhai::{Dynamic, Engine, EvalAltResult, Module, OptimizationLevel, Position, Shared};

use crate::hooks::{Limits, push_log};

/// Depth of function calls. Rhai's own default differs between debug and release builds.
const CALL_DEPTH: usize = 24;
/// Depth of expressions, outside and inside of functions.
const EXPRESSION_DEPTH: usize = 48;
/// Most bytes of one string.
const STRING_BYTES: usize = 256 << 10;
/// Most elements of one array or map, nested ones counted.
const ELEMENTS: usize = 10_000;

/// What all scripts can use. Filled once: the engines share it. Rhai's core package is not among it: it has `sleep`, and
/// no function may block.
static PACKAGES: LazyLock<[Shared<Module>; 7]> = LazyLock::new(|| {
    [
        ArithmeticPackage::new().as_shared_module(),
        LogicPackage::new().as_shared_module(),
        BasicStringPackage::new().as_shared_module(),
        MoreStringPackage::new().as_shared_module(),
        BasicIteratorPackage::new().as_shared_module(),
        BasicArrayPackage::new().as_shared_module(),
        BasicMapPackage::new().as_shared_module(),
    ]
});

/// What one call needs that an engine shared by all calls cannot hold.
struct Call {
    deadline: Instant,
    /// Counted here: Rhai counts those inside a callback anew for each of its calls.
    operations: u64,
    most_operations: u64,
    logs: Vec<String>,
    /// Bytes that it may still hand to the host.
    left: usize,
}

/// Marks the end of a script that ran more operations than it may.
#[derive(Debug, Clone)]
pub(super) struct TooMany;

thread_local! {
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// Runs a call with its deadline; returns what it gave, how many operations it took and what it logged.
pub(super) fn bounded<T>(limits: &Limits, call: impl FnOnce() -> T) -> (T, u64, Vec<String>) {
    let deadline = Instant::now() + limits.timeout;
    let fresh =
        Call { deadline, operations: 0, most_operations: limits.operations, logs: Vec::new(), left: limits.output };
    // A test script calls policies: what it has itself goes on afterwards.
    let outer = CALL.with(|slot| slot.borrow_mut().replace(fresh));
    let result = call();
    let call = CALL.with(|slot| std::mem::replace(&mut *slot.borrow_mut(), outer));
    let (operations, logs) = call.map_or((0, Vec::new()), |call| (call.operations, call.logs));
    (result, operations, logs)
}

/// Takes bytes from what the running script may hand to the host. Says whether there were as many.
pub(super) fn spend(bytes: usize) -> bool {
    CALL.with(|slot| {
        let mut slot = slot.borrow_mut();
        let Some(call) = slot.as_mut() else { return true };
        call.left.checked_sub(bytes).map(|left| call.left = left).is_some()
    })
}

/// Keeps a line that the running script logged.
pub(super) fn log(line: &str) {
    CALL.with(|slot| {
        if let Some(call) = slot.borrow_mut().as_mut() {
            push_log(&mut call.logs, line);
        }
    });
}

/// Makes an engine with these limits.
pub(super) fn engine(limits: &Limits) -> Engine {
    let mut engine = Engine::new_raw();
    for package in PACKAGES.iter() {
        engine.register_global_module(package.clone());
    }

    engine.set_max_operations(limits.operations);
    engine.set_max_call_levels(CALL_DEPTH);
    engine.set_max_expr_depths(EXPRESSION_DEPTH, EXPRESSION_DEPTH);
    engine.set_max_variables(256);
    engine.set_max_functions(256);
    engine.set_max_modules(16);
    engine.set_max_string_size(STRING_BYTES.min(limits.memory));
    engine.set_max_array_size(ELEMENTS);
    engine.set_max_map_size(ELEMENTS);
    engine.set_strict_variables(true);
    // A missing key of a map is an error, and Rhai's own operators do not go before ours, also not while it compiles.
    engine.set_fail_on_invalid_map_property(true);
    engine.set_fast_operators(false);
    engine.set_optimization_level(OptimizationLevel::None);
    engine.disable_symbol("eval");

    engine.on_print(log);
    engine.on_debug(|text, _, at| log(&format!("{at}: {text}")));
    engine.on_progress(|_| {
        CALL.with(|slot| {
            let mut slot = slot.borrow_mut();
            let call = slot.as_mut()?;
            call.operations += 1;
            if call.operations > call.most_operations {
                return Some(Dynamic::from(TooMany));
            }
            // The clock is not read at every operation: that would cost more than the operation.
            (call.operations % 64 == 0 && Instant::now() > call.deadline).then_some(Dynamic::UNIT)
        })
    });
    engine.register_fn("exit", || -> Result<Dynamic, Box<EvalAltResult>> {
        Err(Box::new(EvalAltResult::Exit(Dynamic::UNIT, Position::NONE)))
    });
    super::library::register(&mut engine);
    super::strict::register(&mut engine);
    engine
}
