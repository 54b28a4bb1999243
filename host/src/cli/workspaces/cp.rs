//! `wharf cp`: files in and out, with the habits of `docker cp`.

use std::io::Write;
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use crate::archive::{self, Bound, Owner};
use crate::backend::{Backend, Outgoing};
use crate::cli::{Context, Failure, terminal};
use crate::docker::PathKind;
use crate::lifecycle::Error;
use crate::printable::Printable;
use crate::records::Target;

mod take_out;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Write a path in a workspace as WS:/path, or as :/path for the workspace of this folder; a relative path, WS:path, begins \
in the working directory of the workspace; '-' is a tar archive on stdin \
or stdout. If the target is an existing folder, the copy goes into it; 'DIR/.' is the contents of a folder. Links are \
copied as links, and 'LINK/.' is the contents of the link's target folder. Files copied in belong to the user of the \
workspace if the user's id is known, else to root. The policies for pre-exec are asked as for a command.")]
pub(crate) struct Args {
    /// The source
    source: String,
    /// The target
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
            let (backend, target) = (context.backend(&[])?, context.target(workspace)?);
            let mut stop = backend.stopper().await?.subscribe();
            let path = &absolute(&backend, &target, path).await?;
            let out = unless(&mut stop, NOTHING, backend.copy_out(&target, path)).await?;
            match to {
                Side::Local(to) => {
                    // These are folders that a workspace can write: it may exchange anything there at any moment.
                    let bounds: Vec<_> = backend.written().await?.iter().filter_map(|path| Bound::at(path)).collect();
                    take_out::take_out(context, (out, stop), path, (Path::new(to), &bounds)).await?;
                }
                _ => unless(&mut stop, "the archive is truncated", pour_out(out)).await?,
            }
        }
        (from @ (Side::Local(_) | Side::Pipe), Side::Inside { workspace, path }) => {
            let (backend, target) = (context.backend(&[])?, context.target(workspace)?);
            let from = if let Side::Local(from) = from { Some(Path::new(from)) } else { None };
            let path = &absolute(&backend, &target, path).await?;
            let left = "the files copied before the error remain";
            unless(&mut backend.stopper().await?.subscribe(), left, bring_in(context, &backend, &target, (from, path)))
                .await?;
        }
        _ => {
            return Err(usage(
                "exactly one side must be in a workspace (WS:/path, or WS:path from its working directory)".into(),
            ));
        }
    }
    Ok(0)
}

/// Returns the path in a workspace that a word of the command line means: a relative one begins in its working
/// directory.
async fn absolute(backend: &Backend, target: &Target, path: &str) -> Result<String, Failure> {
    if path.is_empty() || path.starts_with('/') {
        return Ok(if path.is_empty() { "/" } else { path }.to_owned());
    }
    let why = backend.why(target, Some("working_dir")).await?;
    let folder = why.fields.get("working_dir").and_then(|field| field.value.as_str()).unwrap_or_default();
    Ok(format!("{}/{path}", folder.trim_end_matches('/')))
}

/// The state of the target after an interrupted copy out.
const NOTHING: &str = "nothing was copied";

/// Runs a future until a stop is requested; `left` describes the state that an interruption leaves.
async fn unless<T, E>(
    stop: &mut watch::Receiver<bool>,
    left: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure>
where
    Failure: From<E>,
{
    // The stop is checked first: a future that is always ready would otherwise hide it.
    tokio::select! {
        biased;
        Ok(_) = stop.wait_for(|stop| *stop) => Err(Error::LeftOff(left.to_owned()).into()),
        done = work => Ok(done?),
    }
}

fn usage(text: String) -> Failure {
    Failure::new("bad-request", text, "see 'wharf cp --help'", 2)
}

fn local(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        "local-file",
        format!("{}: {error}", shown(path)),
        "check that the path exists and that you may use it",
        1,
    )
}

/// Formats a path whose names a workspace may have chosen.
fn shown(path: &Path) -> String {
    Printable::from(path.display().to_string()).to_string()
}

/// Reports objects that were not copied and are missing on the other side.
fn tell_left_out(context: &Context, names: &[String]) {
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(|name| Printable::from(name).to_string()).collect();
        context.out.notice(&format!("skipped, neither file, folder nor link: {}", names.join(", ")));
    }
}

/// Returns the last name of a path in a workspace; `None` for its root. `..` is resolved by the text of the path alone,
/// as the engine does.
fn last_name(path: &str) -> Option<&str> {
    let mut names = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.pop()
}

/// Splits a path into its folder and its last name.
fn split(path: &str) -> (&str, &str) {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => ("/", trimmed),
    }
}

async fn bring_in(
    context: &Context,
    backend: &Backend,
    target: &Target,
    (from, path): (Option<&Path>, &str),
) -> Result<(), Failure> {
    // This comes first, so that a refusal there depends on nothing on this side.
    let to = backend.copy_in(target, path).await?;
    let id = &to.workspace;
    let Some(from) = from else {
        let stdin = archive::stream(|to| std::io::copy(&mut std::io::stdin(), to).map(drop));
        return Ok(to.unpack(path, stdin).await?);
    };
    let written = from.as_os_str().as_encoded_bytes();
    let contents = written.ends_with(b"/.");
    // A link stays a link, as inside a folder, unless a trailing slash asks for its target.
    let meta = if contents || written.ends_with(b"/") { from.metadata() } else { from.symlink_metadata() };
    let meta = meta.map_err(|error| local(from, &error))?;
    if !meta.is_dir() && !meta.is_file() && !meta.is_symlink() {
        let text = format!("'{}' is neither file, folder nor link", shown(from));
        return Err(Failure::new("bad-request", text, "name a file, folder or link", 1));
    }
    let source = if meta.is_symlink() { Ok(from.to_path_buf()) } else { from.canonicalize() };
    let source = source.map_err(|error| local(from, &error))?;
    let name = from.file_name().or(source.file_name()).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let (parent, last) = split(path);
    let (folder, name) = match (to.kind, meta.is_dir()) {
        (PathKind::Folder, true) if contents => (path, PathBuf::from(".")),
        (PathKind::Folder, _) => (path, name),
        (PathKind::Missing, false) if path.ends_with('/') => {
            return Err(Failure::new(
                "not-found",
                format!("there is no folder '{path}' in {id}"),
                "create it first",
                1,
            ));
        }
        (PathKind::File, true) => {
            let text = format!("'{path}' in {id} is a file, but '{}' is a folder", from.display());
            return Err(Failure::new("bad-request", text, "name another target", 1));
        }
        (PathKind::Missing | PathKind::File, _) => (parent, PathBuf::from(last)),
    };
    let owner = to.user.as_deref().and_then(numeric).unwrap_or(Owner { uid: 0, gid: 0 });
    let (pieces, left_out) = archive::pack(source, name, Some(owner));
    to.unpack(folder, pieces).await?;
    // If the engine stopped reading early, packing has ended without this list.
    tell_left_out(context, &left_out.await.unwrap_or_default());
    Ok(())
}

/// Parses `1000` or `1000:100`. A name can only be resolved inside the workspace.
fn numeric(user: &str) -> Option<Owner> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, user));
    Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

async fn pour_out(mut out: Outgoing) -> Result<(), Failure> {
    while let Some(bytes) = out.next().await {
        let bytes = bytes?;
        // On a separate thread: a reader that does not read must not delay Ctrl-C.
        let write = move || {
            let mut stdout = terminal::raw_out().lock();
            stdout.write_all(&bytes).and_then(|()| stdout.flush())
        };
        tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)??;
    }
    Ok(())
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
        let names = ["/", "/.", "/etc/..", "/a/b/", "/a/b/.", "/a/b/..", "/../a//b/./c/"].map(last_name);
        assert_eq!(names, [None, None, None, Some("b"), Some("b"), Some("a"), Some("c")]);
        assert_eq!(numeric("1000:100"), Some(Owner { uid: 1000, gid: 100 }));
        assert_eq!(numeric("node"), None);
    }
}
