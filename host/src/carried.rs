//! The policies that the program carries: they make `wharf up .` work with secure defaults and no configuration.

use crate::config::PolicyConfig;

/// Bytes or text of a policy.
#[derive(Clone, Copy)]
pub enum Carried {
    /// A plugin.
    Plugin(&'static [u8]),
    /// A script.
    Script(&'static str),
}

/// Every carried policy by name, in the order of the default chain.
pub const ALL: [(&str, Carried); 6] = [
    ("image-selector", Carried::Plugin(include_bytes!(concat!(env!("OUT_DIR"), "/image-selector.wasm")))),
    ("security-baseline", Carried::Plugin(include_bytes!(concat!(env!("OUT_DIR"), "/security-baseline.wasm")))),
    ("pre-create.rhai", Carried::Script(include_str!("../../policies/pre-create.rhai"))),
    ("post-start.rhai", Carried::Script(include_str!("../../policies/post-start.rhai"))),
    ("cleanup-policy", Carried::Plugin(include_bytes!(concat!(env!("OUT_DIR"), "/cleanup-policy.wasm")))),
    ("cleanup.rhai", Carried::Script(include_str!("../../policies/cleanup.rhai"))),
];

/// A carried policy.
pub fn find(name: &str) -> Option<Carried> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, policy)| *policy)
}

/// The chain that is used when the configuration names no policy.
pub fn default_chain() -> Vec<PolicyConfig> {
    ALL.iter().map(|(name, _)| PolicyConfig::builtin(name)).collect()
}
