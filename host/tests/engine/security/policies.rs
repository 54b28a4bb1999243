//! Policy files that would hang, fill the memory, or load for one command but not for another.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::sandbox::Sandbox;

/// Checks that each command that loads policies refuses a chain with this entry in time, with these words.
fn refused_by_all(sandbox: &Sandbox, words: &str) {
    for args in [
        &["policy", "check"][..],
        &["doctor"],
        &["serve", "--check"],
        &["plan", "--offline"],
        &["policy", "ls"],
        &["up"],
    ] {
        let began = Instant::now();
        let run = sandbox.run(args);
        let said = format!("{}{}", run.text(), run.stderr);
        assert!(said.contains(words), "{args:?} does not say '{words}': {said}");
        assert!(run.code != 0 || args == ["policy", "ls"], "{args:?}: {said}");
        assert!(began.elapsed() < Duration::from_secs(30), "{args:?}");
    }
}

/// Returns a chain with one policy, whose file `make` creates.
fn chain(kind: &str, file: &str, make: impl FnOnce(&Path)) -> Sandbox {
    let sandbox = Sandbox::new();
    let path = sandbox.write(&format!("config/policies/{file}"), "");
    std::fs::remove_file(&path).unwrap();
    make(&path);
    sandbox.config(&format!("[[policy]]\nname = \"odd\"\n{kind} = \"policies/{file}\"\n"));
    sandbox
}

fn pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Creates an empty file of this size.
fn sparse(path: &Path, size: u64) {
    std::fs::File::create(path).unwrap().set_len(size).unwrap();
}

#[test]
fn a_pipe_a_device_a_folder_and_a_giant_are_refused_before_they_are_read() {
    for (kind, file) in [("script", "odd.rhai"), ("wasm", "odd.wasm")] {
        refused_by_all(&chain(kind, file, pipe), "is a named pipe, not a regular file");
        refused_by_all(
            &chain(kind, file, |path| std::fs::create_dir(path).unwrap()),
            "is a folder, not a regular file",
        );
        let zero = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
        refused_by_all(&chain(kind, file, zero), "is a device, not a regular file");
    }
    refused_by_all(
        &chain("script", "odd.rhai", |path| sparse(path, 1 << 30)),
        "has 1024 MiB, but may have at most 1 MiB",
    );
    refused_by_all(
        &chain("wasm", "odd.wasm", |path| sparse(path, 1 << 30)),
        "has 1024 MiB, but may have at most 8 MiB",
    );
}

#[test]
fn what_a_script_imports_is_looked_at_too() {
    let importing = |make: fn(&Path)| {
        let sandbox = chain("script", "odd.rhai", |path| {
            std::fs::write(path, "import \"lib\" as lib;\nfn pre_create(ctx) { }").unwrap();
        });
        make(&sandbox.path("config/policies/lib.rhai"));
        sandbox
    };
    refused_by_all(&importing(pipe), "is a named pipe, not a regular file");
    refused_by_all(&importing(|path| sparse(path, 1 << 30)), "may have at most 256 KiB");
}

#[test]
fn files_named_on_the_command_line_are_looked_at_too() {
    let sandbox = Sandbox::new();
    for file in ["odd.rhai", "odd.test.rhai", "odd.wasm"] {
        let path = sandbox.path(file);
        pipe(&path);
        let shown = path.display().to_string();
        let commands: &[&[&str]] = match file {
            "odd.wasm" => &[&["policy", "check"]],
            "odd.rhai" => &[&["policy", "check"], &["script", "check"]],
            _ => &[&["policy", "check"], &["script", "check"], &["script", "test"]],
        };
        for command in commands {
            let run = sandbox.run(&[*command, &[shown.as_str()]].concat());
            assert!(run.code == 3 && run.text().contains("named pipe"), "{command:?} {file}: {}", run.text());
        }
    }
}

#[test]
fn a_larger_plugin_is_taken_when_its_entry_says_so() {
    let sandbox = chain("wasm", "odd.wasm", |path| sparse(path, 9 << 20));
    refused_by_all(&sandbox, "raise 'size' in its entry");
    sandbox.append_config("size = \"16MiB\"");
    let run = sandbox.run(&["policy", "check"]);
    assert!(run.text().contains("is not a WebAssembly component"), "{}", run.text());
}

#[test]
fn what_a_service_would_not_load_is_refused_by_every_command() {
    let memories = "(component (core module (memory 1) (memory 1) (memory 1) (memory 1)))";
    let bytes = wat::parse_str(memories).unwrap();
    let sandbox = chain("wasm", "odd.wasm", |path| std::fs::write(path, bytes).unwrap());
    refused_by_all(&sandbox, "has a module with 4 memories, but a plugin may have 1 in each");
    // Problems that the linter finds, and settings that the script does not accept.
    let script = "const SETTINGS = #{ max_memory: gib(1) };\nfn pre_create(ctx) {\n    if ctx.spec.resources.memory > ctx.settings.max_memory { ctx.deny(\"a\", \"b\"); }\n}\n";
    let sandbox = chain("script", "odd.rhai", |path| std::fs::write(path, script).unwrap());
    sandbox.append_config("settings = { max_memroy = 1073741824 }");
    refused_by_all(&sandbox, "there is no setting 'max_memroy' (did you mean 'max_memory'?)");
    sandbox.write("config/policies/odd.rhai", script.replace("settings.max_memory", "settings.max_memroy"));
    sandbox.config("[[policy]]\nname = \"odd\"\nscript = \"policies/odd.rhai\"\n");
    refused_by_all(&sandbox, "there is no 'settings.max_memroy'; the keys are max_memory");
}

#[test]
fn a_ceiling_with_a_misspelt_name_lets_nothing_through() {
    for (rules, condition, words) in [
        ("#{ memory: gib(1) }", "ctx.settings.max_memroy", "max_memroy"),
        ("#{ memory: gib(1) }", "global::RULES[ctx.workspace.name + \"-memroy\"]", "-memroy"),
        ("#{ memory: () }", "global::RULES.memory", "compares with ()"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.script(
            "ceiling.rhai",
            &format!(
                "const RULES = {rules};\nfn pre_create(ctx) {{\n    if ctx.spec.resources.memory > {condition} {{ ctx.deny(\"much\", \"less\"); }}\n}}\n"
            ),
        );
        let run = sandbox.run(&["plan", "--offline", "--memory", "4GiB"]);
        assert!(run.code != 0 && run.text().contains(words), "{condition}: {}", run.text());
    }
}

#[test]
fn plugins_are_compiled_by_a_process_that_can_be_ended() {
    use std::io::Write;
    let sandbox = Sandbox::new();
    let compile = |bytes: &[u8]| {
        let mut command = sandbox.command(&["compile-component-from-stdin"]);
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        crate::support::sandbox::Output::of(child.wait_with_output().unwrap())
    };
    let code = compile(b"\0asm\x0d\0\x01\0").ok();
    assert!(code.stdout.starts_with(b"\x7fELF"), "compiled code is an ELF file");
    let refused = compile(b"\0asm\x0d\0\x01\0rubbish");
    assert_eq!((refused.code, refused.text().contains("not a valid component")), (1, true), "{}", refused.text());
    // A plugin that is not in the cache is compiled in such a process, and its code is cached.
    std::fs::remove_dir_all(sandbox.path("state/compiled")).unwrap();
    sandbox.plugin("plugins/image-selector", "{}");
    sandbox.run(&["policy", "check"]).ok();
    let kept = std::fs::read_dir(sandbox.path("state/compiled")).unwrap().flatten();
    assert!(kept.filter(|entry| entry.path().extension().is_some_and(|end| end == "cwasm")).count() > 0);
}
