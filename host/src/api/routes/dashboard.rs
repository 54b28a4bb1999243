//! The dashboard at `/`: HTML, CSS and ES modules embedded in the program. They contain no data of the installation, so
//! reading them needs no permission. They request all data that they show from the API, as other programs do.
//!
//! `dashboard/` has the files; `main.js` is the entry point.

use axum::extract::{Path, Request};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};

use crate::api::http::error::Problem;

/// The content security policy: a page may load resources only from this host, and only from files.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($name:literal: $kind:expr),* $(,)?) => {
        /// Path below `/dashboard/`, kind, text.
        const FILES: &[(&str, &str, &str)] = &[$(($name, $kind, include_str!(concat!("dashboard/", $name)))),*];
    };
}

files! {
    "index.html": HTML,
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "main.js": SCRIPT,
    "api.js": SCRIPT,
    "dom.js": SCRIPT,
    "chart.js": SCRIPT,
    "terminal.js": SCRIPT,
    "views/workspaces.js": SCRIPT,
    "views/workspace.js": SCRIPT,
    "views/decisions.js": SCRIPT,
    "views/policies.js": SCRIPT,
    "views/cleanup.js": SCRIPT,
    "views/create.js": SCRIPT,
    "views/images.js": SCRIPT,
    "views/events.js": SCRIPT,
}

/// Serves the page.
pub(in crate::api) async fn page(_: Request) -> Result<Response, Problem> {
    find("index.html")
}

/// Serves one of its files.
pub(in crate::api) async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    find(&name)
}

fn find(name: &str) -> Result<Response, Problem> {
    let (_, kind, text) = FILES.iter().find(|(known, ..)| *known == name).ok_or_else(Problem::no_route)?;
    let headers = [
        (header::CONTENT_TYPE, *kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    Ok((headers, *text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names of other files that a file mentions in quotes.
    fn named(text: &str) -> Vec<String> {
        let quoted = text.split(['"', '\'']).skip(1).step_by(2);
        quoted
            .filter(|word| word.ends_with(".js") || word.ends_with(".css") || word.ends_with(".svg"))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_file_that_the_dashboard_names_is_built_in_and_nothing_is_asked_elsewhere() {
        for (name, _, text) in FILES {
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            for other in named(text) {
                let path = match other.strip_prefix("/dashboard/") {
                    Some(path) => path.to_owned(),
                    None => match (other.strip_prefix("../"), other.strip_prefix("./")) {
                        (Some(path), _) => path.to_owned(),
                        (None, Some(path)) if folder.is_empty() => path.to_owned(),
                        (None, Some(path)) => format!("{folder}/{path}"),
                        _ => panic!("{name} names {other}, which is no path"),
                    },
                };
                assert!(FILES.iter().any(|(known, ..)| *known == path), "{name} names {path}");
            }
            // A namespace is not an address that a browser opens.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{name} asks elsewhere");
            for never in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                " style=",
                "javascript:",
            ] {
                assert!(!text.contains(never), "{name} has {never}");
            }
        }
        let on_disk = |folder: &str| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/routes/dashboard").join(folder);
            std::fs::read_dir(path).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()).count()
        };
        assert_eq!(FILES.len(), on_disk("") + on_disk("views"), "every file is built in");
    }

    #[test]
    fn a_path_names_a_file_of_the_list_or_nothing() {
        assert!(find("main.js").is_ok() && find("views/events.js").is_ok());
        for wrong in ["", "/main.js", "../guard.rs", "views/../main.js", "views", "main.js/"] {
            assert!(find(wrong).is_err(), "{wrong}");
        }
    }
}
