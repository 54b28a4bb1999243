//! A command that failed for lack of root: after its output, the ways to run its workspace as root are printed once.

use super::printer::Printer;
use crate::backend::Backend;
use crate::cli::Context;
use crate::hooks::ExecSpec;
use crate::lifecycle::{wants_root, ways_to_root};
use crate::records::Target;

/// Returns whether such a failure of a command can be detected: its errors are separate from its output, and the
/// workspace chose its user.
pub(super) fn applies(spec: &ExecSpec) -> bool {
    !spec.tty && spec.user.is_none()
}

/// Returns whether a command with this exit code reports a lack of root at the end of its errors.
fn failed(code: i64, printer: &Printer) -> bool {
    code != 0 && wants_root(&printer.last_errors())
}

/// Prints the ways after the output of a command that failed for lack of root. The command has ended, so a failure here
/// is ignored.
pub(super) async fn tell(context: &Context, (backend, target): (&Backend, &Target), code: i64, printer: &Printer) {
    if !failed(code, printer) {
        return;
    }
    match backend.why(target, Some("user")).await {
        Ok(why) => {
            if let Some(text) = ways_to_root(&why) {
                context.out.notice(&text);
            }
        }
        Err(error) => tracing::debug!("the user of {target:?} is unknown: {error}"),
    }
}
