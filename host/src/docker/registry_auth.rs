//! Registry credentials, as `docker login` stores them: in `~/.docker/config.json` itself (`auths`), or in the
//! credential helper that it names (`credHelpers`, `credsStore`). They are never logged.
//!
//! A helper is a program `docker-credential-<name>` on the PATH. It is called with the argument `get` and the
//! registry on its stdin (docker/docker-credential-helpers, README).
//!
//! The crate `docker_credential` (reviewed at 1.4.0) is not used. It waits for a helper without a limit of time or
//! bytes and blocks its thread, accepts `../evil` as a helper's name, and its error shows a helper's output, which
//! may contain the secret. It does not support `identitytoken` in `auths`, and does not look in `auths` if a helper
//! has no login.

use std::time::Duration;

use base64::alphabet;
use base64::engine::general_purpose::URL_SAFE;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::config_folder;

/// The key under which the CLI stores the login of Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// Time limit for a helper, which may e.g. wait for a person.
const HELPER: Duration = Duration::from_secs(20);
/// Maximum bytes of a helper's answer; a login is never longer.
const MOST_BYTES: usize = 64 << 10;

/// Returns the value of `X-Registry-Auth` for a repository, if there is a login for its registry.
pub(super) async fn header(repository: &str) -> Option<String> {
    let login = login(&config()?, registry(repository)).await?;
    Some(encode(login.to_string().as_bytes()))
}

/// The stored logins of some registries, by registry. They are secrets.
#[derive(Default)]
pub(super) struct Logins(serde_json::Map<String, Value>);

impl Logins {
    /// Returns the stored logins of the registries of these repositories.
    pub(super) async fn of(repositories: &[String]) -> Self {
        let Some(config) = config() else { return Self::default() };
        let mut all = serde_json::Map::new();
        for repository in repositories {
            let registry = registry(repository);
            if !all.contains_key(registry)
                && let Some(login) = login(&config, registry).await
            {
                all.insert(registry.to_owned(), login);
            }
        }
        Self(all)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value of `X-Registry-Config`.
    pub(super) fn header(&self) -> Option<String> {
        (!self.is_empty()).then(|| encode(Value::Object(self.0.clone()).to_string().as_bytes()))
    }

    /// Returns user and password for a registry host; for a token, the user is empty. BuildKit asks Docker Hub by the
    /// host that serves its images.
    pub(super) fn credentials(&self, host: &str) -> Option<(String, String)> {
        let registry = if host == "registry-1.docker.io" { DOCKER_HUB } else { host };
        let login = self.0.get(registry)?;
        let text = |key: &str| login.get(key).and_then(Value::as_str).map(str::to_owned);
        match text("identitytoken") {
            Some(token) => Some((String::new(), token)),
            None => Some((text("username")?, text("password")?)),
        }
    }
}

fn config() -> Option<Value> {
    let env = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
    let path = config_folder(&env)?.join("config.json");
    let config = std::fs::read(&path).ok()?;
    // The error of the parser names a place, and no content.
    let warn = |error: &serde_json::Error| tracing::warn!("no logins are read from {}: {error}", path.display());
    serde_json::from_slice(&config).inspect_err(warn).ok()
}

async fn login(config: &Value, registry: &str) -> Option<Value> {
    match helper(config, registry) {
        // The CLI keeps an empty entry in `auths` for each login in a helper.
        Some(name) => ask_helper(name, registry).await.or_else(|| from_config(config, registry)),
        None => from_config(config, registry),
    }
}

/// Returns the name of the helper for a registry's login, if one is configured and its name contains only safe
/// characters.
fn helper<'a>(config: &'a Value, registry: &str) -> Option<&'a str> {
    let own = config.get("credHelpers").and_then(|helpers| helpers.get(registry));
    let name = own.or_else(|| config.get("credsStore"))?.as_str()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

async fn ask_helper(name: &str, registry: &str) -> Option<Value> {
    let asked = async {
        let mut child = tokio::process::Command::new(format!("docker-credential-{name}"))
            .arg("get")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .process_group(0)
            .spawn()?;
        let mut helper = Helper { group: child.id() };
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(registry.as_bytes()).await {
                // It failed before it read the registry, and says why.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
                written => written?,
            }
        }
        let (mut answer, mut words) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read = async |pipe: Option<&mut (dyn tokio::io::AsyncRead + Unpin + Send)>, into: &mut Vec<u8>| match pipe {
            Some(pipe) => pipe.take(MOST_BYTES as u64 + 1).read_to_end(into).await,
            None => Ok(0),
        };
        let (mut stdout, mut stderr) = (stdout, stderr);
        let (first, second) = tokio::join!(
            read(stdout.as_mut().map(|pipe| pipe as _), &mut answer),
            read(stderr.as_mut().map(|pipe| pipe as _), &mut words)
        );
        first.and(second)?;
        if answer.len() > MOST_BYTES {
            return Ok(Err(String::new()));
        }
        let status = child.wait().await?;
        helper.group = None;
        if status.success() {
            return Ok(Ok(answer));
        }
        // A helper reports its failure on stdout (docker-credential-helpers, README), and a program below it on stderr.
        Ok::<_, std::io::Error>(Err(format!("{} {}", first_line(&answer), first_line(&words)).trim().to_owned()))
    };
    // The answer of a helper that succeeds holds the secret, so only the words of one that fails are logged.
    let answer = match tokio::time::timeout(HELPER, asked).await {
        Ok(Ok(Ok(answer))) => answer,
        Ok(Ok(Err(words))) if words.is_empty() || words.contains("credentials not found") => {
            tracing::debug!("the credential helper {name} has no login for {registry}");
            return None;
        }
        Ok(Ok(Err(words))) => {
            tracing::warn!("the credential helper docker-credential-{name} has failed for {registry}: {words}");
            return None;
        }
        Ok(Err(error)) => {
            tracing::warn!("cannot run the credential helper docker-credential-{name}: {error}");
            return None;
        }
        Err(_) => {
            tracing::warn!(
                "the credential helper docker-credential-{name} did not respond within {} s",
                HELPER.as_secs()
            );
            return None;
        }
    };
    from_helper(&answer, registry)
}

/// Returns the first line of a helper's words, at most 200 characters.
fn first_line(words: &[u8]) -> String {
    let words = String::from_utf8_lossy(words);
    let line = words.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// A running helper. It may be a script, so its whole process group is killed.
struct Helper {
    group: Option<u32>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(group) = self.group.and_then(|group| Pid::from_raw(i32::try_from(group).ok()?)) {
            // A helper that has just ended needs no signal.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn from_helper(answer: &[u8], registry: &str) -> Option<Value> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let text = |key: &str| answer.get(key).and_then(Value::as_str).filter(|value| !value.is_empty());
    let secret = text("Secret")?;
    Some(match text("Username")? {
        "<token>" => json!({ "serveraddress": registry, "identitytoken": secret }),
        user => json!({ "serveraddress": registry, "username": user, "password": secret }),
    })
}

fn from_config(config: &Value, registry: &str) -> Option<Value> {
    let auths = config.get("auths")?.as_object()?;
    // Docker Hub's entry is under its address, but other tools use its name.
    let other = if registry == DOCKER_HUB { "docker.io".to_owned() } else { format!("https://{registry}") };
    let entry = auths.get(registry).or_else(|| auths.get(&other))?;
    let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|value| !value.is_empty());
    if let Some(token) = text("identitytoken") {
        return Some(json!({ "serveraddress": registry, "identitytoken": token }));
    }
    let pair = String::from_utf8(decode(text("auth")?)?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some(json!({ "serveraddress": registry, "username": user, "password": password }))
}

/// Returns the registry of a repository: its first part if that looks like a host, otherwise Docker Hub, which also
/// has host names.
fn registry(repository: &str) -> &str {
    match repository.split_once('/') {
        Some(("docker.io" | "index.docker.io", _)) => DOCKER_HUB,
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => DOCKER_HUB,
    }
}

/// Encodes as URL-safe Base64 with padding, as the engine expects it.
fn encode(bytes: &[u8]) -> String {
    URL_SAFE.encode(bytes)
}

/// Decodes either kind of Base64, with or without padding, because other tools also write this file.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ANY_END: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let kinds = [&alphabet::STANDARD, &alphabet::URL_SAFE];
    kinds.into_iter().find_map(|kind| GeneralPurpose::new(kind, ANY_END).decode(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_found_under_its_registry() {
        let config = json!({"auths": {"host:5000": {"auth": "bWU6cOQ6c3M="}, DOCKER_HUB: {"auth": "bWU6czpl"}}});
        let login = from_config(&config, registry("library/debian")).unwrap();
        assert_eq!((&login["username"], &login["password"]), (&json!("me"), &json!("s:e")));
        for name in ["docker.io/me/private", "index.docker.io/library/debian"] {
            assert_eq!(from_config(&config, registry(name)).unwrap(), login);
        }
        assert_eq!(from_config(&config, registry("other.example/a")), None);
        // Not UTF-8: unusable, but no panic.
        assert_eq!(from_config(&config, registry("host:5000/a")), None);
        let sent = encode(login.to_string().as_bytes());
        assert_eq!(serde_json::from_slice::<Value>(&decode(&sent).unwrap()).unwrap(), login);
    }

    #[test]
    fn a_registrys_own_helper_comes_before_the_store_and_odd_names_are_not_run() {
        let config = json!({"credsStore": "pass", "credHelpers": {"a.example": "cloud-login", "b.example": "../evil"}});
        assert_eq!(helper(&config, "a.example"), Some("cloud-login"));
        assert_eq!(helper(&config, "c.example"), Some("pass"));
        assert_eq!(helper(&config, "b.example"), None);
        assert_eq!(helper(&json!({}), "a.example"), None);
        let login = from_helper(br#"{"ServerURL":"x","Username":"me","Secret":"s"}"#, "a.example").unwrap();
        assert_eq!(login, json!({"serveraddress": "a.example", "username": "me", "password": "s"}));
        let token = from_helper(br#"{"Username":"<token>","Secret":"s"}"#, "a.example").unwrap();
        assert_eq!(token["identitytoken"], "s");
        assert_eq!(from_helper(b"credentials not found", "a.example"), None);
    }

    #[test]
    fn base64_of_every_length_survives() {
        for length in 0..50u8 {
            let bytes: Vec<u8> = (0..length).map(|i| i.wrapping_mul(37).wrapping_add(200)).collect();
            assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
            assert_eq!(decode(encode(&bytes).trim_end_matches('=')).unwrap(), bytes);
        }
        assert_eq!(encode(b"ab"), "YWI=");
        assert_eq!(
            (decode("+/8="), decode("-_8"), decode("a b=")),
            (Some(vec![0xfb, 0xff]), Some(vec![0xfb, 0xff]), None)
        );
    }
}
