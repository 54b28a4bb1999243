//! The comparison of an existing workspace with a new decision.

use crate::hooks::adjust::diff;
use crate::hooks::record::Draft;
use crate::hooks::redact::Values;
use crate::lifecycle::create::decision::Decided;
use crate::lifecycle::create::image_config::is_images;
use crate::lifecycle::{Difference, Error, Lifecycle};
use crate::store;
use crate::workspace::{Container, ContainerSpec, PullPolicy};

impl Lifecycle {
    /// Returns the differences between the existing workspace and the new decision; empty means that there are none.
    pub(in crate::lifecycle) async fn compare(
        &self,
        decided: &Decided,
        container: &Container,
    ) -> Result<Vec<Difference>, Error> {
        let json = |value: &str| serde_json::Value::String(value.to_owned());
        let Some(stored) = self.store.workspace(&decided.project.id)? else {
            let field = "decision".to_owned();
            let (is, wanted) = (json("unknown: the store has no record of the workspace"), json("known"));
            return Ok(vec![Difference { field, is, decided: wanted, by: "host".into() }]);
        };
        let plain = |spec: &ContainerSpec| {
            let mut spec = spec.clone();
            // The reason for an image's choice does not change the container.
            if let Some(image) = &mut spec.image {
                image.reason.clear();
                image.pull = PullPolicy::Missing;
            }
            spec
        };
        // The record holds no secrets, so their values are compared with the engine's.
        let mut real = decided.draft.spec.clone();
        decided.withheld.fill_in(&mut real);
        let shown = decided.draft.spec.clone();
        let values = decided.withheld.values();
        let mut hidden = Draft::new(shown);
        self.secrets.redact_draft(&mut hidden, &values);
        let shown = hidden.spec;
        let (is, wanted) = (plain(&stored.draft.spec), plain(&shown));
        let before = diff(&wanted, &is);
        let owners = decided.draft.owner_names();
        let mut all: Vec<Difference> = diff(&is, &wanted)
            .iter()
            .filter(|edit| !is_images(&stored.draft, &decided.draft, &edit.field()))
            .map(|edit| {
                let field = edit.field();
                let was = before.iter().find(|edit| edit.field() == field).map(|edit| edit.value()).unwrap_or_default();
                let by = owners.get(&field).cloned().unwrap_or_else(|| "default".into());
                Difference { field, is: was, decided: edit.value(), by }
            })
            .collect();
        all.extend(moved(&stored, decided));
        all.extend(crate::lifecycle::create::devcontainer::differences(
            &stored,
            decided.project.devcontainer.as_deref(),
            &decided.withheld,
        ));
        // Values that are stored redacted, including those that policies set.
        type Map = std::collections::BTreeMap<String, String>;
        let of = |real: &Map, shown: &Map, group: &'static str| -> Vec<_> {
            let secret = real.iter().filter(|(name, value)| shown.get(*name) != Some(*value));
            secret.map(|(name, value)| (group, name.clone(), value.clone())).collect()
        };
        let mut secret = of(&real.env, &shown.env, "env");
        secret.extend(of(&real.labels, &shown.labels, "labels"));
        if !secret.is_empty() {
            let actual = self.docker.inspect(&container.id).await?.actual;
            let (env, labels) = actual.map(|spec| (spec.env, spec.labels)).unwrap_or_default();
            for (group, name, value) in secret {
                let is = if group == "env" { env.get(&name) } else { labels.get(&name) };
                let field = format!("{group}.{name}");
                if is != Some(&value) && !all.iter().any(|known| known.field == field) {
                    let by = owners.get(&field).cloned().unwrap_or_else(|| "request".into());
                    all.push(Difference { field, is: json("***"), decided: json("a different secret"), by });
                }
            }
        }
        // A record of an earlier version may contain values, and the container's values may now be in other fields.
        let mut values = values;
        values.extend(self.secret_values(container));
        let values = Values::of(&values);
        for difference in &mut all {
            values.take_out(&mut difference.is);
            values.take_out(&mut difference.decided);
        }
        Ok(all)
    }
}

/// Returns sources of mounts, and the project, that are other files or folders than those that the workspace was made
/// with.
fn moved(stored: &store::Workspace, decided: &Decided) -> Vec<Difference> {
    let mut all = Vec::new();
    for (path, is) in &decided.places {
        if stored.places.get(path).is_none_or(|was| was.is(is)) {
            continue;
        }
        let mut mounts = decided.draft.spec.mounts.iter();
        let target = mounts.find(|(_, mount)| mount.source == *path).map(|(target, _)| target.as_str());
        let field = target.map_or_else(|| "project".to_owned(), |target| format!("mounts.{target}"));
        let said = |text: &str| serde_json::Value::String(format!("{path}, {text}"));
        let (is, decided) = (said("the original file or folder"), said("now another file or folder"));
        all.push(Difference { field, is, decided, by: "host".into() });
    }
    all
}
