//! The arguments of a request: names in the path, the query, and the body. Unknown arguments are refused.

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use serde::de::DeserializeOwned;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::error::Problem;
use crate::lifecycle::Lifecycle;
use crate::records::{Target, find_among};
use crate::store::{self, Store};
use crate::workspace::{WorkspaceId, url_encoded};

/// Entries of a page: the default, and the limit.
const PAGE: (usize, usize) = (100, 1000);

/// The workspace in a path, by ID or name as in commands. A `/` in it is written as `%2F`.
///
/// A workspace that the caller does not see is reported as not found, see [`Caller::seen`].
pub(in crate::api) struct Named {
    name: String,
    caller: Caller,
}

impl Named {
    /// Creates the name of a workspace that the request has outside of its path.
    pub(in crate::api) fn new(name: String, caller: &Caller) -> Self {
        Self { name, caller: caller.clone() }
    }

    /// Finds the workspace.
    pub(in crate::api) async fn find(&self, lifecycle: &Lifecycle) -> Result<WorkspaceId, Problem> {
        match self.caller.sees_all() {
            true => Ok(lifecycle.find(&Target::Named(self.name.clone())).await?),
            false => Ok(self.stored(lifecycle.store())?.id),
        }
    }

    /// Finds the workspace without the engine.
    pub(in crate::api) fn stored(&self, store: &Store) -> Result<store::Workspace, Problem> {
        let mut all = store.known_workspaces()?;
        if let Some(seen) = self.caller.seen(store)? {
            all.retain(|this| seen.contains(&this.id));
        }
        Ok(find_among(store, all, &Target::Named(self.name.clone()))?)
    }
}

impl FromRequestParts<Api> for Named {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let name = names(parts, api).await?.swap_remove(0);
        Ok(Self { name, caller: Caller::from_request_parts(parts, api).await? })
    }
}

/// Returns all names in a path, in order. A route that extracts a name has at least one in its path.
async fn names(parts: &mut Parts, api: &Api) -> Result<Vec<String>, Problem> {
    let names: Result<Path<Vec<(String, String)>>, PathRejection> = Path::from_request_parts(parts, api).await;
    let Path(names) = names.map_err(|_| Problem::request("the name in the path is not UTF-8"))?;
    if names.is_empty() {
        return Err(Problem::internal("a route without a name in its path"));
    }
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

/// The last segment of the path when it is not the name of a workspace. A `/` in it is written as `%2F`.
pub(in crate::api) struct Word(pub(in crate::api) String);

impl FromRequestParts<Api> for Word {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Ok(Self(names(parts, api).await?.pop().unwrap_or_default()))
    }
}

/// The query. Arguments that are left when [`Args::end`] is called are unknown.
pub(in crate::api) struct Args {
    path: String,
    all: Vec<(String, String)>,
    left: Vec<(String, String)>,
}

impl FromRequestParts<Api> for Args {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(all) = query.map_err(|_| Problem::request("the query does not consist of names and values"))?;
        Ok(Self { path: parts.uri.path().to_owned(), left: all.clone(), all })
    }
}

impl Args {
    /// Returns all values of a name.
    pub(in crate::api) fn every(&mut self, name: &str) -> Vec<String> {
        let (these, left) = std::mem::take(&mut self.left).into_iter().partition(|(this, _)| this == name);
        self.left = left;
        let these: Vec<(String, String)> = these;
        these.into_iter().map(|(_, value)| value).collect()
    }

    /// Returns the value of a name that occurs at most once, parsed by `parse`.
    pub(in crate::api) fn one<T, E: std::fmt::Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        match self.every(name).as_slice() {
            [] => Ok(None),
            [value] => parse(value).map(Some).map_err(|error| Problem::request(format!("{name}: {error}"))),
            _ => Err(Problem::request(format!("{name} is set more than once"))),
        }
    }

    /// Returns a boolean, `true` or `false`; `false` if it is missing.
    pub(in crate::api) fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        Ok(self.one(name, |text| text.parse::<bool>().map_err(|_| "is neither true nor false"))?.unwrap_or(false))
    }

    /// Returns a text that occurs at most once.
    pub(in crate::api) fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        self.one(name, |text| Ok::<_, String>(text.to_owned()))
    }

    /// Returns a number that is at least 0.
    pub(in crate::api) fn number(&mut self, name: &str) -> Result<Option<i64>, Problem> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
        self.one(name, |text| number(text).ok_or("is not a number"))
    }

    /// Returns the requested number of entries.
    pub(in crate::api) fn limit(&mut self) -> Result<usize, Problem> {
        let (usual, most) = PAGE;
        let wrong = || format!("is not a number from 1 to {most}");
        let limit = self.one("limit", |text| match text.parse() {
            Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
            _ => Err(wrong()),
        })?;
        Ok(limit.unwrap_or(usual))
    }

    /// Refuses names that the path does not take.
    pub(in crate::api) fn end(&self) -> Result<(), Problem> {
        match self.left.first() {
            Some((name, _)) => Err(Problem::request(format!("unknown query parameter '{name}'"))),
            None => Ok(()),
        }
    }

    /// Returns the header with the link to the next page: the same query from a cursor on.
    pub(in crate::api) fn next_page(&self, cursor: &str) -> HeaderMap {
        let kept =
            self.all.iter().filter(|(name, _)| name != "cursor").map(|(name, value)| (name.as_str(), value.as_str()));
        let pairs = kept
            .chain([("cursor", cursor)])
            .map(|(name, value)| format!("{}={}", url_encoded(name), url_encoded(value)));
        let link = format!("<{}?{}>; rel=\"next\"", self.path, pairs.collect::<Vec<_>>().join("&"));
        let mut headers = HeaderMap::new();
        if let Ok(link) = HeaderValue::from_str(&link) {
            headers.insert(header::LINK, link);
        }
        headers
    }
}

/// A JSON body; an empty body is an empty object.
pub(in crate::api) struct Json<T>(pub(in crate::api) T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, _: &Api) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = bytes_of(body).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return read(b"{}").map(Self);
        }
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            return Err(Problem::media_type());
        }
        read(&bytes).map(Self)
    }
}

/// Reads the bytes of a body; `guard` has limited their number.
pub(in crate::api) async fn bytes_of(body: Body) -> Result<Bytes, Problem> {
    axum::body::to_bytes(body, usize::MAX).await.map_err(|_| Problem::broken_body())
}

/// Parses a body. Errors give the position and only names from the body, because a value may be a secret.
pub(in crate::api) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would accept a list as the values of an object in order, which is never intended.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::request("the body, line 1: a list, not an object"));
    }
    let mut from = serde_json::Deserializer::from_slice(bytes);
    let wrong = |at: &str, error: &serde_json::Error| {
        let at = if at == "." { String::new() } else { format!(" at '{at}'") };
        let text = error.to_string();
        let what = match error.classify() {
            serde_json::error::Category::Data
                if text.starts_with("unknown field") || text.starts_with("missing field") =>
            {
                text.split(" at line ").next().unwrap_or_default().to_owned()
            }
            serde_json::error::Category::Data => format!("not the expected value{at}"),
            _ if text.starts_with("recursion limit") => "nested too deeply".to_owned(),
            _ => "not JSON".to_owned(),
        };
        Problem::request(format!("the body, line {}, column {}: {what}", error.line(), error.column()))
    };
    let value =
        serde_path_to_error::deserialize(&mut from).map_err(|error| wrong(&error.path().to_string(), error.inner()))?;
    from.end().map_err(|error| wrong(".", &error))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[allow(dead_code)]
        count: Option<u32>,
    }

    fn said(text: &str) -> String {
        format!("{:?}", read::<Wanted>(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn a_wrong_body_says_the_line_and_repeats_no_value() {
        assert!(read::<Wanted>(b"{}").is_ok());
        assert!(said("{\n\"count\": }").contains("line 2, column 10: not JSON"), "{}", said("{\n\"count\": }"));
        let secret = said("{\"count\": \"hunter2\"}");
        assert!(secret.contains("at 'count'") && !secret.contains("hunter2"), "{secret}");
        assert!(said("{\"cuont\": 1}").contains("unknown field `cuont`"));
        assert!(said("{} {}").contains("not JSON"));
        assert!(said(" [1]").contains("a list"), "{}", said(" [1]"));
        assert!(said(&"[".repeat(100_000)).contains("line 1"));
        let deep = format!("{{\"x\": {}", "[".repeat(100_000));
        assert!(read::<serde_json::Value>(deep.as_bytes()).is_err());
    }

    #[test]
    fn the_next_page_keeps_the_query() {
        let args = Args {
            path: "/v1/workspaces".into(),
            all: vec![("label".into(), "a=b c".into()), ("cursor".into(), "old".into())],
            left: vec![],
        };
        let link = args.next_page("new")[header::LINK].to_str().unwrap().to_owned();
        assert_eq!(link, "</v1/workspaces?label=a%3Db%20c&cursor=new>; rel=\"next\"");
    }
}
