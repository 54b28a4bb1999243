//! Creates the workspace of a project, runs commands in it, and removes it.

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::io::{AsyncWriteExt, stdout};
use wharf::wire::{Progress, WorkspaceRequest};
use wharf::{Error, Wharf};

pub async fn run(wharf: &Wharf, project: &Path) -> Result<(), Error> {
    let request = WorkspaceRequest { project: project.into(), ..WorkspaceRequest::default() };
    let up = wharf.up(request).on_progress(|step| {
        if let Progress::Step { text } = step {
            eprintln!("{text}");
        }
    });
    let workspace = up.await?;

    // All of the output at once.
    let kernel = wharf.exec(&workspace.id, ["uname", "-r"]).output().await?;
    println!("kernel: {}", String::from_utf8_lossy(&kernel.stdout).trim_end());

    // The output as it comes, and input.
    let count = wharf.exec(&workspace.id, ["wc", "-w"]).stdin().timeout(Duration::from_secs(10));
    let mut running = count.spawn().await?;
    if let Some(mut stdin) = running.stdin.take() {
        stdin.write(b"one two three\n").await;
        stdin.close().await;
    }
    while let Some((_, bytes)) = running.try_next().await? {
        // A closed terminal is no reason to leave the workspace behind.
        let _ = stdout().write_all(&bytes).await;
    }
    let _ = stdout().flush().await;
    println!("{:?}", running.wait().await?);

    // A time limit kills the command.
    let late = wharf.exec(&workspace.id, ["sleep", "60"]).timeout(Duration::from_millis(300)).output().await?;
    println!("{:?}", late.end);

    wharf.down(&workspace.id).await?;
    Ok(())
}
