//! Reports the contents of the interface `facts`: it sets the caller and the image as variables, and refuses one
//! caller and one licence.

use wharf_plugin_sdk::facts::{self, Door, Role};
use wharf_plugin_sdk::pre_create::{Adjustment, Input, PreCreate, Verdict};
use wharf_plugin_sdk::{NoSettings, Plugin, export_plugin};

struct Asker;

impl Plugin for Asker {
    type Settings = NoSettings;
}

impl PreCreate for Asker {
    fn pre_create(_: Input, _: NoSettings) -> Result<Verdict, String> {
        let image = facts::image_config();
        if image.as_ref().is_some_and(|image| image.label("licence") == Some("gpl")) {
            return Ok(Verdict::deny("licence", "no gpl here"));
        }
        let by = match facts::caller() {
            None => "nobody".to_owned(),
            Some(caller) if caller.role == Role::Viewer => {
                return Ok(Verdict::deny("viewer", format!("{} only looks", caller.name)));
            }
            Some(caller) => format!("{} ({}, {})", caller.name, word(caller.role), door(caller.door)),
        };
        let image = image.map(|image| {
            let check = image.health_check.map(|check| check.command.join(" ")).unwrap_or_default();
            let parts = [image.entrypoint.join(" "), image.command.join(" "), image.user, image.working_dir];
            Adjustment::env(
                "IMAGE",
                [&parts[..], &[image.volumes.join(" "), check, image.platform, image.id]].concat().join("|"),
            )
        });
        Ok(Verdict::adjust([Adjustment::env("ASKED_BY", by)].into_iter().chain(image)))
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
    use wharf_plugin_sdk::facts::ImageInfo;
    use wharf_plugin_sdk::testing::{set_caller, set_image_config};

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

    #[test]
    fn the_image_can_be_set_for_a_test() {
        let mut image = ImageInfo { user: "dev".into(), volumes: vec!["/data".into()], ..ImageInfo::for_test() };
        set_image_config(image.clone());
        let said = format!("{:?}", Asker::pre_create(Input::for_test(), NoSettings {}).unwrap());
        assert!(said.contains("||dev||/data||linux/amd64|sha256:0"), "{said}");
        image.labels.push(("licence".into(), "gpl".into()));
        set_image_config(image);
        let said = Asker::pre_create(Input::for_test(), NoSettings {}).unwrap();
        assert_eq!(said, Verdict::deny("licence", "no gpl here"));
    }
}
