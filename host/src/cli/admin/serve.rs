//! `wharf serve`

use crate::api;
use crate::app::App;
use crate::cli::output::counted;
use crate::cli::{Context, Failure};
use crate::service::{self, Error, ServiceEvent};

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Check configuration, policies, certificate and store, and exit
    #[arg(long)]
    check: bool,
    /// Format of log lines on stderr [default: text, or json with --json]
    #[arg(long, value_name = "FORMAT")]
    pub(in crate::cli) log_format: Option<LogFormat>,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// Checks whether the service could start, except for resources that another process may hold: the service's lock, the
/// socket, the address.
fn check(context: &Context) -> Result<u8, Failure> {
    let app = &context.app;
    api::check(&app.loaded.config.api).map_err(not_attached)?;
    let policies = app.checked_chain(&std::collections::BTreeMap::new())?.entries().len();
    app.store()?.probe()?;
    let out = &context.out;
    if out.json {
        out.value(&serde_json::json!({ "state_dir": app.state_dir, "policies": policies }))?;
    } else {
        out.line(format!("wharf serve can start: state {}, {}", app.state_dir.display(), counted(policies, "policy")))?;
    }
    Ok(0)
}

fn not_attached((message, remedy): (String, String)) -> Failure {
    Failure::new("api", message, remedy, 1)
}

/// Runs the service until SIGTERM or Ctrl-C.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    if args.check {
        return check(context);
    }
    use tokio::signal::unix::{SignalKind, signal};
    let (stopper, stop) = tokio::sync::watch::channel(false);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // The receiver is gone after the service has ended.
        let _ = stopper.send(true);
    });
    let (out, state) = (context.out.clone(), context.app.state_dir.display().to_string());
    let say = move |said: &ServiceEvent| {
        let printed = if out.json { out.value(&object(said, &state)) } else { out.line(line(said, &state)) };
        if let Err(error) = printed {
            tracing::debug!("cannot print the output of the service: {error}");
        }
    };
    let app = App { long_lived: true, ..context.app.clone() };
    let config = app.loaded.config.api.clone();
    let socket = config.socket.clone().unwrap_or_else(|| app.state_dir.join("wharf.sock"));
    let enabled = config.enabled;
    let attach: Option<service::Attach> =
        enabled.then(|| Box::new(move |handle, stop| api::open(&socket, &config, handle, stop)) as service::Attach);
    match service::run(&app, stop, attach, Box::new(say)).await {
        Ok(()) => Ok(0),
        Err(Error::Failed(error)) => Err(error.into()),
        Err(Error::NotAttached { message, remedy }) => Err(not_attached((message, remedy))),
        Err(Error::Runs(who)) => {
            let who = who.map_or_else(String::new, |who| format!(" (process {}, since {:.0})", who.pid, who.since));
            let text = format!("another wharf serve uses the state in '{}'{who}", context.app.state_dir.display());
            let remedy = "keep it running, stop it first, or name another state folder with --state-dir";
            Err(Failure::new("service-runs", text, remedy, 1))
        }
    }
}

fn line(said: &ServiceEvent, state: &str) -> String {
    match said {
        ServiceEvent::Ready { engine, loops, api } => {
            let api = api.as_ref().map_or_else(|| "no API".to_owned(), |place| format!("API {place}"));
            let engine = match engine {
                Ok(engine) => format!("engine {engine}"),
                Err(why) => format!("waiting for the engine: {why}"),
            };
            format!("wharf serve is ready: state {state}, {engine}, {api}; {}", loops.join(", "))
        }
        ServiceEvent::EngineAway(why) => format!("the engine is unreachable: {why}; trying again"),
        ServiceEvent::EngineBack => "the engine is reachable again".to_owned(),
        ServiceEvent::Done(what) => what.clone(),
    }
}

fn object(said: &ServiceEvent, state: &str) -> serde_json::Value {
    let time = jiff::Timestamp::now();
    match said {
        ServiceEvent::Ready { engine, loops, api } => serde_json::json!({
            "time": time, "said": "ready", "state_dir": state, "engine": engine.as_ref().ok(),
            "engine_away": engine.as_ref().err(), "loops": loops, "api": api,
        }),
        ServiceEvent::EngineAway(why) => serde_json::json!({ "time": time, "said": "engine-away", "why": why }),
        ServiceEvent::EngineBack => serde_json::json!({ "time": time, "said": "engine-back" }),
        ServiceEvent::Done(what) => serde_json::json!({ "time": time, "said": "done", "what": what }),
    }
}
