//! Data of earlier versions: the values of secrets are removed from it, once, when the engine that knows them is
//! connected.

use std::collections::BTreeMap;

use crate::hooks::record::canonical;
use crate::hooks::redact::Values;
use crate::hooks::{Decision, Step};
use crate::lifecycle::secrets::files::{secrets_dir, texts};
use crate::lifecycle::{Error, Lifecycle};
use crate::store::{self, Cleaner};

impl Lifecycle {
    /// Removes the currently known values of secrets from everything that an earlier version stored. Records stay
    /// unchanged, and are displayed without the values.
    ///
    /// # Errors
    /// When the engine or the store fails; the next process tries again.
    pub(in crate::lifecycle) async fn clean_earlier(&self) -> Result<(), Error> {
        if !self.store.may_hold_values()? {
            return Ok(());
        }
        let mut all = self.loaded().policy_secrets();
        for stored in self.store.workspaces()? {
            let folder = secrets_dir(self.store.dir()).join(stored.id.as_str());
            let (values, variables) = match self.container_in_full(&stored.id).await? {
                Some(container) => (self.secret_values(&container), self.secret_variables(&container)),
                None => (texts([], Some(&folder)), BTreeMap::new()),
            };
            self.store
                .update_workspace(&stored.id, |workspace| self.clean_workspace(workspace, &values, &variables))?;
            all.extend(values);
        }
        all.sort();
        all.dedup();
        let (values, secrets) = (Values::of(&all), self.secrets.clone());
        let record = |body: &str| {
            let mut decision: Decision = serde_json::from_str(body).ok().filter(|_| values.stand_in(body))?;
            secrets.redact(&mut decision, &all);
            canonical(&decision).ok().filter(|clean| clean != body)
        };
        let json = |text: &str| {
            let mut json = serde_json::from_str(text).ok().filter(|_| values.stand_in(text))?;
            values.take_out_of_names_in(&mut json).then(|| json.to_string())
        };
        let text = |text: &str| values.text(text);
        Ok(self.store.clean(&Cleaner { record: &record, json: &json, text: &text })?)
    }

    fn clean_workspace(
        &self,
        workspace: &mut store::Workspace,
        values: &[String],
        variables: &BTreeMap<String, String>,
    ) {
        self.secrets.redact_draft(&mut workspace.draft, values);
        let values = Values::of(values);
        workspace.places.retain(|path, _| !values.telling().stand_in(path));
        workspace.trail.iter_mut().for_each(|step| clean_step(step, &values));
        workspace.notes.iter_mut().chain(&mut workspace.degraded).for_each(|text| values.clean(text));
        if let Some(record) = &mut workspace.devcontainer {
            record.commands.hide(variables);
            values.telling().take_out_of(record);
            record.failed.iter_mut().for_each(|text| values.clean(text));
        }
    }
}

fn clean_step(step: &mut Step, values: &Values) {
    step.logs.iter_mut().for_each(|text| values.clean(text));
    if let Some(error) = &mut step.error {
        values.clean(&mut error.message);
        error.detail.iter_mut().for_each(|text| values.clean(text));
    }
    values.telling().take_out_of(step);
}
