//! What must hold of the repository itself: imports go one way, every test file is compiled, what is shipped is carried,
//! and what the documentation names exists.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Who may import whom: the picture of ARCHITECTURE.md. A module that is not named may import nothing.
const IMPORTS: [(&str, &[&str]); 23] = [
    ("workspace", &[]),
    ("paths", &[]),
    ("trust", &["paths"]),
    ("spans", &[]),
    ("archive", &[]),
    ("hooks", &["paths", "spans", "workspace"]),
    ("wasm", &["hooks", "workspace"]),
    ("script", &["hooks", "trust", "workspace"]),
    ("docker", &["paths", "spans", "workspace"]),
    ("devcontainer", &["hooks", "workspace"]),
    ("store", &["devcontainer", "hooks", "paths", "trust", "workspace"]),
    ("config", &["hooks", "script", "trust", "workspace"]),
    ("carried", &["config"]),
    ("wire", &["config", "hooks", "workspace"]),
    (
        "lifecycle",
        &["archive", "config", "devcontainer", "docker", "hooks", "paths", "store", "trust", "wire", "workspace"],
    ),
    ("printable", &[]),
    ("app", &["carried", "config", "docker", "hooks", "lifecycle", "script", "store", "trust", "wasm", "workspace"]),
    ("service", &["app", "config", "docker", "hooks", "lifecycle", "spans", "store", "workspace"]),
    (
        "api",
        &[
            "config",
            "docker",
            "hooks",
            "lifecycle",
            "service",
            "spans",
            "store",
            "telemetry",
            "trust",
            "wire",
            "workspace",
        ],
    ),
    ("client", &["app", "config", "lifecycle", "store", "trust", "wire", "workspace"]),
    ("telemetry", &["client", "printable", "spans"]),
    (
        "backend",
        &[
            "app",
            "archive",
            "carried",
            "client",
            "config",
            "docker",
            "hooks",
            "lifecycle",
            "store",
            "wire",
            "workspace",
        ],
    ),
    (
        "cli",
        &[
            "api",
            "app",
            "archive",
            "backend",
            "carried",
            "config",
            "devcontainer",
            "docker",
            "hooks",
            "lifecycle",
            "printable",
            "service",
            "store",
            "telemetry",
            "wire",
            "workspace",
        ],
    ),
];

/// Crates that some modules hide from the others.
const HIDDEN: [(&str, &[&str]); 31] = [
    ("async_trait", &["telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_http", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("ring", &["store"]),
    ("rustls", &["api", "client"]),
    ("tokio_rustls", &["api", "client"]),
    ("axum", &["api"]),
    ("prometheus_client", &["service"]),
    ("memchr", &["docker"]),
    ("regex", &["lifecycle"]),
    ("tar", &["archive"]),
    ("globset", &["archive"]),
    ("bollard", &["docker"]),
    ("hyper", &["api", "client", "docker", "telemetry"]),
    ("hyper_util", &["api", "client", "docker", "telemetry"]),
    ("http_body_util", &["client", "docker", "telemetry"]),
    ("wasmtime", &["wasm"]),
    ("wasmtime_wasi", &["wasm"]),
    ("rhai", &["script"]),
    ("rusqlite", &["store"]),
    ("toml", &["config"]),
    ("toml_edit", &["config"]),
    ("clap", &["cli", "lifecycle", "wire", "workspace"]),
    ("clap_complete", &["cli"]),
    ("comfy_table", &["cli"]),
    ("indicatif", &["cli"]),
    ("crossterm", &["cli"]),
    ("jsonc_parser", &["devcontainer"]),
];

/// Lines of code from which on a file owes a reason.
const LONG: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// All files below a folder whose names end so, built and hidden folders left out.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(files(&path, end));
            }
        } else if name.ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// A source with its comments, texts and test-only items blanked out; lines stay where they are.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut chars = source.chars().peekable();
    let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
    let mut before = ' ';
    while let Some(c) = chars.next() {
        match (c, chars.peek().copied()) {
            ('/', Some('/')) => {
                while let Some(next) = chars.next_if(|next| *next != '\n') {
                    code.push(blank(next));
                }
            }
            ('/', Some('*')) => {
                let mut last = ' ';
                for next in chars.by_ref() {
                    code.push(blank(next));
                    if (last, next) == ('*', '/') {
                        break;
                    }
                    last = next;
                }
            }
            // A raw text: r"..", r#".."#.
            ('r', Some('"' | '#')) if !(before.is_alphanumeric() || before == '_') => {
                let mut hashes = 0;
                while chars.next_if_eq(&'#').is_some() {
                    hashes += 1;
                }
                if chars.next_if_eq(&'"').is_some() {
                    let end = format!("\"{}", "#".repeat(hashes));
                    let mut text = String::new();
                    while !text.ends_with(&end) {
                        let Some(next) = chars.next() else { break };
                        text.push(next);
                        code.push(blank(next));
                    }
                }
            }
            ('"', _) => {
                while let Some(next) = chars.next() {
                    code.push(blank(next));
                    if next == '\\' {
                        code.extend(chars.next().map(blank));
                    } else if next == '"' {
                        break;
                    }
                }
            }
            // A character, and not a lifetime.
            ('\'', Some(next)) => {
                let mut ahead = chars.clone();
                ahead.next();
                if next == '\\' {
                    chars.next();
                    chars.next();
                    while chars.next().is_some_and(|next| next != '\'') {}
                } else if ahead.peek() == Some(&'\'') {
                    chars.next();
                    chars.next();
                }
                code.push(' ');
            }
            _ => code.push(c),
        }
        before = c;
    }
    without_tests(&code)
}

/// Blanks out what follows each `#[cfg(test)]`, to the end of the item.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut code = code.to_owned();
    while let Some(start) = code.find(MARK) {
        let (mut depth, mut end) = (0, code.len());
        for (at, c) in code[start + MARK.len()..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (c == '}' || c == ';') && depth == 0 {
                end = start + MARK.len() + at + c.len_utf8();
                break;
            }
        }
        let blanked: String = code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &blanked);
    }
    code
}

/// Where the paths of a code begin that start at the crate's root, as `crate::` or through enough `super::`.
fn root_paths(code: &str, depth: usize) -> Vec<usize> {
    let supers = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", supers.as_str()].into_iter().filter(|prefix| !prefix.is_empty()) {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            // Of `super::super::` only the whole counts; `mycrate::` is another word.
            if !(before.is_alphanumeric() || before == '_' || before == ':') {
                found.push(at + prefix.len());
            }
        }
    }
    found
}

/// The first names of the paths that begin at a place: one, or those of a group `{a::b, c}`.
fn first_names(code: &str) -> Vec<String> {
    let word = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = code.strip_prefix('{') else { return vec![word(code)] };
    let (mut names, mut depth, mut current) = (Vec::new(), 0, String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&std::mem::take(&mut current))),
            _ => {}
        }
        if depth == 0 && c != ',' {
            current.push(c);
        }
    }
    names.push(word(&current));
    names
}

/// What is wrong with the imports of one file; `path` is relative to the source folder.
fn wrong_imports(path: &str, source: &str) -> Vec<String> {
    let allowed: BTreeMap<_, _> = IMPORTS.into_iter().collect();
    let module_path = path.trim_end_matches(".rs");
    let module = module_path.split('/').next().unwrap();
    let depth = module_path.split('/').count();
    if path.ends_with("/tests.rs") {
        return vec![];
    }
    let code = code_of(source);
    let line = |at: usize| code[..at].matches('\n').count() + 1;
    let mut wrong = Vec::new();
    for at in root_paths(&code, depth) {
        for name in first_names(&code[at..]) {
            let known = allowed.contains_key(name.as_str());
            let may = allowed.get(module).is_some_and(|may| may.contains(&name.as_str()));
            if known && name != module && !may {
                wrong.push(format!("{path}:{}: {module} must not import {name}", line(at)));
            }
        }
    }
    for (hidden, owners) in HIDDEN {
        for (at, _) in code.match_indices(&format!("{hidden}::")) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            // The program itself parses its arguments.
            let main = module == "main" && owners == ["cli"];
            let within = before.is_alphanumeric() || before == '_' || before == ':';
            if !(owners.contains(&module) || main || within) {
                wrong.push(format!("{path}:{}: {hidden} is named outside {}", line(at), owners.join(" and ")));
            }
        }
    }
    wrong
}

#[test]
fn imports_go_one_way() {
    let folder = root().join("host/src");
    let mut wrong = Vec::new();
    let mut modules = BTreeSet::new();
    for file in files(&folder, ".rs") {
        let path = file.strip_prefix(&folder).unwrap().display().to_string();
        modules.insert(path.trim_end_matches(".rs").split('/').next().unwrap().to_owned());
        wrong.extend(wrong_imports(&path, &read(&file)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known: BTreeSet<String> = IMPORTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    modules.retain(|name| name != "main" && name != "lib");
    assert_eq!(modules, known, "the table of imports and the modules in host/src");
}

#[test]
fn a_wrong_import_is_found_however_it_is_written() {
    let wrong = [
        ("hooks.rs", "use crate::wasm::WasmPolicy;"),
        ("hooks/chain.rs", "use crate::{workspace::State, docker};"),
        ("wasm.rs", "use super::script::RhaiPolicy;"),
        ("script/library.rs", "fn f() { super::super::wasm::x() }"),
        ("docker/http.rs", "pub fn f() -> crate::lifecycle::Error { }"),
        ("store.rs", "use crate::{\n    hooks::{Decision, Hook},\n    lifecycle::Error,\n};"),
        ("config.rs", "use crate::docker as d;"),
        ("workspace/spec.rs", "use crate::hooks::Hook;"),
        ("lifecycle/create.rs", "use bollard::Docker;"),
        ("app.rs", "fn f(x: rusqlite::Connection) {}"),
        ("hooks/adjust.rs", "use wasmtime::component::Val;"),
        ("somewhere_new.rs", "use crate::hooks::Hook;"),
    ];
    for (path, source) in wrong {
        assert_eq!(wrong_imports(path, source).len(), 1, "{path}: {source}: {:?}", wrong_imports(path, source));
    }
    let right = [
        (
            "hooks/chain.rs",
            "// use crate::wasm::X;\nuse crate::workspace::State;\nconst A: &str = \"crate::docker::x\";",
        ),
        ("hooks.rs", "use crate::workspace::State;\n#[cfg(test)]\nmod tests { use crate::wasm::WasmPolicy; }\n"),
        ("hooks/chain/tests.rs", "use crate::wasm::WasmPolicy;"),
        ("docker/exec/output.rs", "use super::super::store::X; const C: char = '\"'; fn f<'a>(x: &'a str) {}"),
        ("wasm/engine.rs", "use wasmtime::{Config, Engine}; use super::script;"),
        ("script.rs", "use crate::script::engine; let x = r#\"crate::wasm \" \"#;"),
        ("lifecycle.rs", "use crate::{config::Loaded, docker::{Docker, Error}, hooks, store, workspace};"),
    ];
    for (path, source) in right {
        assert_eq!(wrong_imports(path, source), Vec::<String>::new(), "{path}: {source}");
    }
    let lines = wrong_imports("store.rs", "use crate::hooks::Hook;\n/* a\n b */\nuse crate::docker::Docker;\n");
    assert_eq!(lines, ["store.rs:4: store must not import docker"]);
}

#[test]
fn every_file_in_the_tests_folder_is_compiled() {
    let folder = root().join("host/tests");
    let manifest = read(&root().join("host/Cargo.toml"));
    let own_crates = folder.join("plugins");
    let targets = manifest.lines().filter_map(|line| line.strip_prefix("path = \"tests/")?.strip_suffix('"'));
    let mut queue: Vec<(PathBuf, bool)> = targets.map(|path| (folder.join(path), true)).collect();
    assert!(!queue.is_empty(), "host/Cargo.toml names no test");
    let mut reached = BTreeSet::new();
    while let Some((file, target)) = queue.pop() {
        assert!(file.is_file(), "{} is named and not there", shown(&file));
        // Modules of a target's first file stand beside it, those of another file in the folder of its name.
        let place = if target { file.parent().unwrap().to_path_buf() } else { file.with_extension("") };
        for line in code_of(&read(&file)).lines() {
            let words = line.trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if let Some(name) = words.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
                let options = [place.join(format!("{name}.rs")), place.join(name).join("mod.rs")];
                queue.extend(options.into_iter().filter(|path| path.is_file()).take(1).map(|path| (path, false)));
            }
        }
        reached.insert(file);
    }
    let all = files(&folder, ".rs").into_iter().filter(|path| !path.starts_with(&own_crates));
    let left: Vec<_> = all.filter(|path| !reached.contains(path)).map(|path| shown(&path)).collect();
    assert!(left.is_empty(), "no [[test]] of host/Cargo.toml and no mod names {}", left.join(", "));
}

#[test]
fn a_long_file_says_why() {
    let folders = ["host/src", "host/xtask/src", "plugin-sdk/src", "plugins"];
    let mut wrong = Vec::new();
    for file in folders.iter().flat_map(|folder| files(&root().join(folder), ".rs")) {
        let source = read(&file);
        let lines = source.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > LONG && !source.contains("// Long because ") {
            wrong.push(format!("{} has {lines} lines: split it, or say why with '// Long because ...'", shown(&file)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_unfinished_and_no_machine_is_named() {
    let this = Path::new(file!()).file_name().unwrap();
    let here = root().display().to_string();
    let ends = [".rs", ".rhai", ".toml", ".md", ".wit", ".sh", ".json"];
    let mut wrong = Vec::new();
    for file in ends.iter().flat_map(|end| files(&root(), end)).filter(|file| file.file_name() != Some(this)) {
        for (number, line) in read(&file).lines().enumerate() {
            // People in examples are called ada or user.
            let home = line.split("/home/").nth(1).is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_ascii_lowercase())
                    && !["ada", "user"].iter().any(|name| rest.starts_with(name))
            });
            let unfinished = ["todo!(", "unimplemented!(", "dbg!(", "FIXME"].iter().any(|word| line.contains(word));
            if home || unfinished || line.contains("/Users/") || (here.len() > 4 && line.contains(&format!("{here}/")))
            {
                wrong.push(format!("{}:{}: {}", shown(&file), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The files of the commands that may write bytes as they are, and what those bytes are.
const RAW: [(&str, &str); 5] = [
    ("cli.rs", "a completion script"),
    ("cli/cp.rs", "an archive"),
    ("cli/exec/printer.rs", "a workspace's own stream"),
    ("cli/logs/printer.rs", "a workspace's own stream"),
    ("cli/top.rs", "the sequences that draw a screen"),
];

/// What a source of the commands prints past the type for text that may be printed.
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

#[test]
fn every_shipped_script_is_carried_as_it_stands() {
    let carried: BTreeMap<_, _> = wharf::carried::ALL.into_iter().collect();
    let tests = |file: &PathBuf| file.display().to_string().ends_with(".test.rhai");
    for file in files(&root().join("policies"), ".rhai").into_iter().filter(|file| !tests(file)) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        match carried.get(name.as_str()) {
            Some(wharf::carried::Carried::Script(text)) => assert_eq!(*text, read(&file), "{name}"),
            _ => panic!("{name} is not carried as a script"),
        }
    }
}

/// The Markdown files of the repository.
fn documents() -> Vec<PathBuf> {
    files(&root(), ".md")
}

#[test]
fn every_link_in_the_documentation_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in documents() {
        let text = read(&file);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', ' ']).next().unwrap();
            if target.contains("://") {
                continue;
            }
            count += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let place = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            if !place.exists() {
                wrong.push(format!("{}: {target}", shown(&file)));
            } else if !anchor.is_empty() && !anchors(&read(&place)).contains(anchor) {
                wrong.push(format!("{}: {target} (no such heading)", shown(&file)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 5, "only {count} links were found");
}

/// The anchors of a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| -> String {
        let kept = heading
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
            .collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn the_functions_that_architecture_md_names_exist_where_it_says() {
    let text = read(&root().join("host/ARCHITECTURE.md"));
    // `src/lifecycle/create.rs`: `up`, `decide_create`
    let mut count = 0;
    for (at, _) in text.match_indices("`src/") {
        let rest = &text[at + 1..];
        let (path, after) = rest.split_once('`').unwrap();
        let file = root().join("host").join(path);
        assert!(file.exists(), "ARCHITECTURE.md names {path}");
        // Names that follow a colon, up to the end of the cell or sentence.
        let Some(names) = after.strip_prefix(": ") else { continue };
        let names = names.split(['|', '.', ';', '\n']).next().unwrap();
        for name in names.split('`').skip(1).step_by(2) {
            let last = name.rsplit("::").next().unwrap().trim_end_matches("()");
            let source = read(&file);
            let defined = ["fn", "struct", "enum", "trait", "const", "mod"]
                .iter()
                .any(|kind| source.contains(&format!("{kind} {last}")));
            assert!(defined, "ARCHITECTURE.md says that {path} has {name}");
            count += 1;
        }
    }
    assert!(count > 15, "only {count} names were found");
}
