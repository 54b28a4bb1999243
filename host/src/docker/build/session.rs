//! The session of a BuildKit build: the engine calls back on it to ask for logins and build secrets.
//!
//! `POST /session` switches its connection to HTTP/2, on which the engine is the client of our gRPC services (moby,
//! `builder/builder-next`; BuildKit, `session/grpc.go`). The engine ends the session when the health service does not
//! answer. Only the logins of the registries that the Dockerfile reads from are served.

use std::io::Cursor;

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::super::Docker;
use super::super::error::Result;
use super::super::http::Call;
use super::super::registry_auth::Logins;
use super::{BuildSecrets, OPERATION};

/// The methods that the engine may call. It compares them without regard to case.
const METHODS: [&str; 2] = ["/moby.filesync.v1.Auth/Credentials", "/moby.buildkit.secrets.v1.Secrets/GetSecret"];

/// An open session. Dropping it closes the connection.
pub(super) struct Session {
    pub(super) id: String,
    task: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens a session that serves these logins and secrets.
///
/// # Errors
/// When the engine refuses it.
pub(super) async fn open(docker: &Docker, logins: Logins, secrets: BuildSecrets) -> Result<Session> {
    let id = new_id();
    let mut call = Call::post(OPERATION, "/session").upgrade_to("h2c").header("x-docker-expose-session-uuid", &id);
    call = call.header("x-docker-expose-session-name", "wharf");
    for method in METHODS {
        call = call.header("x-docker-expose-session-grpc-method", method);
    }
    let connection = docker.http().hijack(&call).await?;
    let reader = Cursor::new(connection.first).chain(connection.reader);
    let io = TokioIo::new(tokio::io::join(reader, connection.writer));
    let routes = Routes::new(HealthServer::new(Healthy))
        .add_service(AuthServer::new(LoginService(logins)))
        .add_service(SecretsServer::new(SecretService(secrets)));
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let task = tokio::spawn(async move {
        if let Err(error) = server.serve_connection(io, TowerToHyperService::new(routes)).await {
            tracing::debug!(%error, "the session of a build ended");
        }
    });
    Ok(Session { id, task })
}

/// Returns an identifier that no other session has: std seeds each hasher from the system's random source.
fn new_id() -> String {
    let random = || std::hash::BuildHasher::build_hasher(&std::hash::RandomState::new());
    format!("{:016x}{:016x}", std::hash::Hasher::finish(&random()), std::process::id())
}

struct Healthy;

#[tonic::async_trait]
impl Health for Healthy {
    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> std::result::Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> std::result::Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("only Check is served"))
    }

    type WatchStream = futures_util::stream::Empty<std::result::Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> std::result::Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("only Check is served"))
    }
}

struct LoginService(Logins);

#[tonic::async_trait]
impl Auth for LoginService {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> std::result::Result<Response<CredentialsResponse>, Status> {
        // Without a login, the engine reads anonymously.
        let (username, secret) = self.0.credentials(&request.get_ref().host).unwrap_or_default();
        Ok(Response::new(CredentialsResponse { username, secret }))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> std::result::Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unavailable("the engine fetches tokens itself"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> std::result::Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unavailable("the engine fetches tokens itself"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> std::result::Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unavailable("the engine fetches tokens itself"))
    }
}

struct SecretService(BuildSecrets);

#[tonic::async_trait]
impl Secrets for SecretService {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> std::result::Result<Response<GetSecretResponse>, Status> {
        let id = &request.get_ref().id;
        match self.0.0.get(id) {
            Some(secret) => Ok(Response::new(GetSecretResponse { data: secret.clone() })),
            None => Err(Status::not_found(format!("no secret '{id}'; give it with --build-secret"))),
        }
    }
}
