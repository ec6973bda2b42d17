//! HTTP: recording requests, watching them, and handing out files.
//!
//! [`router`] can be nested in a host application; [`server::serve`] is what `bgfiles web` runs.

mod auth;
mod body;
mod caller;
mod client_guard;
mod cors;
mod download;
mod drf;
mod events;
mod file_types;
mod health;
mod linger;
mod links;
mod lock_guard;
mod locks;
mod observe;
mod openapi;
mod pages;
mod paging;
mod problem;
mod range;
mod rate;
mod redeem;
mod request_tokens;
mod requests;
mod routes;
pub mod server;
mod session;
mod token_guard;
mod view;
mod visitor;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, FromRef},
    middleware,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::util::MapRequestLayer;

pub use caller::RequesterId;
pub use client_guard::{
    CallerLayer, CallerService, allow_clients, disallow_clients, require_caller,
};
pub use download::serve_file;
pub use lock_guard::{LockLayer, LockService, holds_lock_on_object, locks_object};
pub use problem::Problem;
pub use token_guard::{
    RequestToken, Scope, TokenLayer, TokenService, optional_token, request_tokens, require_token,
};

/// What fuzz targets call; no part of the interface.
#[doc(hidden)]
pub mod parsers {
    pub use super::{
        paging::before,
        problem::wants_html,
        range::{Answer, Representation, answer},
        requests::{cursor, read_cursor},
        view::language,
    };
}

use crate::{
    config::{Origins, Serve},
    toolbox::Toolbox,
};
use routes::Routes;

/// How long a request's body may take: one that dribbles must not keep a connection for days.
const BODY_TIME: Duration = Duration::from_secs(60);

/// Most bytes of a body that is read before its sender is known: a login, the button of a link, a
/// lock.
const STRANGERS_BODY: usize = 16 * 1024;

/// What the routes need.
#[derive(Clone)]
pub struct WebState {
    /// The operations.
    pub toolbox: Toolbox,
    /// Who sends the bytes of a download.
    pub serve: Serve,
    /// Most bytes of a request body.
    pub body_limit: usize,
    /// How long all of it may take.
    pub body_time: Duration,
    /// Fires when the process should end; long answers end with it.
    pub shutdown: CancellationToken,
    /// What `/metrics` shows; nothing when `None`.
    pub metrics: Option<PrometheusHandle>,
    /// Whether there are pages for people besides the API.
    pub pages: bool,
    /// The folder of mails that `/dev/mail` shows; for development.
    pub mailbox: Option<PathBuf>,
    /// Origins whose pages may call the API from a browser, without cookies.
    pub cors: Origins,
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
            body_time: BODY_TIME,
            shutdown: CancellationToken::new(),
            metrics: None,
            pages: true,
            mailbox: None,
            cors: Origins::None,
            receipts: TaskTracker::new(),
        }
    }
}

impl FromRef<Arc<WebState>> for Toolbox {
    fn from_ref(state: &Arc<WebState>) -> Self {
        state.toolbox.clone()
    }
}

impl WebState {
    /// What pages may link to.
    fn site(&self) -> view::Site {
        view::Site { pages: self.pages, mailbox: self.mailbox.is_some() }
    }
}

type Shared = axum::extract::State<Arc<WebState>>;

/// `/healthz`, `/readyz` and `/metrics` alone, for processes that serve nothing else.
pub fn monitor_router(state: WebState) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .layer(Extension(health::Readiness::default()))
        .with_state(Arc::new(state))
}

/// Routes by pages and most bytes of a body. Where a body is read before anybody knows who sends it,
/// it has no more than [`STRANGERS_BODY`].
fn table(pages: bool, body_limit: usize) -> Routes {
    let strangers = DefaultBodyLimit::max(body_limit.min(STRANGERS_BODY));
    let bounded = |routes: Routes| routes.map(|router| router.layer(strangers));
    let api = Routes::default()
        .post("/requests", requests::create)
        .get("/requests", requests::list)
        .get("/requests/{id}", requests::show)
        .patch("/requests/{id}", requests::update)
        .delete("/requests/{id}", requests::remove)
        .post("/requests/{id}/cancel", requests::cancel)
        .post("/requests/{id}/retry", requests::retry)
        .get("/requests/{id}/events", events::events)
        .post("/requests/{id}/links", links::create)
        .get("/requests/{id}/links", links::list)
        .delete("/requests/{id}/links/{jti}", links::revoke)
        .patch("/requests/{id}/links/{jti}", links::extend)
        .post("/requests/{id}/links/{jti}/send", links::send)
        .get("/requests/{id}/links/{jti}/log", links::link_log)
        .get("/requests/{id}/log", links::request_log)
        .get("/file-types", file_types::list)
        .post("/request-tokens", request_tokens::create)
        .get("/request-tokens", request_tokens::list)
        .post("/request-tokens/redeem", request_tokens::redeem)
        .post("/request-tokens/uses/{use}/conclude", request_tokens::conclude)
        .get("/request-tokens/{id}", request_tokens::show)
        .patch("/request-tokens/{id}", request_tokens::update)
        .post("/request-tokens/{id}/expire", request_tokens::expire)
        .get("/request-tokens/{id}/log", request_tokens::log)
        .get("/locks", locks::list)
        .get("/locks/{app}/{model}/{id}", locks::state)
        .delete("/locks/{app}/{model}/{id}", locks::break_lock)
        .nest("/auth", bounded(auth::routes()));
    // HEAD comes with GET.
    let links =
        Routes::default().get("/d/{token}", download::download).post("/d/{token}", redeem::redeem);
    let login = if pages { pages::login_routes() } else { Routes::default() };
    Routes::default()
        .nest("/api", api)
        .nest("/lock_tokens", bounded(locks::routes()))
        .merge(bounded(links.merge(login)))
        .get("/g/{grant}/{name}", redeem::granted)
        // Programs that repeat the POST of the link at the address that it is answered with.
        .post("/g/{grant}/{name}", redeem::granted)
        .get("/healthz", health::healthz)
        .get("/readyz", health::readyz)
        .get("/metrics", health::metrics)
        .get("/openapi.json", openapi::json)
        // Links and refusals have pages, whatever else has.
        .get("/static/{name}", pages::asset)
        .merge(if pages { pages::routes() } else { Routes::default() })
}

/// Method and path of every route of [`router`].
pub fn routes() -> Vec<(http::Method, String)> {
    table(true, STRANGERS_BODY).list()
}

/// All routes.
pub fn router(state: WebState) -> Router {
    let state = Arc::new(state);
    let router = table(state.pages, state.body_limit)
        .router
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(DefaultBodyLimit::max(state.body_limit))
        .layer(Extension(openapi::Documents::default()))
        .layer(Extension(health::Readiness::default()))
        .layer(MapRequestLayer::new(body::within(state.body_time)))
        .layer(middleware::from_fn_with_state(state.clone(), problem::pages))
        .layer(tower_http::catch_panic::CatchPanicLayer::custom(problem::panicked))
        .layer(middleware::from_fn_with_state(observe::Observer::new(&state), observe::observe));
    // Outermost, as small files are sent by the layer above.
    let router = match cors::layer(&state.cors) {
        Some(cors) => router.layer(middleware::from_fn_with_state(cors, cors::answer)),
        None => router,
    };
    router.with_state(state)
}
