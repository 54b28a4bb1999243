//! The limits of one plugin call, and explanations of failed calls.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Trap};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::hooks::{Facts, Limits, PolicyError};

/// Maximum elements of all tables of a component.
const TABLE_ELEMENTS: usize = 20_000;

/// The data of a store, for one call.
pub(super) struct State {
    pub(super) logs: Vec<String>,
    pub(super) memory_limit: usize,
    /// Bytes of all memories of the component.
    pub(super) memory: usize,
    /// Elements of all its tables.
    pub(super) elements: usize,
    /// Maximum bytes that the call may pass to the host's functions in total, and the bytes so far.
    pub(super) host_limit: usize,
    pub(super) host_bytes: usize,
    /// The exceeded limit, if any: `memory`, `table` or `host-calls`.
    pub(super) hit: Option<&'static str>,
    /// For plugins that import additional facts.
    pub(super) facts: Option<Arc<Facts>>,
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // A component may have several memories; the limit applies to their sum.
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        if total > self.memory_limit {
            self.hit = Some("memory");
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.elements.saturating_add(desired.saturating_sub(current));
        if total > TABLE_ELEMENTS {
            self.hit = Some("table");
            return Ok(false);
        }
        self.elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        16
    }
}

/// Explains in one line why a call ended without an answer, with the remedy. The backtrace becomes the detail.
pub(super) fn explain(limits: &Limits, state: &State, error: &wasmtime::Error) -> PolicyError {
    let root = error.root_cause().to_string();
    let (code, text) = match (error.downcast_ref::<Trap>(), state.hit) {
        (Some(Trap::Interrupt), _) => (
            "timeout",
            format!(
                "it ran longer than its deadline of {} ms; raise 'timeout' or look for an endless loop",
                limits.timeout.as_millis()
            ),
        ),
        (_, Some("host-calls")) => (
            "host-calls-limit",
            format!(
                "it passed more than {} KiB to the host functions; log less, or raise 'host_bytes'",
                state.host_limit >> 10
            ),
        ),
        (_, Some("table")) => (
            "memory-limit",
            format!("it requested more than {TABLE_ELEMENTS} table elements, the maximum for a plugin"),
        ),
        (_, Some(what)) => (
            "memory-limit",
            format!(
                "it requested more {what} than its limit of {} MiB; raise 'memory' or reduce its work",
                limits.memory >> 20
            ),
        ),
        (None, None) if root.contains("resource limit exceeded") => {
            ("memory-limit", format!("it has more parts than a plugin may have ({})", root.replace('\n', " ")))
        }
        (Some(Trap::StackOverflow), _) => {
            ("stack-limit", "its calls are nested too deeply; look for a recursion".to_owned())
        }
        // In languages with their own stack in linear memory, deep recursion runs past the stack's end.
        (Some(Trap::MemoryOutOfBounds), _) => {
            ("stack-limit", "it accessed memory out of bounds; look for a recursion or a wild pointer".to_owned())
        }
        _ if root.contains("fuel allocated for hostcalls") => (
            "output-limit",
            format!("its answer is larger than {} bytes; raise 'output' or return less", limits.output),
        ),
        (Some(trap), _) => {
            let panicked = state.logs.iter().rev().find(|line| line.contains("panicked"));
            let why = panicked.cloned().unwrap_or_else(|| trap.to_string().replace("wasm trap: ", ""));
            ("trap", format!("it trapped: {}", why.replace('\n', " ")))
        }
        (None, _) => ("trap", format!("it ended without an answer: {}", root.replace('\n', " "))),
    };
    let mut explained = PolicyError::new(code, text).detail(format!("{error:?}"));
    explained.logs.clone_from(&state.logs);
    explained
}
