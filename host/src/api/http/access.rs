//! Who calls, and what they may: a role, and for some the labels of the workspaces that they see.
//!
//! `guard` finds out who it is. What a route needs is said where it is declared, in [`Routes`]: there is no other way to
//! declare one.

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

/// How often it is looked whether the token of a stream is still good.
const LOOK: Duration = Duration::from_secs(2);

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) enum Peer {
    /// The Unix socket, with the user that the kernel names.
    Socket(u32),
    /// The network, over TLS.
    Network(SocketAddr),
}

impl Peer {
    pub(in crate::api) fn is_remote(&self) -> bool {
        matches!(self, Self::Network(_))
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub(in crate::api) struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    role: Role,
    /// A workspace must have all of them to be seen; none: everything is.
    labels: BTreeMap<String, String>,
    /// What tells its token apart, over the network.
    token: Option<Arc<str>>,
    /// Whether it is known by the session of the token only.
    session: bool,
}

impl Caller {
    /// Whom the socket's file and the kernel have let through: the user of the service, and root.
    pub(in crate::api) fn of_socket(uid: u32) -> Self {
        let (name, labels) = (format!("user {uid}"), BTreeMap::new());
        Self(Arc::new(Inner { name, role: Role::Admin, labels, token: None, session: false }))
    }

    /// Who has a token, or a session of one.
    pub(in crate::api) fn of_token(token: Token, session: bool) -> Self {
        let Token { name, role, labels, id, .. } = token;
        Self(Arc::new(Inner { name, role, labels, token: Some(id.into()), session }))
    }

    /// As records and policies have it.
    pub(in crate::api) fn of_decisions(&self) -> crate::hooks::Caller {
        let role = match self.0.role {
            Role::Viewer => CallerRole::Viewer,
            Role::Operator => CallerRole::Operator,
            Role::Admin => CallerRole::Admin,
        };
        let door = if self.0.token.is_some() { Door::Network } else { Door::Socket };
        crate::hooks::Caller { name: self.0.name.clone(), role, door }
    }

    /// For logs.
    pub(in crate::api) fn name(&self) -> &str {
        &self.0.name
    }

    pub(in crate::api) fn role(&self) -> Role {
        self.0.role
    }

    /// The labels that a workspace must have to be seen.
    pub(in crate::api) fn labels(&self) -> &BTreeMap<String, String> {
        &self.0.labels
    }

    /// What tells the token apart that the request itself has; none over the Unix socket, and in a session.
    pub(in crate::api) fn token(&self) -> Option<&str> {
        self.0.token.as_deref().filter(|_| !self.0.session)
    }

    /// Whose share of the network's places it uses: its token's, also in a session. None over the Unix socket.
    pub(in crate::api) fn holder(&self) -> Option<Arc<str>> {
        self.0.token.clone()
    }

    /// Ends when the caller's token is revoked or its time is over, within some seconds; never for who has none. For what
    /// goes on after its request was let through.
    pub(in crate::api) async fn revoked(&self, handle: &Handle) {
        let Some(id) = &self.0.token else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            let (handle, id) = (handle.clone(), id.clone());
            let found = tokio::task::spawn_blocking(move || handle.store().token_by_id(&id)).await;
            match found {
                Ok(Ok(Some(token))) if !token.is_expired(Timestamp::now()) => {}
                Ok(Ok(_)) => return,
                // A store that cannot be read now revokes nothing.
                Ok(Err(error)) => tracing::warn!("api: {error}"),
                Err(error) => tracing::warn!("api: {error}"),
            }
        }
    }

    /// Whether everything of the installation is seen.
    pub(in crate::api) fn sees_all(&self) -> bool {
        self.0.labels.is_empty()
    }

    /// The workspaces that are seen, with their sidecars; none: all of them.
    ///
    /// Labels are those that were decided: who runs in a workspace cannot change them, and one that the store has lost
    /// has none.
    pub(in crate::api) fn seen(&self, store: &Store) -> Result<Option<BTreeSet<WorkspaceId>>, store::Error> {
        if self.sees_all() {
            return Ok(None);
        }
        Ok(Some(self.those(store)?.iter().map(|this| this.id.clone()).collect()))
    }

    /// The same, each with the time since when what happened to it is seen: an id may be used again, and what happened to an
    /// earlier workspace is not for those who see the present one.
    pub(in crate::api) fn seen_since(
        &self,
        store: &Store,
    ) -> Result<Option<BTreeMap<WorkspaceId, Timestamp>>, store::Error> {
        if self.sees_all() {
            return Ok(None);
        }
        Ok(Some(self.those(store)?.iter().map(|this| (this.id.clone(), this.created_at)).collect()))
    }

    /// Whether a workspace with these labels is seen.
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

/// What a route needs of who calls it.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) enum Needs {
    /// Nothing: it says nothing that a stranger must not know.
    Nothing,
    /// A role, or more. The route shows and touches only what its caller sees: by `Named`, or by [`Caller::seen`].
    Role(Role),
    /// The same, of a caller who sees everything: it shows or touches the whole installation.
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

/// The routes, each with what it needs.
pub(in crate::api) struct Routes(OpenApiRouter<Api>);

impl Routes {
    pub(in crate::api) fn new() -> Self {
        Self(OpenApiRouter::new())
    }

    /// Declares a route that is described in the API's document.
    pub(in crate::api) fn routes(self, needs: Needs, (schemas, paths, methods): UtoipaMethodRouter<Api>) -> Self {
        Self(self.0.routes((schemas, paths, guarded(needs, methods))))
    }

    /// Declares a route that is for browsers.
    pub(in crate::api) fn route(self, needs: Needs, path: &str, methods: MethodRouter<Api>) -> Self {
        Self(self.0.route(path, guarded(needs, methods)))
    }

    /// What describes them.
    pub(in crate::api) fn document(self) -> OpenApi {
        self.0.into_openapi()
    }

    /// All of them; what is none of them is a problem, of which a stranger is told only that he is one.
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
        Caller(Arc::new(Inner { name: "x".into(), role, labels, token: None, session: false }))
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
