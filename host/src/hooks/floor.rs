//! The floor: at `security-profile` an adjustment may only tighten. The order of "tighter" is declared here, once.

use super::Adjustment;
use crate::workspace::ContainerSpec;

/// Whether a user as the engine takes it is root.
fn is_root(user: Option<&str>) -> bool {
    match user {
        // An image that names no user runs as root.
        None => true,
        Some(user) => {
            let name = user.split(':').next().unwrap_or_default();
            name.is_empty() || name == "root" || name.parse::<u64>() == Ok(0)
        }
    }
}

/// Refuses an adjustment that makes the spec looser than it is, or that cannot be compared with it.
///
/// # Errors
/// One line that names the field, what it is and what was asked for.
pub(super) fn check(spec: &ContainerSpec, adjustment: &Adjustment) -> Result<(), String> {
    let now = &spec.security;
    let named = |current: Option<&str>, next: Option<&str>, off: &str| match (current, next) {
        (a, b) if a == b => true,
        // Off is the loosest, the engine's default comes next, a named profile is the tightest.
        (Some(a), _) if a == off => true,
        (None, Some(b)) => b != off,
        _ => false,
    };
    let tighter = match adjustment {
        Adjustment::Capabilities(next) => next.is_subset(&now.capabilities),
        Adjustment::NoNewPrivileges(next) => *next || !now.no_new_privileges,
        Adjustment::ReadOnlyRoot(next) => *next || !now.read_only_root,
        Adjustment::Seccomp(next) => {
            next == &now.seccomp || now.seccomp == "unconfined" || (now.seccomp == "default" && next != "unconfined")
        }
        Adjustment::Apparmor(next) => named(now.apparmor.as_deref(), next.as_deref(), "unconfined"),
        Adjustment::Selinux(next) => named(now.selinux.as_deref(), next.as_deref(), "disable"),
        Adjustment::UserNamespace(next) => next.is_none() || next == &now.user_namespace,
        Adjustment::Pids(next) => *next <= spec.resources.pids,
        Adjustment::User(next) => next == &spec.user || (is_root(spec.user.as_deref()) && !is_root(next.as_deref())),
        Adjustment::Tmpfs(target, next) => match (spec.tmpfs.get(target), next) {
            (None, Some(_)) => true,
            (Some(old), Some(new)) => match (old.size, new.size) {
                (Some(old), Some(new)) => new <= old,
                (None, _) => true,
                (Some(_), None) => false,
            },
            (_, None) => false,
        },
        // Other fields are not security fields; the table of hooks keeps them out of this hook.
        _ => true,
    };
    if tighter {
        Ok(())
    } else {
        let field = adjustment.field();
        let before =
            serde_json::to_value(spec).ok().and_then(|json| super::record::lookup(&json, &field)).unwrap_or_default();
        Err(format!("{field} may only be tightened here: it is {before}, asked for was {}", adjustment.value()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::chain::tests::spec;
    use crate::workspace::Tmpfs;

    #[test]
    fn every_security_field_can_be_tightened_and_none_can_be_loosened() {
        let mut spec = spec();
        spec.security.capabilities = ["CHOWN".to_owned(), "KILL".to_owned()].into();
        spec.user = None;
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let pairs = [
            (Adjustment::Capabilities(set(&["CHOWN"])), Adjustment::Capabilities(set(&["CHOWN", "SYS_ADMIN"]))),
            (Adjustment::NoNewPrivileges(true), Adjustment::NoNewPrivileges(false)),
            (Adjustment::ReadOnlyRoot(true), Adjustment::ReadOnlyRoot(false)),
            (Adjustment::Seccomp("mine".into()), Adjustment::Seccomp("unconfined".into())),
            (Adjustment::Apparmor(Some("mine".into())), Adjustment::Apparmor(Some("unconfined".into()))),
            (Adjustment::Selinux(Some("type:x".into())), Adjustment::Selinux(Some("disable".into()))),
            (Adjustment::UserNamespace(None), Adjustment::UserNamespace(Some("host".into()))),
            (Adjustment::Pids(10), Adjustment::Pids(u32::MAX)),
            (Adjustment::User(Some("1000:1000".into())), Adjustment::User(Some("0:5".into()))),
            (Adjustment::Tmpfs("/tmp".into(), Some(Tmpfs { size: Some(1) })), Adjustment::Tmpfs("/tmp".into(), None)),
        ];
        for (tighter, looser) in pairs {
            assert_eq!(check(&spec, &tighter), Ok(()), "{tighter:?}");
            let mut tightened = spec.clone();
            tighter.apply(&mut tightened);
            assert_eq!(check(&tightened, &tighter), Ok(()), "again: {tighter:?}");
            let said = check(&tightened, &looser).unwrap_err();
            assert!(said.starts_with(&looser.field()), "{said}");
        }
    }

    #[test]
    fn root_is_recognised_in_every_spelling() {
        for root in [None, Some("root"), Some("0"), Some("0:0"), Some("00"), Some("root:staff"), Some(":5")] {
            assert!(is_root(root), "{root:?}");
        }
        for other in ["1000", "node", "1000:0", "rooty"] {
            assert!(!is_root(Some(other)), "{other}");
        }
    }
}
