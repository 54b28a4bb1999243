//! A copy out: it is unpacked beside the target and renamed, so that an interrupted copy leaves nothing under the
//! target's name. Into an existing folder it is moved entry by entry, over the folder's entries.
//!
//! The target may lie in a folder that a workspace writes, even during the copy. So the target is looked up once, and
//! everything below it is reached from descriptor to descriptor; see [`Folder`]. Only a folder that the user named may
//! be a link, and in a folder that a workspace writes such a link leads only to places in that folder. Links that came
//! out of the workspace, now or with an earlier copy, are never followed, because they may lead anywhere.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::{Context, Failure, NOTHING, last_name, local, shown, tell_left_out, unless};
use crate::archive::{self, Bound, Folder, Unpacked};
use crate::backend::Outgoing;
use crate::cli::output::say;
use crate::docker::PathKind;
use crate::printable::Printable;
use crate::store::Owner as Process;

/// The destination of a copy.
enum Target {
    /// A name in a folder, taken or not.
    Named(Folder, OsString),
    /// An existing folder that receives the entries of another one.
    Whole(Folder),
}

impl Target {
    /// Finds the destination of an object with this name, or of the entries of a folder, which come without a name.
    /// `bounds` are folders that workspaces write. Also returns the destination's path as the user would write it.
    fn find(to: &Path, name: Option<&str>, kind: PathKind, bounds: &[Bound]) -> Result<(Self, PathBuf), Failure> {
        let failed = |error| local(to, &error);
        let there = match Folder::named(to, bounds) {
            Ok(folder) => {
                return Ok(match name {
                    Some(name) => (Self::Named(folder, name.into()), to.join(name)),
                    None => (Self::Whole(folder), to.to_owned()),
                });
            }
            Err(error) if error.kind() == ErrorKind::NotADirectory => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(failed(error)),
        };
        if to.as_os_str().as_encoded_bytes().ends_with(b"/") || (there && kind == PathKind::Folder) {
            let text = format!("'{}' is not a folder", to.display());
            return Err(Failure::new("bad-request", text, "create it first, or name another target", 1));
        }
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = to.file_name().ok_or_else(|| failed(ErrorKind::NotFound.into()))?;
        let parent = Folder::named(parent, bounds).map_err(|error| local(parent, &error))?;
        Ok((Self::Named(parent, name.to_owned()), to.to_owned()))
    }

    /// Returns the folder whose entries are merged with those of the copy, if there is one.
    fn merged(&self) -> std::io::Result<Option<Folder>> {
        match self {
            Self::Whole(folder) => folder.again().map(Some),
            Self::Named(parent, name) => parent.plain_folder(Path::new(name)),
        }
    }

    /// Sets the permission bits of a folder of the copy. The folder exists unless another process has moved it.
    fn set_mode(&self, folder: &Path, mode: u32) -> Result<(), Failure> {
        let (base, path) = match self {
            Self::Whole(base) => (base, folder.to_owned()),
            Self::Named(parent, name) => (parent, Path::new(name).join(folder)),
        };
        let set = || base.plain_folder(&path)?.map_or(Ok(()), |folder| folder.set_mode(mode));
        set().map_err(|error| local(&base.path().join(&path), &error))
    }
}

pub(super) async fn take_out(
    context: &Context,
    (out, stop): (Outgoing, watch::Receiver<bool>),
    path: &str,
    (to, bounds): (&Path, &[Bound]),
) -> Result<(), Failure> {
    // The entries of a folder, and the root, come without a name.
    let name = if path.ends_with("/.") { None } else { last_name(path) };
    let (target, written) = Target::find(to, name, out.kind, bounds)?;
    let merged = target.merged().map_err(|error| local(to, &error))?;
    let beside = match (&merged, &target) {
        (Some(merged), _) => merged,
        (None, Target::Named(folder, _) | Target::Whole(folder)) => folder,
    };
    let staging = Staging::new(beside).map_err(|error| local(beside.path(), &error))?;
    // Nameless entries go into a separate folder, so that they are distinct from entries with a name.
    let all = OsStr::new("all");
    let inside = match name {
        Some(_) => staging.folder.again(),
        None => staging.folder.make_folder(all, 0o777),
    };
    let inside = inside.map_err(|error| local(staging.folder.path(), &error))?;
    let done = receive((out, stop), inside).await?;
    tell_left_out(context, &done.skipped);
    let top = top(&staging.folder, path, done.entries)?;
    let mut moved = Vec::new();
    match &target {
        Target::Named(parent, name) => {
            check((&staging.folder, &top), (parent, name))?;
            put((&staging.folder, &top), (parent, name), Path::new(""), &mut moved)?;
        }
        Target::Whole(folder) => {
            let all = staging.folder.child(&top).map_err(|error| local(staging.folder.path(), &error))?;
            check_entries(&all, folder)?;
            put_entries(&all, folder, Path::new(""), &mut moved)?;
        }
    }
    for (folder, mode) in done.narrow.iter().rev() {
        let folder = if name.is_some() { folder.strip_prefix(&top).unwrap_or(folder) } else { folder };
        // A folder that existed before keeps its mode.
        if moved.iter().any(|moved| folder.starts_with(moved)) {
            target.set_mode(folder, *mode)?;
        }
    }
    if let (None, None, Some(mode)) = (name, merged, done.mode) {
        target.set_mode(Path::new(""), mode)?;
    }
    if !context.out.json {
        context.out.line(format!("{} ({} entries)", shown(&written), done.entries))?;
    }
    Ok(())
}

/// Returns the name of the single top entry of an unpacked copy.
fn top(staging: &Folder, path: &str, entries: u64) -> Result<OsString, Failure> {
    let mut names = staging.names(2).map_err(|error| local(staging.path(), &error))?;
    let Some(first) = names.pop().filter(|_| entries > 0) else {
        let text = format!("cannot copy anything from '{path}'");
        return Err(Failure::new("copy-empty", text, "list the files with 'wharf exec -- ls'", 1));
    };
    if !names.is_empty() {
        let text = format!("the archive of '{path}' contains other entries, so nothing was copied");
        return Err(Failure::new("copy-broken", text, "list the files with 'wharf exec -- ls', and try again", 1));
    }
    Ok(first)
}

async fn receive((mut out, mut stop): (Outgoing, watch::Receiver<bool>), folder: Folder) -> Result<Unpacked, Failure> {
    let (to, from) = tokio::sync::mpsc::channel(16);
    let unpacker = tokio::task::spawn_blocking(move || archive::unpack(archive::Reader::new(from), &folder));
    let stopped = loop {
        let bytes = match unless(&mut stop, NOTHING, async { Ok::<_, Failure>(out.next().await) }).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break None,
            Err(stopped) => break Some(stopped),
        };
        let bytes = bytes.map_err(|failure| std::io::Error::other(failure.to_string()));
        // An unpacker that has ended reports the reason itself.
        match unless(&mut stop, NOTHING, async { Ok::<_, Failure>(to.send(bytes).await) }).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => break None,
            Err(stopped) => break Some(stopped),
        }
    };
    drop(to);
    // The unpacker must finish its current work before its files are removed.
    let unpacked = unpacker.await.map_err(std::io::Error::other)?;
    if let Some(stopped) = stopped {
        return Err(stopped);
    }
    unpacked.map_err(|error| {
        Failure::new(
            "copy-broken",
            Printable::from(error.to_string()).to_string(),
            "check that the disk is not full",
            1,
        )
    })
}

/// An entry of an open folder.
type Entry<'a> = (&'a Folder, &'a OsStr);

fn path_of((folder, name): Entry<'_>) -> PathBuf {
    folder.path().join(name)
}

/// Returns whether an entry is a folder itself; a link to a folder is not.
fn is_folder((folder, name): Entry<'_>) -> bool {
    folder.about(name).is_ok_and(|about| about.is_dir())
}

fn inside(entry: Entry<'_>) -> Result<Folder, Failure> {
    entry.0.child(entry.1).map_err(|error| local(&path_of(entry), &error))
}

fn names(folder: &Folder) -> Result<Vec<OsString>, Failure> {
    folder.names(usize::MAX).map_err(|error| local(folder.path(), &error))
}

/// Checks whether an entry can replace another one, down to the last entry below it, before anything is moved. As with
/// Docker, a folder never replaces an object of another kind, nor the other way round.
fn check(from: Entry<'_>, to: Entry<'_>) -> Result<(), Failure> {
    let Ok(there) = to.0.about(to.1) else { return Ok(()) };
    let path = shown(&path_of(to));
    let text = match (is_folder(from), there.is_dir()) {
        (true, true) => return check_entries(&inside(from)?, &inside(to)?),
        (false, false) => return Ok(()),
        (true, false) if there.is_symlink() => format!("cannot overwrite the link '{path}' with a folder"),
        (true, false) => format!("cannot overwrite '{path}' with a folder"),
        (false, true) => format!("cannot overwrite the folder '{path}' with a file or link"),
    };
    Err(Failure::new("bad-request", text, "remove it, or name another target; nothing was copied", 1))
}

fn check_entries(from: &Folder, to: &Folder) -> Result<(), Failure> {
    names(from)?.iter().try_for_each(|name| check((from, name), (to, name)))
}

/// Moves an entry: the entries of a folder over those of the other folder, and every other entry in place of the
/// existing one. `within` is its place in the copy; `moved` receives the places of folders that were moved.
fn put(from: Entry<'_>, to: Entry<'_>, within: &Path, moved: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let folder = is_folder(from);
    if folder && is_folder(to) {
        return put_entries(&inside(from)?, &inside(to)?, within, moved);
    }
    from.0.rename(from.1, to.0, to.1).map_err(|error| local(&path_of(to), &error))?;
    if folder {
        moved.push(within.to_owned());
    }
    Ok(())
}

fn put_entries(from: &Folder, to: &Folder, within: &Path, moved: &mut Vec<PathBuf>) -> Result<(), Failure> {
    names(from)?.iter().try_for_each(|name| put((from, name), (to, name), &within.join(name), moved))
}

/// The prefix of the names of such folders; the ID of the process that made the folder follows.
const STAGING: &str = ".wharf-cp-";

/// A temporary folder; dropping it removes the folder with its content.
struct Staging {
    beside: Folder,
    name: OsString,
    folder: Folder,
}

impl Staging {
    fn new(beside: &Folder) -> std::io::Result<Self> {
        Self::clear(beside)?;
        let Process { pid, start } = Process::this_process();
        let name = OsString::from(format!("{STAGING}{pid}-{start}"));
        let folder = beside.make_folder(&name, 0o700)?;
        Ok(Self { beside: beside.again()?, name, folder })
    }

    /// Removes the leftovers of killed copies.
    fn clear(beside: &Folder) -> std::io::Result<()> {
        for name in beside.names(usize::MAX)? {
            let owner = name.to_str().and_then(|name| name.strip_prefix(STAGING)?.split_once('-'));
            let owner =
                owner.and_then(|(pid, start)| Some(Process { pid: pid.parse().ok()?, start: start.parse().ok()? }));
            if owner.is_some_and(|owner| !owner.alive()) && is_folder((beside, &name)) {
                // Another copy may be removing the same folder.
                let _ = beside.remove(&name);
            }
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = self.beside.remove(&self.name) {
            let path = self.beside.path().join(&self.name);
            say(format_args!("wharf: cannot remove the folder '{}': {error}", path.display()));
        }
    }
}
