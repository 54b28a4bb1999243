//! `wharf policy replay`

use std::path::PathBuf;

use serde_json::json;

use super::of_file;
use crate::app::App;
use crate::carried;
use crate::cli::instant::instant;
use crate::cli::{Context, Failure, audit};
use crate::client::Client;
use crate::config::PolicyConfig;
use crate::hooks::redact::SecretNames;
use crate::hooks::replay::{Comparison, compare, replay, unplayable};
use crate::hooks::{Chain, Hook};
use crate::lifecycle::{FlipGroup, Replayed, find_record, replay_decisions};
use crate::printable::Printable;
use crate::store::DecisionQuery;

/// Most decisions that a service runs again for one request.
const MOST: u64 = 2000;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Decisions since a time (2026-01-31T12:00:00Z) or for a duration (30d) [default: all that are kept]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<jiff::Timestamp>,
    /// Decisions up to a time, or up to so long ago
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<jiff::Timestamp>,
    /// One decision: number or id
    #[arg(long, value_name = "RECORD", conflicts_with_all = ["since", "until", "hook", "workspace"])]
    decision: Option<String>,
    /// Decisions of a hook
    #[arg(long)]
    hook: Option<Hook>,
    /// Decisions about a workspace: id or name
    #[arg(long, value_name = "WS")]
    workspace: Option<String>,
    /// A policy (.wasm or .rhai) that takes its namesake's place in the chain, or is added to its end
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// The policy whose place it takes, or its name at the end of the chain
    #[arg(long, value_name = "NAME", requires = "with")]
    r#as: Option<String>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    if let Some(client) = context.client()? {
        let replayed = there(context, &client, args).await?;
        return shown(context, &replayed, None);
    }
    let store = context.store().await?;
    let (chain, missing, place) = chain(context, args)?;
    let secrets = SecretNames(context.app.loaded.config.secrets.env.clone());
    let replayed = match &args.decision {
        Some(wanted) => {
            let stored = find_record(&store, wanted)?;
            if !context.out.json {
                explain(context, &chain, &secrets, &missing, &stored.decision()?)?;
            }
            replay_decisions(&chain, &secrets, &missing, std::iter::once(Ok(stored)))?
        }
        None => {
            let workspace = args.workspace.as_deref().map(|name| audit::about(context, &store, name)).transpose()?;
            let query =
                DecisionQuery { workspace, hook: args.hook, since: args.since, until: args.until, counting: false };
            replay_decisions(&chain, &secrets, &missing, store.decision_pages(query))?
        }
    };
    shown(context, &replayed, place.as_deref())
}

/// Shows what came out, and gives the exit code.
fn shown(context: &Context, replayed: &Replayed, place: Option<&str>) -> Result<u8, Failure> {
    if context.out.json {
        context.out.value(replayed)?;
    } else {
        print(context, replayed, place)?;
    }
    Ok(if replayed.flipped > 0 { 7 } else { 0 })
}

/// By a service, through the chain that decides there.
async fn there(context: &Context, client: &Client, args: &Args) -> Result<Replayed, Failure> {
    if args.with.is_some() {
        let text =
            format!("--with takes a file of this machine, and the service at {} has its own chain", client.server());
        let remedy = "run it on the service's machine without --server, or put the policy into the chain as a shadow";
        return Err(Failure::new("bad-request", text, remedy, 2));
    }
    let Some(decision) = &args.decision else {
        let body = json!({
            "since": args.since, "until": args.until, "hook": args.hook, "workspace": args.workspace, "limit": MOST,
        });
        let replayed: Replayed = client.post("/v1/decisions/replay", &body).await?;
        if replayed.replayed + replayed.not_replayed.values().sum::<u64>() >= MOST {
            context
                .out
                .notice(&format!("a service runs the newest {MOST} of them again at most; --until names older ones"));
        }
        return Ok(replayed);
    };
    Ok(client.post("/v1/decisions/replay", &json!({ "decision": decision })).await?)
}

/// The chain of the configuration with the changes that were asked for, the optional policies of it that cannot be
/// loaded, and where the new policy stands.
fn chain(context: &Context, args: &Args) -> Result<(Chain, Vec<String>, Option<String>), Failure> {
    let mut loaded = context.app.loaded.clone();
    let mut list = std::mem::take(&mut loaded.config.policy);
    if list.is_empty() {
        list = carried::default_chain();
    }
    let mut place = None;
    if let Some(file) = &args.with {
        place = Some(put(&mut list, of_file(file)?, args.r#as.as_deref()));
    }
    loaded.config.policy = list;
    let app = App::new(context.app.sources.clone(), loaded, context.app.state_dir.clone());
    let (app, missing) = app.for_replays()?;
    Ok((app.prepared_chain(&Hook::ALL)?, missing, place))
}

/// Puts a policy into a chain: in the place of its namesake, whose settings and rights it takes over, or at the end.
/// Says where.
fn put(list: &mut Vec<PolicyConfig>, new: PolicyConfig, name: Option<&str>) -> String {
    let stem = new.name.rsplit_once('.').map_or(new.name.as_str(), |(stem, _)| stem).to_owned();
    let names = name.map_or_else(|| vec![new.name.clone(), stem], |name| vec![name.to_owned()]);
    let old = list.iter_mut().find(|policy| names.contains(&policy.name));
    match old {
        Some(old) => {
            let said = format!("in the place of '{}'", old.name);
            (old.builtin, old.wasm, old.script) = (None, new.wasm, new.script);
            // It is another file now.
            old.digest = None;
            said
        }
        None => {
            let name = name.map_or(new.name.clone(), str::to_owned);
            let said = format!("'{name}' at the end of the chain");
            list.push(PolicyConfig { name, ..new });
            said
        }
    }
}

fn explain(
    context: &Context,
    chain: &Chain,
    secrets: &SecretNames,
    missing: &[String],
    record: &crate::hooks::Decision,
) -> Result<(), Failure> {
    if unplayable(record, missing).is_some() {
        return Ok(());
    }
    let again = replay(chain, secrets, record);
    for (what, decision) in [("recorded", record), ("replayed", &again)] {
        context.out.line(context.out.bold(what))?;
        for line in context.out.trail(&crate::lifecycle::trail(&decision.steps)) {
            context.out.line(Printable::from("  ") + line)?;
        }
    }
    let said = match compare(record, &again) {
        Comparison::Identical => "identical".to_owned(),
        Comparison::SameOutcome => "the same outcome, with other words on the way".to_owned(),
        Comparison::Flip(flip) => format!("{}: {}", flip.kind.words(), flip.detail),
    };
    context.out.line(format!("  {said}"))?;
    Ok(())
}

fn print(context: &Context, replayed: &Replayed, place: Option<&str>) -> Result<(), Failure> {
    let out = &context.out;
    if let Some(place) = place {
        out.line(format!("with the new policy {place}"))?;
    }
    for group in &replayed.flips {
        let FlipGroup { kind, hook, policy, reason, detail, count, examples } = group;
        out.line(out.bold(kind.words()) + format!("  {count} x {hook}, by {policy}: {reason}"))?;
        let plain: String = detail.chars().take(300).collect();
        let numbers: Vec<_> = examples.iter().map(|example| format!("#{}", example.number)).collect();
        out.line(format!("    e.g. {}: {plain}", numbers.join(" ")))?;
    }
    for (why, count) in &replayed.not_replayed {
        out.line(format!("not replayed: {count} records: {why}"))?;
    }
    for (policy, count) in &replayed.gone {
        out.line(format!("'{policy}' had taken part in {count} and is not in the chain"))?;
    }
    for (policy, count) in &replayed.changed {
        out.line(format!("'{policy}' is another than in {count} records"))?;
    }
    let Replayed { replayed: all, identical, same_outcome, flipped, seconds, per_second, .. } = replayed;
    out.line(format!(
        "{all} decisions: {identical} identical, {same_outcome} with the same outcome, {flipped} flipped \
         ({seconds:.2} s, {per_second:.0} decisions/s)"
    ))?;
    Ok(())
}
