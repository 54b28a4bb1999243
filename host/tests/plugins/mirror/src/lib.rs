//! Three hooks in one component. `host/tests` has a Rhai script that decides the same, and one suite tests both.

use wharf_plugin_sdk::cleanup::{self, Cleanup, State};
use wharf_plugin_sdk::post_start::{self, Action, PostStart};
use wharf_plugin_sdk::pre_create::{self, Adjustment, PreCreate};
use wharf_plugin_sdk::{NoSettings, Plugin, export_plugin};

/// Every workspace has an owner, teams pay for theirs, and ended workspaces are removed unless marked to keep.
struct Mirror;

const MEMORY: u64 = 512 << 20;

impl Plugin for Mirror {
    type Settings = NoSettings;
}

impl PreCreate for Mirror {
    fn pre_create(input: pre_create::Input, _: NoSettings) -> Result<pre_create::Verdict, String> {
        if input.workspace.label("owner").is_none() {
            return Ok(pre_create::Verdict::deny("owner-missing", "set the label owner"));
        }
        let team = input.workspace.label("team");
        Ok(pre_create::Verdict::adjust(team.into_iter().flat_map(|team| {
            [
                Adjustment::env("TEAM", team),
                Adjustment::label("cost-center", format!("cc-{team}")),
                Adjustment::SetMemory(MEMORY),
            ]
        })))
    }
}

impl PostStart for Mirror {
    fn post_start(input: post_start::Input, _: NoSettings) -> Result<Vec<Action>, String> {
        let team = input.workspace.label("team").filter(|_| input.first_start);
        Ok(team.map(|team| Action::note(format!("team {team} started"))).into_iter().collect())
    }
}

impl Cleanup for Mirror {
    fn cleanup(input: cleanup::Input, _: NoSettings) -> Result<Vec<cleanup::Verdict>, String> {
        let verdict = |candidate: &cleanup::Candidate| {
            if candidate.label("keep") == Some("true") {
                Some(cleanup::Verdict::keep(candidate, "asked for"))
            } else if candidate.state == Some(State::Exited) {
                Some(cleanup::Verdict::remove(candidate, "ended"))
            } else {
                None
            }
        };
        Ok(input.candidates.iter().filter_map(verdict).collect())
    }
}

export_plugin!(Mirror: pre_create, post_start, cleanup);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_without_an_owner_is_denied() {
        let verdict = Mirror::pre_create(pre_create::Input::for_test().label("team", "web"), NoSettings {});
        assert_eq!(verdict, Ok(pre_create::Verdict::deny("owner-missing", "set the label owner")));
    }

    #[test]
    fn a_team_gets_its_name_its_cost_center_and_half_a_gibibyte() {
        let input = pre_create::Input::for_test().label("owner", "ada").label("team", "web");
        let expected = [
            Adjustment::env("TEAM", "web"),
            Adjustment::label("cost-center", "cc-web"),
            Adjustment::SetMemory(536_870_912),
        ];
        assert_eq!(Mirror::pre_create(input, NoSettings {}), Ok(pre_create::Verdict::adjust(expected)));
    }

    #[test]
    fn an_owner_without_a_team_passes() {
        let input = pre_create::Input::for_test().label("owner", "ada");
        assert_eq!(Mirror::pre_create(input, NoSettings {}), Ok(pre_create::Verdict::Pass));
    }

    #[test]
    fn only_the_first_start_of_a_team_is_noted() {
        let mut input = post_start::Input::for_test().label("team", "web");
        let note = Action::note("team web started");
        assert_eq!(Mirror::post_start(input.clone(), NoSettings {}), Ok(vec![note]));
        input.first_start = false;
        assert_eq!(Mirror::post_start(input, NoSettings {}), Ok(vec![]));
    }

    #[test]
    fn what_is_to_be_kept_is_kept_and_what_ended_is_removed() {
        let mut kept = cleanup::Candidate::for_test("kept");
        kept.labels.push(("keep".into(), "true".into()));
        kept.state = Some(State::Exited);
        let mut ended = cleanup::Candidate::for_test("ended");
        ended.state = Some(State::Exited);
        let running = cleanup::Candidate::for_test("running");
        let expected = vec![cleanup::Verdict::keep(&kept, "asked for"), cleanup::Verdict::remove(&ended, "ended")];
        let input = cleanup::Input::for_test([kept, ended, running]);
        assert_eq!(Mirror::cleanup(input, NoSettings {}), Ok(expected));
    }
}
