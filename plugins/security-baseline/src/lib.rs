//! Tightens a workspace's privileges by one of three named profiles.
//!
//! | profile | capabilities | no-new-privileges | seccomp | root file system | processes | user |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | `strict` | none | on | not unconfined | read-only, tmpfs at `/tmp` and `/run` | 256 | `strict_user`, not root |
//! | `default` | a short list | on | not unconfined | unchanged | 1,024 | unchanged |
//! | `relaxed` | all except `relaxed_drops` | unchanged | unchanged | unchanged | unchanged | unchanged |
//!
//! It never loosens: sets are intersected with the container's current ones, limits only become smaller, and fields
//! that are already tight are not touched. So it can be anywhere among other policies, and it makes no adjustment
//! without an effect. A workspace's label `security`, with the name of a profile, can only choose a tighter profile
//! than the settings. A label that names no profile denies the create, because it was meant to choose one.
//!
//! # Settings
//!
//! All are optional. They are written below the policy's entry in `wharf.toml` and shown with their defaults:
//!
//! ```toml
//! [settings]
//! profile = "default"
//! strict_capabilities = []                 # kept by `strict`
//! default_capabilities = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"]
//! relaxed_drops = ["AUDIT_CONTROL", "BPF", "DAC_READ_SEARCH", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN",
//!     "PERFMON", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "SYS_TIME"]
//! strict_pids = 256
//! default_pids = 1024
//! strict_tmpfs_bytes = 268435456           # size of each tmpfs
//! # strict_user = "1000:1000"              # none leaves the user unchanged
//! ```

use serde::Deserialize;
use wharf_plugin_sdk::security_profile::{Adjustment, Input, SecurityProfile, Verdict};
use wharf_plugin_sdk::types::TmpfsMount;
use wharf_plugin_sdk::{Plugin, export_plugin};

/// The label with which a workspace requests a tighter profile.
const LABEL: &str = "security";

/// Folders that programs must be able to write although the root file system is read-only.
const WRITABLE: [&str; 2] = ["/tmp", "/run"];

/// Ordered from loosest to tightest, so that the tighter of two profiles is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Profile {
    Relaxed,
    Default,
    Strict,
}

/// See the crate's documentation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    profile: Profile,
    strict_user: Option<String>,
    strict_capabilities: Vec<String>,
    default_capabilities: Vec<String>,
    relaxed_drops: Vec<String>,
    strict_pids: u32,
    default_pids: u32,
    strict_tmpfs_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            profile: Profile::Default,
            strict_user: None,
            strict_capabilities: Vec::new(),
            default_capabilities: list(&[
                "CHOWN",
                "DAC_OVERRIDE",
                "FOWNER",
                "KILL",
                "NET_BIND_SERVICE",
                "SETGID",
                "SETUID",
            ]),
            relaxed_drops: list(&[
                "AUDIT_CONTROL",
                "BPF",
                "DAC_READ_SEARCH",
                "MAC_ADMIN",
                "MAC_OVERRIDE",
                "MKNOD",
                "NET_ADMIN",
                "PERFMON",
                "SYSLOG",
                "SYS_ADMIN",
                "SYS_BOOT",
                "SYS_MODULE",
                "SYS_PTRACE",
                "SYS_RAWIO",
                "SYS_TIME",
            ]),
            strict_pids: 256,
            default_pids: 1024,
            strict_tmpfs_bytes: 256 << 20,
        }
    }
}

/// The plugin.
struct SecurityBaseline;

export_plugin!(SecurityBaseline: security_profile);

impl Plugin for SecurityBaseline {
    type Settings = Settings;

    fn check(settings: &Settings) -> Result<(), String> {
        let lists = [
            ("strict_capabilities", &settings.strict_capabilities),
            ("default_capabilities", &settings.default_capabilities),
            ("relaxed_drops", &settings.relaxed_drops),
        ];
        for (name, list) in lists {
            let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            if let Some(wrong) = list.iter().find(|text| !is_name(text) || text.starts_with("CAP_")) {
                let takes = "it takes names without `CAP_`, in capitals, e.g. `CHOWN`";
                return Err(format!("setting `{name}`: `{wrong}` is no capability; {takes}"));
            }
        }
        for (name, number) in [("strict_pids", settings.strict_pids), ("default_pids", settings.default_pids)] {
            if number == 0 {
                return Err(format!("setting `{name}`: 0 processes can run nothing; it takes 1 or more"));
            }
        }
        match &settings.strict_user {
            Some(user) if user.is_empty() || is_root(user) => {
                Err(format!("setting `strict_user`: `{user}` is not a user other than root, e.g. `1000:1000`"))
            }
            _ => Ok(()),
        }
    }
}

impl SecurityProfile for SecurityBaseline {
    fn secure(input: Input, settings: Settings) -> Result<Verdict, String> {
        let asked = match input.workspace.label(LABEL) {
            None => Profile::Relaxed,
            Some("relaxed") => Profile::Relaxed,
            Some("default") => Profile::Default,
            Some("strict") => Profile::Strict,
            Some(other) => {
                let reason = format!("the label {LABEL}={other} names no profile; use strict, default or relaxed");
                return Ok(Verdict::deny("unknown-security-profile", reason));
            }
        };
        Ok(Verdict::adjust(match settings.profile.max(asked) {
            Profile::Strict => strict(&input, &settings),
            Profile::Default => {
                let mut adjustments = confine(&input, &settings.default_capabilities);
                adjustments.extend(limit_pids(&input, settings.default_pids));
                adjustments
            }
            Profile::Relaxed => {
                keep_capabilities(&input, |name| !settings.relaxed_drops.iter().any(|drop| drop == name))
                    .into_iter()
                    .collect()
            }
        }))
    }
}

fn strict(input: &Input, settings: &Settings) -> Vec<Adjustment> {
    let mut adjustments = confine(input, &settings.strict_capabilities);
    adjustments.extend(limit_pids(input, settings.strict_pids));
    if !input.current.read_only_root {
        adjustments.push(Adjustment::SetReadOnlyRoot(true));
    }
    for target in WRITABLE {
        if !input.tmpfs.iter().any(|mount| mount.target == target) {
            let size = Some(settings.strict_tmpfs_bytes);
            adjustments.push(Adjustment::AddTmpfs(TmpfsMount { target: target.to_owned(), size }));
        }
    }
    if let Some(user) = &settings.strict_user
        && input.user.as_deref().is_none_or(is_root)
    {
        adjustments.push(Adjustment::SetUser(user.clone()));
    }
    adjustments
}

/// Returns the adjustments common to `strict` and `default`.
fn confine(input: &Input, capabilities: &[String]) -> Vec<Adjustment> {
    let mut adjustments: Vec<_> =
        keep_capabilities(input, |name| capabilities.iter().any(|keep| keep == name)).into_iter().collect();
    if !input.current.no_new_privileges {
        adjustments.push(Adjustment::SetNoNewPrivileges(true));
    }
    if input.current.seccomp == "unconfined" {
        adjustments.push(Adjustment::SetSeccomp("default".to_owned()));
    }
    adjustments
}

fn keep_capabilities(input: &Input, keep: impl Fn(&str) -> bool) -> Option<Adjustment> {
    let current = &input.current.capabilities;
    let kept: Vec<String> = current.iter().filter(|name| keep(name)).cloned().collect();
    (kept.len() < current.len()).then_some(Adjustment::SetCapabilities(kept))
}

fn limit_pids(input: &Input, limit: u32) -> Option<Adjustment> {
    (limit < input.pids).then_some(Adjustment::SetPids(limit))
}

/// Returns whether a user in the form of `docker run --user` is root: by name or number, whatever the group. An empty
/// user means the image's own, which is root more often than not.
fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    name.is_empty() || name == "root" || name.chars().all(|c| c == '0')
}

#[cfg(test)]
mod tests {
    use wharf_plugin_sdk::testing;

    use super::*;

    fn decide(input: Input, settings: &str) -> Vec<Adjustment> {
        let settings = testing::settings::<SecurityBaseline>(settings).unwrap();
        match SecurityBaseline::secure(input, settings).unwrap() {
            Verdict::Adjust(adjustments) => adjustments,
            Verdict::Pass => Vec::new(),
            Verdict::Deny(denial) => panic!("{denial:?}"),
        }
    }

    /// Applies the adjustments to the fields under test, as the host would.
    fn apply(mut input: Input, adjustments: &[Adjustment]) -> Input {
        for adjustment in adjustments.iter().cloned() {
            match adjustment {
                Adjustment::SetCapabilities(list) => input.current.capabilities = list,
                Adjustment::SetNoNewPrivileges(on) => input.current.no_new_privileges = on,
                Adjustment::SetReadOnlyRoot(on) => input.current.read_only_root = on,
                Adjustment::SetSeccomp(profile) => input.current.seccomp = profile,
                Adjustment::SetPids(limit) => input.pids = limit,
                Adjustment::SetUser(user) => input.user = Some(user),
                Adjustment::AddTmpfs(mount) => input.tmpfs.push(mount),
                other => panic!("{other:?}"),
            }
        }
        input
    }

    fn capabilities(names: &[&str]) -> Adjustment {
        Adjustment::SetCapabilities(names.iter().map(|name| (*name).to_owned()).collect())
    }

    const STRICT: &str = r#"{"profile": "strict", "strict_user": "1000:1000"}"#;

    #[test]
    fn the_default_profile_keeps_a_short_list_of_capabilities() {
        let expected = vec![
            capabilities(&["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"]),
            Adjustment::SetNoNewPrivileges(true),
            Adjustment::SetPids(1024),
        ];
        assert_eq!(decide(Input::for_test(), "{}"), expected);
    }

    #[test]
    fn the_strict_profile_leaves_no_capability_no_writable_root_and_no_root_user() {
        let tmpfs = |target: &str| Adjustment::AddTmpfs(TmpfsMount { target: target.into(), size: Some(256 << 20) });
        let expected = vec![
            capabilities(&[]),
            Adjustment::SetNoNewPrivileges(true),
            Adjustment::SetPids(256),
            Adjustment::SetReadOnlyRoot(true),
            tmpfs("/tmp"),
            tmpfs("/run"),
            Adjustment::SetUser("1000:1000".into()),
        ];
        assert_eq!(decide(Input::for_test(), STRICT), expected);
    }

    #[test]
    fn the_relaxed_profile_takes_only_what_no_workspace_needs() {
        let mut input = Input::for_test();
        input.current.capabilities = ["CHOWN", "NET_ADMIN", "SYS_ADMIN", "SYS_CHROOT"].map(str::to_owned).to_vec();
        assert_eq!(decide(input, r#"{"profile": "relaxed"}"#), vec![capabilities(&["CHOWN", "SYS_CHROOT"])]);
    }

    #[test]
    fn deciding_again_on_what_was_decided_changes_nothing() {
        for settings in [r#"{"profile": "relaxed"}"#, "{}", STRICT] {
            let input = Input::for_test();
            let adjustments = decide(input.clone(), settings);
            assert_eq!(decide(apply(input, &adjustments), settings), vec![], "{settings}");
        }
    }

    #[test]
    fn nothing_that_is_tighter_already_is_loosened() {
        let mut input = Input::for_test();
        input.current.capabilities = vec!["KILL".into()];
        input.current.no_new_privileges = true;
        input.current.read_only_root = true;
        input.current.seccomp = "shop.json".into();
        input.pids = 16;
        input.user = Some("65534".into());
        input.tmpfs = WRITABLE.map(|target| TmpfsMount { target: target.into(), size: Some(1 << 20) }).to_vec();
        assert_eq!(decide(input.clone(), "{}"), vec![]);
        assert_eq!(decide(input.clone(), r#"{"profile": "relaxed"}"#), vec![]);
        assert_eq!(decide(input, STRICT), vec![capabilities(&[])]);
    }

    #[test]
    fn an_unconfined_container_gets_the_engines_seccomp_profile_back() {
        let mut input = Input::for_test();
        input.current.seccomp = "unconfined".into();
        assert!(decide(input, "{}").contains(&Adjustment::SetSeccomp("default".into())));
    }

    #[test]
    fn root_is_root_by_name_number_or_absence() {
        for user in [None, Some("root"), Some("0"), Some("0:0"), Some("root:staff"), Some("00"), Some("")] {
            let mut input = Input::for_test();
            input.user = user.map(str::to_owned);
            assert!(decide(input, STRICT).contains(&Adjustment::SetUser("1000:1000".into())), "{user:?}");
        }
        let mut input = Input::for_test();
        input.user = Some("node".into());
        assert!(!decide(input, STRICT).iter().any(|one| matches!(one, Adjustment::SetUser(_))));
    }

    #[test]
    fn a_label_tightens_and_never_loosens() {
        let strict = decide(Input::for_test(), r#"{"profile": "strict"}"#);
        assert_eq!(decide(Input::for_test().label("security", "strict"), "{}"), strict);
        assert_eq!(decide(Input::for_test().label("security", "relaxed"), r#"{"profile": "strict"}"#), strict);
    }

    #[test]
    fn a_label_that_names_no_profile_denies() {
        let settings = testing::settings::<SecurityBaseline>("{}").unwrap();
        let verdict = SecurityBaseline::secure(Input::for_test().label("security", "paranoid"), settings).unwrap();
        let reason = "the label security=paranoid names no profile; use strict, default or relaxed";
        assert_eq!(verdict, Verdict::deny("unknown-security-profile", reason));
    }

    #[test]
    fn the_lists_and_limits_come_from_the_settings() {
        let settings = r#"{"default_capabilities": ["NET_RAW"], "default_pids": 99}"#;
        let adjustments = decide(Input::for_test(), settings);
        assert!(adjustments.contains(&capabilities(&["NET_RAW"])) && adjustments.contains(&Adjustment::SetPids(99)));
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        let refused = |json: &str| testing::settings::<SecurityBaseline>(json).unwrap_err();
        assert!(refused(r#"{"profile": "lax"}"#).starts_with("setting `profile`: unknown variant `lax`"));
        assert!(refused(r#"{"default_capabilities": ["CAP_CHOWN"]}"#).starts_with("setting `default_capabilities`"));
        assert!(refused(r#"{"relaxed_drops": ["sys_admin"]}"#).starts_with("setting `relaxed_drops`"));
        assert!(refused(r#"{"strict_user": "0:1000"}"#).starts_with("setting `strict_user`"));
        assert!(refused(r#"{"strict_pids": 0}"#).starts_with("setting `strict_pids`"));
    }
}
