//! TOML other than the configuration.

/// Parses TOML other than the configuration, such as a case of a policy.
///
/// # Errors
/// One line with the place.
pub fn read_toml(text: &str) -> Result<serde_json::Value, String> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(0, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
        format!("line {line}: {}", error.message().replace('\n', " "))
    })
}
