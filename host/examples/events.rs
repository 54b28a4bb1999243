//! Prints the events of a workspace while it starts and stops.

use std::path::Path;

use futures_util::TryStreamExt;
use wharf::backend::EventItem;
use wharf::wire::WorkspaceRequest;
use wharf::workspace::Happening;
use wharf::{Error, Wharf};

pub async fn run(wharf: &Wharf, project: &Path) -> Result<(), Error> {
    let mut events = wharf.events().open().await?;
    let request = WorkspaceRequest { project: project.into(), ..WorkspaceRequest::default() };
    let workspace = wharf.up(request).await?;
    wharf.down(&workspace.id).await?;
    while let Some(item) = events.try_next().await? {
        match item {
            EventItem::Event(event) if event.concerns(&workspace.id) => {
                println!("{} {:?}", event.time, event.what);
                if event.what == Happening::Removed {
                    break;
                }
            }
            EventItem::Event(_) => {}
            EventItem::Notice(text) => eprintln!("{text}"),
        }
    }
    Ok(())
}
