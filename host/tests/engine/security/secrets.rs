//! Values of secrets exist only in the container (numbers 18, 19 and 24).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::support::engine_api as engine;
use crate::support::sandbox::{Output, Sandbox};

const SECRET: &str = "Super?secret>value'12";
/// The same value in base64, alone and after a user's name; in a URL; and in JSON of a program that escapes all
/// characters except letters.
const BASE64: &str = "U3VwZXI/c2VjcmV0PnZhbHVlJzEy";
const BASIC: &str = "dTpTdXBlcj9zZWNyZXQ+dmFsdWUnMTI=";
const URL: &str = "Super%3Fsecret%3Evalue%2712";
const FILE: &str = "file-secret-of-the-workspace";

/// Parts that every form of the values contains, or the form itself.
const TELLING: [&str; 6] =
    ["secret>value", "secret%3E", "c2VjcmV0PnZhbHVlJz", "NyZXQ+dmFsdWUnM", FILE, "ZmlsZS1zZWNyZXQtb2Yt"];

#[track_caller]
fn silent(what: &str, text: &str) {
    for piece in TELLING {
        assert!(!text.contains(piece), "{what} has {piece}: {text}");
    }
}

#[track_caller]
fn quiet(what: &str, output: &Output) {
    silent(&format!("stdout of {what}"), &output.text());
    silent(&format!("stderr of {what}"), &output.stderr);
}

/// Checks every byte of the state except the secret files themselves.
#[track_caller]
fn silent_state(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("secrets") && !path.ends_with("compiled") {
                silent_state(&path);
            }
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for piece in TELLING {
            assert!(
                !bytes.windows(piece.len()).any(|window| window == piece.as_bytes()),
                "{} has {piece}",
                path.display()
            );
        }
    }
}

/// A policy that outputs everything it sees, at each hook, and fails where it is told to.
const GOSSIP: &str = r#"
fn pre_create(ctx) { ctx.log(`${ctx.spec} ${ctx.project.contents}`); }
fn post_start(ctx) { ctx.note(`${ctx.spec} ${ctx.workspace.labels}`); }
fn pre_exec(ctx) {
    ctx.log(`${ctx.spec}`);
    if ctx.exec.command[0] == "fail" { throw `bad command ${ctx.exec.command} ${ctx.exec.env}`; }
}
"#;

fn asked() -> Vec<String> {
    let mut words: Vec<String> = ["--image", engine::BASE].map(str::to_owned).into();
    for env in [
        format!("API_TOKEN={SECRET}"),
        format!("DB_URL=postgres://u:{SECRET}@db"),
        format!("BASIC={BASIC}"),
        format!("ALONE={BASE64}"),
        format!("CALLBACK=https://h/?t={URL}"),
        format!("OF_FILE=x{FILE}y"),
        "PLAIN=shown".to_owned(),
    ] {
        words.extend(["-e".to_owned(), env]);
    }
    words.extend([
        "--label".to_owned(),
        format!("note=pw-{SECRET}"),
        "--health-cmd".to_owned(),
        format!("test x{SECRET}"),
    ]);
    words.extend(["--secret".to_owned(), "K=../secret.txt".to_owned()]);
    words
}

fn with<'a>(first: &[&'a str], words: &'a [String], last: &[&'a str]) -> Vec<&'a str> {
    first.iter().copied().chain(words.iter().map(String::as_str)).chain(last.iter().copied()).collect()
}

#[test]
fn a_value_reaches_the_container_whole_and_nothing_else_in_any_form() {
    let sandbox = Sandbox::new();
    sandbox.script("gossip.rhai", GOSSIP);
    sandbox.write("secret.txt", FILE);
    sandbox.write("project/go.mod", format!("// {SECRET} {BASE64}\n"));
    let line = format!("echo \"{SECRET}\" >/dev/null; sleep 600");
    let (asked, command) = (asked(), ["--", "sh", "-c", line.as_str()]);
    quiet("plan", &sandbox.run(&with(&["plan"], &asked, &command)).ok());
    quiet("plan --json", &sandbox.run(&with(&["--json", "plan"], &asked, &command)).ok());
    quiet("up", &sandbox.run(&with(&["-vv", "up"], &asked, &command)).ok());
    // The container has all of it as requested.
    let env = sandbox.sh("env");
    for wanted in [
        format!("API_TOKEN={SECRET}"),
        format!("DB_URL=postgres://u:{SECRET}@db"),
        format!("BASIC={BASIC}"),
        format!("ALONE={BASE64}"),
        format!("CALLBACK=https://h/?t={URL}"),
        format!("OF_FILE=x{FILE}y"),
        "PLAIN=shown".to_owned(),
    ] {
        assert!(env.lines().any(|line| line == wanted), "{wanted}: {env}");
    }
    let container = engine::get(&format!("/containers/wharf-{}/json", sandbox.id()));
    assert_eq!(container["Config"]["Labels"]["note"], format!("pw-{SECRET}"));
    assert!(container["Config"]["Healthcheck"].to_string().contains("x"), "{container}");
    assert!(container["Config"]["Cmd"].to_string().contains("secret>value"), "{}", container["Config"]["Cmd"]);
    // The same request changes nothing, and for another value the report contains neither value.
    quiet("up again", &sandbox.run(&with(&["up"], &asked, &command)).ok());
    let other: Vec<String> = asked.iter().map(|word| word.replace("postgres://", "mysql://")).collect();
    let differs = sandbox.run(&with(&["up"], &other, &command));
    assert_eq!(differs.code, 7, "{}", differs.stderr);
    assert!(differs.stderr.contains("env.DB_URL"), "{}", differs.stderr);
    quiet("up that differs", &differs);
    let other = |word: &String| {
        let forms = [SECRET, BASE64, BASIC, URL];
        forms.iter().fold(word.clone(), |word, form| word.replace(form, "another>value>of it"))
    };
    let other: Vec<String> = asked.iter().map(other).collect();
    let differs = sandbox.run(&with(&["--json", "up"], &other, &["--", "sleep", "600"]));
    assert_eq!(differs.code, 7, "{}", differs.stderr);
    assert!(!differs.stderr.contains("another>value"), "{}", differs.stderr);
    quiet("up with another value", &differs);
    sandbox.json(&["snapshot", "create", "--name", "kept"]);
    for args in [
        vec!["why"],
        vec!["why", "env.DB_URL"],
        vec!["why", "health_check"],
        vec!["inspect"],
        vec!["ls"],
        vec!["plan", "--diff"],
        vec!["audit", "show", "1"],
        vec!["snapshot", "ls"],
        vec!["events", "--since", "10m", "--until", "0s"],
        vec!["doctor"],
    ] {
        quiet(&args.join(" "), &sandbox.run(&args));
        let mut json = vec!["--json"];
        json.extend(&args);
        quiet(&json.join(" "), &sandbox.run(&json));
    }
    quiet("audit", &sandbox.run(&["--json", "audit"]).ok());
    silent_state(&sandbox.path("state"));
    let image = engine::get(&format!("/images/wharf/{}:snapshot-kept/json", sandbox.id()));
    silent("the snapshot's image", &image.to_string());
}

#[test]
fn a_policy_that_fails_with_the_words_of_a_command_keeps_no_value_in_its_standing() {
    let sandbox = Sandbox::new();
    sandbox.script("gossip.rhai", GOSSIP);
    sandbox.run(&["up", "--image", engine::BASE, "-e", &format!("API_TOKEN={SECRET}")]).ok();
    for _ in 0..6 {
        let failed =
            sandbox.run(&["-vv", "exec", "-e", &format!("U=u:{SECRET}@h"), "--", "fail", "-H", SECRET, BASIC, URL]);
        assert_eq!(failed.code, 125, "{}", failed.stderr);
        quiet("exec", &failed);
    }
    let standing: Value = sandbox.json(&["policy", "ls"]);
    assert!(standing.to_string().contains("bad command"), "the breaker's last failure is told: {standing}");
    silent("policy ls --json", &standing.to_string());
    quiet("policy ls", &sandbox.run(&["policy", "ls"]).ok());
    quiet("doctor", &sandbox.run(&["doctor"]));
    silent_state(&sandbox.path("state"));
    // A command that the policy permits gets its words unchanged.
    sandbox.run(&["policy", "reset", "gossip.rhai"]).ok();
    let line = format!("test \"$1\" = \"{SECRET}\" && echo same");
    let run = sandbox.run(&["exec", "-e", &format!("U=u:{SECRET}@h"), "--", "sh", "-c", &line, "sh", SECRET]).ok();
    assert_eq!(run.text().trim(), "same");
    assert_eq!(
        sandbox.run(&["exec", "-e", &format!("U=u:{SECRET}@h"), "--", "sh", "-c", "echo $U"]).ok().text().trim(),
        format!("u:{SECRET}@h")
    );
}

#[test]
fn what_the_engine_says_of_a_command_has_no_value() {
    let sandbox = Sandbox::new();
    let env = format!("API_TOKEN={SECRET}");
    let failed = sandbox.run(&["-vv", "up", "--image", engine::BASE, "-e", &env, "--", &format!("/none/{SECRET}")]);
    assert_ne!(failed.code, 0);
    assert!(failed.stderr.contains("/none/***"), "{}", failed.stderr);
    quiet("up", &failed);
    silent_state(&sandbox.path("state"));
}

#[test]
fn the_folder_of_secrets_is_closed_from_its_first_moment_and_one_that_is_open_is_closed() {
    let sandbox = Sandbox::new();
    sandbox.write("secret.txt", FILE);
    let mode = || sandbox.path("state/secrets").metadata().map(|found| found.permissions().mode() & 0o777).ok();
    sandbox.run(&["up", "--image", engine::BASE]).ok();
    sandbox.run(&["up", "--image", engine::BASE, "--label", "x=1", "--recreate"]).ok();
    assert!(mode().is_none_or(|mode| mode == 0o700), "{:o}", mode().unwrap_or_default());
    sandbox.run(&["up", "--image", engine::BASE, "--secret", "K=../secret.txt", "--recreate"]).ok();
    assert_eq!(mode(), Some(0o700));
    // The permissions that an earlier version left.
    std::fs::set_permissions(sandbox.path("state/secrets"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let ls = sandbox.run(&["ls"]).ok();
    assert_eq!(mode(), Some(0o700));
    assert!(ls.stderr.contains("0700"), "{}", ls.stderr);
    assert_eq!(sandbox.run(&["ls"]).ok().stderr, "");
}

/// A value that may occur in a name.
const NAMED: &str = "hunter22-of-a-name";

#[test]
fn a_value_in_a_name_is_refused_with_whose_it_is_and_what_to_do() {
    let mut sandbox = Sandbox::new();
    // The project's own image applies if the configuration names none.
    sandbox.unset("WHARF_WORKSPACE_IMAGE");
    for folder in [NAMED, "data", "postgres"] {
        sandbox.folder(&format!("project/{folder}"));
    }
    let token = format!("API_TOKEN={NAMED}");
    let refused = |verb: &str, args: &[String], of: &str| {
        let mut words = vec!["--json", verb];
        words.extend(args.iter().map(String::as_str));
        let refused = sandbox.run(&words);
        assert_ne!(refused.code, 0, "{args:?}");
        let error = refused.error();
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(of) && message.contains("another"), "{message}");
        assert!(!refused.stderr.contains("hunter22") && !refused.text().contains("hunter22"), "{}", refused.stderr);
    };
    let image = |image: &str| vec!["--image".to_owned(), image.to_owned(), "-e".to_owned(), token.clone()];
    for verb in ["plan", "up"] {
        refused(
            verb,
            &image(&format!("registry.example/{NAMED}:1")),
            "image: it contains the value of the secret API_TOKEN",
        );
        for (flag, value) in [
            ("--mount", format!("./{NAMED}:/data")),
            ("--mount", format!("vol-{NAMED}:/data")),
            ("--mount", format!("./data:/{NAMED}")),
            ("--tmpfs", format!("/run/{NAMED}")),
            ("--label", format!("{NAMED}=x")),
        ] {
            let args: Vec<String> = image(engine::BASE).into_iter().chain([flag.to_owned(), value]).collect();
            refused(verb, &args, "the value of the secret API_TOKEN");
        }
    }
    // The project's own image, a policy's value, and a secret file.
    let file = format!(r#"{{"image":"registry.example/{NAMED}:1","containerEnv":{{"API_TOKEN":"{NAMED}"}}}}"#);
    sandbox.write("project/.devcontainer.json", file);
    refused("up", &[], "image: it contains the value of the secret API_TOKEN");
    std::fs::remove_file(sandbox.path("project/.devcontainer.json")).unwrap();
    sandbox.write("secret.txt", NAMED);
    let args = ["--image", engine::BASE, "--secret", "K=../secret.txt", "--mount", &format!("./{NAMED}:/data")];
    refused("up", &args.map(str::to_owned), "the value of a secret file");
    sandbox.script("names.rhai", "fn pre_create(ctx) { ctx.spec.tmpfs[\"/run/\" + ctx.settings.token] = #{}; }");
    sandbox.append_config(&format!("settings = {{ token = \"{NAMED}\" }}"));
    refused("up", &["--image".to_owned(), engine::BASE.to_owned()], "the value of a secret");
    sandbox.config("");
    assert!(sandbox.own_containers().is_empty());
    // The project's list of files is not secret, so take the name off it.
    std::fs::remove_dir(sandbox.path(&format!("project/{NAMED}"))).unwrap();
    // A weak password that is a word may be the name of anything.
    let word = ["up", "--image", engine::BASE, "-e", "DB_PASSWORD=postgres", "--mount", "./postgres:/postgres"];
    sandbox.run(&word).ok();
    let state = sandbox.path("state");
    for file in ["wharf.db", "wharf.db-wal"] {
        let bytes = std::fs::read(state.join(file)).unwrap_or_default();
        assert!(!bytes.windows(8).any(|window| window == b"hunter22"), "{file}");
    }
}

#[test]
fn a_user_and_commands_with_a_value_are_kept_without_it_and_work_at_every_start() {
    let sandbox = Sandbox::new();
    let (user, value) = ("2345678", "hunter22-of-a-command");
    let file = format!(
        r#"{{"image":"{}","containerEnv":{{"API_TOKEN":"{value}","USER_TOKEN":"{user}"}},"remoteUser":"{user}",
            "postCreateCommand":"echo {value} > /tmp/created","postStartCommand":["sh","-c","echo {value} >> /tmp/started"]}}"#,
        engine::BASE
    );
    sandbox.write("project/.devcontainer.json", &file);
    let silent = |what: &str, output: &Output| {
        let text = format!("{}{}", output.text(), output.stderr);
        assert!(!text.contains("hunter22") && !text.contains(user), "{what}: {text}");
    };
    silent("plan", &sandbox.run(&["--json", "plan"]).ok());
    silent("up", &sandbox.run(&["-vv", "--json", "up"]).ok());
    assert_eq!(sandbox.sh("id -u; cat /tmp/created /tmp/started"), format!("{user}\n{value}\n{value}\n"));
    sandbox.run(&["restart", "-t", "0s"]).ok();
    assert_eq!(sandbox.sh("cat /tmp/created /tmp/started"), format!("{value}\n").repeat(3));
    let same = sandbox.run(&["--json", "up"]).ok();
    silent("up again", &same);
    let copied = sandbox.write("copied", "x");
    sandbox.run(&["cp", copied.to_str().unwrap(), &format!("{}:/tmp/copied", sandbox.id())]).ok();
    assert_eq!(sandbox.sh("stat -c %u /tmp/copied").trim(), user);
    for args in [&["inspect"][..], &["why"], &["audit"], &["audit", "show", "1"], &["ls"]] {
        silent(&args.join(" "), &sandbox.run(&[&["--json"], args].concat()).ok());
    }
    for file in ["wharf.db", "wharf.db-wal"] {
        let bytes = std::fs::read(sandbox.path("state").join(file)).unwrap_or_default();
        assert!(!bytes.windows(8).any(|window| window == b"hunter22"), "{file}");
    }
    // The value of a secret file cannot be restored, so it is refused.
    sandbox.write("secret.txt", "hunter22-of-a-file");
    sandbox
        .write("project/.devcontainer.json", file.replace(value, "hunter22-of-a-file").replace("API_TOKEN", "PLAIN"));
    let refused = sandbox.run(&["--json", "up", "--recreate", "--secret", "K=../secret.txt"]);
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("a secret file") && message.contains("/run/secrets"), "{message}");
    assert!(!refused.stderr.contains("hunter22"), "{}", refused.stderr);
}

#[test]
fn the_secrets_of_policies_and_of_all_workspaces_are_in_no_answer_and_no_sweep() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "gossip.rhai",
        "fn pre_create(ctx) { ctx.log(ctx.settings.api.token); ctx.spec.env.AUTH = \"Bearer \" + ctx.settings.api.token; }
         fn post_start(ctx) { ctx.note(\"with \" + ctx.settings.api.token); }
         fn cleanup(ctx) {
             ctx.log(`${ctx.candidates}`);
             for c in ctx.candidates { ctx.keep(c.id, \"x file-secret-of-the-workspace \" + ctx.settings.api.token); }
         }",
    );
    sandbox.append_config(&format!("settings = {{ api = {{ token = \"{SECRET}\" }} }}"));
    sandbox.write("secret.txt", FILE);
    let asked = ["--image", engine::BASE, "--secret", "K=../secret.txt", "--label", &format!("plain={FILE}")];
    quiet("plan", &sandbox.run(&[&["--json", "plan"], &asked[..]].concat()).ok());
    let up = sandbox.run(&[&["-vv", "--json", "up"], &asked[..]].concat()).ok();
    quiet("up", &up);
    assert_eq!(up.json()["notes"][0], "with ***");
    assert_eq!(sandbox.sh("echo \"$AUTH\"").trim(), format!("Bearer {SECRET}"));
    quiet("up again", &sandbox.run(&[&["--json", "up"], &asked[..]].concat()).ok());
    // A manually set label occurs in the facts of a sweep.
    quiet("cleanup --dry-run", &sandbox.run(&["-vv", "--json", "cleanup", "--dry-run"]).ok());
    quiet("cleanup", &sandbox.run(&["-vv", "--json", "cleanup"]).ok());
    for args in [&["config", "show"][..], &["policy", "ls"], &["audit"], &["inspect"], &["why", "env"], &["doctor"]] {
        quiet(&args.join(" "), &sandbox.run(args));
        quiet(&args.join(" "), &sandbox.run(&[&["--json"], args].concat()));
    }
    silent_state(&sandbox.path("state"));
    // Another value requires another container.
    sandbox.config(&sandbox.config_text().replace(SECRET, "another-value-of-it"));
    let differs = sandbox.run(&[&["--json", "up"], &asked[..]].concat());
    assert_eq!(differs.code, 7, "{}", differs.stderr);
    assert!(differs.stderr.contains("env.AUTH") && !differs.stderr.contains("another-value"), "{}", differs.stderr);
}

#[test]
fn rows_of_an_earlier_version_are_shown_without_what_is_known_to_be_a_secret_now() {
    let sandbox = Sandbox::new();
    sandbox.script("gossip.rhai", GOSSIP);
    // Its name does not mark it as a secret, so it is stored everywhere.
    sandbox.run(&["up", "--image", engine::BASE, "-e", &format!("PLAIN={SECRET}"), "--", "sleep", "600"]).ok();
    sandbox.run(&["exec", "--", "echo", SECRET]).ok();
    assert!(sandbox.run(&["--json", "audit"]).ok().text().contains("secret>value"));
    assert!(sandbox.run(&["--json", "inspect"]).ok().text().contains("secret>value"));
    sandbox.append_config("[secrets]\nenv = [\"PLAIN\"]\n");
    let database = rusqlite::Connection::open(sandbox.path("state/wharf.db")).unwrap();
    database.execute_batch("drop table shown; pragma user_version = 12;").unwrap();
    drop(database);
    // The first command that reads records asks the engine for the values, and changes no record.
    quiet("audit", &sandbox.run(&["--json", "audit"]).ok());
    for args in [
        &["audit", "show", "1"][..],
        &["why"],
        &["why", "env"],
        &["inspect"],
        &["ls"],
        &["plan", "--diff"],
        &["events", "--since", "10m", "--until", "0s"],
        &["doctor"],
    ] {
        quiet(&args.join(" "), &sandbox.run(&[&["--json"], args].concat()));
    }
    sandbox.run(&["audit", "verify"]).ok();
    let database = rusqlite::Connection::open(sandbox.path("state/wharf.db")).unwrap();
    let count = |query: &str| database.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(count("select count(*) from decisions where body like '%secret>value%'") > 0);
    assert_eq!(count("select count(*) from workspaces where body like '%secret>value%'"), 0);
    assert_eq!(count("select count(*) from shown where body like '%secret>value%'"), 0);
    // The container keeps the values that it was created with, and pruning removes the rest.
    sandbox.run(&["restart", "-t", "0s"]).ok();
    assert_eq!(sandbox.sh("echo \"$PLAIN\"").trim(), SECRET);
    sandbox.run(&["audit", "prune", "--keep", "1"]).ok();
    assert_eq!(count("select count(*) from decisions where body like '%secret>value%'"), 0);
    assert_eq!(count("select count(*) from shown where number < (select min(number) from decisions)"), 0);
}
