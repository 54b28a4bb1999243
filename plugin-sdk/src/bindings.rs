//! The code that wit-bindgen generates from the WIT files: the canonical ABI, and one set of types for all hooks.
//!
//! Plugins do not use this module directly. The modules of the hooks re-export the types and provide traits for the
//! functions. It is public only because the export macro expands in the plugin's crate.

// Generated code: the canonical ABI lowers and lifts through raw pointers, and items without documentation in the WIT
// have none here.
#![allow(unsafe_code, missing_docs, clippy::all, clippy::unwrap_used, clippy::panic)]

/// The imports and the shared types. Every other module refers to the types in this one.
pub mod host_imports {
    wit_bindgen::generate!({
        path: ["wit/v0.1", "wit"],
        world: "wharf:plugin-sdk/host-imports",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
    });
}

macro_rules! export_world {
    ($module:ident, $world:literal) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: ["wit/v0.1", "wit"],
                world: $world,
                with: {
                    "wharf:policy/types@0.1.0": crate::bindings::host_imports::wharf::policy::types,
                },
                additional_derives: [PartialEq],
                pub_export_macro: true,
                export_macro_name: "export",
            });
        }
    };
}

export_world!(settings, "wharf:plugin-sdk/settings");
export_world!(select_image, "wharf:plugin-sdk/select-image");
export_world!(security_profile, "wharf:plugin-sdk/security-profile");
export_world!(pre_create, "wharf:plugin-sdk/pre-create");
export_world!(post_start, "wharf:plugin-sdk/post-start");
export_world!(pre_exec, "wharf:plugin-sdk/pre-exec");
export_world!(pre_stop, "wharf:plugin-sdk/pre-stop");
export_world!(event, "wharf:plugin-sdk/event");
export_world!(cleanup, "wharf:plugin-sdk/cleanup");
