//! The program's reports about its own work: log lines on stderr, and traces of the service for an OpenTelemetry
//! collector.
//!
//! A trace follows one request. `guard` opens the span of the request and `Metrics::verb` the span of the verb. A
//! hook run, each policy call and each engine call have a span, too. `spans` defines all of them.
//!
//! The environment enables traces, with the variables of OpenTelemetry ("OpenTelemetry Protocol Exporter" and
//! "Environment Variable Specification"). Without `OTEL_EXPORTER_OTLP_ENDPOINT` no span is created, and nothing is
//! sent anywhere.
//!
//! May touch: stderr, the address of the collector, files with its certificates.

use std::io::IsTerminal;
use std::time::Duration;

use hyper::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::fmt::format::{DefaultFields, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::printable::{self, Printable};
use crate::spans;

mod export;

/// Maximum time that the program waits for the collector at its end.
const FAREWELL: Duration = Duration::from_secs(5);

/// The format of log lines.
#[derive(Debug, Clone, Copy)]
pub struct Lines {
    /// The number of `-v` flags: warnings, actions, and every call of the engine.
    pub verbose: u8,
    /// Whether each line is one JSON object.
    pub json: bool,
}

/// An error in the environment variables.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The error, in one line.
    pub message: String,
    /// The remedy, in one line.
    pub remedy: String,
}

impl Error {
    fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}

/// The telemetry to shut down with the program.
#[derive(Debug)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Sends log lines to stderr: warnings, or the levels set by `-v` and `WHARF_LOG`. With `traces`, spans are sent
    /// to the collector named in the environment.
    ///
    /// # Errors
    /// An error if the environment is invalid. Log lines are written even then.
    pub fn begin(lines: Lines, traces: bool) -> Result<Self, Error> {
        let provider = if traces { provider() } else { Ok(None) };
        let layer = provider.as_ref().ok().and_then(Option::as_ref).map(|provider| {
            // Only spans of ours: log lines are written elsewhere, and may contain more than a collector should know.
            let filter = Targets::new().with_target(spans::TARGET, LevelFilter::INFO);
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("wharf"));
            layer.with_location(false).with_threads(false).with_level(false).with_target(false).with_filter(filter)
        });
        tracing_subscriber::registry().with(log(lines)).with(layer).init();
        provider.map(Self)
    }

    /// Sends the remaining spans, and waits up to some seconds for that. It blocks.
    pub fn end(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown_with_timeout(FAREWELL)
        {
            tracing::warn!("cannot send the last spans to the collector: {error}");
        }
    }
}

fn log(lines: Lines) -> Box<dyn Layer<Registry> + Send + Sync> {
    let level = match lines.verbose {
        // A program that reads JSON is not told of waits.
        0 if !lines.json => "wharf=warn,wharf::wait=info",
        0 => "wharf=warn",
        1 => "wharf=info",
        _ => "wharf=debug",
    };
    let filter = EnvFilter::try_from_env("WHARF_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    if lines.json {
        layer.json().map_event_format(|format| Clean { format, json: true, colour: false }).with_filter(filter).boxed()
    } else {
        let format = Format::default().without_time().with_target(false);
        layer
            .fmt_fields(DefaultFields::new())
            .event_format(Clean { format, json: false, colour })
            .with_filter(filter)
            .boxed()
    }
}

/// Formats a log line safely for a terminal, on one line: messages and fields repeat text of engines, projects and
/// policies.
struct Clean<F> {
    format: F,
    json: bool,
    colour: bool,
}

impl<S, N, F> FormatEvent<S, N> for Clean<F>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let mut text = String::new();
        self.format.format_event(context, Writer::new(&mut text), event)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        if self.json {
            return writeln!(writer, "{}", printable::escaped(text));
        }
        // The level comes first.
        if event.metadata().target() == spans::WAIT && *event.metadata().level() == tracing::Level::INFO {
            let said = text.split_at_checked(LEVEL).map_or(text, |(_, said)| said.trim_start());
            return writeln!(writer, "{}", Printable::from("wharf: ") + said);
        }
        let (level, rest) = text.split_at_checked(LEVEL).unwrap_or(("", text));
        let level = Printable::from(level);
        let level = if self.colour { level.styled(colour(*event.metadata().level())) } else { level };
        writeln!(writer, "{}", level + rest)
    }
}

/// The width of a level.
const LEVEL: usize = 5;

/// Returns the colour of a level.
fn colour(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 31,
        tracing::Level::WARN => 33,
        tracing::Level::INFO => 32,
        tracing::Level::DEBUG => 34,
        tracing::Level::TRACE => 35,
    }
}

/// Returns the provider of spans, if the environment enables it.
fn provider() -> Result<Option<SdkTracerProvider>, Error> {
    if !export::is_asked_for()? {
        return Ok(None);
    }
    let mut resource = Resource::builder();
    let named = |text: String| text.split(',').any(|pair| pair.trim().starts_with("service.name="));
    let is_named = std::env::var_os("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty())
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(named);
    if !is_named {
        resource = resource.with_service_name("wharf");
    }
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = resource.with_attribute(version).build();
    let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(export::exporter()?);
    Ok(Some(provider.build()))
}

/// Makes a span a part of the trace that a request belongs to, if its headers name one (W3C Trace Context).
pub fn join(span: &tracing::Span, headers: &HeaderMap) {
    if span.is_disabled() || !headers.contains_key("traceparent") {
        return;
    }
    // This fails without a tracing layer, and then there is nothing to join.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&HeaderExtractor(headers)));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, colour: bool) -> String {
        const BAD: &str = "a\x1b]0;t\x07b\nwharf: c\u{202e}d\u{9b}1m";
        let kept = Kept::default();
        let to = kept.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || to.clone()).with_ansi(false);
        let layer: Box<dyn Layer<Registry> + Send + Sync> = if json {
            layer.json().map_event_format(|format| Clean { format, json, colour }).boxed()
        } else {
            let format = Format::default().without_time().with_target(false);
            layer.fmt_fields(DefaultFields::new()).event_format(Clean { format, json, colour }).boxed()
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("hook", name = BAD);
            let _in = span.enter();
            tracing::warn!(detail = BAD, "the engine says {BAD}");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_log_line_is_one_line_without_harmful_characters_whatever_its_fields_say() {
        for (json, colour) in [(false, false), (false, true), (true, false)] {
            let text = logged(json, colour);
            let line = text.strip_suffix('\n').unwrap();
            let line = line.strip_prefix("\x1b[33m WARN\x1b[0m").unwrap_or(line);
            assert!(line.contains("the engine says a") && line.contains("hook"), "{line:?}");
            assert!(Printable::is(line), "{line:?}");
            assert_eq!(text.contains("\x1b[33m"), colour, "{text:?}");
        }
        let value: serde_json::Value = serde_json::from_str(&logged(true, false)).unwrap();
        assert_eq!(value["fields"]["detail"], "a\x1b]0;t\x07b\nwharf: c\u{202e}d\u{9b}1m");
    }
}
