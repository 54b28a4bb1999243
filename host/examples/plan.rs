//! Shows the workspace that would be created for a project, and each owner of a field but the defaults.

use std::path::Path;

use wharf::wire::WorkspaceRequest;
use wharf::{Error, Wharf};

pub async fn run(wharf: &Wharf, project: &Path) -> Result<(), Error> {
    let request = WorkspaceRequest { project: project.into(), pids: Some(64), ..WorkspaceRequest::default() };
    let plan = wharf.plan(request).await?;
    for (field, owner) in plan.owners.iter().filter(|(_, owner)| *owner != "default") {
        println!("{field}: {owner}");
    }
    for step in &plan.trail {
        println!("{} {}: {}", step.hook, step.policy, step.verdict);
    }
    match plan.denied {
        Some(refusal) => println!("denied: {}", refusal.reason),
        None => println!("image: {}", plan.spec.image.map_or_else(|| "none".to_owned(), |image| image.reference)),
    }
    Ok(())
}
