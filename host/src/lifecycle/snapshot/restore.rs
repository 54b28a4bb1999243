//! Restoring: a workspace made from a snapshot. It is a creation like any other: the policies decide about it, with the
//! snapshot as its request.

use std::collections::{BTreeMap, BTreeSet};

use crate::hooks::Adjustment;
use crate::hooks::adjust::diff;
use crate::hooks::redact::REDACTED;
use crate::lifecycle::create::sidecar::sidecar_kept;
use crate::lifecycle::create::up::Recreate;
use crate::lifecycle::secrets::files::SECRETS_TARGET;
use crate::lifecycle::{Error, Lifecycle, ResolvedRequest, WorkspaceView};
use crate::store::{Snapshot, Verb};
use crate::wire::{Progress, RestoreRequest};
use crate::workspace::{ContainerSpec, LABEL_SNAPSHOT, LABEL_WORKSPACE, MountKind};

impl Lifecycle {
    /// Makes a workspace from a snapshot, or a sidecar from the snapshot of a sidecar. Its volumes are copied, so that
    /// the snapshot stays unchanged.
    ///
    /// # Errors
    /// Those of [`Lifecycle::up`], [`Error::Request`] when there is no such snapshot or a part of it is gone, and
    /// [`Error::Records`] when the workspace of a sidecar is gone.
    pub async fn restore_snapshot(
        &self,
        name: &str,
        restore: &RestoreRequest,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<WorkspaceView, Error> {
        let snapshot = self.snapshot(name)?;
        let image = self.image_of(&snapshot).await?.ok_or_else(|| gone("image", &snapshot.image, &snapshot.name))?;
        self.check_copies(&snapshot).await?;
        let sidecar = sidecar_kept(&snapshot).map(|(parent, name)| (parent, restore.name.as_deref().unwrap_or(name)));
        let target = match &sidecar {
            Some((parent, name)) => {
                let whose = || format!("{parent}, whose sidecar is the origin of the snapshot {}", snapshot.name);
                self.store.workspace(parent)?.ok_or_else(|| Error::not_found(whose()))?;
                parent.sidecar(name).map_err(Error::Request)?
            }
            None => {
                let name = restore.name.as_deref().unwrap_or(&snapshot.workspace_name);
                self.project(snapshot.project.as_ref(), Some(name))?.id
            }
        };
        let entry = self.store.begin(&target, Verb::Snapshot)?;
        let made = async {
            let mut volumes = BTreeMap::new();
            for (source, kept) in &snapshot.volumes {
                let copy = format!("{source}-restored-{entry}");
                progress(Progress::step(format!("copying the volume {kept}")));
                let mut labels = self.volume_labels(&snapshot.workspace, &snapshot.name, &entry.to_string());
                // From now on it belongs to a workspace, and not to the snapshot.
                labels.remove(LABEL_SNAPSHOT);
                labels.insert(LABEL_WORKSPACE.to_owned(), target.to_string());
                self.copy_volume(&snapshot.image_id, kept, &copy, &labels).await?;
                volumes.insert(source.clone(), copy);
            }
            let mut request = request(&snapshot, &image, restore, &volumes);
            let capabilities = self.loaded().config.workspace.capabilities.clone();
            request.fields.retain_mut(|(edit, _)| tighten(edit, &capabilities));
            // The snapshot says everything; what an existing workspace was asked for does not count.
            request.fresh = true;
            let recreate = if restore.recreate { Recreate::IfDifferent } else { Recreate::Never };
            match sidecar {
                Some((parent, name)) => {
                    // A sidecar's network is that of its workspace now.
                    request.fields.retain(|(edit, _)| !matches!(edit, Adjustment::Network(_)));
                    // Its workspace may have other labels now, and a sidecar has those.
                    let now = self.store.workspace(&parent)?.map(|parent| parent.draft.spec.labels).unwrap_or_default();
                    request.labels.retain(|label, value| now.get(label).is_none_or(|now| now == value));
                    Box::pin(self.add_resolved_sidecar(&parent, name, &request, recreate, progress)).await
                }
                None => Box::pin(self.up_resolved(&request, recreate, progress)).await,
            }
        };
        match made.await {
            Ok(view) => {
                self.store.done(entry, "done")?;
                Ok(view)
            }
            Err(first) => Err(self.undo_snapshot(entry, first).await),
        }
    }

    /// Refuses a snapshot with a missing copy of a volume: an engine would silently make an empty one.
    async fn check_copies(&self, snapshot: &Snapshot) -> Result<(), Error> {
        for (source, copy) in &snapshot.volumes {
            let ours = self.docker.volume(copy).await?.filter(|volume| volume.ours);
            if ours.is_none_or(|volume| volume.labels.get(LABEL_SNAPSHOT) != Some(&snapshot.name)) {
                return Err(gone(&format!("copy of the volume {source},"), copy, &snapshot.name));
            }
        }
        Ok(())
    }
}

/// Returns whether a field of a snapshot is still requested. Settings that made the workspace looser than today's
/// default are not: the configuration, policies and waivers of that time no longer decide. Settings that made it
/// tighter are.
fn tighten(edit: &mut Adjustment, capabilities: &BTreeSet<String>) -> bool {
    match edit {
        Adjustment::Capabilities(wanted) => {
            wanted.retain(|name| capabilities.contains(name));
            wanted != capabilities
        }
        Adjustment::NoNewPrivileges(on) | Adjustment::ReadOnlyRoot(on) => *on,
        Adjustment::Seccomp(profile) => !["default", "unconfined"].contains(&profile.as_str()),
        Adjustment::Apparmor(profile) => profile.as_deref().is_some_and(|name| name != "unconfined"),
        Adjustment::Selinux(label) => {
            label.as_deref().is_some_and(|label| !label.split_whitespace().any(|word| word == "disable"))
        }
        Adjustment::UserNamespace(namespace) => namespace.as_deref() != Some("host"),
        _ => true,
    }
}

fn gone(what: &str, name: &str, snapshot: &str) -> Error {
    let text = format!(
        "cannot restore the snapshot: its {what} '{name}' is missing; 'wharf snapshot rm {snapshot}' removes the rest"
    );
    Error::Request(text)
}

/// Converts a snapshot into a request: the differences from a spec that requests nothing.
fn request(
    snapshot: &Snapshot,
    image: &str,
    restore: &RestoreRequest,
    volumes: &BTreeMap<String, String>,
) -> ResolvedRequest {
    let mut spec = snapshot.spec.clone();
    for mount in spec.mounts.values_mut().filter(|mount| mount.kind == MountKind::Volume) {
        if let Some(copy) = volumes.get(&mount.source) {
            mount.source.clone_from(copy);
        }
    }
    // Its secret files are those of this workspace, if it has any; its project is mounted as usual.
    spec.mounts.remove(SECRETS_TARGET);
    spec.mounts.retain(|_, mount| mount.kind == MountKind::Volume || mount.source != snapshot.project);
    let secret = |(name, value): (&String, &String)| value.contains(REDACTED) || name.starts_with("WORKSPACE_");
    let env = spec.env.iter().filter(|pair| !secret(*pair) && pair.0 != "WHARF_MANAGED");
    let mut env: BTreeMap<String, String> = env.map(|(name, value)| (name.clone(), value.clone())).collect();
    env.extend(restore.env.clone());
    let fields = diff(&ContainerSpec::empty(), &spec).into_iter().filter(|edit| {
        !matches!(
            edit,
            Adjustment::Image(_)
                | Adjustment::Env(..)
                | Adjustment::Label(..)
                | Adjustment::Hostname(_)
                | Adjustment::Command(_)
                | Adjustment::Network(_)
        )
    });
    let words = format!("the snapshot {}", snapshot.name);
    let mut fields: Vec<_> = fields.map(|edit| (edit, words.clone())).collect();
    fields.push((Adjustment::Network(spec.network), words));
    ResolvedRequest {
        project: snapshot.project.clone().into(),
        name: Some(restore.name.clone().unwrap_or_else(|| snapshot.workspace_name.clone())),
        image: Some(image.to_owned()),
        pull: Some(crate::workspace::PullPolicy::Never),
        command: spec.command,
        env,
        labels: spec.labels,
        fields,
        ..ResolvedRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_asks_for_what_is_tighter_than_today_and_for_nothing_looser() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let today = set(&["CHOWN", "KILL"]);
        let asked = |edit: Adjustment| {
            let mut edit = edit;
            tighten(&mut edit, &today).then_some(edit)
        };
        let capabilities = |names: &[&str]| Adjustment::Capabilities(set(names));
        assert_eq!(asked(capabilities(&["CHOWN", "SYS_ADMIN"])), Some(capabilities(&["CHOWN"])));
        assert_eq!(asked(capabilities(&[])), Some(capabilities(&[])));
        assert_eq!(asked(capabilities(&["CHOWN", "KILL", "SETUID"])), None);
        for loose in [
            Adjustment::NoNewPrivileges(false),
            Adjustment::ReadOnlyRoot(false),
            Adjustment::Seccomp("unconfined".into()),
            Adjustment::Seccomp("default".into()),
            Adjustment::Apparmor(Some("unconfined".into())),
            Adjustment::Apparmor(None),
            Adjustment::Selinux(Some("level:s0 disable".into())),
            Adjustment::UserNamespace(Some("host".into())),
        ] {
            assert_eq!(asked(loose.clone()), None, "{loose:?}");
        }
        for kept in [
            Adjustment::NoNewPrivileges(true),
            Adjustment::ReadOnlyRoot(true),
            Adjustment::Seccomp("mine".into()),
            Adjustment::Apparmor(Some("mine".into())),
            Adjustment::Memory(1 << 30),
        ] {
            assert_eq!(asked(kept.clone()), Some(kept));
        }
    }
}
