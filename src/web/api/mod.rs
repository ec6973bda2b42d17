//! For programs: each area's routes, with what they take and return.

pub(super) mod auth;
pub(super) mod document;
mod drf;
mod file_types;
pub(super) mod health;
mod json;
mod links;
mod locks;
pub(super) mod paging;
pub(super) mod request_tokens;
pub(super) mod requests;

use super::routes::Routes;

/// Every route but [`strangers_routes`].
pub(super) fn routes() -> Routes {
    requests::routes()
        .merge(links::routes())
        .merge(file_types::routes())
        .merge(request_tokens::routes())
        .merge(locks::routes())
        .merge(health::routes())
        .merge(document::routes())
}

/// Those that read a body before anybody knows who sends it.
pub(super) fn strangers_routes() -> Routes {
    auth::routes().merge(locks::token_routes())
}
