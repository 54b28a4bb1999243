//! `wharf inspect`: everything that Wharf knows of a workspace.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{health, ports, state};
use crate::backend::Backend;
use crate::cli::devcontainer::not_honoured;
use crate::cli::output::{Cell, Column, Look, Output, ago, bytes, column, counted};
use crate::cli::workspaces::field::text;
use crate::cli::{Context, Failure};
use crate::lifecycle::{Ending, WorkspaceView};
use crate::printable::Printable;
use crate::records::{Target, Why, place};

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name [default: the workspace of this folder]
    workspace: Option<String>,
}

/// A workspace with its decided fields and its sidecars.
#[derive(Serialize)]
struct Inspected<'a> {
    #[serde(flatten)]
    workspace: &'a WorkspaceView,
    /// Field -> value; values of secrets are `***`. Empty for a container without a record.
    fields: BTreeMap<&'a str, &'a Value>,
    /// Ids of its sidecars.
    sidecars: Vec<&'a str>,
}

/// Shows one workspace.
pub(in crate::cli) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    let workspace = backend.inspect(&context.target(args.workspace.as_deref())?).await?;
    let target = Target::Named(workspace.id.to_string());
    let why = match backend.why(&target, None).await {
        Ok(why) => Some(why),
        // A container whose record is lost still has a state.
        Err(error) if error.code() == "workspace-not-found" => None,
        Err(error) => return Err(error.into()),
    };
    let sidecars = sidecars(&backend, &workspace, &target).await?;
    if context.out.json {
        let fields = why.iter().flat_map(|why| &why.fields).map(|(name, field)| (name.as_str(), &field.value));
        let sidecars = sidecars.iter().map(|sidecar| sidecar.id.as_str()).collect();
        context.out.value(&Inspected { workspace: &workspace, fields: fields.collect(), sidecars })?;
        return Ok(0);
    }
    print(&context.out, &workspace, why.as_ref(), &sidecars)?;
    Ok(0)
}

/// Returns the sidecars of a workspace; a sidecar has none.
async fn sidecars(
    backend: &Backend,
    workspace: &WorkspaceView,
    target: &Target,
) -> Result<Vec<WorkspaceView>, Failure> {
    if workspace.part_of.is_some() {
        return Ok(Vec::new());
    }
    Ok(backend.sidecars(target).await?)
}

/// The columns of a section: names, values, and the owner of a value.
const COLUMNS: [Column; 3] = [column("").padded(12).cut(16), column("").wrapped(24), column("").cut(12).optional(1)];

/// A section with rows of a name, a value and an owner.
struct Section(&'static str, Vec<Vec<Cell>>);

impl Section {
    fn row(&mut self, name: &str, value: impl Into<Cell>) {
        self.1.push(vec![name.into(), value.into(), "".into()]);
    }

    fn print(self, out: &Output) -> std::io::Result<()> {
        if self.1.is_empty() {
            return Ok(());
        }
        out.line("")?;
        out.line(out.bold(self.0))?;
        out.rows("  ", &COLUMNS, self.1)
    }
}

fn print(
    out: &Output,
    workspace: &WorkspaceView,
    why: Option<&Why>,
    sidecars: &[WorkspaceView],
) -> std::io::Result<()> {
    out.titled(workspace.id.as_str(), format!(" ({})", workspace.project))?;
    state_section(workspace).print(out)?;
    image_section(workspace).print(out)?;
    let of = |title, fields: &[&str]| section(why, title, fields);
    of("command", &["entrypoint", "command", "user", "working_dir", "hostname", "restart", "time_to_live_ms"])
        .print(out)?;
    let mut resources = of("resources", &["resources"]);
    if let Some(disk) = &workspace.disk {
        let used = disk.used.as_deref().unwrap_or("-");
        resources.row("disk usage", format!("{}, {used} of {}", disk.mode.as_str(), bytes(Some(disk.limit))));
    }
    resources.print(out)?;
    of("security", &["security"]).print(out)?;
    of("mounts", &["mounts", "tmpfs"]).print(out)?;
    let mut network = of("network", &["network", "ports"]);
    ports(workspace).into_iter().for_each(|port| network.row("published", port));
    network.print(out)?;
    of("environment", &["env"]).print(out)?;
    let mut labels = of("labels", &["labels"]);
    if why.is_none() {
        workspace.labels.iter().for_each(|(name, value)| labels.row(name, value));
    }
    labels.print(out)?;
    of("health check", &["health_check"]).print(out)?;
    let mut parts = Section("sidecars", Vec::new());
    sidecars.iter().for_each(|sidecar| parts.row(&sidecar.name, state(sidecar)));
    parts.print(out)?;
    notes_section(workspace).print(out)?;
    if !workspace.trail.is_empty() {
        out.line("")?;
        out.line(out.bold("policies"))?;
        for line in out.trail(&workspace.trail) {
            out.line(Printable::from("  ") + line)?;
        }
    }
    decisions(out, why)
}

/// Returns the state of a workspace, and why it ended.
fn state_section(workspace: &WorkspaceView) -> Section {
    let mut section = Section("state", Vec::new());
    section.row("state", state(workspace));
    let since = |time: Option<Timestamp>| Some(format!("{time:.0} ({})", ago(Some(time?)), time = time?));
    if let Some(why) = ended(workspace) {
        section.row("ended", why);
    }
    if workspace.health.is_some() {
        section.row("health", health(workspace));
    }
    if let Some(check) = &workspace.last_check {
        let failures = match check.failures {
            0 => String::new(),
            count => format!(", {} in a row", counted(count, "failure")),
        };
        section.row("last check", format!("code {}, {}{failures}", check.exit_code, ago(check.at)));
        check.output.lines().for_each(|line| section.row("", line));
    }
    let times =
        [("created", workspace.created_at), ("started", workspace.started_at), ("finished", workspace.finished_at)];
    for (name, time) in times.into_iter().filter_map(|(name, time)| Some((name, since(time)?))) {
        section.row(name, time);
    }
    if let Some(reason) = &workspace.degraded {
        section.row("degraded", Cell::from(reason).look(Look::Warn));
    }
    if let Some(reason) = &workspace.outdated {
        section.row("outdated", Cell::from(reason).look(Look::Warn));
    }
    section.row("name", &workspace.name);
    section.row("project", &workspace.project);
    if let Some(of) = &workspace.part_of {
        section.row("sidecar of", of.as_str());
    }
    if let Some(id) = &workspace.container_id {
        section.row("container", format!("{} ({})", workspace.id.container_name(), id.get(..12).unwrap_or(id)));
    }
    section
}

/// Tells why a workspace no longer runs.
fn ended(workspace: &WorkspaceView) -> Option<String> {
    let code = workspace.exit_code.map_or(String::new(), |code| format!(" with exit code {code}"));
    Some(match workspace.ended? {
        Ending::Stopped => format!("stopped through Wharf{code}"),
        Ending::Idle => "stopped by the service, because it was idle".to_owned(),
        Ending::Expired => "stopped by the service, because its time to live had expired".to_owned(),
        Ending::OutOfMemory => format!("killed by the kernel for lack of memory{code}"),
        Ending::Exited => format!("its command ended{code}; 'wharf logs {}' shows its output", workspace.id),
    })
}

fn image_section(workspace: &WorkspaceView) -> Section {
    let mut section = Section("image", Vec::new());
    section.row("reference", &workspace.image);
    if let Some(digest) = &workspace.image_digest {
        section.row("digest", digest);
    }
    if let Some(id) = &workspace.image_id {
        section.row("id", id);
    }
    section
}

/// Returns the fields of some groups, such as `env`, with their owners. A name is given without its group.
fn section(why: Option<&Why>, title: &'static str, groups: &[&str]) -> Section {
    let mut section = Section(title, Vec::new());
    for group in groups {
        for (name, field) in why.iter().flat_map(|why| &why.fields) {
            let Some(rest) = name.strip_prefix(group) else { continue };
            let short = match rest.strip_prefix('.') {
                Some(short) => short,
                None if rest.is_empty() => name,
                None => continue,
            };
            let last = field.history.last().map_or("default".to_owned(), |link| place(&link.by));
            let look = (last == "default").then_some(Look::Dim);
            section.1.push(vec![short.into(), text(name, &field.value).into(), Cell::from(last).look(look)]);
        }
    }
    section
}

/// Returns the notes of policies, and what the `devcontainer.json` asks for in vain.
fn notes_section(workspace: &WorkspaceView) -> Section {
    let mut section = Section("notes", Vec::new());
    workspace.notes.iter().for_each(|note| section.row("note", note));
    let file = workspace.devcontainer.as_ref().and_then(not_honoured);
    file.iter().for_each(|line| section.row("file", line));
    section
}

/// Names the records of the decisions.
fn decisions(out: &Output, why: Option<&Why>) -> std::io::Result<()> {
    let records = why.iter().flat_map(|why| &why.records).filter_map(|record| record.number);
    let numbers: Vec<_> = records.map(|number| format!("#{number}")).collect();
    if numbers.is_empty() {
        return Ok(());
    }
    out.wrapped("  ", format!("decision records: {} (see 'wharf audit show')", numbers.join(" ")))
}
