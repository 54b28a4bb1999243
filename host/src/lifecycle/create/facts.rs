//! Gathers the facts for policies, once per verb. Policies never query the outside world.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Component, Path};

use crate::archive::Folder;
use crate::docker::{EngineInfo, LocalImage};
use crate::hooks::redact::SecretNames;
use crate::hooks::{self, EngineFacts, FileContent, ProjectFacts};
use crate::lifecycle::secrets::in_files::without_secrets;

/// The limit of file names of a project.
const MOST_FILES: usize = 1_000;
/// The limit of names that are read from one folder.
const MOST_NAMES: usize = 10_000;
/// The limit of one wanted file, in bytes.
pub(in crate::lifecycle) const MOST_BYTES: usize = 64 << 10;
/// The limit of wanted files that are read.
const MOST_WANTED: usize = 256;

/// Converts the engine's information into facts.
pub fn engine_facts(info: &EngineInfo) -> EngineFacts {
    EngineFacts {
        version: info.version.clone(),
        api_version: info.api_version.clone(),
        cgroup_version: info.cgroup_version,
        cpus: info.cpus,
        memory: info.memory,
        security: info.security.clone(),
    }
}

/// Converts local images into facts, in a stable order.
pub(in crate::lifecycle) fn image_facts(images: Vec<LocalImage>) -> Vec<hooks::LocalImage> {
    let mut facts: Vec<_> = images
        .into_iter()
        .filter(|image| !image.references.is_empty())
        .map(|mut image| {
            image.references.sort();
            image.digests.sort();
            hooks::LocalImage { references: image.references, digests: image.digests, size: image.size }
        })
        .collect();
    facts.sort_by(|a, b| a.references.cmp(&b.references));
    facts
}

/// Returns the images with these references, without their other names.
pub(in crate::lifecycle) fn only_these(
    images: Vec<hooks::LocalImage>,
    references: &BTreeSet<String>,
) -> Vec<hooks::LocalImage> {
    let is = |reference: &String| {
        references.contains(reference)
            || reference.strip_suffix(":latest").is_some_and(|name| references.contains(name))
    };
    let mut images = images;
    for image in &mut images {
        image.references.retain(is);
        let of = |digest: &str| digest.split_once('@').map(|(name, _)| format!("{name}:"));
        let named = |digest: &String| {
            of(digest).is_some_and(|name| image.references.iter().any(|reference| reference.starts_with(&name)))
        };
        let digests = image.digests.iter().filter(|digest| named(digest)).cloned().collect();
        image.digests = digests;
    }
    images.retain(|image| !image.references.is_empty());
    images
}

/// Reads the names of a project's files, and the contents of the wanted ones, without the values of secrets.
///
/// # Errors
/// When the folder cannot be listed.
pub(in crate::lifecycle) fn project_facts(
    project: &Path,
    wanted: &BTreeSet<String>,
    secrets: &SecretNames,
) -> std::io::Result<ProjectFacts> {
    let folder = Folder::open(project)?;
    let mut files = Vec::new();
    let complete = list(&folder, "", &mut files)?;
    if let Ok(inner) = folder.folder(Path::new(".devcontainer")) {
        // An unlistable folder is treated as empty: the folder is the project's business.
        let _ = list(&inner, ".devcontainer/", &mut files);
    }
    let mut contents = BTreeMap::new();
    // Most projects have few of the wanted files, so a path is read only if its first segment is in the list, unless
    // the folder has more names than the list.
    let first = |path: &str| path.split('/').next().map(str::to_owned).unwrap_or_default();
    let there: BTreeSet<String> = files.iter().map(|path| first(path)).collect();
    let may_exist = |path: &&String| !complete || there.contains(&first(path));
    for path in wanted.iter().filter(may_exist).take(MOST_WANTED) {
        if let Some(mut content) = read(&folder, path) {
            content.text = without_secrets(&content.text, secrets);
            if !path.contains('/') && !there.contains(path) {
                files.push(path.clone());
            }
            contents.insert(path.clone(), content);
        }
    }
    files.sort();
    cut(&mut files, wanted);
    Ok(ProjectFacts { files, contents })
}

/// Lists the names in a folder. Returns whether these are all of them.
fn list(folder: &Folder, prefix: &str, files: &mut Vec<String>) -> std::io::Result<bool> {
    let names = folder.names(MOST_NAMES)?;
    let complete = names.len() < MOST_NAMES;
    files.extend(names.iter().map(|name| format!("{prefix}{}", name.to_string_lossy())));
    Ok(complete)
}

/// Cuts a sorted list at [`MOST_FILES`]. The wanted names stay: policies look for them, and a thousand other names must
/// not hide a `go.mod`.
fn cut(files: &mut Vec<String>, wanted: &BTreeSet<String>) {
    let kept = files.iter().filter(|name| wanted.contains(*name)).count();
    let mut room = MOST_FILES.saturating_sub(kept);
    files.retain(|name| {
        let other = !wanted.contains(name);
        let fits = !other || room > 0;
        room -= usize::from(other && fits);
        fits
    });
    files.truncate(MOST_FILES);
}

/// Reads one wanted file: only inside the project, including targets of links, only regular files, cut at
/// [`MOST_BYTES`].
fn read(project: &Folder, wanted: &str) -> Option<FileContent> {
    let relative = Path::new(wanted);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let (file, _) = project.open_below(relative).ok()?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
    let truncated = bytes.len() > MOST_BYTES;
    bytes.truncate(MOST_BYTES);
    Some(FileContent { text: String::from_utf8_lossy(&bytes).into_owned(), truncated })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::beneath_tests::{Place, Swapper};

    #[test]
    fn only_wanted_files_inside_the_project_are_read_and_large_ones_are_cut() {
        let dir = std::env::temp_dir().join(format!("wharf-facts-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("p/.devcontainer")).unwrap();
        std::fs::write(dir.join("secret"), "outside").unwrap();
        std::fs::write(dir.join("p/go.mod"), "module x").unwrap();
        std::fs::write(dir.join("p/big"), vec![b'a'; MOST_BYTES + 5]).unwrap();
        std::fs::write(dir.join("p/.devcontainer/devcontainer.json"), [b'{', 0xff, b'}']).unwrap();
        std::os::unix::fs::symlink(dir.join("secret"), dir.join("p/link")).unwrap();
        let wanted = ["go.mod", "big", "link", "../secret", "/etc/passwd", "none", ".devcontainer/devcontainer.json"];
        let facts = project_facts(&dir.join("p"), &wanted.map(str::to_owned).into(), &SecretNames::default()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let expected = [".devcontainer", ".devcontainer/devcontainer.json", "big", "go.mod", "link"];
        assert_eq!(facts.files, expected);
        let read: Vec<_> = facts.contents.keys().map(String::as_str).collect();
        assert_eq!(read, [".devcontainer/devcontainer.json", "big", "go.mod"]);
        assert!(facts.contents["big"].truncated && facts.contents["big"].text.len() == MOST_BYTES);
        assert!(facts.contents[".devcontainer/devcontainer.json"].text.contains('\u{fffd}'));
    }

    #[test]
    fn a_thousand_other_names_hide_no_wanted_one() {
        let dir = std::env::temp_dir().join(format!("wharf-facts-many-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("pom.xml")).unwrap();
        for number in 0..1_200 {
            std::fs::write(dir.join(format!("a{number:04}")), "").unwrap();
        }
        std::fs::write(dir.join("go.mod"), "module x").unwrap();
        std::fs::write(dir.join("zebra"), "").unwrap();
        let wanted = ["go.mod", "pom.xml", "none"].map(str::to_owned).into();
        let facts = project_facts(&dir, &wanted, &SecretNames::default()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(facts.files.len(), MOST_FILES);
        assert_eq!(facts.files.last_chunk(), Some(&["a0997", "go.mod", "pom.xml"].map(str::to_owned)));
        assert_eq!(facts.contents.keys().collect::<Vec<_>>(), ["go.mod"], "a folder has no text");
    }

    #[test]
    fn a_wanted_file_is_read_where_a_folder_has_more_names_than_are_listed() {
        let dir = std::env::temp_dir().join(format!("wharf-facts-most-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        for number in 0..MOST_NAMES + 50 {
            std::fs::write(dir.join(format!("a{number:05}")), "").unwrap();
        }
        let wanted: BTreeSet<String> = ["go.mod", "none"].map(str::to_owned).into();
        std::fs::write(dir.join("go.mod"), "module x").unwrap();
        let facts = project_facts(&dir, &wanted, &SecretNames::default()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(facts.contents.contains_key("go.mod") && facts.files.contains(&"go.mod".to_owned()));
        assert_eq!((facts.contents.len(), facts.files.len()), (1, MOST_FILES));
    }

    #[test]
    fn of_images_only_the_names_that_were_asked_for_are_left() {
        let image = |references: &[&str], digests: &[&str]| hooks::LocalImage {
            references: references.iter().map(|&text| text.to_owned()).collect(),
            digests: digests.iter().map(|&text| text.to_owned()).collect(),
            size: 1,
        };
        let all = vec![
            image(&["a/b:1", "secret:2"], &["a/b@sha256:1", "secret@sha256:1"]),
            image(&["c:latest"], &[]),
            image(&["a/b:2"], &["a/b@sha256:2"]),
        ];
        let only = ["a/b:1", "c"].map(str::to_owned).into();
        assert_eq!(only_these(all, &only), [image(&["a/b:1"], &["a/b@sha256:1"]), image(&["c:latest"], &[])]);
    }

    /// The attack of a workspace that wants a policy to reveal files outside of its project (number 9).
    #[test]
    fn two_thousand_readings_of_a_project_whose_files_are_exchanged_show_nothing_from_outside() {
        let place = Place::new("facts");
        let project = place.project();
        std::fs::write(project.join("go.mod"), "inside").unwrap();
        std::os::unix::fs::symlink("../outside/file", project.join("go.other")).unwrap();
        std::fs::create_dir(project.join(".devcontainer")).unwrap();
        std::fs::write(project.join(".devcontainer/file"), "inside").unwrap();
        std::fs::create_dir(place.0.join("outside/names-outside")).unwrap();
        std::os::unix::fs::symlink("../outside", project.join("way")).unwrap();
        let swapper = Swapper::new(&project, &[("go.mod", "go.other"), (".devcontainer", "way"), ("sub", "way")]);
        let wanted = ["go.mod", "sub/file", ".devcontainer/file"].map(str::to_owned).into();
        let mut read = 0;
        for _ in 0..2_000 {
            let facts = project_facts(&project, &wanted, &SecretNames::default()).unwrap();
            for (name, content) in &facts.contents {
                assert!(!content.text.contains("OUTSIDE"), "{name} has what lies outside");
                read += 1;
            }
            assert!(!facts.files.iter().any(|name| name.contains("names-outside")), "{:?}", facts.files);
        }
        drop(swapper);
        assert!(read > 100, "{read}");
    }
}
