//! Every workspace says who owns it; the owner is passed on to what runs inside.

use wharf_plugin_sdk::pre_create::{Adjustment, Input, PreCreate, Verdict};
use wharf_plugin_sdk::{Plugin, export_plugin};

struct Owner;

impl Plugin for Owner {
    type Settings = wharf_plugin_sdk::NoSettings;
}

impl PreCreate for Owner {
    fn pre_create(input: Input, _: Self::Settings) -> Result<Verdict, String> {
        Ok(match input.workspace.label("owner") {
            Some(owner) => Verdict::adjust([Adjustment::env("OWNER", owner)]),
            None => Verdict::deny("owner-missing", "set the label `owner`"),
        })
    }
}

export_plugin!(Owner: pre_create);
