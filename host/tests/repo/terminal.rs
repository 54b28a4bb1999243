//! Commands only print text that may reach a terminal.

use crate::{code_of, files, read, root};

/// The files of commands that may write raw bytes, with the content of those bytes.
const RAW: [(&str, &str); 5] = [
    ("cli.rs", "a completion script"),
    ("cli/workspaces/cp.rs", "an archive"),
    ("cli/workspaces/exec/printer.rs", "a workspace's own stream"),
    ("cli/workspaces/logs/printer.rs", "a workspace's own stream"),
    ("cli/workspaces/top.rs", "the sequences that draw a screen"),
];

/// Returns the places where a command's source prints without the type for printable text.
fn printed_raw(path: &str, source: &str) -> Vec<String> {
    let code = code_of(source);
    let line = |at: usize| code[..at].matches('\n').count() + 1;
    let mut doors =
        vec!["print!(", "println!(", "stdout()", "stderr()", "/dev/tty", "/dev/std", "STDOUT_FILENO", "libc::write"];
    if !RAW.iter().any(|(file, _)| *file == path) {
        doors.extend(["raw_out", "raw_err"]);
    }
    let found = doors.iter().flat_map(|door| code.match_indices(door));
    // `use_stderr()` of an error is another word.
    let found = found.filter(|(at, door)| !door.starts_with("std") || !code[..*at].ends_with('_'));
    found.map(|(at, door)| format!("{path}:{}: {door}", line(at))).collect()
}

#[test]
fn commands_print_nothing_but_text_that_may_be_printed() {
    let folder = root().join("host/src");
    let mut wrong = Vec::new();
    let files = files(&folder.join("cli"), ".rs").into_iter().chain([folder.join("cli.rs")]);
    for file in files.filter(|file| !file.ends_with("cli/terminal.rs")) {
        wrong.extend(printed_raw(&file.strip_prefix(&folder).unwrap().display().to_string(), &read(&file)));
    }
    assert!(wrong.is_empty(), "print a Printable through cli/output.rs instead:\n{}", wrong.join("\n"));
    for source in [
        "fn f() { println!(\"x\") }",
        "use std::io::stderr;\nfn f() { stderr().write_all(b\"\") }",
        "super::terminal::raw_out()",
    ] {
        assert_eq!(printed_raw("cli/ls.rs", source).len(), 1, "{source}");
    }
}
