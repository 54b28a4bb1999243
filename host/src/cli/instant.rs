//! Points in time as people name them on the command line.

use crate::config::Span;

/// Reads a time (`2026-01-31T12:00:00Z`), or how long ago it was (`10m`).
///
/// # Errors
/// One line that says what is taken.
pub(crate) fn instant(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time);
    }
    let span: Span = text
        .parse()
        .map_err(|_| format!("'{text}' is neither a time such as 2026-01-31T12:00:00Z nor a duration such as 10m"))?;
    jiff::Timestamp::now().checked_sub(span.0).map_err(|error| error.to_string())
}
