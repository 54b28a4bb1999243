//! Imports go in one direction, as in the table of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crate::{code_of, files, read, root};

/// Crates that some modules hide from all others.
const HIDDEN: [(&str, &[&str]); 34] = [
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
    ("regex", &["archive", "lifecycle"]),
    ("jsonc_parser", &["devcontainer"]),
    ("tar", &["archive"]),
    ("bollard", &["docker"]),
    ("bollard_buildkit_proto", &["docker"]),
    ("prost", &["docker"]),
    ("tonic", &["docker"]),
    ("hyper", &["api", "client", "docker", "telemetry"]),
    ("hyper_util", &["api", "client", "docker", "telemetry"]),
    ("http_body_util", &["client", "docker", "telemetry"]),
    ("wasmtime", &["wasm"]),
    ("wasmtime_wasi", &["wasm"]),
    ("rhai", &["script"]),
    ("rusqlite", &["store"]),
    ("toml", &["config"]),
    ("toml_edit", &["config"]),
    ("clap", &["cli", "records", "wire", "workspace"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("unicode_width", &["cli"]),
    ("indicatif", &["cli"]),
    ("crossterm", &["cli"]),
];

/// Returns the allowed imports of each module: the table of ARCHITECTURE.md. A module that is missing there may
/// import nothing.
fn table() -> &'static BTreeMap<String, BTreeSet<String>> {
    static TABLE: LazyLock<BTreeMap<String, BTreeSet<String>>> =
        LazyLock::new(|| table_of(&read(&root().join("host/ARCHITECTURE.md"))));
    &TABLE
}

/// Parses the rows of the table whose first column is `module`. The module is the first name of its cell, and its
/// allowed imports are the names in the third cell.
fn table_of(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let rows = page.lines().skip_while(|line| !line.starts_with("| module |")).skip(2);
    let mut table = BTreeMap::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let module = names(cells[0]).first().cloned().unwrap_or_else(|| panic!("no module in {row}"));
        let allowed = names(cells[2]);
        assert_eq!(allowed.is_empty(), cells[2].trim() == "nothing", "which modules are imported in {row}?");
        assert!(table.insert(module, allowed.into_iter().collect()).is_none(), "twice in the table: {row}");
    }
    table
}

/// Returns the positions of paths that start at the crate's root, with `crate::` or enough `super::`.
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

/// Returns the first names of the paths at a position: one, or those of a group `{a::b, c}`.
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

/// Returns the import errors of one file; `path` is relative to the source folder.
fn wrong_imports(path: &str, source: &str) -> Vec<String> {
    let allowed = table();
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
            let known = allowed.contains_key(&name);
            let may = allowed.get(module).is_some_and(|may| may.contains(&name));
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
    let known: BTreeSet<String> = table().keys().cloned().collect();
    modules.retain(|name| name != "main" && name != "lib");
    assert_eq!(modules, known, "the modules in host/src and the table of ARCHITECTURE.md");
    for (module, allowed) in table() {
        let unknown: Vec<_> = allowed.difference(&known).collect();
        assert!(unknown.is_empty(), "{module} may import {unknown:?}, which are no modules");
    }
}

/// Returns the modules below `lifecycle`, each with the modules that it names by path, e.g. `create::up`.
fn named_below_lifecycle(sources: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for (module, source) in sources {
        let code = code_of(source);
        let mut named = BTreeSet::new();
        for (at, root) in code.match_indices("crate::lifecycle::") {
            let path: String =
                code[at + root.len()..].chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
            let is = |known: &&String| path == **known || path.starts_with(&format!("{known}::"));
            named.extend(sources.keys().filter(is).max_by_key(|known| known.len()).cloned());
        }
        named.remove(module);
        all.insert(module.clone(), named);
    }
    all
}

/// Returns a cycle of modules, if there is one: the rest after repeatedly removing modules that name no other module.
fn circle(mut named: BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    loop {
        let free: BTreeSet<String> =
            named.iter().filter(|(_, to)| to.is_empty()).map(|(name, _)| name.clone()).collect();
        if free.is_empty() {
            return named.into_keys().collect();
        }
        named.retain(|name, _| !free.contains(name));
        named.values_mut().for_each(|to| to.retain(|name| !free.contains(name)));
    }
}

#[test]
fn files_of_lifecycle_name_each_other_in_no_circle() {
    let folder = root().join("host/src/lifecycle");
    let mut sources = BTreeMap::new();
    for file in files(&folder, ".rs") {
        let path = file.strip_prefix(&folder).unwrap().display().to_string();
        // A folder's own file only lists the others.
        if path.contains('/') {
            sources.insert(path.trim_end_matches(".rs").replace('/', "::"), read(&file));
        }
    }
    let named = named_below_lifecycle(&sources);
    assert!(named.values().map(BTreeSet::len).sum::<usize>() > 50, "too few paths were found: {named:?}");
    assert_eq!(circle(named), BTreeSet::new(), "these name each other, or stand above a circle");
    let sources = [("a", "use crate::lifecycle::b::f;"), ("b", "fn f() { crate::lifecycle::a::g() }"), ("c", "")];
    let sources = sources.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    assert_eq!(circle(named_below_lifecycle(&sources)).len(), 2);
}

#[test]
fn the_table_says_what_each_module_may_import() {
    let page = "text\n\n| module | what it is | imports | may touch |\n| --- | --- | --- | --- |\n\
                | `a` (`src/a.rs`) | x | nothing | y |\n| `b` (`src/b.rs`, `src/b`) | x | `a`, `c` | `d` |\n\nmore\n";
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let expected = BTreeMap::from([("a".to_owned(), set(&[])), ("b".to_owned(), set(&["a", "c"]))]);
    assert_eq!(table_of(page), expected);
    assert!(table().len() > 15, "only {} modules are in the table", table().len());
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
        ("lifecycle/create/up.rs", "use bollard::Docker;"),
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
