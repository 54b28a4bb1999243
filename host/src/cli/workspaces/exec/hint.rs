//! A command that failed for want of root: the ways to have its workspace run as root are named once, behind its output.

use super::printer::Printer;
use crate::backend::Backend;
use crate::cli::Context;
use crate::hooks::ExecSpec;
use crate::lifecycle::{wants_root, ways_to_root};
use crate::records::Target;

/// Whether such a failure of a command can be told: its errors come apart from its output, and the workspace chose its user.
pub(super) fn applies(spec: &ExecSpec) -> bool {
    !spec.tty && spec.user.is_none()
}

/// Whether a command that ended with this code says so at the end of its errors.
fn failed(code: i64, printer: &Printer) -> bool {
    code != 0 && wants_root(&printer.last_errors())
}

/// Names them behind the output of a command that failed for want of root. The command has ended, so a failure here is no news.
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
        Err(error) => tracing::debug!("the user of {target:?} is not known: {error}"),
    }
}
