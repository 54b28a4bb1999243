//! `wharf cp`: files in and out, with the habits of `docker cp`.

use std::io::Write;
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::backend::{Backend, Out};
use super::output::say;
use super::{Context, Failure, terminal};
use crate::archive::{self, Owner, Unpacked};
use crate::docker::PathKind;
use crate::lifecycle::{Error, Target};
use crate::printable::Printable;
use crate::store::Owner as Process;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A path in a workspace is written WS:/path, or :/path for the workspace of this folder; '-' is a tar archive on stdin or \
stdout. A folder that exists is copied into; 'DIR/.' means what is in it. A link stays a link, and 'LINK/.' means what is \
in the folder that it leads to. Files that are copied in belong to the user of \
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
            let mut stop = backend.stopper();
            let path = if path.is_empty() { "/" } else { path };
            let out = unless(&mut stop, NOTHING, backend.copy_out(&target, path)).await?;
            match to {
                Side::Local(to) => take_out(context, (out, stop), path, Path::new(to)).await?,
                _ => unless(&mut stop, "the archive is cut off", pour_out(out)).await?,
            }
        }
        (from @ (Side::Local(_) | Side::Pipe), Side::Inside { workspace, path }) => {
            let (backend, target) = (context.backend(&[]).await?, context.target(workspace)?);
            let from = if let Side::Local(from) = from { Some(Path::new(from)) } else { None };
            let left = "what had arrived by then stays";
            unless(&mut backend.stopper(), left, bring_in(context, &backend, &target, (from, path))).await?;
        }
        _ => return Err(usage("one side must be in a workspace (WS:/path), and the other one must not".into())),
    }
    Ok(0)
}

/// What is left of a copy out that was interrupted.
const NOTHING: &str = "nothing was copied";

/// Does something until it is to stop; `left` says what is there then.
async fn unless<T>(
    stop: &mut watch::Receiver<bool>,
    left: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    // First of all, as work that always has something more would never let it be seen.
    tokio::select! {
        biased;
        Ok(_) = stop.wait_for(|stop| *stop) => Err(Error::LeftOff(left.to_owned()).into()),
        done = work => done,
    }
}

fn usage(text: String) -> Failure {
    Failure::new("bad-request", text, "see 'wharf cp --help'", 2)
}

fn local(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new("local-file", format!("{}: {error}", shown(path)), "see that the path exists and is yours", 1)
}

/// A path whose names a workspace may have chosen.
fn shown(path: &Path) -> String {
    Printable::from(path.display().to_string()).to_string()
}

/// Says what was not copied, and is not made on the other side.
fn tell_left_out(context: &Context, names: &[String]) {
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(|name| Printable::from(name).to_string()).collect();
        context.out.notice(&format!("left out, neither file, folder nor link: {}", names.join(", ")));
    }
}

/// The last name of a path in a workspace; none of its root. The engine, too, goes up by the words alone.
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

/// The last name of a path, and the folder that it is in.
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
    // First of all, so that nothing of this side matters to what is refused there.
    let to = backend.copy_in(target, path).await?;
    let id = &to.workspace;
    let Some(from) = from else {
        let stdin = archive::stream(|to| std::io::copy(&mut std::io::stdin(), to).map(drop));
        return to.unpack(path, stdin).await;
    };
    let written = from.as_os_str().as_encoded_bytes();
    let contents = written.ends_with(b"/.");
    // A link stays a link, as those inside a folder do, unless a slash behind it asks for what it leads to.
    let meta = if contents || written.ends_with(b"/") { from.metadata() } else { from.symlink_metadata() };
    let meta = meta.map_err(|error| local(from, &error))?;
    if !meta.is_dir() && !meta.is_file() && !meta.is_symlink() {
        let text = format!("{} is neither file, folder nor link", shown(from));
        return Err(Failure::new("bad-request", text, "name something that can be copied", 1));
    }
    let source = if meta.is_symlink() { Ok(from.to_path_buf()) } else { from.canonicalize() };
    let source = source.map_err(|error| local(from, &error))?;
    let name = from.file_name().or(source.file_name()).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let (parent, last) = split(path);
    let (folder, name) = match (to.kind, meta.is_dir()) {
        (PathKind::Folder, true) if contents => (path, PathBuf::from(".")),
        (PathKind::Folder, _) => (path, name),
        (PathKind::Missing, false) if path.ends_with('/') => {
            return Err(Failure::new("not-found", format!("there is no folder {path} in {id}"), "make it first", 1));
        }
        (PathKind::File, true) => {
            let text = format!("{path} in {id} is a file, and {} is a folder", from.display());
            return Err(Failure::new("bad-request", text, "name another place", 1));
        }
        (PathKind::Missing | PathKind::File, _) => (parent, PathBuf::from(last)),
    };
    let owner = to.user.as_deref().and_then(numeric).unwrap_or(Owner { uid: 0, gid: 0 });
    let (pieces, left_out) = archive::pack(source, name, Some(owner));
    to.unpack(folder, pieces).await?;
    // An engine that had enough before the end does not say what it did not want to have.
    tell_left_out(context, &left_out.await.unwrap_or_default());
    Ok(())
}

/// `1000` or `1000:100`; a name is only known inside.
fn numeric(user: &str) -> Option<Owner> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, user));
    Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

async fn pour_out(mut out: Out) -> Result<(), Failure> {
    while let Some(bytes) = out.next().await {
        let bytes = bytes?;
        // A reader that does not read must not keep Ctrl-C from being heard.
        let write = move || {
            let mut stdout = terminal::raw_out().lock();
            stdout.write_all(&bytes).and_then(|()| stdout.flush())
        };
        tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)??;
    }
    Ok(())
}

/// Unpacks beside the target and renames, so that a copy that breaks leaves nothing under the target's name. Into a folder
/// that is there already it is moved entry by entry, over what is there.
///
/// Only a folder that the user named may be a link. What came out of the workspace, now or with an earlier copy, is never
/// followed: its links may lead anywhere.
async fn take_out(
    context: &Context,
    (out, stop): (Out, watch::Receiver<bool>),
    path: &str,
    to: &Path,
) -> Result<(), Failure> {
    // What is in a folder, and the root, come without a name.
    let name = if path.ends_with("/.") { None } else { last_name(path) };
    let folder = to.is_dir();
    if !folder && (to.as_os_str().as_encoded_bytes().ends_with(b"/") || (to.exists() && out.kind == PathKind::Folder)) {
        let text = format!("{} is no folder", to.display());
        return Err(Failure::new("bad-request", text, "make it first, or name another place", 1));
    }
    let target = match name {
        Some(name) if folder => to.join(name),
        None if folder => to.canonicalize().map_err(|error| local(to, &error))?,
        _ => to.to_path_buf(),
    };
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let merges = is_folder(&target);
    let beside = if merges { target.clone() } else { parent.clone() };
    let staging = Staging::new(&beside).map_err(|error| local(&beside, &error))?;
    // With a folder of its own it is told from what has a name.
    let inside = if name.is_some() { staging.0.clone() } else { staging.0.join("all") };
    if name.is_none() {
        std::fs::create_dir(&inside).map_err(|error| local(&inside, &error))?;
    }
    let done = receive((out, stop), inside.clone()).await?;
    tell_left_out(context, &done.skipped);
    let root = top(&staging.0, path, done.entries)?;
    check(&root, &target)?;
    let mut moved = Vec::new();
    put(&root, &target, &mut moved)?;
    for (folder, mode) in done.narrow.iter().rev() {
        let folder = inside.join(folder);
        let at = moved.iter().find_map(|(from, to)| Some(to.join(folder.strip_prefix(from).ok()?)));
        // One that was there before keeps its own.
        if let Some(at) = at {
            set_mode(&parent, &at, *mode)?;
        }
    }
    if let (None, false, Some(mode)) = (name, merges, done.mode) {
        set_mode(&parent, &target, mode)?;
    }
    if !context.out.json {
        let target = if name.is_some() { &target } else { to };
        context.out.line(format!("{} ({} entries)", shown(target), done.entries))?;
    }
    Ok(())
}

/// Sets the permission bits of a folder that is in this one, which the user named.
fn set_mode(within: &Path, folder: &Path, mode: u32) -> Result<(), Failure> {
    let (base, rest) = match folder.strip_prefix(within) {
        Ok(rest) => (within, rest),
        // `.` stands for no name.
        Err(_) => (Path::new("."), folder),
    };
    archive::set_mode(base, rest, mode).map_err(|error| local(folder, &error)).map(drop)
}

/// The one that an unpacked copy has on top.
fn top(staging: &Path, path: &str, entries: u64) -> Result<PathBuf, Failure> {
    let failed = |error| local(staging, &error);
    let mut made = std::fs::read_dir(staging).map_err(failed)?;
    let Some(first) = made.next().transpose().map_err(failed)?.filter(|_| entries > 0) else {
        let text = format!("nothing of {path} could be copied");
        return Err(Failure::new("copy-empty", text, "see 'wharf exec -- ls'", 1));
    };
    if made.next().is_some() {
        let text = format!("the archive of {path} has more than that in it, so nothing was copied");
        return Err(Failure::new("copy-broken", text, "see what is there with 'wharf exec -- ls', and try again", 1));
    }
    Ok(first.path())
}

async fn receive((mut out, mut stop): (Out, watch::Receiver<bool>), folder: PathBuf) -> Result<Unpacked, Failure> {
    let (to, from) = tokio::sync::mpsc::channel(16);
    let at = folder.clone();
    let unpacker = tokio::task::spawn_blocking(move || archive::unpack(archive::Reader::new(from), &at));
    let stopped = loop {
        let bytes = match unless(&mut stop, NOTHING, async { Ok(out.next().await) }).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break None,
            Err(stopped) => break Some(stopped),
        };
        let bytes = bytes.map_err(|failure| std::io::Error::other(failure.message));
        // The unpacker that has gone says itself why.
        match unless(&mut stop, NOTHING, async { Ok(to.send(bytes).await) }).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => break None,
            Err(stopped) => break Some(stopped),
        }
    };
    drop(to);
    // What it has begun must be there before it is cleared away.
    let unpacked = unpacker.await.map_err(std::io::Error::other)?;
    if let Some(stopped) = stopped {
        return Err(stopped);
    }
    unpacked.map_err(|error| {
        Failure::new("copy-broken", Printable::from(error.to_string()).to_string(), "see that the disk is not full", 1)
    })
}

/// Whether it is a folder itself; a link to one is none.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

/// Whether one thing can be put over another, down to the last entry, before anything is moved: a folder never takes the
/// place of something else, nor the other way round, as with Docker.
fn check(from: &Path, to: &Path) -> Result<(), Failure> {
    let Ok(there) = to.symlink_metadata() else { return Ok(()) };
    let text = match (is_folder(from), there.is_dir()) {
        (true, true) => return each(from, |entry, name| check(entry, &to.join(name))),
        (false, false) => return Ok(()),
        (true, false) if there.is_symlink() => format!("cannot overwrite the link {} with a folder", shown(to)),
        (true, false) => format!("cannot overwrite {} with a folder", shown(to)),
        (false, true) => format!("cannot overwrite the folder {} with what is no folder", shown(to)),
    };
    Err(Failure::new("bad-request", text, "remove it, or name another place; nothing was copied", 1))
}

/// Moves it there: what is in a folder over what is in the other one, and all else in place of what is there.
fn put(from: &Path, to: &Path, moved: &mut Vec<(PathBuf, PathBuf)>) -> Result<(), Failure> {
    if is_folder(from) && is_folder(to) {
        return each(from, |entry, name| put(entry, &to.join(name), moved));
    }
    std::fs::rename(from, to).map_err(|error| local(to, &error))?;
    if is_folder(to) {
        moved.push((from.to_path_buf(), to.to_path_buf()));
    }
    Ok(())
}

fn each(folder: &Path, mut what: impl FnMut(&Path, &std::ffi::OsStr) -> Result<(), Failure>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(folder).map_err(|error| local(folder, &error))? {
        let entry = entry.map_err(|error| local(folder, &error))?;
        what(&entry.path(), &entry.file_name())?;
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
            say(format_args!("wharf: the folder {} could not be removed: {error}", self.0.display()));
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
        let names = ["/", "/.", "/etc/..", "/a/b/", "/a/b/.", "/a/b/..", "/../a//b/./c/"].map(last_name);
        assert_eq!(names, [None, None, None, Some("b"), Some("b"), Some("a"), Some("c")]);
        assert_eq!(numeric("1000:100"), Some(Owner { uid: 1000, gid: 100 }));
        assert_eq!(numeric("node"), None);
    }
}
