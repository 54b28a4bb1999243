//! `wharf cp`: files in and out, with the habits of `docker cp`.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::backend::{Backend, Out};
use super::{Context, Failure};
use crate::archive::{self, Owner, Unpacked};
use crate::docker::PathKind;
use crate::lifecycle::Target;
use crate::store::Owner as Process;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A path in a workspace is written WS:/path, or :/path for the workspace of this folder; '-' is a tar archive on stdin or \
stdout. A folder that exists is copied into; 'DIR/.' means what is in it. Files that are copied in belong to the user of \
the workspace where its id is known, else to root. Policies of pre-exec are asked as for a command.")]
pub(crate) struct Args {
    /// What is copied
    source: String,
    /// Where it goes
    target: String,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Pipe,
    Local(&'a str),
    Inside { workspace: Option<&'a str>, path: &'a str },
}

fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        _ if text == "-" => Side::Pipe,
        // `./a:b` and `/a:b` are local, as with Docker.
        Some((workspace, path)) if !workspace.contains('/') && workspace != "." => {
            Side::Inside { workspace: Some(workspace).filter(|name| !name.is_empty()), path }
        }
        _ => Side::Local(text),
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let (source, target) = (side(&args.source), side(&args.target));
    match (source, target) {
        (Side::Inside { workspace, path }, to @ (Side::Local(_) | Side::Pipe)) => {
            let (backend, target) = (context.backend(&[]).await?, context.target(workspace)?);
            // What is in a folder is taken out of it here: the engine's archive has the folder's name on top in any case.
            let named = path.strip_suffix("/.").filter(|_| matches!(to, Side::Local(_))).unwrap_or(path);
            let named = if named.is_empty() { "/" } else { named };
            let out = backend.copy_out(&target, named).await?;
            match to {
                Side::Local(to) => take_out(context, out, path, Path::new(to)).await?,
                _ => pour_out(out).await?,
            }
        }
        (from @ (Side::Local(_) | Side::Pipe), Side::Inside { workspace, path }) => {
            let (backend, target) = (context.backend(&[]).await?, context.target(workspace)?);
            let from = if let Side::Local(from) = from { Some(Path::new(from)) } else { None };
            bring_in(&backend, &target, from, path).await?;
        }
        _ => return Err(usage("one side must be in a workspace (WS:/path), and the other one must not".into())),
    }
    Ok(0)
}

fn usage(text: String) -> Failure {
    Failure::new("bad-request", text, "see 'wharf cp --help'", 2)
}

fn local(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new("local-file", format!("{}: {error}", path.display()), "see that the path exists and is yours", 1)
}

/// The last name of a path, and the folder that it is in.
fn split(path: &str) -> (&str, &str) {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => ("/", trimmed),
    }
}

async fn bring_in(backend: &Backend, target: &Target, from: Option<&Path>, path: &str) -> Result<(), Failure> {
    // First of all, so that nothing of this side matters to what is refused there.
    let to = backend.copy_in(target, path).await?;
    let id = &to.workspace;
    let Some(from) = from else {
        let stdin = archive::stream(|to| std::io::copy(&mut std::io::stdin(), to).map(drop));
        return to.unpack(path, stdin).await;
    };
    let meta = from.metadata().map_err(|error| local(from, &error))?;
    let contents = from.as_os_str().as_encoded_bytes().ends_with(b"/.");
    let name = from.canonicalize().map_err(|error| local(from, &error))?;
    let name = name.file_name().map_or_else(|| ".".to_owned(), |name| name.to_string_lossy().into_owned());
    let (parent, last) = split(path);
    let (folder, name) = match (to.kind, meta.is_dir()) {
        (PathKind::Folder, true) if contents => (path, ".".to_owned()),
        (PathKind::Folder, _) => (path, name),
        (PathKind::Missing, false) if path.ends_with('/') => {
            return Err(Failure::new("not-found", format!("there is no folder {path} in {id}"), "make it first", 1));
        }
        (PathKind::File, true) => {
            let text = format!("{path} in {id} is a file, and {} is a folder", from.display());
            return Err(Failure::new("bad-request", text, "name another place", 1));
        }
        (PathKind::Missing | PathKind::File, _) => (parent, last.to_owned()),
    };
    let owner = to.user.as_deref().and_then(numeric).unwrap_or(Owner { uid: 0, gid: 0 });
    // A link that is named is followed; links inside a folder stay links.
    let from = from.canonicalize().map_err(|error| local(from, &error))?;
    to.unpack(folder, archive::pack(from, name, Some(owner))).await
}

/// `1000` or `1000:100`; a name is only known inside.
fn numeric(user: &str) -> Option<Owner> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, user));
    Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

async fn pour_out(mut out: Out) -> Result<(), Failure> {
    while let Some(bytes) = out.next().await {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&bytes?)?;
        stdout.flush()?;
    }
    Ok(())
}

/// Unpacks beside the target and renames, so that a copy that breaks leaves nothing under the target's name. Into a folder
/// that has such an entry already it is unpacked directly, over what is there.
async fn take_out(context: &Context, out: Out, path: &str, to: &Path) -> Result<(), Failure> {
    let (_, name) = split(path.strip_suffix("/.").unwrap_or(path));
    let contents = path.ends_with("/.");
    let folder = to.is_dir();
    if !folder && (to.as_os_str().as_encoded_bytes().ends_with(b"/") || (to.exists() && out.kind == PathKind::Folder)) {
        let text = format!("{} is no folder", to.display());
        return Err(Failure::new("bad-request", text, "make it first, or name another place", 1));
    }
    let target = match (folder, contents) {
        (true, false) => to.join(name),
        _ => to.to_path_buf(),
    };
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let merges = target.is_dir();
    let beside = if merges { target.clone() } else { parent };
    let staging = Staging::new(&beside).map_err(|error| local(&beside, &error))?;
    let done = receive(out, staging.0.clone()).await?;
    let mut made = std::fs::read_dir(&staging.0).map_err(|error| local(&staging.0, &error))?.flatten();
    let Some(root) = made.next() else {
        return Err(Failure::new(
            "copy-empty",
            format!("nothing of {path} could be copied"),
            "see 'wharf exec -- ls'",
            1,
        ));
    };
    if merges {
        merge(&root.path(), &target).map_err(|error| local(&target, &error))?;
    } else {
        std::fs::rename(root.path(), &target).map_err(|error| local(&target, &error))?;
    }
    if !done.skipped.is_empty() {
        eprintln!("wharf: left out, neither file, folder nor link: {}", done.skipped.join(", "));
    }
    if !context.out.json {
        context.out.line(format!("{} ({} entries)", target.display(), done.entries))?;
    }
    Ok(())
}

async fn receive(mut out: Out, folder: PathBuf) -> Result<Unpacked, Failure> {
    let (to, from) = tokio::sync::mpsc::channel(16);
    let at = folder.clone();
    let unpacker = tokio::task::spawn_blocking(move || archive::unpack(archive::Reader::new(from), &at));
    while let Some(bytes) = out.next().await {
        let bytes = bytes.map_err(|failure| std::io::Error::other(failure.message));
        // The unpacker that has gone says itself why.
        if to.send(bytes).await.is_err() {
            break;
        }
    }
    drop(to);
    let unpacked = unpacker.await.map_err(std::io::Error::other)?;
    unpacked.map_err(|error| Failure::new("copy-broken", error.to_string(), "see that the disk is not full", 1))
}

/// Moves what is in one folder over what is in another.
fn merge(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        // A link to a folder is replaced, never followed: it may lead anywhere.
        let both = entry.file_type()?.is_dir() && target.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if both {
            merge(&entry.path(), &target)?;
        } else {
            std::fs::rename(entry.path(), target)?;
        }
    }
    Ok(())
}

/// What the names of such folders begin with; the process that made it follows.
const STAGING: &str = ".wharf-cp-";

/// A folder that goes away with whatever is left in it.
struct Staging(PathBuf);

impl Staging {
    fn new(beside: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        Self::clear(beside)?;
        let Process { pid, start } = Process::this_process();
        let path = beside.join(format!("{STAGING}{pid}-{start}"));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Removes what copies have left that were killed.
    fn clear(beside: &Path) -> std::io::Result<()> {
        for entry in std::fs::read_dir(beside)? {
            let entry = entry?;
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix(STAGING)?.split_once('-'));
            let owner =
                owner.and_then(|(pid, start)| Some(Process { pid: pid.parse().ok()?, start: start.parse().ok()? }));
            if owner.is_some_and(|owner| !owner.alive()) && entry.file_type()?.is_dir() {
                // Another copy may be doing the same.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("wharf: the folder {} could not be removed: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_workspace_is_told_from_a_local_one_as_docker_users_write_them() {
        assert_eq!(side("shop:/a/b"), Side::Inside { workspace: Some("shop"), path: "/a/b" });
        assert_eq!(side(":/a"), Side::Inside { workspace: None, path: "/a" });
        assert_eq!((side("-"), side("./a:b"), side("/x:y")), (Side::Pipe, Side::Local("./a:b"), Side::Local("/x:y")));
        assert_eq!(split("/a/b/"), ("/a", "b"));
        assert_eq!(split("/a"), ("/", "a"));
        assert_eq!(numeric("1000:100"), Some(Owner { uid: 1000, gid: 100 }));
        assert_eq!(numeric("node"), None);
    }
}
