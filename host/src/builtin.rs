//! The built-in policies: they make `wharf up .` work with secure defaults and no configuration.

use crate::config::{Config, PolicyConfig};

/// Bytes or text of a built-in policy.
#[derive(Clone, Copy)]
pub enum BuiltIn {
    /// A plugin, with its digest (SHA-256, hex).
    Plugin(&'static [u8], &'static str),
    /// A script.
    Script(&'static str),
}

/// A plugin from the output folder of `build.rs`.
macro_rules! plugin {
    ($name:literal) => {
        BuiltIn::Plugin(
            include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm")),
            include_str!(concat!(env!("OUT_DIR"), "/", $name, ".sha256")),
        )
    };
}

/// All built-in policies by name, in the order of the default chain.
pub const ALL: [(&str, BuiltIn); 6] = [
    ("image-selector", plugin!("image-selector")),
    ("security-baseline", plugin!("security-baseline")),
    ("pre-create.rhai", BuiltIn::Script(include_str!("../policies/pre-create.rhai"))),
    ("post-start.rhai", BuiltIn::Script(include_str!("../policies/post-start.rhai"))),
    ("cleanup-policy", plugin!("cleanup-policy")),
    ("cleanup.rhai", BuiltIn::Script(include_str!("../policies/cleanup.rhai"))),
];

/// Returns a built-in policy.
pub fn find(name: &str) -> Option<BuiltIn> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, policy)| *policy)
}

/// Returns the policies of a configuration, or the built-in policies if it names none.
pub fn chain(config: &Config) -> Vec<PolicyConfig> {
    if config.policy.is_empty() { default_chain() } else { config.policy.clone() }
}

/// Returns the chain for a configuration without policies.
pub fn default_chain() -> Vec<PolicyConfig> {
    ALL.iter().map(|(name, _)| PolicyConfig::builtin(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_built_in_plugin_is_that_of_its_bytes() {
        let mut plugins = 0;
        for (name, policy) in ALL {
            if let BuiltIn::Plugin(bytes, digest) = policy {
                assert_eq!(digest, crate::workspace::sha256_hex(bytes), "{name}");
                plugins += 1;
            }
        }
        assert_eq!(plugins, 3);
    }
}
