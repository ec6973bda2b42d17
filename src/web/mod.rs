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
mod problem;
mod range;
mod requests;
pub mod server;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRef},
    middleware,
    routing::{delete, get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

pub use caller::RequesterId;
pub use download::serve_file;
pub use problem::Problem;

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
        .route("/requests/{id}/links/{jti}", delete(links::revoke))
        .route("/file-types", get(file_types::list));
    Router::new()
        .nest("/api", api)
        // HEAD comes with GET.
        .route("/d/{token}", get(download::download))
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
