//! HTTP: recording requests, watching them, and handing out files.
//!
//! [`router`] can be nested in a host application; [`server::serve`] is what `bgfiles web` runs.
//!
//! ```text
//! server     connections, deadlines, one line an answer
//! pages      for people
//! api        for programs: each area's routes, with what they take and return
//! download   handing out files
//! identity   who calls, and the layers that admit
//! here       what all of these need: state, problems, cookies, rates
//! ```

mod api;
mod assets;
mod conditional;
mod download;
mod idempotency;
mod identity;
mod media_type;
mod openapi;
mod pages;
mod problem;
mod rate;
mod routes;
pub mod server;
mod session;
mod state;
mod view;
mod visitor;

use std::sync::Arc;

use axum::{Extension, Router, extract::DefaultBodyLimit, middleware, routing::get};
use tower::util::MapRequestLayer;

pub use download::serve_file;
pub use identity::{
    CallerLayer, CallerService, LockLayer, LockService, RequestToken, RequesterId, Scope,
    TokenLayer, TokenService, allow_clients, disallow_clients, holds_lock_on_object, locks_object,
    optional_token, request_tokens, require_caller, require_token,
};
pub use problem::Problem;
pub use state::WebState;

/// What fuzz targets call; no part of the interface.
#[doc(hidden)]
pub mod parsers {
    pub use super::{
        api::{
            paging::before,
            requests::{cursor, read_cursor},
        },
        conditional::{Answer, Representation, answer},
        problem::wants_html,
        view::language,
    };
}

use api::health;
use routes::Routes;
use server::{cors, deadline, observe};

/// Most bytes of a body that is read before its sender is known: a login, the button of a link, a
/// lock.
const STRANGERS_BODY: usize = 16 * 1024;

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
    let login = if pages { pages::login_routes() } else { Routes::default() };
    api::routes()
        .merge(bounded(api::strangers_routes().merge(download::link_routes()).merge(login)))
        .merge(download::grant_routes())
        // Links and refusals have pages, whatever else has.
        .get("/static/{name}", assets::get)
        .merge(if pages { pages::routes() } else { Routes::default() })
}

/// Method and path of every route of [`router`].
pub fn routes() -> Vec<(http::Method, String)> {
    table(true, STRANGERS_BODY).list()
}

/// All routes.
pub fn router(state: WebState) -> Router {
    let state = Arc::new(state);
    let routes = table(state.pages, state.body_limit);
    let documents = api::document::Documents::new(routes.operations());
    let router = routes
        .router
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(DefaultBodyLimit::max(state.body_limit))
        .layer(Extension(documents))
        .layer(Extension(health::Readiness::default()))
        .layer(MapRequestLayer::new(deadline::within(state.body_time)))
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
