//! Tells who asked, by the interface `facts`: as a variable, and as a refusal of one caller.

use wharf_plugin_sdk::facts::{self, Door, Role};
use wharf_plugin_sdk::pre_create::{Adjustment, Input, PreCreate, Verdict};
use wharf_plugin_sdk::{NoSettings, Plugin, export_plugin};

struct Asker;

impl Plugin for Asker {
    type Settings = NoSettings;
}

impl PreCreate for Asker {
    fn pre_create(_: Input, _: NoSettings) -> Result<Verdict, String> {
        Ok(match facts::caller() {
            None => Verdict::adjust([Adjustment::env("ASKED_BY", "nobody")]),
            Some(caller) if caller.role == Role::Viewer => {
                Verdict::deny("viewer", format!("{} only looks", caller.name))
            }
            Some(caller) => {
                let text = format!("{} ({}, {})", caller.name, word(caller.role), door(caller.door));
                Verdict::adjust([Adjustment::env("ASKED_BY", text)])
            }
        })
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

fn door(door: Door) -> &'static str {
    match door {
        Door::CommandLine => "command-line",
        Door::Socket => "socket",
        Door::Network => "network",
        Door::Service => "service",
    }
}

export_plugin!(Asker: pre_create);

#[cfg(test)]
mod tests {
    use wharf_plugin_sdk::testing::set_caller;

    use super::*;

    #[test]
    fn who_asks_can_be_set_for_a_test() {
        let ask = || Asker::pre_create(Input::for_test(), NoSettings {}).unwrap();
        assert_eq!(ask(), Verdict::adjust([Adjustment::env("ASKED_BY", "nobody")]));
        set_caller("ada", Role::Operator, Door::Network);
        assert_eq!(ask(), Verdict::adjust([Adjustment::env("ASKED_BY", "ada (operator, network)")]));
        set_caller("bob", Role::Viewer, Door::Network);
        assert_eq!(ask(), Verdict::deny("viewer", "bob only looks"));
    }
}
