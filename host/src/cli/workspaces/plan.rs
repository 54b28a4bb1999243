//! `wharf plan`: the chain on a request, nothing created.

use crate::backend::{DiffOf, PlannedDiff};
use crate::cli::output::{Cell, Column, Look, column};
use crate::cli::workspaces::field::{bound, hidden, is_default, text};
use crate::cli::workspaces::up::ProjectArgs;
use crate::cli::{Context, Failure};
use crate::hooks::record::Refusal;
use crate::lifecycle::{self, FieldChange, Plan, PlanDiff};
use crate::printable::Printable;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    request: ProjectArgs,
    /// Show every field, also those with their defaults
    #[arg(short, long)]
    all: bool,
    /// Do not ask the engine: policies then see no local images and no capabilities, as when it is unreachable
    #[arg(long)]
    offline: bool,
    /// Show the changes that an existing workspace would get if it were recreated with its original request; exits with
    /// 7 if there are any [default: the workspace of the folder]
    #[arg(long, value_name = "WS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    diff: Option<String>,
}

/// Runs the command. A denial is shown as the plan's result, with the exit code that `up` would have.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    let request = args.request.request(context)?;
    let Some(name) = &args.diff else {
        return whole(context, &backend.plan(request, args.offline).await?, args.all);
    };
    let target = (!name.is_empty()).then(|| context.target(Some(name))).transpose()?;
    let of = target.as_ref().map_or(DiffOf::Request, DiffOf::Workspace);
    let PlannedDiff { diff: shown, project, detail } = backend.plan_diff(of, request, args.offline).await?;
    diff(context, &shown, &project, detail)
}

/// Shows a plan, and returns the exit code.
fn whole(context: &Context, plan: &Plan, all: bool) -> Result<u8, Failure> {
    if context.out.json {
        context.out.value(plan)?;
    } else {
        print(context, plan, all)?;
    }
    match &plan.denied {
        None => Ok(0),
        Some(refusal) => Err(denied(refusal, plan.detail.clone())),
    }
}

/// Shows the changes, and returns the exit code.
fn diff(context: &Context, shown: &PlanDiff, project: &str, detail: Option<(String, bool)>) -> Result<u8, Failure> {
    print_diff(context, shown, project)?;
    match &shown.denied {
        None if !shown.changes.is_empty() => Ok(7),
        None => Ok(0),
        Some(refusal) => Err(denied(refusal, detail)),
    }
}

fn denied(refusal: &Refusal, detail: Option<(String, bool)>) -> Failure {
    let error = lifecycle::Error::Denied { refusal: refusal.clone(), trail: Vec::new() };
    Failure { detail, ..error.into() }
}

fn print_diff(context: &Context, shown: &PlanDiff, project: &str) -> Result<(), Failure> {
    let out = &context.out;
    if out.json {
        return Ok(out.value(shown)?);
    }
    let changes = &shown.changes;
    out.titled(&shown.id, format!(" ({project})"))?;
    if changes.is_empty() {
        out.line("nothing would change")?;
    } else {
        let row = |change: &FieldChange| {
            let value = |value: &serde_json::Value| text(&change.field, value);
            vec![
                Cell::from(&change.field),
                Cell::from(value(&change.is)).look(Look::Bad),
                Cell::from(value(&change.decided)).look(Look::Good),
                Cell::from(&change.was_by),
                Cell::from(&change.by),
            ]
        };
        const COLUMNS: [Column; 5] = [
            column("FIELD").cut(16),
            column("IS").wrapped(14),
            column("WOULD BE").wrapped(14),
            column("WAS SET BY").cut(12).optional(2),
            column("NOW SET BY").cut(12).optional(1),
        ];
        out.table(&COLUMNS, changes.iter().map(row).collect())?;
    }
    if !shown.engine {
        out.wrapped("", "planned without an engine: local images and the features of the engine are unknown")?;
    }
    Ok(())
}

fn print(context: &Context, plan: &Plan, all: bool) -> Result<(), Failure> {
    let out = &context.out;
    out.titled(plan.id.as_str(), format!(" ({})", plan.project))?;
    for line in out.trail(&plan.trail) {
        out.line(Printable::from("  ") + line)?;
    }
    for one in &plan.shadows {
        let (from, to) = (text(&one.field, &one.from), text(&one.field, &one.to));
        out.wrapped("  ", format!("with {} enforced: {}: {from} -> {to}", one.policy, one.field))?;
    }
    let spec = serde_json::to_value(&plan.spec).unwrap_or_default();
    let mut rows = Vec::new();
    let mut left_out = 0;
    for field in plan.owners.keys() {
        if !all && plan.fields.get(field).is_none_or(is_default) {
            left_out += 1;
            continue;
        }
        let last = plan.history.iter().rev().find(|change| change.field == *field);
        let by = last.map_or("default".to_owned(), |change| crate::records::place(&change.by));
        let value = crate::hooks::record::lookup(&spec, field).unwrap_or_default();
        rows.push(vec![field.clone(), text(field, &value), by]);
    }
    out.line("")?;
    if !rows.is_empty() {
        const COLUMNS: [Column; 3] = [column("FIELD").cut(16), column("VALUE").cut(20), column("SET BY").cut(16)];
        out.table(&COLUMNS, rows)?;
    }
    if let Some(line) = hidden(left_out) {
        out.faint(line)?;
    }
    print_overruled(context, plan)?;
    print_project(context, plan)
}

/// Prints the requested values that had no effect, the limits that fields have reached, and waivers.
fn print_overruled(context: &Context, plan: &Plan) -> Result<(), Failure> {
    let out = &context.out;
    let mut lines = Vec::new();
    for (field, explained) in &plan.fields {
        // A replaced default is not worth a line; a requested value that had no effect is.
        let asked = explained.history.iter().filter(|link| link.by.policy != "default").count();
        if asked > 1 {
            let each = explained
                .history
                .iter()
                .map(|link| format!("{} ({})", text(field, &link.value), crate::records::place(&link.by)));
            lines.push(format!("{field}: {}", each.collect::<Vec<_>>().join(" -> ")));
        }
        if let Some(text) = bound(field, explained) {
            lines.push(format!("{field}: {text}"));
        }
        if let Some(waiver) = &explained.waiver {
            lines.push(format!("{field}: waived: {waiver}"));
        }
    }
    if !lines.is_empty() {
        out.line(out.bold("overruled and limited"))?;
    }
    for line in lines {
        out.wrapped("  ", line)?;
    }
    Ok(())
}

/// Prints what the files of the project say.
fn print_project(context: &Context, plan: &Plan) -> Result<(), Failure> {
    let out = &context.out;
    if let Some(record) = &plan.devcontainer {
        for command in record.commands.once.iter().chain(&record.commands.each_start) {
            out.wrapped("", format!("{}: would run {}: {}", record.file, command.property, command.words.join(" ")))?;
        }
        for not in &record.not_honoured {
            out.wrapped("", format!("{}:{}: not honoured: {}: {}", record.file, not.line, not.property, not.why))?;
        }
    }
    for note in &plan.notes {
        out.wrapped("note: ", note)?;
    }
    if !plan.engine {
        out.wrapped("", "planned without an engine: local images and the features of the engine are unknown")?;
    }
    Ok(())
}
