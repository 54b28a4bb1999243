//! A command that failed for want of root: the ways to have its workspace run as root are named once, behind its output.

use super::printer::Printer;
use crate::cli::{Context, Failure, backend};
use crate::client::Client;
use crate::hooks::ExecSpec;
use crate::lifecycle::{Error, Lifecycle, Why, wants_root, ways_to_root, why};
use crate::workspace::WorkspaceId;

/// Whether such a failure of a command can be told: its errors come apart from its output, and the workspace chose its user.
pub(super) fn applies(spec: &ExecSpec) -> bool {
    !spec.tty && spec.user.is_none()
}

/// Whether a command that ended with this code says so at the end of its errors.
fn failed(code: i64, printer: &Printer) -> bool {
    code != 0 && wants_root(&printer.last_errors())
}

pub(super) fn here(
    context: &Context,
    (lifecycle, id): (&Lifecycle, &WorkspaceId),
    code: i64,
    printer: &Printer,
) -> Result<(), Failure> {
    if failed(code, printer) {
        let store = context.app.store()?;
        match why(&store, &lifecycle.loaded(), &lifecycle.stored(id)?, Some("user")) {
            Ok(why) => tell(context, &why),
            // Its image decides.
            Err(Error::NoField { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

pub(super) async fn there(context: &Context, client: &Client, name: &str, code: i64, printer: &Printer) {
    if failed(code, printer) {
        match client.get(&backend::path(name, "why"), &[("field", "user")]).await {
            Ok(why) => tell(context, &why),
            // The command has ended all the same.
            Err(error) => tracing::debug!("the user of {name} is not known: {error}"),
        }
    }
}

fn tell(context: &Context, why: &Why) {
    if let Some(text) = ways_to_root(why) {
        context.out.notice(&text);
    }
}
