//! `wharf plan`: the chain on a request, nothing created.

use crate::backend::{DiffOf, PlannedDiff};
use crate::cli::workspaces::up::ProjectArgs;
use crate::cli::{Context, Failure};
use crate::hooks::record::Refusal;
use crate::lifecycle::{self, FieldChange, Plan, PlanDiff};
use crate::printable::Printable;
use crate::records::Explained;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    request: ProjectArgs,
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
    let Some(name) = &args.diff else { return whole(context, &backend.plan(request, args.offline).await?) };
    let target = (!name.is_empty()).then(|| context.target(Some(name))).transpose()?;
    let of = target.as_ref().map_or(DiffOf::Request, DiffOf::Workspace);
    let PlannedDiff { diff: shown, project, detail } = backend.plan_diff(of, request, args.offline).await?;
    diff(context, &shown, &project, detail)
}

/// Shows a plan, and returns the exit code.
fn whole(context: &Context, plan: &Plan) -> Result<u8, Failure> {
    if context.out.json {
        context.out.value(plan)?;
    } else {
        print(context, plan)?;
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
    out.line(out.bold(&shown.id) + format!(" ({project})"))?;
    if changes.is_empty() {
        out.line("nothing would change")?;
    } else {
        let value = |value: &serde_json::Value| if value.is_null() { "-".into() } else { short(value) };
        let row = |change: &FieldChange| {
            let (is, decided) = (value(&change.is), value(&change.decided));
            vec![change.field.clone(), is, decided, change.was_by.clone(), change.by.clone()]
        };
        out.table(&["FIELD", "IS", "WOULD BE", "WAS SET BY", "NOW SET BY"], changes.iter().map(row).collect())?;
    }
    if !shown.engine {
        out.line("planned without an engine: local images and the features of the engine are unknown")?;
    }
    Ok(())
}

fn print(context: &Context, plan: &Plan) -> Result<(), Failure> {
    let out = &context.out;
    out.line(out.bold(plan.id.as_str()) + format!(" ({})", plan.project))?;
    for line in out.trail(&plan.trail) {
        out.line(Printable::from("  ") + line)?;
    }
    for one in &plan.shadows {
        let (from, to) = (short(&one.from), short(&one.to));
        out.line(format!("  with {} enforced: {}: {from} -> {to}", one.policy, one.field))?;
    }
    let spec = serde_json::to_value(&plan.spec).unwrap_or_default();
    let mut rows = Vec::new();
    for field in plan.owners.keys() {
        let last = plan.history.iter().rev().find(|change| change.field == *field);
        let by = last.map_or("default".to_owned(), |change| crate::records::place(&change.by));
        let value = crate::hooks::record::lookup(&spec, field).unwrap_or_default();
        rows.push(vec![field.clone(), short(&value), by]);
    }
    out.line("")?;
    out.table(&["FIELD", "VALUE", "SET BY"], rows)?;
    let mut lines = Vec::new();
    for (field, explained) in &plan.fields {
        // A replaced default is not worth a line; a requested value that had no effect is.
        let asked = explained.history.iter().filter(|link| link.by.policy != "default").count();
        if asked > 1 {
            let each = explained
                .history
                .iter()
                .map(|link| format!("{} ({})", short(&link.value), crate::records::place(&link.by)));
            lines.push(format!("  {field}: {}", each.collect::<Vec<_>>().join(" -> ")));
        }
        if let Some(text) = bound(explained) {
            lines.push(format!("  {field}: {text}"));
        }
        if let Some(waiver) = &explained.waiver {
            lines.push(format!("  {field}: waived: {waiver}"));
        }
    }
    if !lines.is_empty() {
        out.line(out.bold("overruled and limited"))?;
    }
    for line in lines {
        out.line(line)?;
    }
    if let Some(record) = &plan.devcontainer {
        for command in record.commands.once.iter().chain(&record.commands.each_start) {
            let words = serde_json::Value::from(command.words.join(" "));
            out.line(format!("{}: would run {}: {}", record.file, command.property, short(&words)))?;
        }
        for not in &record.not_honoured {
            out.line(format!("{}:{}: not honoured: {}: {}", record.file, not.line, not.property, not.why))?;
        }
    }
    for note in &plan.notes {
        out.line(format!("note: {note}"))?;
    }
    if !plan.engine {
        out.line("planned without an engine: local images and the features of the engine are unknown")?;
    }
    Ok(())
}

/// Returns the limit of the configuration that a field has reached or violates.
pub(in crate::cli) fn bound(field: &Explained) -> Option<String> {
    let bound = field.bound.as_ref()?;
    let setting = format!("{} = {} ({})", bound.setting, short(&bound.allows), bound.origin);
    match &bound.violated {
        Some(violated) => Some(format!("forbidden: {violated}; {setting}")),
        // An untouched default is not worth a line.
        None if bound.reached && !field.history.is_empty() => Some(format!("the most that {setting} allows")),
        None => None,
    }
}

/// Formats a value on one line, shortened if it would fill the screen.
pub(crate) fn short(value: &serde_json::Value) -> String {
    // The text is shortened in its printed form, where line breaks are escaped.
    let plain = |text: &str| Printable::from(text).to_string();
    let text = match value {
        serde_json::Value::String(text) => plain(text),
        serde_json::Value::Object(map) if map.contains_key("reference") => {
            map.get("reference").and_then(|reference| reference.as_str()).unwrap_or_default().to_owned()
        }
        other => other.to_string(),
    };
    if text.chars().count() > 70 { format!("{}...", text.chars().take(67).collect::<String>()) } else { text }
}
