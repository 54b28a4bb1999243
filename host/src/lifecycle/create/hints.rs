//! Hints about a project: its files that Wharf sees and does not use, each with the flag that uses them.

use std::ffi::OsStr;
use std::path::Path;

use crate::archive::Folder;
use crate::lifecycle::create::project::Project;
use crate::lifecycle::create::resolved_request::DevcontainerChoice;

/// Maximum number of names in one hint.
const MOST: usize = 10;

impl Project {
    /// Looks for hints about a project; a sidecar has none.
    pub(in crate::lifecycle) async fn hint(&mut self, choice: &DevcontainerChoice) {
        if self.part_of.is_some() {
            return;
        }
        let (path, choice, has) = (self.path.clone(), choice.clone(), self.devcontainer.is_some());
        let hints = tokio::task::spawn_blocking(move || hints(&path, &choice, has)).await;
        self.hints = hints.unwrap_or_default();
    }
}

/// Returns the hints for a project, each one line. An unreadable file gives none.
fn hints(path: &Path, choice: &DevcontainerChoice, has_devcontainer: bool) -> Vec<String> {
    let Ok(folder) = Folder::open(path) else { return Vec::new() };
    let mut hints = Vec::new();
    if *choice == DevcontainerChoice::Usual && !has_devcontainer {
        hints.extend(other_devcontainers(&folder));
    }
    hints.extend(worktree(&folder, path));
    hints
}

fn one_line(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Names the configurations of a project that has only named ones.
fn other_devcontainers(folder: &Folder) -> Option<String> {
    let inner = folder.child(OsStr::new(".devcontainer")).ok()?;
    let mut names: Vec<String> =
        inner.names(1_000).ok()?.into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.retain(|name| {
        let child = inner.child(OsStr::new(name));
        child.is_ok_and(|child| child.about(OsStr::new("devcontainer.json")).is_ok_and(|about| about.is_file()))
    });
    names.sort();
    names.truncate(MOST);
    let names: Vec<String> = names.iter().map(|name| one_line(name)).collect();
    let first = names.first()?;
    Some(format!(
        "the project has only named configurations in .devcontainer ({}), and none is used; choose one with --devcontainer {first}",
        names.join(", ")
    ))
}

/// Names the repository of a git worktree or submodule whose data lie outside of the project.
fn worktree(folder: &Folder, path: &Path) -> Option<String> {
    let text = folder.read_text(Path::new(".git"), 4 << 10).ok()?;
    let git = text.strip_prefix("gitdir:")?.trim();
    let git = path.join(git);
    // `/repository/.git/worktrees/NAME`: the whole `.git` is needed.
    let shared = git.ancestors().find(|folder| folder.file_name() == Some(OsStr::new(".git"))).unwrap_or(&git);
    let shared = crate::paths::resolve(shared).ok()?.path;
    if shared.starts_with(path) {
        return None;
    }
    let shared = one_line(shared.to_str()?);
    Some(format!(
        "git does not work in the workspace: its data are in {shared}, outside of the project; mount them with --mount {shared}:{shared} \
         (allow.bind_roots must allow it)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_told_which_of_its_files_are_not_used() {
        let place = std::env::temp_dir().join(format!("wharf-hints-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        let project = place.join("project");
        std::fs::create_dir_all(&project).unwrap();
        let all = |choice: &DevcontainerChoice, has| hints(&project, choice, has);
        assert!(all(&DevcontainerChoice::Usual, false).is_empty());
        for name in ["python", "node"] {
            std::fs::create_dir_all(project.join(".devcontainer").join(name)).unwrap();
            std::fs::write(project.join(".devcontainer").join(name).join("devcontainer.json"), "{}").unwrap();
        }
        std::fs::create_dir_all(project.join(".devcontainer/scripts")).unwrap();
        let told = all(&DevcontainerChoice::Usual, false);
        assert!(told[0].contains("(node, python)") && told[0].ends_with("--devcontainer node"), "{told:?}");
        assert!(all(&DevcontainerChoice::Usual, true).is_empty() && all(&DevcontainerChoice::Off, false).is_empty());
        let outside = project.parent().unwrap().join("outside");
        std::fs::create_dir_all(outside.join(".git/worktrees/wt")).unwrap();
        std::fs::write(project.join(".git"), format!("gitdir: {}/.git/worktrees/wt\n", outside.display())).unwrap();
        let told = all(&DevcontainerChoice::Off, false);
        assert!(told[0].contains(&format!("--mount {0}/.git:{0}/.git", outside.display())), "{told:?}");
        // A submodule of a project has its data in the project.
        std::fs::create_dir_all(project.join("inner/.git")).unwrap();
        std::fs::write(project.join(".git"), "gitdir: inner/.git\n").unwrap();
        assert!(all(&DevcontainerChoice::Off, false).is_empty());
        std::fs::remove_dir_all(&place).unwrap();
    }
}
