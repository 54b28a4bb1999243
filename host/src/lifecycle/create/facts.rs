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
    list(&folder, "", &mut files)?;
    if let Ok(inner) = folder.folder(Path::new(".devcontainer")) {
        // An unlistable folder is treated as empty: the folder is the project's business.
        let _ = list(&inner, ".devcontainer/", &mut files);
    }
    let mut contents = BTreeMap::new();
    // Most projects have few of the wanted files, so a path is read only if its first segment is in the list.
    let first = |path: &str| path.split('/').next().map(str::to_owned).unwrap_or_default();
    let there: BTreeSet<String> = files.iter().map(|path| first(path)).collect();
    for path in wanted.iter().filter(|path| there.contains(&first(path))).take(MOST_WANTED) {
        if let Some(mut content) = read(&folder, path) {
            content.text = without_secrets(&content.text, secrets);
            contents.insert(path.clone(), content);
        }
    }
    files.sort();
    files.truncate(MOST_FILES);
    Ok(ProjectFacts { files, contents })
}

fn list(folder: &Folder, prefix: &str, files: &mut Vec<String>) -> std::io::Result<()> {
    for name in folder.names(MOST_FILES * 10)? {
        files.push(format!("{prefix}{}", name.to_string_lossy()));
    }
    Ok(())
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
