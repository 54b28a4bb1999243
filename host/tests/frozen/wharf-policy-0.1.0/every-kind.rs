//! A plugin of every kind of `wharf:policy@0.1.0`, each with an answer that depends on its input.

use wharf_plugin_sdk::cleanup::{self, Cleanup};
use wharf_plugin_sdk::event::{self, Event};
use wharf_plugin_sdk::post_start::{self, Action, PostStart};
use wharf_plugin_sdk::pre_create::{self, PreCreate};
use wharf_plugin_sdk::pre_exec::{self, PreExec};
use wharf_plugin_sdk::pre_stop::{self, PreStop};
use wharf_plugin_sdk::security_profile::{self, SecurityProfile};
use wharf_plugin_sdk::select_image::{self, SelectImage};
use wharf_plugin_sdk::{Plugin, export_plugin, log};

struct EveryKind;

impl Plugin for EveryKind {
    type Settings = wharf_plugin_sdk::NoSettings;
}

impl SelectImage for EveryKind {
    fn wanted_files(_: &Self::Settings) -> Vec<String> {
        vec!["package.json".to_owned()]
    }

    fn select_image(input: select_image::Input, _: Self::Settings) -> Result<select_image::Verdict, String> {
        log::info("choosing");
        let node = input.project.contents.iter().any(|file| file.text.contains("node"));
        Ok(select_image::Verdict::choose(if node { "node:22" } else { "debian:13" }, "by its files"))
    }
}

impl SecurityProfile for EveryKind {
    fn secure(input: security_profile::Input, _: Self::Settings) -> Result<security_profile::Verdict, String> {
        Ok(security_profile::Verdict::adjust([security_profile::Adjustment::SetPids(input.pids / 2)]))
    }
}

impl PreCreate for EveryKind {
    fn pre_create(input: pre_create::Input, _: Self::Settings) -> Result<pre_create::Verdict, String> {
        Ok(match input.workspace.label("team") {
            Some(team) => pre_create::Verdict::adjust([pre_create::Adjustment::env("TEAM", team)]),
            None => pre_create::Verdict::deny("team-missing", "set the label team"),
        })
    }
}

impl PostStart for EveryKind {
    fn post_start(input: post_start::Input, _: Self::Settings) -> Result<Vec<Action>, String> {
        Ok(vec![Action::note(format!("started {} at {}", input.image, input.now_ms))])
    }
}

impl PreExec for EveryKind {
    fn pre_exec(input: pre_exec::Input, _: Self::Settings) -> Result<pre_exec::Verdict, String> {
        let words = input.command.len().to_string();
        Ok(pre_exec::Verdict::adjust([pre_exec::Adjustment::SetEnv(("WORDS".to_owned(), words))]))
    }
}

impl PreStop for EveryKind {
    fn pre_stop(input: pre_stop::Input, _: Self::Settings) -> Result<pre_stop::Reply, String> {
        Ok(pre_stop::Reply { actions: vec![Action::note(input.verb)], delay_ms: Some(5) })
    }
}

impl Event for EveryKind {
    fn event(input: event::Input, _: Self::Settings) -> Result<Vec<Action>, String> {
        Ok(vec![Action::note(format!("{:?}", input.exit_code))])
    }
}

impl Cleanup for EveryKind {
    fn cleanup(input: cleanup::Input, _: Self::Settings) -> Result<Vec<cleanup::Verdict>, String> {
        Ok(input.candidates.iter().filter(|one| !one.used).map(|one| cleanup::Verdict::remove(one, "unused")).collect())
    }
}

export_plugin!(EveryKind: select_image, security_profile, pre_create, post_start, pre_exec, pre_stop, event, cleanup);
