//! Variables in the texts of a file, such as `${localWorkspaceFolder}`. Inserted values are not expanded again.
//! Variables outside the specification, such as a shell's `${HOME}`, stay unchanged.

use super::Surroundings;

/// Expands variables, and reports those that it could not expand.
pub(super) struct Variables<'a> {
    pub(super) around: &'a Surroundings<'a>,
    /// The project's folder in the container.
    pub(super) container_folder: String,
}

impl Variables<'_> {
    /// Returns the text with its variables expanded, and the reasons for those left empty. A secret of the host is
    /// only inserted where it remains a secret.
    pub(super) fn fill(&self, text: &str, keeps_secrets: bool) -> (String, Vec<String>) {
        let (mut filled, mut refused) = (String::with_capacity(text.len()), Vec::new());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            filled.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                filled.push_str("${");
                rest = after;
                continue;
            };
            match self.value(name, keeps_secrets) {
                Some(Ok(value)) => filled.push_str(&value),
                Some(Err(reason)) => {
                    filled.push_str(&default_of(name));
                    refused.push(reason);
                }
                None => filled.push_str(&format!("${{{name}}}")),
            }
            rest = after;
        }
        filled.push_str(rest);
        (filled, refused)
    }

    fn value(&self, name: &str, keeps_secrets: bool) -> Option<Result<String, String>> {
        let base = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        let folder = self.around.folder;
        match name {
            "localWorkspaceFolder" => return Some(Ok(folder.to_owned())),
            "localWorkspaceFolderBasename" => return Some(Ok(base(folder))),
            "containerWorkspaceFolder" => return Some(Ok(self.container_folder.clone())),
            "containerWorkspaceFolderBasename" => return Some(Ok(base(&self.container_folder))),
            "devcontainerId" => return Some(Ok(self.around.id.to_owned())),
            _ => {}
        }
        let (kind, rest) = name.split_once(':')?;
        let wanted = rest.split(':').next().unwrap_or_default();
        let shown: String = wanted.chars().filter(|c| !c.is_control()).take(64).collect();
        match kind {
            "localEnv" | "env" => Some(match self.around.local_env.get(wanted) {
                Some(_) if self.around.secrets.contains(wanted) && !keeps_secrets => Err(format!(
                    "the host's {shown} is a secret, and can only be used in variables with a secret name ([secrets])"
                )),
                Some(Some(value)) => Ok(value.clone()),
                // Allowed, but not set here.
                Some(None) => Ok(default_of(name)),
                None => Err(format!("the host's {shown} is not in devcontainer.local_env")),
            }),
            "containerEnv" => Some(Err(format!("the container's {shown} is unknown before the start"))),
            _ => None,
        }
    }
}

/// Returns the default of `localEnv:NAME:default`.
fn default_of(name: &str) -> String {
    name.splitn(3, ':').nth(2).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{around, host_env};
    use super::*;

    #[test]
    fn variables_are_filled_in_once_and_the_hosts_environment_only_where_it_is_allowed() {
        let env = host_env();
        let around = around(&env);
        let variables = Variables { around: &around, container_folder: "/workspace".into() };
        for (text, filled, refused) in [
            ("a ${localWorkspaceFolder}/x", "a /srv/shop/x", 0),
            ("${localWorkspaceFolderBasename}-${containerWorkspaceFolder}", "shop-/workspace", 0),
            ("${containerWorkspaceFolderBasename} ${devcontainerId}", "workspace shop-1a2b3c", 0),
            ("${HOME} ${x:y} ${", "${HOME} ${x:y} ${", 0),
            ("${localEnv:ALLOWED}", "yes ${localWorkspaceFolder}", 0),
            ("${localEnv:UNSET:else}|${localEnv:UNSET}", "else|", 0),
            ("${localEnv:PATH}|${env:PATH:a:b}", "|a:b", 2),
            ("${localEnv:API_TOKEN}", "", 1),
            ("${containerEnv:PATH}", "", 1),
            ("${localEnv:}${localEnv}", "${localEnv}", 1),
        ] {
            let (is, why) = variables.fill(text, false);
            assert_eq!((is.as_str(), why.len()), (filled, refused), "{text}: {why:?}");
        }
        assert_eq!(variables.fill("${localEnv:API_TOKEN}", true), ("hunter2".to_owned(), vec![]));
    }
}
