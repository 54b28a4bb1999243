//! Commands on a terminal of a given width: `script` of util-linux gives them a pty.

use std::process::{Command, Stdio};

use super::sandbox::Sandbox;

/// Returns the output of `wharf LINE` on a terminal of this width, without escape sequences.
#[track_caller]
pub fn on_columns(sandbox: &Sandbox, columns: usize, line: &str) -> String {
    raw(sandbox, columns, line, true)
}

/// The same, as it comes; without colours where `no_color` says so.
#[track_caller]
pub fn raw(sandbox: &Sandbox, columns: usize, line: &str, no_color: bool) -> String {
    let wharf = sandbox.command(&[]);
    let mut script = Command::new("script");
    let line = format!("stty rows 50 cols {columns}; exec {} {line}", env!("CARGO_BIN_EXE_wharf"));
    script.args(["-qec", &line, "/dev/null"]).env_clear();
    script.envs(wharf.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
    if no_color {
        script.env("NO_COLOR", "1");
    } else {
        script.env_remove("NO_COLOR");
    }
    let output = script.current_dir(sandbox.project()).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.expect("`script` of util-linux (Debian: bsdutils) gives these tests a terminal");
    String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n")
}
