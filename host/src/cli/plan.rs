//! `wharf plan`: the chain on a request, nothing created.

use std::sync::Arc;

use super::up::ProjectArgs;
use super::{Context, Failure};
use crate::hooks::Hook;
use crate::hooks::chain::LookedAt;
use crate::lifecycle::{self, Plan};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    request: ProjectArgs,
    /// Asks no engine: policies then see no local images and no abilities, as they do when none answers
    #[arg(long)]
    offline: bool,
}

/// Runs the command. A denial is shown as the plan's result, with the exit code that `up` would have.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let request = args.request.request(context)?;
    let mut chain = context.app.prepared_chain(&Hook::CREATE)?;
    // A plan makes no state, and what it asks says nothing about how policies are doing.
    if context.app.state_dir.join("wharf.db").exists() {
        chain = chain.with_standings(Arc::new(LookedAt(Arc::new(context.app.store()?))));
    }
    let docker = if args.offline { None } else { context.app.docker("").await.ok() };
    let plan = {
        let app = &context.app;
        lifecycle::plan(&app.loaded, &chain, docker.as_ref(), &app.state_dir, &request).await?
    };
    if context.out.json {
        context.out.value(&plan)?;
    } else {
        print(context, &plan)?;
    }
    match &plan.denied {
        None => Ok(0),
        Some(refusal) => {
            let error = lifecycle::Error::Denied { refusal: refusal.clone(), trail: Vec::new() };
            Err(error.into())
        }
    }
}

fn print(context: &Context, plan: &Plan) -> Result<(), Failure> {
    let out = &context.out;
    out.line(format!("{} ({})", out.bold(plan.id.as_str()), plan.project))?;
    for line in out.trail(&plan.trail) {
        out.line(format!("  {line}"))?;
    }
    for one in &plan.shadows {
        let (from, to) = (short(&one.from), short(&one.to));
        out.line(format!("  if {} counted: {}: {from} -> {to}", one.policy, one.field))?;
    }
    let spec = serde_json::to_value(&plan.spec).unwrap_or_default();
    let mut rows = Vec::new();
    for (field, owner) in &plan.owners {
        let at =
            plan.history.iter().rev().find(|change| change.field == *field).and_then(|change| change.by.at.clone());
        let by = match at {
            Some(at) if at.starts_with(owner.as_str()) => at,
            Some(at) => format!("{owner} ({at})"),
            None => owner.clone(),
        };
        let value = crate::hooks::record::lookup(&spec, field).unwrap_or_default();
        rows.push(vec![field.clone(), short(&value), by]);
    }
    out.line("")?;
    out.table(&["FIELD", "VALUE", "SET BY"], rows)?;
    if let Some(record) = &plan.devcontainer {
        for command in record.commands.once.iter().chain(&record.commands.each_start) {
            let words = serde_json::Value::from(command.words.join(" "));
            out.line(format!("{}: would run {}: {}", record.file, command.property, short(&words)))?;
        }
        for not in &record.not_honoured {
            out.line(format!("{}:{}: not honoured: {}: {}", record.file, not.line, not.property, not.why))?;
        }
    }
    if !plan.engine {
        out.line("planned without an engine: local images and its abilities are unknown")?;
    }
    Ok(())
}

/// A value on one line, cut where it would fill the screen.
pub(super) fn short(value: &serde_json::Value) -> String {
    // Control characters of a project must not reach the terminal.
    let plain = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let text = match value {
        serde_json::Value::String(text) => plain(text),
        serde_json::Value::Object(map) if map.contains_key("reference") => {
            map.get("reference").and_then(|reference| reference.as_str()).unwrap_or_default().to_owned()
        }
        other => other.to_string(),
    };
    if text.chars().count() > 70 { format!("{}...", text.chars().take(67).collect::<String>()) } else { text }
}
