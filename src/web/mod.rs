//! HTTP: recording requests, watching them, and handing out files.
//!
//! [`router`] can be nested in a host application; [`server::serve`] is what `bgfiles web` runs.

mod body;
mod caller;
mod download;
mod events;
mod file_types;
mod health;
mod links;
mod observe;
mod paging;
mod problem;
mod range;
mod redeem;
mod request_tokens;
mod requests;
pub mod server;
mod session;
mod token_guard;
mod visitor;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRef},
    middleware,
    routing::{delete, get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use caller::RequesterId;
pub use download::serve_file;
pub use problem::Problem;
pub use token_guard::{
    RequestToken, Scope, TokenLayer, TokenService, optional_token, request_tokens, require_token,
};

use crate::{config::Serve, toolbox::Toolbox};

/// How long a client may pause within a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What the routes need.
#[derive(Clone)]
pub struct WebState {
    /// The operations.
    pub toolbox: Toolbox,
    /// Who sends the bytes of a download.
    pub serve: Serve,
    /// Most bytes of a request body.
    pub body_limit: usize,
    /// Fires when the process should end; long answers end with it.
    pub shutdown: CancellationToken,
    /// What `/metrics` shows; nothing when `None`.
    pub metrics: Option<PrometheusHandle>,
    /// Receipts being written; wait for them before the process ends.
    pub receipts: TaskTracker,
}

impl WebState {
    /// With the defaults of the configuration.
    pub fn new(toolbox: Toolbox) -> Self {
        WebState {
            toolbox,
            serve: Serve::Stream,
            body_limit: 1024 * 1024,
            shutdown: CancellationToken::new(),
            metrics: None,
            receipts: TaskTracker::new(),
        }
    }
}

impl FromRef<Arc<WebState>> for Toolbox {
    fn from_ref(state: &Arc<WebState>) -> Self {
        state.toolbox.clone()
    }
}

type Shared = axum::extract::State<Arc<WebState>>;

/// `/healthz`, `/readyz` and `/metrics` alone, for processes that serve nothing else.
pub fn monitor_router(state: WebState) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .with_state(Arc::new(state))
}

/// All routes.
pub fn router(state: WebState) -> Router {
    let state = Arc::new(state);
    let api = Router::new()
        .route("/requests", post(requests::create).get(requests::list))
        .route("/requests/{id}", get(requests::show).delete(requests::remove))
        .route("/requests/{id}/cancel", post(requests::cancel))
        .route("/requests/{id}/retry", post(requests::retry))
        .route("/requests/{id}/events", get(events::events))
        .route("/requests/{id}/links", post(links::create).get(links::list))
        .route("/requests/{id}/links/{jti}", delete(links::revoke).patch(links::extend))
        .route("/requests/{id}/links/{jti}/send", post(links::send))
        .route("/requests/{id}/links/{jti}/log", get(links::link_log))
        .route("/requests/{id}/log", get(links::request_log))
        .route("/file-types", get(file_types::list))
        .route("/request-tokens", post(request_tokens::create).get(request_tokens::list))
        .route("/request-tokens/redeem", post(request_tokens::redeem))
        .route("/request-tokens/{id}", get(request_tokens::show).patch(request_tokens::update))
        .route("/request-tokens/{id}/expire", post(request_tokens::expire))
        .route("/request-tokens/{id}/log", get(request_tokens::log));
    Router::new()
        .nest("/api", api)
        // HEAD comes with GET.
        .route("/d/{token}", get(download::download).post(redeem::redeem))
        .route("/g/{grant}/{name}", get(redeem::granted))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(DefaultBodyLimit::max(state.body_limit))
        .layer(tower_http::timeout::RequestBodyTimeoutLayer::new(BODY_TIMEOUT))
        .layer(middleware::from_fn_with_state(state.clone(), problem::pages))
        .layer(tower_http::catch_panic::CatchPanicLayer::custom(problem::panicked))
        .layer(middleware::from_fn(observe::observe))
        .with_state(state)
}
