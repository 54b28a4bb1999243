//! The default user of a workspace, if neither request, configuration, policy nor image names one: the owner of its
//! project.
//!
//! Root in a workspace writes the project's files as root of the host. So a workspace runs as root only if an admin, a
//! policy or the request says so, or if the project belongs to root.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::archive::{self, Owner as FileOwner};
use crate::hooks::Adjustment;
use crate::hooks::record::{Draft, Owner};
use crate::lifecycle::create::decision::Decided;
use crate::lifecycle::{Error, Lifecycle};
use crate::records::Why;
use crate::workspace::{Container, MountKind, WorkspaceId};

/// The place beside the owner `default` if the user of a workspace is its project's owner.
const PLACE: &str = "the owner of the project";
/// The name of a user that the image does not know, and of its home in [`HOMES`].
const NAME: &str = "workspace";
const HOMES: &str = "/home";

/// Returns the owner of a project in the engine's notation of users, unless it is root.
pub(in crate::lifecycle) fn project_owner(project: &Path) -> Option<String> {
    let meta = project.symlink_metadata().ok().filter(|meta| meta.uid() != 0)?;
    Some(format!("{}:{}", meta.uid(), meta.gid()))
}

/// Sets the project's owner as the initial user of a draft.
pub(in crate::lifecycle) fn propose(draft: &mut Draft, project: &Path) {
    if let Some(user) = project_owner(project) {
        draft.set(&Adjustment::User(Some(user)), Owner::host("default", Some(PLACE.to_owned())), None);
    }
}

/// Returns whether the user of a draft is the project's owner because nothing else was decided.
pub(in crate::lifecycle) fn is_default(draft: &Draft) -> bool {
    let by = draft.owners.get("user");
    by.is_some_and(|by| by.policy == "default" && by.at.as_deref() == Some(PLACE)) && draft.spec.user.is_some()
}

/// Makes the home of a user that the image does not know a memory file system: with a read-only root, nothing else is
/// writable.
pub(in crate::lifecycle) fn settle_home(draft: &mut Draft) {
    let home = draft.spec.tmpfs.contains_key("/tmp") && !draft.spec.env.contains_key("HOME");
    if is_default(draft) && draft.spec.security.read_only_root && home {
        let adjustment = Adjustment::Env("HOME".to_owned(), Some("/tmp".to_owned()));
        draft.set(&adjustment, Owner::host("default", Some(PLACE.to_owned())), None);
    }
}

impl Lifecycle {
    /// Gives the project's owner a name and a home in a container that was created but not started, and the ownership
    /// of the volumes that were made for it: an image does not know every user of the host.
    pub(in crate::lifecycle) async fn prepare_home(
        &self,
        decided: &Decided,
        id: &str,
        new_volumes: &[String],
    ) -> Result<(), Error> {
        let spec = &decided.draft.spec;
        let Some(owner) = spec.user.as_deref().and_then(numeric).filter(|_| is_default(&decided.draft)) else {
            return Ok(());
        };
        let mut files: Vec<archive::Entry> = Vec::new();
        if !spec.security.read_only_root {
            let passwd = self.read_small(id, "/etc/passwd").await?;
            let group = self.read_small(id, "/etc/group").await?;
            let has = |text: &str, number: u64| {
                text.lines().any(|line| line.split(':').nth(2).is_some_and(|field| field.parse() == Ok(number)))
            };
            if !has(&passwd, owner.uid) {
                let home = format!("{HOMES}/{NAME}");
                let line = format!("{NAME}:x:{}:{}::{home}:/bin/sh\n", owner.uid, owner.gid);
                files.push(archive::Entry::file("etc/passwd", appended(&passwd, &line)));
                files.push(archive::Entry::folder(home.trim_start_matches('/'), owner));
            }
            if !has(&group, owner.gid) {
                files.push(archive::Entry::file("etc/group", appended(&group, &format!("{NAME}:x:{}:\n", owner.gid))));
            }
        }
        let mounts = spec.mounts.iter().filter(|(_, mount)| mount.kind == MountKind::Volume && !mount.read_only);
        let new = mounts.filter(|(_, mount)| new_volumes.contains(&mount.source));
        files.extend(new.map(|(target, _)| archive::Entry::folder(target.trim_start_matches('/'), owner)));
        if files.is_empty() {
            return Ok(());
        }
        let pieces = archive::small(files).map_err(|error| Error::Internal(format!("a small archive: {error}")))?;
        match self.docker.write_archive(id, "/", pieces).await {
            // Its user then has no name and no home.
            Err(error) => {
                tracing::warn!(
                    "cannot create a home for the user {} in this image: {error}",
                    spec.user.as_deref().unwrap_or_default()
                );
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Returns a small text file of a container; empty if it is missing.
    pub(in crate::lifecycle) async fn read_small(&self, id: &str, path: &str) -> Result<String, Error> {
        let mut archive = match self.docker.read_archive(id, path).await {
            Ok(archive) => archive,
            Err(crate::docker::Error::NotFound { .. }) => return Ok(String::new()),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        while let Some(piece) = archive.next().await {
            bytes.extend_from_slice(&piece.map_err(Error::from)?);
            if bytes.len() > MOST_BYTES {
                return Err(Error::Request(format!("'{path}' of the image is larger than {} KiB", MOST_BYTES >> 10)));
            }
        }
        Ok(archive::first_file(&bytes).unwrap_or_default())
    }

    /// Returns the numeric IDs of the user of a container; `None` if they cannot be determined.
    pub(in crate::lifecycle) async fn file_owner(&self, id: &str) -> Result<Option<FileOwner>, Error> {
        let user = runs_as(&self.docker.inspect(id).await?);
        if let Some(owner) = numeric(&user) {
            return Ok(Some(owner));
        }
        let name = user.split(':').next().unwrap_or_default();
        if name.is_empty() || name == "root" {
            return Ok(Some(FileOwner { uid: 0, gid: 0 }));
        }
        let passwd = self.read_small(id, "/etc/passwd").await?;
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name));
        let number = |field: usize| line.and_then(|line| line.split(':').nth(field)?.parse().ok());
        Ok(number(2).zip(number(3)).map(|(uid, gid)| FileOwner { uid, gid }))
    }

    /// Refuses a caller of the API any user other than the decided one, unless `allow.exec_users` lists it.
    ///
    /// # Errors
    /// [`Error::Denied`]; [`Error::NotRunning`] when the workspace has no container.
    pub async fn check_exec_user(&self, id: &WorkspaceId, user: Option<&str>) -> Result<(), Error> {
        let Some(user) = user else { return Ok(()) };
        let allowed = &self.loaded().config.allow.exec_users;
        if allowed.contains("*") || allowed.contains(user) {
            return Ok(());
        }
        let Some(container) = self.container_in_full(id).await? else { return Ok(()) };
        let decided = runs_as(&container);
        if same_user(&decided, user) {
            return Ok(());
        }
        let reason = format!(
            "the workspace runs as {decided}, and API callers may not run commands as {user}; an admin can list that \
             user in allow.exec_users"
        );
        let refusal =
            crate::hooks::record::Refusal { policy: "host".into(), at: None, code: "exec-user".into(), reason };
        Err(Error::Denied { refusal, trail: Vec::new() })
    }
}

/// The limit of `/etc/passwd` and `/etc/group` with the archive around them, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// Returns the default user of a container's commands.
fn runs_as(container: &Container) -> String {
    container.actual.as_ref().and_then(|spec| spec.user.clone()).unwrap_or_else(|| "root".to_owned())
}

/// Returns whether a requested user is the decided one: the same text, or the same user without another group.
fn same_user(decided: &str, asked: &str) -> bool {
    let plain = |user: &str| {
        let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group.to_owned())));
        let name = if name == "root" || name.is_empty() { "0" } else { name };
        // The engine also reads 00 and +0 as 0.
        (name.parse::<u64>().map_or_else(|_| name.to_owned(), |number| number.to_string()), group)
    };
    let (decided, asked) = (plain(decided), plain(asked));
    decided == asked || (decided.0 == asked.0 && asked.1.is_none())
}

/// Parses `1000` or `1000:100`; a name can only be resolved inside the container.
fn numeric(user: &str) -> Option<FileOwner> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, user));
    Some(FileOwner { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

fn appended(text: &str, line: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}{line}")
}

/// Returns the end of a message about a command that failed for lack of permission: the ways to run as root, or as the
/// project's owner if the workspace runs as another user.
pub(in crate::lifecycle) fn hint(draft: &Draft, project: &Path, said: &str) -> String {
    if !wants_root(said) {
        return String::new();
    }
    let user = draft.spec.user.as_deref().unwrap_or("root");
    if is_default(draft) {
        return format!("; {}", ways_back(user));
    }
    let root = matches!(user.split(':').next(), Some("root" | "0"));
    match project_owner(project).filter(|owner| !root && !same_user(owner, user) && !same_user(user, owner)) {
        Some(owner) => format!(
            "; the project belongs to {owner}, and the workspace runs as {user}; to run as the owner, use 'wharf up \
             --recreate --user {owner}'"
        ),
        None => String::new(),
    }
}

/// Returns whether the output of a command reports a failure for lack of root.
pub fn wants_root(said: &str) -> bool {
    const WORDS: [&str; 5] = ["ermission denied", "not permitted", "are you root", "must be root", "superuser"];
    WORDS.iter().any(|words| said.contains(words))
}

fn ways_back(user: &str) -> String {
    format!(
        "the workspace runs as {user}, the owner of its project; to run as root, use 'wharf up --recreate --user \
         root' or workspace.user = \"root\""
    )
}

/// Returns the ways to run a workspace as root, if its user is the project's owner because nothing else was decided.
/// `why` contains its field `user`.
pub fn ways_to_root(why: &Why) -> Option<String> {
    let user = why.fields.get("user")?;
    let by = &user.history.last()?.by;
    let default = by.policy == "default" && by.at.as_deref() == Some(PLACE);
    user.value.as_str().filter(|_| default).map(ways_back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_the_decided_one_in_each_spelling_and_another_with_another_group() {
        for asked in ["1000", "1000:100", "01000", "+1000"] {
            assert!(same_user("1000:100", asked), "{asked}");
        }
        for asked in ["root", "0", "00", "", "1000:0", "dev", "1001", "0:1000"] {
            assert!(!same_user("1000:100", asked), "{asked}");
        }
        assert!(same_user("root", "0") && same_user("", "root") && same_user("dev", "dev"));
        assert!(!same_user("dev", "dev:root") && !same_user("dev", "root"));
    }

    #[test]
    fn a_line_goes_behind_a_whole_line() {
        assert_eq!(appended("", "b\n"), "b\n");
        assert_eq!(appended("a", "b\n"), "a\nb\n");
        assert_eq!(appended("a\n", "b\n"), "a\nb\n");
    }
}
