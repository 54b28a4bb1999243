//! What exists against what is decided now.

use super::create::Decided;
use super::{Difference, Error, Lifecycle};
use crate::hooks::adjust::diff;
use crate::workspace::{Container, ContainerSpec, PullPolicy};

impl Lifecycle {
    /// What exists against what was decided now; empty means the same.
    pub(super) async fn compare(&self, decided: &Decided, container: &Container) -> Result<Vec<Difference>, Error> {
        let json = |value: &str| serde_json::Value::String(value.to_owned());
        let Some(stored) = self.store.workspace(&decided.project.id)? else {
            let field = "decision".to_owned();
            let (is, wanted) = (json("unknown: the store has no record of it"), json("known"));
            return Ok(vec![Difference { field, is, decided: wanted, by: "host".into() }]);
        };
        let plain = |spec: &ContainerSpec| {
            let mut spec = spec.clone();
            // Why an image was chosen does not change the container.
            if let Some(image) = &mut spec.image {
                image.reason.clear();
                image.pull = PullPolicy::Missing;
            }
            spec
        };
        let (is, wanted) = (plain(&stored.draft.spec), plain(&decided.draft.spec));
        let before = diff(&wanted, &is);
        let owners = decided.draft.owner_names();
        let mut all: Vec<Difference> = diff(&is, &wanted)
            .iter()
            .map(|edit| {
                let field = edit.field();
                let was = before.iter().find(|edit| edit.field() == field).map(|edit| edit.value()).unwrap_or_default();
                let by = owners.get(&field).cloned().unwrap_or_else(|| "default".into());
                Difference { field, is: was, decided: edit.value(), by }
            })
            .collect();
        all.extend(super::devcontainer::differences(&stored, decided.project.devcontainer.as_deref()));
        // The record holds no secrets, so their values are compared with the engine's.
        if !decided.secret.is_empty() {
            let actual = self.docker.inspect(&container.id).await?.actual;
            let env = actual.map(|spec| spec.env).unwrap_or_default();
            for (name, value) in &decided.secret {
                if env.get(name) != Some(value) {
                    let field = format!("env.{name}");
                    let by = owners.get(&field).cloned().unwrap_or_else(|| "request".into());
                    all.push(Difference { field, is: json("***"), decided: json("another secret"), by });
                }
            }
        }
        Ok(all)
    }
}
