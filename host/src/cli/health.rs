//! The flags of a health check.

use serde_json::{Map, Value, json};

use crate::config::{HealthCheckConfig, Span};
use crate::hooks::Adjustment;
use crate::lifecycle::HealthRequest;

/// The health check; what is left out is as the configuration says, or Docker's default.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct HealthArgs {
    /// Health check: a line for sh in the workspace
    #[arg(long, value_name = "LINE")]
    health_cmd: Option<String>,
    /// Time between two health checks
    #[arg(long, value_name = "TIME")]
    health_interval: Option<Span>,
    /// A health check that takes longer has failed
    #[arg(long, value_name = "TIME")]
    health_timeout: Option<Span>,
    /// Failures during this time after the start do not count
    #[arg(long, value_name = "TIME")]
    health_start_period: Option<Span>,
    /// This many failures in a row make it unhealthy
    #[arg(long, value_name = "COUNT")]
    health_retries: Option<u32>,
}

impl HealthArgs {
    /// What the flags ask for as a service takes it; none when they ask for nothing.
    pub(crate) fn body(&self) -> Option<Value> {
        let fields = [
            ("command", self.health_cmd.as_ref().map(|line| json!(line))),
            ("interval", self.health_interval.map(|time| json!(time))),
            ("timeout", self.health_timeout.map(|time| json!(time))),
            ("start_period", self.health_start_period.map(|time| json!(time))),
            ("retries", self.health_retries.map(|count| json!(count))),
        ];
        let body: Map<_, _> = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        (!body.is_empty()).then_some(Value::Object(body))
    }

    /// What the flags ask for, as a change of the configured check; none when they ask for nothing.
    pub(crate) fn field(self, configured: Option<&HealthCheckConfig>) -> Result<Option<(Adjustment, String)>, String> {
        let request = HealthRequest {
            line: self.health_cmd,
            interval: self.health_interval,
            timeout: self.health_timeout,
            start_period: self.health_start_period,
            retries: self.health_retries,
        };
        request.field(configured)
    }
}
