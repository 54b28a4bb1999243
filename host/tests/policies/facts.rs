//! Facts that policies can query in addition to their input: the caller, and the chosen image.

use std::sync::Arc;

use serde_json::json;
use wharf::hooks::chain::Mode;
use wharf::hooks::record::{Draft, Owner};
use wharf::hooks::{
    Adjustment, Caller, CallerRole, Chain, Decision, Door, Entry, Facts, Hook, HookRequest, ImageConfig, Limits,
    Policy, Subject, Verdict,
};
use wharf::script::RhaiPolicy;
use wharf::workspace::HealthCheck;

use super::{entry, invariants, plugin, spec};

const SCRIPT: &str = r#"
fn pre_create(ctx) {
    let caller = ctx.caller;
    if caller == () {
        ctx.spec.env.ASKED_BY = "nobody";
        return;
    }
    if caller.role == "viewer" { ctx.deny("viewer", `${caller.name} only looks`); }
    ctx.spec.env.ASKED_BY = `${caller.name} (${caller.role}, ${caller.door})`;
}
"#;

fn request(caller: Option<Caller>) -> HookRequest {
    let facts = Facts { caller, ..Facts::default() };
    HookRequest { hook: Hook::PreCreate, now_ms: 7, facts: Arc::new(facts), spec: spec(), subject: Subject::Container }
}

#[test]
fn a_plugin_and_a_script_learn_who_asked() {
    let asker = plugin("test-plugins/asker", json!({}), Limits::default()).unwrap();
    let script = RhaiPolicy::load("asker.rhai", SCRIPT, json!({}), Limits::default()).unwrap();
    let by = |name: &str, role, door| Some(Caller { name: name.into(), uid: None, role, door });
    for (caller, expected) in [
        (None, "nobody"),
        (by("user 0", CallerRole::Admin, Door::CommandLine), "user 0 (admin, command-line)"),
        (by("user 1000", CallerRole::Admin, Door::Socket), "user 1000 (admin, socket)"),
        (by("ci", CallerRole::Operator, Door::Network), "ci (operator, network)"),
        (by("wharf serve", CallerRole::Admin, Door::Service), "wharf serve (admin, service)"),
    ] {
        let wanted = Verdict::Adjust(vec![Adjustment::Env("ASKED_BY".into(), Some(expected.into()))]);
        assert_eq!(asker.evaluate(&request(caller.clone())).unwrap().verdict, wanted);
        assert_eq!(script.evaluate(&request(caller)).unwrap().verdict, wanted);
    }
    let viewer = request(by("bob", CallerRole::Viewer, Door::Network));
    for verdict in [asker.evaluate(&viewer).unwrap().verdict, script.evaluate(&viewer).unwrap().verdict] {
        assert!(matches!(&verdict, Verdict::Deny(denial) if denial.reason == "bob only looks"), "{verdict:?}");
    }
}

#[test]
fn a_record_has_the_caller_so_a_replay_gives_the_same_and_one_without_still_reads() {
    let asker = plugin("test-plugins/asker", json!({}), Limits::default()).unwrap();
    let chain = Chain::new(vec![entry(asker)], invariants());
    let caller = Caller { name: "ci".into(), uid: None, role: CallerRole::Operator, door: Door::Network };
    let facts = Arc::new(Facts { caller: Some(caller.clone()), ..Facts::default() });
    let decided = chain.decide_create(Draft::new(spec()), &facts, false, 7);
    let record = decided.decisions.iter().find(|decision| decision.hook == Hook::PreCreate).unwrap();
    let text = serde_json::to_value(record).unwrap();
    assert_eq!(text["input"]["facts"]["caller"], json!({ "name": "ci", "role": "operator", "door": "network" }));
    let read: Decision = serde_json::from_value(text.clone()).unwrap();
    assert_eq!(read.input.facts.caller, Some(caller));
    assert_eq!(chain.again(&read).outcome, record.outcome);
    // As an older Wharf wrote it.
    let mut old = text;
    old["input"]["facts"].as_object_mut().unwrap().remove("caller");
    let old: Decision = serde_json::from_value(old).unwrap();
    assert_eq!(old.input.facts.caller, None);
    assert!(serde_json::to_value(&old).unwrap()["input"]["facts"].get("caller").is_none());
    let again = chain.again(&old);
    assert!(serde_json::to_string(&again.outcome).unwrap().contains("nobody"), "{:?}", again.outcome);
}

#[test]
fn a_plugin_and_a_script_learn_what_the_image_says_and_a_record_has_it() {
    let image = ImageConfig {
        id: "sha256:1".into(),
        entrypoint: vec!["tini".into(), "--".into()],
        command: vec!["serve".into()],
        user: "dev".into(),
        working_dir: "/srv".into(),
        volumes: vec!["/data".into(), "/more".into()],
        health_check: Some(HealthCheck {
            command: vec!["curl".into(), "localhost".into()],
            interval_ms: 30_000,
            timeout_ms: 1_000,
            start_period_ms: 0,
            retries: 3,
        }),
        labels: [("licence".to_owned(), "mit".to_owned())].into(),
        platform: "linux/arm64".into(),
    };
    let script = r#"
        fn words(list) {
            let all = "";
            for one in list { all += if all == "" { one } else { " " + one }; }
            all
        }
        fn pre_create(ctx) {
            let image = ctx.image_config;
            if image == () { return; }
            if "licence" in image.labels && image.labels.licence == "gpl" { ctx.deny("licence", "no gpl here"); }
            let check = if image.health_check == () { "" } else { words(image.health_check.command) };
            ctx.spec.env.IMAGE = `${words(image.entrypoint)}|${words(image.command)}|${image.user}|${image.working_dir}|${words(image.volumes)}|${check}|${image.platform}|${image.id}`;
        }
    "#;
    let script = RhaiPolicy::load("image.rhai", script, json!({}), Limits::default()).unwrap();
    let plugin = plugin("test-plugins/asker", json!({}), Limits::default()).unwrap();
    for entry in [entry(script), entry(plugin)] {
        let chain = Chain::new(vec![entry], invariants());
        let decide = |image: &ImageConfig| {
            chain.decide_create_with(Draft::new(spec()), &Arc::default(), (false, 7), &mut |_| Ok(Some(image.clone())))
        };
        let decided = decide(&image);
        assert_eq!(decided.refusal, None);
        let expected = "tini --|serve|dev|/srv|/data /more|curl localhost|linux/arm64|sha256:1";
        assert_eq!(decided.draft.spec.env["IMAGE"], expected);
        // The image is not chosen yet at the first hook; the records of later hooks contain it.
        let of = |hook: Hook| decided.decisions.iter().find(|decision| decision.hook == hook).unwrap();
        assert_eq!(of(Hook::SelectImage).input.facts.image_config, None);
        let record = of(Hook::PreCreate);
        let read: Decision = serde_json::from_value(serde_json::to_value(record).unwrap()).unwrap();
        assert_eq!(read.input.facts.image_config.as_ref(), Some(&image));
        assert_eq!(chain.again(&read).outcome, record.outcome);
        let gpl = ImageConfig { labels: [("licence".to_owned(), "gpl".to_owned())].into(), ..image.clone() };
        assert_eq!(decide(&gpl).refusal.unwrap().code, "licence");
    }
}

#[test]
fn what_the_host_fills_in_from_an_image_is_seen_by_shadows_too() {
    let load = |text: &str| RhaiPolicy::load("a.rhai", text, json!({}), Limits::default()).unwrap();
    let shadow =
        Arc::new(load(r#"fn pre_create(ctx) { ctx.spec.env.ENTERS = ctx.spec.entrypoint[0] + ctx.spec.user; }"#));
    let entries = vec![Entry { mode: Mode::Shadow, ..Entry::new(shadow) }];
    let chain = Chain::new(entries, invariants());
    let decided = chain.decide_create_with(Draft::new(spec()), &Arc::default(), (false, 7), &mut |draft| {
        let by = || Owner::host("default", Some("the image".into()));
        draft.set(&Adjustment::Entrypoint(Some(vec!["tini".into()])), by(), None);
        draft.set(&Adjustment::User(Some("dev".into())), by(), None);
        Ok(None)
    });
    let records = decided.shadows.unwrap().run();
    let differences: Vec<_> = records.iter().flat_map(|record| &record.differences).collect();
    assert_eq!(differences.len(), 1, "{differences:?}");
    assert_eq!((differences[0].field.as_str(), &differences[0].to), ("env.ENTERS", &json!("tinidev")));
}
