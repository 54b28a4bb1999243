//! Asks a policy in a script, without an engine.

use std::error::Error;
use std::sync::Arc;

use serde_json::json;
use wharf::hooks::{Facts, Hook, HookRequest, Limits, Policy, Subject, Verdict};
use wharf::script::RhaiPolicy;
use wharf::workspace::ContainerSpec;

const SCRIPT: &str = r#"
fn pre_exec(ctx) {
    if ctx.exec.user == "root" && !ctx.settings.allow_root {
        ctx.deny("root", "commands run as the user of the workspace");
    }
}
"#;

pub fn run() -> Result<(), Box<dyn Error>> {
    let policy = RhaiPolicy::load("no-root", SCRIPT, json!({ "allow_root": false }), Limits::default())?;
    for user in ["root", "node"] {
        let exec = wharf::hooks::ExecSpec {
            command: vec!["id".to_owned()],
            user: Some(user.to_owned()),
            ..wharf::hooks::ExecSpec::default()
        };
        let request = HookRequest {
            hook: Hook::PreExec,
            now_ms: 0,
            facts: Arc::new(Facts::default()),
            spec: ContainerSpec::empty(),
            subject: Subject::Exec(exec),
        };
        match policy.evaluate(&request)?.verdict {
            Verdict::Deny(denial) => println!("{user}: denied, {}", denial.reason),
            verdict => println!("{user}: {}", verdict.kind()),
        }
    }
    Ok(())
}
