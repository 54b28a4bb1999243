//! Asks a policy in Rust, in a chain with a script, without an engine.

use std::error::Error;
use std::sync::Arc;

use serde_json::json;
use wharf::config::Config;
use wharf::hooks::record::Draft;
use wharf::hooks::{
    Adjustment, Chain, Entry, Facts, Hook, HookRequest, Limits, Policy, PolicyError, PolicyKind, Reply, Verdict,
};
use wharf::script::RhaiPolicy;
use wharf::workspace::ContainerSpec;

/// Gives every workspace a label with the name of its project.
struct Labels;

impl Policy for Labels {
    fn name(&self) -> &str {
        "labels"
    }

    fn kind(&self) -> PolicyKind {
        PolicyKind::Plugin
    }

    fn digest(&self) -> &str {
        // Part of each record: changes with the code.
        env!("CARGO_PKG_VERSION")
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::PreCreate]
    }

    fn wanted_files(&self) -> &[String] {
        &[]
    }

    fn evaluate(&self, request: &HookRequest) -> Result<Reply, PolicyError> {
        let name = request.facts.workspace.name.clone();
        Ok(Verdict::Adjust(vec![Adjustment::Label("team.project".to_owned(), Some(name))]).into())
    }
}

const SCRIPT: &str = "fn pre_create(ctx) { ctx.spec.resources.pids = 256; }";

pub fn run() -> Result<(), Box<dyn Error>> {
    let script = RhaiPolicy::load("few-processes", SCRIPT, json!({}), Limits::default())?;
    let entries = vec![Entry::new(Arc::new(Labels)), Entry::new(Arc::new(script))];
    let chain = Chain::new(entries, Config::default().invariants());

    let mut facts = Facts::default();
    facts.workspace.name = "shop".to_owned();
    let mut spec = ContainerSpec::empty();
    spec.resources.pids = 4096;
    let decision = chain.decide_create(Draft::new(spec), &Arc::new(facts), true, 0);
    for change in decision.draft.history {
        println!("{} = {} ({})", change.field, change.value, change.by.policy);
    }
    println!("refused: {}", decision.refusal.is_some());
    Ok(())
}
