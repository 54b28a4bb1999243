//! `wharf script`: tools for authors of scripts. It needs neither engine nor store.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::app::cases::read_case;
use crate::app::scripts::{TraceLine, is_configuration, reference};
use crate::cli::output::{column, counted};
use crate::cli::{Context, Failure};
use crate::config::{self, Key};
use crate::hooks::{Hook, HookRequest, PolicyError};

/// Check, test and trace scripts; print their reference.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Report errors in scripts without running them
    Check {
        /// Scripts
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run tests written in Rhai: NAME.test.rhai tests NAME.rhai
    Test {
        /// Scripts, or their test scripts
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run a script line by line, with the values that change
    Trace {
        /// The script; wharf.rhai needs no case and no decision
        file: PathBuf,
        /// Use the input of a case, as for 'wharf policy test'
        #[arg(long, value_name = "FILE", conflicts_with = "decision")]
        case: Option<PathBuf>,
        /// Use the input of a recorded decision: number or id
        #[arg(long, value_name = "RECORD")]
        decision: Option<String>,
    },
    /// Print the reference of scripts: functions, the fields of ctx at a hook, or the keys of wharf.rhai
    Docs {
        /// A hook, such as pre-create or pre_create, for the fields of ctx; 'config' for wharf.rhai
        #[arg(value_name = "HOOK")]
        topic: Option<Topic>,
    },
}

/// A part of the reference.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Topic {
    /// The fields of `ctx` at a hook.
    Hook(Hook),
    /// The keys of the configuration.
    Config,
}

impl std::str::FromStr for Topic {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "config" || is_configuration(Path::new(text)) {
            return Ok(Self::Config);
        }
        Hook::of_any_spelling(text).map(Self::Hook).ok_or_else(|| {
            let all: Vec<_> = Hook::ALL.iter().map(|hook| hook.as_str()).collect();
            format!("'{text}' is not a hook; the hooks are {}, and 'config' is for wharf.rhai", all.join(", "))
        })
    }
}

impl Command {
    /// Returns whether the command is for the script that edits the configuration, or needs no configuration. It works
    /// while that script is broken.
    pub(crate) fn needs_no_configuration(&self) -> bool {
        match self {
            Self::Check { files } => files.iter().all(|file| is_configuration(file)),
            Self::Trace { file, .. } => is_configuration(file),
            Self::Docs { .. } => true,
            Self::Test { .. } => false,
        }
    }
}

/// The result of a check or a test.
#[derive(Serialize)]
struct Finding {
    file: String,
    /// The name of the test; none for a check.
    test: Option<String>,
    ok: bool,
    message: Option<String>,
    detail: Option<String>,
}

impl Finding {
    fn new(file: &std::path::Path, test: Option<String>, error: Option<&PolicyError>) -> Self {
        Self {
            file: file.display().to_string(),
            test,
            ok: error.is_none(),
            message: error.map(ToString::to_string),
            detail: error.and_then(|error| error.detail.clone()),
        }
    }
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Command) -> Result<u8, Failure> {
    match command {
        Command::Check { files } => check(context, files),
        Command::Test { files } => test(context, files),
        Command::Trace { file, case, decision } if is_configuration(file) => {
            if case.is_some() || decision.is_some() {
                let text = "wharf.rhai runs on the wharf.toml beside it";
                return Err(Failure::new("usage", text, "leave out --case and --decision", 2));
            }
            trace_configuration(context, file)
        }
        Command::Trace { file, case, decision } => {
            let request = match (case, decision) {
                (Some(case), _) => of_case(case)?,
                (None, Some(record)) => crate::records::find_record(&context.app.store()?, record)?
                    .decision()
                    .map(|decision| decision.input)?,
                (None, None) => {
                    let remedy = "'wharf audit' lists decisions, and 'wharf audit show N --as-case' makes a case";
                    return Err(Failure::new("usage", "name the input: --decision N or --case FILE", remedy, 2));
                }
            };
            trace(context, file, &request)
        }
        Command::Docs { topic } => docs(context, *topic),
    }
}

fn check(context: &Context, files: &[PathBuf]) -> Result<u8, Failure> {
    let mut findings = Vec::new();
    for file in files {
        match context.app.check_script(file) {
            Ok(found) if found.is_empty() => findings.push(Finding::new(file, None, None)),
            Ok(found) => findings.extend(found.iter().map(|error| Finding::new(file, None, Some(error)))),
            Err(error) => findings.push(Finding::new(file, None, Some(&error))),
        }
    }
    say(context, &findings)?;
    // As in `policy check`: the exit code for an unusable policy.
    Ok(if findings.iter().all(|finding| finding.ok) { 0 } else { 3 })
}

fn test(context: &Context, files: &[PathBuf]) -> Result<u8, Failure> {
    let mut findings = Vec::new();
    for file in files {
        match context.app.test_script(file) {
            Ok(runs) => {
                let each = runs.into_iter().map(|run| Finding::new(file, Some(run.name), run.error.as_ref()));
                findings.extend(each);
            }
            Err(error) => {
                say(context, &[Finding::new(file, None, Some(&error))])?;
                return Ok(3);
            }
        }
    }
    say(context, &findings)?;
    let failed = findings.iter().filter(|finding| !finding.ok).count();
    if !context.out.json {
        context.out.line(format!(
            "{}: {} passed, {failed} failed",
            counted(findings.len(), "test"),
            findings.len() - failed
        ))?;
    }
    Ok(if failed == 0 { 0 } else { 1 })
}

fn say(context: &Context, findings: &[Finding]) -> Result<(), Failure> {
    if context.out.json {
        return Ok(context.out.value(&findings)?);
    }
    for finding in findings {
        let test = finding.test.as_ref().map_or(String::new(), |test| format!("  {test}"));
        match &finding.message {
            None => context.out.line(format!("ok      {}{test}", finding.file))?,
            Some(message) => context.out.line(format!("failed  {}{test}: {message}", finding.file))?,
        }
        if let Some(detail) = &finding.detail {
            context.out.detail(detail, true)?;
        }
    }
    Ok(())
}

fn of_case(path: &std::path::Path) -> Result<HookRequest, Failure> {
    let bad = |text: String| {
        let text = format!("{}: {text}", path.display());
        Failure::new("bad-case", text, "create one from a record with 'wharf audit show N --as-case'", 2)
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(format!("cannot read it: {error}")))?;
    let case = read_case(path, &text).map_err(bad)?;
    case.record().map(|record| record.input).map_err(bad)
}

fn unusable(error: PolicyError) -> Failure {
    let mut failure = Failure::new("script", error.to_string(), "see 'wharf script check'", 3);
    failure.detail = error.detail.map(|text| (text, error.marked));
    failure
}

fn trace(context: &Context, file: &Path, request: &HookRequest) -> Result<u8, Failure> {
    let trace = context.app.trace_script(file, request).map_err(unusable)?;
    let out = &context.out;
    if out.json {
        let result = match &trace.result {
            Ok(reply) => serde_json::json!({ "verdict": reply.verdict, "logs": reply.logs }),
            Err(error) => serde_json::json!({ "error": error.to_string() }),
        };
        out.value(&serde_json::json!({ "lines": trace.lines, "cut": trace.cut, "result": result }))?;
        return Ok(u8::from(trace.result.is_err()));
    }
    lines(context, &trace.lines, trace.cut)?;
    match &trace.result {
        Ok(reply) => {
            for log in &reply.logs {
                out.line(format!("log   {log}"))?;
            }
            let verdict = serde_json::to_string(&reply.verdict).map_err(std::io::Error::other)?;
            out.line(format!("gives {verdict}"))?;
            Ok(0)
        }
        Err(error) => Err(Failure { exit: 1, ..unusable(error.clone()) }),
    }
}

/// Traces the script that edits the configuration.
fn trace_configuration(context: &Context, file: &Path) -> Result<u8, Failure> {
    let trace = context.app.trace_configuration(file).map_err(unusable)?;
    let out = &context.out;
    if out.json {
        let result = match &trace.result {
            Ok(set) => serde_json::json!({ "set": set.iter().cloned().collect::<serde_json::Map<_, _>>() }),
            Err(error) => serde_json::json!({ "error": error.to_string() }),
        };
        out.value(&serde_json::json!({ "lines": trace.lines, "cut": trace.cut, "result": result }))?;
        return Ok(u8::from(trace.result.is_err()));
    }
    lines(context, &trace.lines, trace.cut)?;
    match &trace.result {
        Ok(set) => {
            for (key, value) in set {
                out.line(format!("sets  {key} = {value}"))?;
            }
            if set.is_empty() {
                out.line("sets  nothing")?;
            }
            Ok(0)
        }
        Err(error) => Err(Failure { exit: 1, ..unusable(error.clone()) }),
    }
}

/// Prints the executed lines. The changed values stand above the line that saw them first.
fn lines(context: &Context, lines: &[TraceLine], cut: bool) -> Result<(), Failure> {
    let out = &context.out;
    for line in lines {
        let indent = line.text.len() - line.text.trim_start().len();
        let values: Vec<_> = line.values.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        if !values.is_empty() {
            out.line(format!("      {:indent$}# {}", "", values.join(", ")))?;
        }
        let file = line.file.as_ref().map_or(String::new(), |file| format!("{file}:"));
        out.line(format!("{file}{:>5} {}", line.line, line.text.trim_end()))?;
    }
    if cut {
        out.line("(further lines not shown)")?;
    }
    Ok(())
}

fn docs(context: &Context, topic: Option<Topic>) -> Result<u8, Failure> {
    let out = &context.out;
    if let Some(Topic::Config) = topic {
        return config_docs(context);
    }
    let reference = reference();
    if out.json {
        out.value(&reference)?;
        return Ok(0);
    }
    let Some(Topic::Hook(hook)) = topic else {
        out.lines(&reference.markdown())?;
        return Ok(0);
    };
    let fields = reference.fields.get(hook.function()).into_iter().flatten();
    let rows = fields.map(|(path, field)| {
        let values: Vec<_> = field.values.iter().map(|value| format!("\"{value}\"")).collect();
        let values = if values.is_empty() { String::new() } else { format!(": {}", values.join(", ")) };
        vec![format!("ctx.{path}"), field.kind.to_owned(), format!("{}{values}", field.meaning)]
    });
    out.table(&[column("FIELD").cut(20), column("KIND"), column("MEANING").wrapped(20)], rows.collect())?;
    Ok(0)
}

/// Prints the keys of the argument of `fn config(c)`.
fn config_docs(context: &Context) -> Result<u8, Failure> {
    let own = [
        ("host.cores", "int", "Cores of this machine. Read-only."),
        ("host.memory", "int", "Memory of this machine in bytes. Read-only."),
        ("host.name", "text", "Host name of this machine. Read-only."),
        ("vars.NAME", "text or ()", "An environment variable that [script] vars in wharf.toml names. Read-only."),
    ];
    let own = own.map(|(key, kind, meaning)| Key { key: key.into(), kind: kind.into(), meaning: meaning.into() });
    let mut keys = config::keys();
    keys.extend(own);
    keys.sort_by(|a, b| a.key.cmp(&b.key));
    if context.out.json {
        context.out.value(&keys)?;
        return Ok(0);
    }
    let rows = keys.into_iter().map(|key| vec![format!("c.{}", key.key), key.kind, key.meaning]);
    context.out.table(&[column("KEY").cut(20), column("KIND"), column("MEANING").wrapped(20)], rows.collect())?;
    Ok(0)
}
