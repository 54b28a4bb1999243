//! The Rhai engine for policies: raw, with only the packages that hooks need, and explicit limits.

use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::Instant;

use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicIteratorPackage, BasicMapPackage, BasicStringPackage, LogicPackage,
    MoreStringPackage, Package,
};
use rhai::{Dynamic, Engine, EvalAltResult, Module, OptimizationLevel, Position, Shared};

use crate::hooks::{Limits, push_log};

/// Maximum depth of function calls. Rhai's own default differs between debug and release builds.
const CALL_DEPTH: usize = 24;
/// Maximum depth of expressions, outside and inside functions.
const EXPRESSION_DEPTH: usize = 48;
/// Maximum bytes of one string.
const STRING_BYTES: usize = 256 << 10;
/// Maximum elements of one array or map, including nested ones.
const ELEMENTS: usize = 10_000;

/// The packages for all scripts, created once and shared by the engines. Rhai's core package is excluded: it has
/// `sleep`, and no function may block.
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

/// The state of one call, which an engine shared by all calls cannot hold.
struct Call {
    deadline: Instant,
    /// Counted here, because Rhai restarts its count for each call of a callback.
    operations: u64,
    most_operations: u64,
    logs: Vec<String>,
    /// Bytes that the call may still pass to the host.
    left: usize,
}

/// Marks the termination of a script that exceeded its maximum number of operations.
#[derive(Debug, Clone)]
pub(super) struct TooMany;

thread_local! {
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// Runs a call with its deadline. Returns its result, the number of operations and the logged lines.
pub(super) fn bounded<T>(limits: &Limits, call: impl FnOnce() -> T) -> (T, u64, Vec<String>) {
    let deadline = Instant::now() + limits.timeout;
    let fresh =
        Call { deadline, operations: 0, most_operations: limits.operations, logs: Vec::new(), left: limits.output };
    // A test script calls policies: its own state continues afterwards.
    let outer = CALL.with(|slot| slot.borrow_mut().replace(fresh));
    let result = call();
    let call = CALL.with(|slot| std::mem::replace(&mut *slot.borrow_mut(), outer));
    let (operations, logs) = call.map_or((0, Vec::new()), |call| (call.operations, call.logs));
    (result, operations, logs)
}

/// Deducts bytes from the running script's budget for data passed to the host. Returns whether the budget was
/// sufficient.
pub(super) fn spend(bytes: usize) -> bool {
    CALL.with(|slot| {
        let mut slot = slot.borrow_mut();
        let Some(call) = slot.as_mut() else { return true };
        call.left.checked_sub(bytes).map(|left| call.left = left).is_some()
    })
}

/// Stores a line that the running script logged.
pub(super) fn log(line: &str) {
    CALL.with(|slot| {
        if let Some(call) = slot.borrow_mut().as_mut() {
            push_log(&mut call.logs, line);
        }
    });
}

/// Creates an engine with these limits.
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
    // A missing map key is an error. Rhai's own operators must not take precedence over ours, not even during
    // compilation.
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
            // Reading the clock at every operation would cost more than the operation.
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
