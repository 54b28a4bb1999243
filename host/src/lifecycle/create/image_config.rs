//! The settings of an image for its containers. They become facts for policies, and fields of the spec, so that an
//! image sets nothing that is not part of a decision.

use crate::docker::ImageInfo;
use crate::hooks::record::{Draft, Owner};
use crate::hooks::redact::Values;
use crate::hooks::{Adjustment, ImageConfig};
use crate::lifecycle::create::owner;
use crate::workspace::{ContainerSpec, Mount, MountKind, Tmpfs, WorkspaceId, sha256_hex};

/// The places beside the owner `default` for fields that the image decided.
pub(in crate::lifecycle) const BY_IMAGE: &str = "the image";
const BY_VOLUME: &str = "a volume of the image";

/// The limit of labels, volumes and words of one image.
const MOST: usize = 1_000;
/// The limit of one text of an image, in bytes.
const MOST_TEXT: usize = 4 << 10;

/// Returns the facts about an image for policies.
///
/// # Errors
/// One line, for an image with more settings than a policy can be shown.
pub(in crate::lifecycle) fn of_image(image: &ImageInfo) -> Result<ImageConfig, String> {
    for (what, count) in [
        ("labels", image.labels.len()),
        ("volumes", image.volumes.len()),
        ("words in its command", image.command.len() + image.entrypoint.len()),
    ] {
        if count > MOST {
            return Err(format!(
                "the image has {count} {what}, but policies take at most {MOST}; build one with fewer"
            ));
        }
    }
    if let Some(path) = image.volumes.iter().find(|path| !path.starts_with('/') || target(path).is_none()) {
        let path = path.escape_default();
        return Err(format!(
            "the image declares a volume at '{path}', which is not an absolute path below the root; build one \
             without it"
        ));
    }
    let texts = |list: &[String]| list.iter().map(|text| cut(text)).collect::<Vec<_>>();
    let mut volumes = texts(&image.volumes);
    volumes.sort();
    let health_check = image.health_check.clone().map(|mut check| {
        check.command = texts(&check.command);
        check
    });
    Ok(ImageConfig {
        id: image.id.clone(),
        entrypoint: texts(&image.entrypoint),
        command: texts(&image.command),
        user: cut(&image.user),
        working_dir: cut(&image.working_dir),
        volumes,
        health_check,
        labels: image.labels.iter().map(|(name, value)| (cut(name), cut(value))).collect(),
        platform: format!("{}/{}", image.os, image.architecture),
    })
}

fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(MOST_TEXT)).unwrap_or_default().to_owned()
}

/// Removes secret values from the facts for policies.
pub(in crate::lifecycle) fn clean(config: &mut ImageConfig, known: &Values) {
    let health = config.health_check.iter_mut().flat_map(|check| &mut check.command);
    let texts = [&mut config.user, &mut config.working_dir].into_iter();
    let lists = config.entrypoint.iter_mut().chain(&mut config.command).chain(&mut config.volumes);
    texts.chain(lists).chain(health).chain(config.labels.values_mut()).for_each(|text| known.clean(text));
}

/// Writes the settings of the image into a draft, for fields that nothing else decided, before policies are evaluated.
/// A user `root` is ignored: most images that name no user have it.
pub(in crate::lifecycle) fn fill(draft: &mut Draft, image: &ImageInfo) {
    let by = || Owner::host("default", Some(BY_IMAGE.to_owned()));
    if draft.spec.entrypoint.is_none() && !image.entrypoint.is_empty() {
        let owner = draft.owners.get("command").map(|owner| owner.policy.as_str());
        // The command that keeps a workspace up is no argument for the program of the image. The reference tool of
        // devcontainer.json replaces it, too (`overrideCommand`).
        let kept_up = !draft.spec.command.is_empty() && matches!(owner, None | Some("default" | "config"));
        match kept_up {
            true => draft.set(&Adjustment::Entrypoint(Some(Vec::new())), Owner::host("default", None), None),
            false => draft.set(&Adjustment::Entrypoint(Some(image.entrypoint.clone())), by(), None),
        };
    }
    if draft.spec.command.is_empty() && !image.command.is_empty() {
        draft.set(&Adjustment::Command(image.command.clone()), by(), None);
    }
    if let (None, Some(check)) = (&draft.spec.health_check, &image.health_check) {
        draft.set(&Adjustment::HealthCheck(Some(check.clone())), by(), None);
    }
    if !is_root(&image.user) && (draft.spec.user.is_none() || owner::is_default(draft)) {
        draft.set(&Adjustment::User(Some(image.user.clone())), by(), None);
    }
}

/// Returns whether a user in the engine's notation is root. No user is root, too.
pub(in crate::lifecycle) fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    name.is_empty() || name == "root" || name.parse::<u64>() == Ok(0)
}

/// Assigns a place in the spec to each volume that an image wants and that no other mount covers, after the policies: a
/// volume of the workspace, or memory with a read-only root, where a disk volume would have no limit.
pub(in crate::lifecycle) fn settle(draft: &mut Draft, image: &ImageConfig, id: &WorkspaceId) {
    let by = || Owner::host("default", Some(BY_VOLUME.to_owned()));
    let has = |spec: &ContainerSpec, target: &str| spec.mounts.contains_key(target) || spec.tmpfs.contains_key(target);
    for volume in &image.volumes {
        let Some(target) = target(volume).filter(|target| !has(&draft.spec, target)) else { continue };
        let edit = if draft.spec.security.read_only_root {
            Adjustment::Tmpfs(target.clone(), Some(Tmpfs { size: None }))
        } else {
            let mount = Mount { kind: MountKind::Volume, source: volume_name(id, &target), read_only: false };
            Adjustment::Mount(target.clone(), Some(mount))
        };
        if edit.check().is_ok() {
            draft.set(&edit, by(), None);
        }
    }
    owner::settle_home(draft);
}

/// Normalizes a volume's path as mounts have it: `/data/` and `/a/./b` are `/data` and `/a/b`.
fn target(volume: &str) -> Option<String> {
    let parts: Vec<&str> = volume.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    (!parts.is_empty() && !parts.contains(&"..")).then(|| format!("/{}", parts.join("/")))
}

/// Returns the name of the workspace's volume for a path that its image declares as a volume.
fn volume_name(id: &WorkspaceId, target: &str) -> String {
    let hash = sha256_hex(target.as_bytes());
    format!("{}-{}", id.container_name(), hash.get(..8).unwrap_or_default())
}

/// Returns whether a field is the image's own in the new decision, and also was in the stored one, either recorded or
/// left to the image. The container then has the setting of its image; whether the name means another image by now is
/// not compared.
pub(in crate::lifecycle) fn is_images(stored: &Draft, now: &Draft, field: &str) -> bool {
    let place =
        |draft: &Draft| draft.owners.get(field).filter(|by| by.policy == "default").and_then(|by| by.at.clone());
    let of_image = |draft: &Draft| place(draft).is_some_and(|at| at == BY_IMAGE || at == BY_VOLUME);
    let left = || {
        !stored.spec.fields().iter().any(|known| known == field) || stored.spec.command.is_empty() && field == "command"
    };
    of_image(now) && (of_image(stored) || left())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::chain::tests::spec;

    #[test]
    fn a_volume_has_one_spelling() {
        for (volume, is) in [("/data/", Some("/data")), ("//a/./b", Some("/a/b")), ("/", None), ("/a/../b", None)] {
            assert_eq!(target(volume).as_deref(), is, "{volume}");
        }
    }

    #[test]
    fn a_workspace_of_an_earlier_version_has_what_was_left_to_its_image() {
        let id: WorkspaceId = "w-0000000000000000".parse().unwrap();
        let image = ImageConfig { volumes: vec!["/data".into()], ..ImageConfig::default() };
        let by = |at: &str| Owner::host("default", Some(at.to_owned()));
        let old = Draft::new(ContainerSpec { command: Vec::new(), ..spec() });
        let mut now = old.clone();
        now.set(&Adjustment::Entrypoint(Some(vec!["tini".into()])), by(BY_IMAGE), None);
        now.set(&Adjustment::Command(vec!["serve".into()]), by(BY_IMAGE), None);
        settle(&mut now, &image, &id);
        let fields = ["entrypoint", "command", "mounts./data"];
        assert!(fields.iter().all(|field| is_images(&old, &now, field)));
        // The field remains the image's with another image of the same name.
        let mut newer = now.clone();
        newer.set(&Adjustment::Entrypoint(Some(vec!["other".into()])), by(BY_IMAGE), None);
        assert!(is_images(&now, &newer, "entrypoint"));
        // A value that was requested then, or is requested now, is a difference.
        let mut asked = old.clone();
        asked.set(&Adjustment::Entrypoint(Some(vec!["mine".into()])), Owner::host("request", None), None);
        assert!(!is_images(&asked, &now, "entrypoint") && !is_images(&now, &asked, "entrypoint"));
        assert!(!is_images(&Draft::new(spec()), &now, "command"));
    }

    #[test]
    fn a_policy_sees_no_more_than_4_kib_of_a_text_and_no_secret() {
        let mut config =
            ImageConfig { labels: [("a".to_owned(), "hunter2-hunter2".to_owned())].into(), ..Default::default() };
        clean(&mut config, &Values::of(&["hunter2-hunter2".to_owned()]));
        assert_eq!(config.labels["a"], "***");
        assert_eq!(cut(&"é".repeat(4_000)).len(), MOST_TEXT);
    }
}
