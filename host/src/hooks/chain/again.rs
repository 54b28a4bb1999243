//! Runs a single create hook, and replays any recorded hook run.

use std::path::Path;

use super::run::Run;
use super::standing::Snapshot;
use super::{Chain, HostPaths};
use crate::hooks::record::{Draft, Refusal};
use crate::hooks::{Decision, Hook, Outcome};

impl Chain {
    /// Runs one create hook on a draft; after the last create hook it checks the invariants.
    pub(super) fn create_hook(
        &self,
        mut run: Run,
        draft: &mut Draft,
        mut paths: HostPaths,
    ) -> (Decision, Option<Refusal>) {
        run.owners.clone_from(&draft.owners);
        run.create(draft);
        if run.hook() == Hook::PreCreate && run.refusal.is_none() {
            let workspace = run.facts().workspace.clone();
            let project = Path::new(&workspace.project);
            run.violations = self.invariants.violations(&draft.spec, &workspace.id, project, &mut paths);
            if run.violations.is_empty() {
                self.invariants.resolve_sources(&mut draft.spec, &workspace.id, &mut paths);
            }
            run.paths = paths.found();
            if let Some(first) = run.violations.first() {
                let field = first.split(':').next().unwrap_or_default();
                let by = draft.owners.get(field);
                let asked = by.map_or(String::new(), |owner| format!(" (set by {})", owner.policy));
                let more = match run.violations.len() - 1 {
                    0 => String::new(),
                    more => format!(" (and {more} more)"),
                };
                run.refusal = Some(Refusal {
                    policy: "host".into(),
                    at: by.and_then(|owner| owner.at.clone()),
                    code: "invariant".into(),
                    reason: format!("{first}{asked}{more}"),
                });
            }
        }
        let outcome = match &run.refusal {
            Some(refusal) => Outcome::Denied(refusal.clone()),
            None => Outcome::Allowed(Box::new(draft.spec.clone())),
        };
        let refusal = run.refusal.clone();
        (run.finish(outcome), refusal)
    }

    /// Replays a recorded hook run: this chain with the recorded input, without any access to the host, with canaries
    /// and breakers as recorded. The result has the record's own id, time and workspace. Shadows are not called.
    pub fn again(&self, record: &Decision) -> Decision {
        let chain = self.as_recorded(record);
        let request = record.input.clone();
        let decision = match request.hook {
            Hook::SelectImage | Hook::SecurityProfile | Hook::PreCreate => {
                let owners = record.owners.clone();
                let mut draft = Draft { spec: request.spec.clone(), owners, history: Vec::new() };
                let began = record.began.as_deref().unwrap_or(&record.input.spec).clone();
                let run = Run::with(&chain, request, Snapshot::of_store(None)).began(began);
                chain.create_hook(run, &mut draft, HostPaths::of_record(record.paths.clone())).0
            }
            Hook::PreExec => chain.decide_exec(request).decision,
            Hook::Cleanup => chain.sweep(request).decision,
            Hook::PostStart | Hook::PreStop | Hook::Event => chain.collect(request).decision,
        };
        Decision { id: record.id, time: record.time, workspace: record.workspace.clone(), ..decision }
    }
}
