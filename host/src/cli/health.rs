//! The flags of a health check.

use crate::config::{HealthCheckConfig, Span};
use crate::hooks::Adjustment;

/// The health check; what is left out is as the configuration says, or Docker's default.
#[derive(Debug, clap::Args)]
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
    /// What the flags ask for, as a change of the configured check; none when they ask for nothing.
    pub(crate) fn field(self, configured: Option<&HealthCheckConfig>) -> Result<Option<(Adjustment, String)>, String> {
        let times = [self.health_interval, self.health_timeout, self.health_start_period];
        let (mut check, words) = match (self.health_cmd, configured.cloned()) {
            (Some(line), configured) => {
                let command = ["sh".to_owned(), "-c".to_owned(), line].into();
                let check = configured.unwrap_or_else(|| HealthCheckConfig::new(Vec::new()));
                (HealthCheckConfig { command, ..check }, "--health-cmd")
            }
            (None, _) if times.iter().all(Option::is_none) && self.health_retries.is_none() => return Ok(None),
            (None, Some(check)) => (check, "--health-interval and the like"),
            (None, None) => {
                return Err("the --health flags need a --health-cmd, or a check in the configuration".into());
            }
        };
        let [interval, timeout, start_period] = times;
        check.interval = interval.unwrap_or(check.interval);
        check.timeout = timeout.unwrap_or(check.timeout);
        check.start_period = start_period.unwrap_or(check.start_period);
        check.retries = self.health_retries.unwrap_or(check.retries);
        Ok(Some((Adjustment::HealthCheck(Some(check.spec())), words.to_owned())))
    }
}
