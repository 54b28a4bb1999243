//! `wharf script`: tools for authors of scripts. It needs neither engine nor store.

use std::path::PathBuf;

use serde::Serialize;

use crate::app::cases::read_case;
use crate::app::scripts::reference;
use crate::cli::output::{column, counted};
use crate::cli::{Context, Failure};
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
        /// The script
        file: PathBuf,
        /// Use the input of a case, as for 'wharf policy test'
        #[arg(long, value_name = "FILE", conflicts_with = "decision", required_unless_present = "decision")]
        case: Option<PathBuf>,
        /// Use the input of a recorded decision: number or id
        #[arg(long, value_name = "RECORD")]
        decision: Option<String>,
    },
    /// Print the reference of scripts: functions, or the fields of ctx at a hook
    Docs {
        /// The fields of ctx at this hook
        hook: Option<Hook>,
    },
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
        Command::Trace { file, case, decision } => {
            let request = match (case, decision) {
                (Some(case), _) => of_case(case)?,
                (None, Some(record)) => crate::records::find_record(&context.app.store()?, record)?
                    .decision()
                    .map(|decision| decision.input)?,
                (None, None) => return Err(Failure::new("usage", "name a --case or a --decision", "see --help", 2)),
            };
            trace(context, file, &request)
        }
        Command::Docs { hook } => docs(context, *hook),
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

fn trace(context: &Context, file: &std::path::Path, request: &HookRequest) -> Result<u8, Failure> {
    let unusable = |error: PolicyError| {
        let mut failure = Failure::new("script", error.to_string(), "see 'wharf script check'", 3);
        failure.detail = error.detail.map(|text| (text, error.marked));
        failure
    };
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
    for line in &trace.lines {
        let values: Vec<_> = line.values.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        if !values.is_empty() {
            out.line(format!("      {:1$}{2}", "", line.depth * 2, values.join(", ")))?;
        }
        let file = line.file.as_ref().map_or(String::new(), |file| format!("{file}:"));
        out.line(
            format!("{file}{:>5} {:2$}{}", line.line, "", line.depth * 2).trim_end().to_owned()
                + " "
                + line.text.trim(),
        )?;
    }
    if trace.cut {
        out.line("(further lines not shown)")?;
    }
    match &trace.result {
        Ok(reply) => {
            for log in &reply.logs {
                out.line(format!("log   {log}"))?;
            }
            let verdict = serde_json::to_string(&reply.verdict).map_err(std::io::Error::other)?;
            out.line(format!("gives {verdict}"))?;
            Ok(0)
        }
        Err(error) => Err(unusable(error.clone())).map_err(|failure| Failure { exit: 1, ..failure }),
    }
}

fn docs(context: &Context, hook: Option<Hook>) -> Result<u8, Failure> {
    let reference = reference();
    let out = &context.out;
    if out.json {
        out.value(&reference)?;
        return Ok(0);
    }
    match hook {
        None => out.lines(&reference.markdown())?,
        Some(hook) => {
            let fields = reference.fields.get(hook.function()).into_iter().flatten();
            let rows = fields.map(|(field, kind)| vec![format!("ctx.{field}"), (*kind).to_owned()]).collect();
            out.table(&[column("FIELD").cut(20), column("KIND").wrapped(20)], rows)?;
        }
    }
    Ok(0)
}
