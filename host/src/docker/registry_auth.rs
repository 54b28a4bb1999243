//! Credentials for registries, as `docker login` stores them in `~/.docker/config.json` (plain `auths`; credential
//! helpers are programs of others and not run). They are never logged.

use super::connect::config_folder;

/// The key under which the CLI stores the login of Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Gives the value of `X-Registry-Auth` for a repository, if there is a login for its registry.
pub(super) fn header(repository: &str) -> Option<String> {
    let env = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
    let config = std::fs::read(config_folder(&env)?.join("config.json")).ok()?;
    from_config(&serde_json::from_slice(&config).ok()?, repository)
}

fn from_config(config: &serde_json::Value, repository: &str) -> Option<String> {
    let registry = registry(repository);
    let auths = config.get("auths")?.as_object()?;
    let entry = auths.get(registry).or_else(|| auths.get(&format!("https://{registry}")))?;
    let text = |key: &str| entry.get(key).and_then(|value| value.as_str()).filter(|value| !value.is_empty());
    let login = if let Some(token) = text("identitytoken") {
        serde_json::json!({ "serveraddress": registry, "identitytoken": token })
    } else {
        let pair = String::from_utf8(decode(text("auth")?)?).ok()?;
        let (user, password) = pair.split_once(':')?;
        serde_json::json!({ "serveraddress": registry, "username": user, "password": password })
    };
    Some(encode(login.to_string().as_bytes()))
}

/// The first part of a repository is a registry if it looks like a host; otherwise it is on Docker Hub.
fn registry(repository: &str) -> &str {
    match repository.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => DOCKER_HUB,
    }
}

/// Base64 for URLs, with padding, as the engine wants it.
fn encode(bytes: &[u8]) -> String {
    let digit = |value: u32| match (value & 63) as u8 {
        v @ 0..=25 => char::from(b'A' + v),
        v @ 26..=51 => char::from(b'a' + v - 26),
        v @ 52..=61 => char::from(b'0' + v - 52),
        62 => '-',
        _ => '_',
    };
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = 0;
        for index in 0..3 {
            group = group << 8 | u32::from(chunk.get(index).copied().unwrap_or_default());
        }
        for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            out.push(if index <= chunk.len() { digit(group >> shift) } else { '=' });
        }
    }
    out
}

/// Base64, ordinary or for URLs.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut group, mut bits) = (0u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        group = group << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((group >> bits) as u8);
            group &= (1 << bits) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_becomes_a_header_that_decodes_to_it() {
        let config =
            serde_json::json!({"auths": {"host:5000": {"auth": "bWU6cOQ6c3M="}, DOCKER_HUB: {"auth": "bWU6czpl"}}});
        let header = from_config(&config, "library/debian").unwrap();
        let login: serde_json::Value = serde_json::from_slice(&decode(&header).unwrap()).unwrap();
        assert_eq!(login["username"], "me");
        assert_eq!(login["password"], "s:e");
        assert_eq!(from_config(&config, "other.example/a"), None);
        // Not UTF-8: not usable, and no panic.
        assert_eq!(from_config(&config, "host:5000/a"), None);
    }

    #[test]
    fn base64_of_every_length_survives() {
        for length in 0..50u8 {
            let bytes: Vec<u8> = (0..length).map(|i| i.wrapping_mul(37).wrapping_add(200)).collect();
            assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
        }
        assert_eq!(encode(b"ab"), "YWI=");
    }
}
