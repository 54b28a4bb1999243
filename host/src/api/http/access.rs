//! Callers and their permissions: a role, and for some callers the labels that limit which workspaces they see.
//!
//! `guard` identifies the caller. Each route declares its requirements in [`Routes`], which is the only way to declare
//! a route.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::MethodRouter;
use jiff::Timestamp;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::api::Api;
use crate::api::http::error::Problem;
use crate::hooks::{CallerRole, Door};
use crate::service::Handle;
use crate::store::{self, Role, Store, Token};
use crate::workspace::WorkspaceId;

/// The interval of checks whether the token of a stream is still valid.
const LOOK: Duration = Duration::from_secs(2);

/// The origin of a connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) enum Peer {
    /// The Unix socket, with the user ID from the kernel.
    Socket(u32),
    /// The network, over TLS.
    Network(SocketAddr),
}

impl Peer {
    pub(in crate::api) fn is_remote(&self) -> bool {
        matches!(self, Self::Network(_))
    }
}

/// The caller of a request.
#[derive(Debug, Clone)]
pub(in crate::api) struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    /// The user from the kernel; only for callers over the socket.
    uid: Option<u32>,
    role: Role,
    /// The labels that a workspace must have to be visible. With no labels, every workspace is visible.
    labels: BTreeMap<String, String>,
    /// The ID of its token; only for callers over the network.
    token: Option<Arc<str>>,
    /// Whether the request has only the session of the token, not the token itself.
    session: bool,
}

impl Caller {
    /// Creates the caller of a connection over the socket. The mode of the socket's file and the kernel admit only the
    /// user of the service and root.
    pub(in crate::api) fn of_socket(uid: u32) -> Self {
        let (name, labels) = (format!("user {uid}"), BTreeMap::new());
        Self(Arc::new(Inner { name, uid: Some(uid), role: Role::Admin, labels, token: None, session: false }))
    }

    /// Creates the caller for a token, or for a session of it.
    pub(in crate::api) fn of_token(token: Token, session: bool) -> Self {
        let Token { name, role, labels, id, .. } = token;
        Self(Arc::new(Inner { name, uid: None, role, labels, token: Some(id.into()), session }))
    }

    /// Returns the caller as records and policies represent it.
    pub(in crate::api) fn of_decisions(&self) -> crate::hooks::Caller {
        let role = match self.0.role {
            Role::Viewer => CallerRole::Viewer,
            Role::Operator => CallerRole::Operator,
            Role::Admin => CallerRole::Admin,
        };
        let door = if self.0.token.is_some() { Door::Network } else { Door::Socket };
        crate::hooks::Caller { name: self.0.name.clone(), uid: self.0.uid, role, door }
    }

    /// Returns the name for logs.
    pub(in crate::api) fn name(&self) -> &str {
        &self.0.name
    }

    pub(in crate::api) fn role(&self) -> Role {
        self.0.role
    }

    /// Returns the labels that a workspace must have to be visible.
    pub(in crate::api) fn labels(&self) -> &BTreeMap<String, String> {
        &self.0.labels
    }

    /// Returns the ID of the token if the request itself has the token. `None` over the Unix socket and in a session.
    pub(in crate::api) fn token(&self) -> Option<&str> {
        self.0.token.as_deref().filter(|_| !self.0.session)
    }

    /// Returns the holder of the caller's share of the network's slots: the ID of the token, also in a session. `None`
    /// over the Unix socket.
    pub(in crate::api) fn holder(&self) -> Option<Arc<str>> {
        self.0.token.clone()
    }

    /// Completes when the caller's token is revoked or has expired, within some seconds. It never completes for callers
    /// without a token. It is for work that continues after the request was authorized.
    pub(in crate::api) async fn revoked(&self, handle: &Handle) {
        let Some(id) = &self.0.token else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            let (handle, id) = (handle.clone(), id.clone());
            let found = tokio::task::spawn_blocking(move || handle.store().token_by_id(&id)).await;
            match found {
                Ok(Ok(Some(token))) if !token.is_expired(Timestamp::now()) => {}
                Ok(Ok(_)) => return,
                // A store that is temporarily unreadable revokes nothing.
                Ok(Err(error)) => tracing::warn!("api: {error}"),
                Err(error) => tracing::warn!("api: {error}"),
            }
        }
    }

    /// Returns whether the caller sees everything of the installation.
    pub(in crate::api) fn sees_all(&self) -> bool {
        self.0.labels.is_empty()
    }

    /// Returns the visible workspaces, including their sidecars. `None` means all workspaces.
    ///
    /// The labels are the decided ones: users inside a workspace cannot change them. A workspace that the store has
    /// lost has no labels.
    pub(in crate::api) fn seen(&self, store: &Store) -> Result<Option<BTreeSet<WorkspaceId>>, store::Error> {
        if self.sees_all() {
            return Ok(None);
        }
        Ok(Some(self.those(store)?.iter().map(|this| this.id.clone()).collect()))
    }

    /// Returns the visible workspaces like [`Self::seen`], each with the start of its visible history. An ID may be
    /// reused, and callers who see the present workspace must not see events of an earlier one.
    pub(in crate::api) fn seen_since(
        &self,
        store: &Store,
    ) -> Result<Option<BTreeMap<WorkspaceId, Timestamp>>, store::Error> {
        if self.sees_all() {
            return Ok(None);
        }
        Ok(Some(self.those(store)?.iter().map(|this| (this.id.clone(), this.created_at)).collect()))
    }

    /// Returns whether a workspace with these labels is visible.
    pub(in crate::api) fn covers(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    fn those(&self, store: &Store) -> Result<Vec<Arc<store::Workspace>>, store::Error> {
        let mut all = store.workspaces()?;
        let own: BTreeSet<WorkspaceId> = all
            .iter()
            .filter(|this| this.part_of.is_none() && self.covers(&this.draft.spec.labels))
            .map(|this| this.id.clone())
            .collect();
        all.retain(|this| own.contains(this.part_of.as_ref().unwrap_or(&this.id)));
        Ok(all)
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::no_token)
    }
}

/// The permissions that a route requires of its caller.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) enum Needs {
    /// None: the route reveals nothing that a stranger must not know.
    Nothing,
    /// At least this role. The route shows and touches only objects that its caller sees, through `Named` or
    /// [`Caller::seen`].
    Role(Role),
    /// At least this role, and a caller who sees everything: the route shows or touches the whole installation.
    Whole(Role),
}

impl Needs {
    fn check(self, caller: Option<&Caller>) -> Result<(), Problem> {
        let role = match self {
            Self::Nothing => return Ok(()),
            Self::Role(role) | Self::Whole(role) => role,
        };
        let caller = caller.ok_or_else(Problem::no_token)?;
        if caller.0.role < role {
            return Err(Problem::role(caller.0.role, role));
        }
        if matches!(self, Self::Whole(_)) && !caller.sees_all() {
            return Err(Problem::label_scope());
        }
        Ok(())
    }
}

/// The routes, each with its requirements.
pub(in crate::api) struct Routes(OpenApiRouter<Api>);

impl Routes {
    pub(in crate::api) fn new() -> Self {
        Self(OpenApiRouter::new())
    }

    /// Declares a route that the API's document describes.
    pub(in crate::api) fn routes(self, needs: Needs, (schemas, paths, methods): UtoipaMethodRouter<Api>) -> Self {
        Self(self.0.routes((schemas, paths, guarded(needs, methods))))
    }

    /// Declares a route for browsers.
    pub(in crate::api) fn route(self, needs: Needs, path: &str, methods: MethodRouter<Api>) -> Self {
        Self(self.0.route(path, guarded(needs, methods)))
    }

    /// Returns the document that describes the routes.
    pub(in crate::api) fn document(self) -> OpenApi {
        self.0.into_openapi()
    }

    /// Returns the router of all routes. An unknown path is a problem; a stranger learns only that a token is missing.
    pub(in crate::api) fn router(self) -> Router<Api> {
        let (router, _) = self.0.split_for_parts();
        router
            .fallback(|_: Caller| async { Problem::no_route() })
            .method_not_allowed_fallback(|_: Caller| async { Problem::wrong_method() })
    }
}

fn guarded(needs: Needs, methods: MethodRouter<Api>) -> MethodRouter<Api> {
    let check = move |request: Request, next: Next| async move {
        needs.check(request.extensions().get())?;
        Ok::<Response, Problem>(next.run(request).await)
    };
    methods.route_layer(from_fn(check))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role, label: Option<(&str, &str)>) -> Caller {
        let labels = label.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        Caller(Arc::new(Inner { name: "x".into(), uid: None, role, labels, token: None, session: false }))
    }

    #[test]
    fn a_role_has_what_the_lesser_ones_have_and_nothing_more() {
        let roles = [Role::Viewer, Role::Operator, Role::Admin];
        for has in roles {
            for needs in roles {
                let may = Needs::Role(needs).check(Some(&caller(has, None))).is_ok();
                assert_eq!(may, has >= needs, "{has} {needs}");
                assert_eq!(Needs::Whole(needs).check(Some(&caller(has, None))).is_ok(), may);
            }
        }
    }

    #[test]
    fn strangers_have_nothing_and_who_sees_a_part_does_not_have_the_whole() {
        let some = caller(Role::Operator, Some(("team", "pay")));
        assert!(Needs::Role(Role::Operator).check(Some(&some)).is_ok());
        assert!(Needs::Whole(Role::Viewer).check(Some(&some)).is_err());
        assert!(Needs::Nothing.check(None).is_ok());
        assert!(Needs::Role(Role::Viewer).check(None).is_err());
        assert!(Needs::Whole(Role::Viewer).check(None).is_err());
    }
}
