//! Follows the output of a workspace until a line matches.

use std::path::Path;

use futures_util::TryStreamExt;
use wharf::wire::WorkspaceRequest;
use wharf::{Error, LogEntry, Wharf};

pub async fn run(wharf: &Wharf, project: &Path) -> Result<(), Error> {
    let count = "for n in 1 2 3 4 5; do echo line $n; done; exec sleep 600";
    let request = WorkspaceRequest {
        project: project.into(),
        name: Some("talkative".to_owned()),
        command: ["sh", "-c", count].map(str::to_owned).into(),
        ..WorkspaceRequest::default()
    };
    let workspace = wharf.up(request).await?;
    let mut entries = wharf.logs(&workspace.id).follow().open().await?;
    while let Some(entry) = entries.try_next().await? {
        match entry {
            LogEntry::Line(line) => {
                println!("{}", line.message);
                if line.message == "line 5" {
                    break;
                }
            }
            LogEntry::Notice(name, notice) => eprintln!("{name}: {notice:?}"),
        }
    }
    wharf.down(&workspace.id).await?;
    Ok(())
}
