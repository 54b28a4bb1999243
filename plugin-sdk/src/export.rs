//! The export macro, and the code at the entry of every exported function.

/// Exports a type as a plugin: `export_plugin!(Type: hook, ...)`.
///
/// The type implements [`Plugin`](crate::Plugin) and the trait of each named hook. The hooks are `select_image`,
/// `security_profile`, `pre_create`, `post_start`, `pre_exec`, `pre_stop`, `event` and `cleanup`. A crate has one
/// such line. The host reads the plugin's hooks from the exports. Natively the macro only checks that the traits are
/// implemented, so that the crate's tests need no WebAssembly.
///
/// ```compile_fail
/// # struct Mine;
/// wharf_plugin_sdk::export_plugin!(Mine: pre_create); // Mine does not implement PreCreate
/// ```
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ident: $($hook:ident),+ $(,)?) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::settings::export!($plugin with_types_in $crate::bindings::settings);
        $(
            #[cfg(target_family = "wasm")]
            $crate::bindings::$hook::export!($plugin with_types_in $crate::bindings::$hook);
            #[cfg(not(target_family = "wasm"))]
            $crate::__check_hook!($plugin: $hook);
        )+
    };
}

/// The trait of each hook, by the hook's name.
#[doc(hidden)]
#[macro_export]
macro_rules! __check_hook {
    ($plugin:ident: select_image) => { $crate::__check_hook!(@ $plugin, $crate::select_image::SelectImage); };
    ($plugin:ident: security_profile) => {
        $crate::__check_hook!(@ $plugin, $crate::security_profile::SecurityProfile);
    };
    ($plugin:ident: pre_create) => { $crate::__check_hook!(@ $plugin, $crate::pre_create::PreCreate); };
    ($plugin:ident: post_start) => { $crate::__check_hook!(@ $plugin, $crate::post_start::PostStart); };
    ($plugin:ident: pre_exec) => { $crate::__check_hook!(@ $plugin, $crate::pre_exec::PreExec); };
    ($plugin:ident: pre_stop) => { $crate::__check_hook!(@ $plugin, $crate::pre_stop::PreStop); };
    ($plugin:ident: event) => { $crate::__check_hook!(@ $plugin, $crate::event::Event); };
    ($plugin:ident: cleanup) => { $crate::__check_hook!(@ $plugin, $crate::cleanup::Cleanup); };
    ($plugin:ident: $other:ident) => {
        ::core::compile_error!(::core::concat!(
            "`", ::core::stringify!($other), "` is no hook: use select_image, security_profile, pre_create, ",
            "post_start, pre_exec, pre_stop, event or cleanup"
        ));
    };
    (@ $plugin:ident, $hook:path) => {
        const _: () = {
            const fn implements<T: $hook>() {}
            implements::<$plugin>();
        };
    };
}

/// Runs at the entry of every exported function.
///
/// A panic ends the instance with a trap that does not show its cause, and the guest has no stderr. The host's log is
/// the only place where the message is visible.
#[cfg(target_family = "wasm")]
pub(crate) fn enter() {
    std::panic::set_hook(Box::new(|panic| crate::log::error(panic.to_string())));
}

/// Does nothing: natively the test harness reports panics.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn enter() {}
