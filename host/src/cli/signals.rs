//! The signals that end a command.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that no longer end this process by themselves. Signals that the process ignores since its start stay ignored:
/// `nohup`, and the background jobs of a shell, rely on it.
pub(crate) struct Ends(Vec<(i32, Signal)>);

impl Ends {
    /// Takes these signals.
    pub(crate) fn take(kinds: &[SignalKind]) -> std::io::Result<Self> {
        let ignored = ignored();
        let number = |kind: &SignalKind| kind.as_raw_value();
        let taken =
            kinds.iter().filter(|kind| !u32::try_from(number(kind) - 1).is_ok_and(|bit| ignored >> bit & 1 == 1));
        taken.map(|kind| Ok((number(kind), signal(*kind)?))).collect::<std::io::Result<_>>().map(Self)
    }

    /// Returns the number of the first signal that comes.
    pub(crate) async fn next(&mut self) -> i32 {
        let first = self.0.iter_mut().map(|(number, signals)| {
            let number = *number;
            Box::pin(async move {
                signals.recv().await;
                number
            })
        });
        let first: Vec<_> = first.collect();
        if first.is_empty() {
            return std::future::pending().await;
        }
        futures_util::future::select_all(first).await.0
    }
}

/// Returns the ignored signals of this process as a mask: bit n - 1 is signal n (proc(5)).
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
