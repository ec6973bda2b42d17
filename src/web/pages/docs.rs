//! The API's documentation, out of `/openapi.json`.

use axum::response::Response;
use minijinja::{Value, context};

use super::{Person, State};
use crate::web::{Problem, api::document, view::View};

/// For everybody: it says nothing that `/openapi.json` does not.
pub(super) async fn show(
    axum::extract::State(state): State,
    axum::Extension(documents): axum::Extension<document::Documents>,
    person: Result<Person, Response>,
    headers: axum::http::HeaderMap,
    uri: axum::http::Uri,
) -> Result<Response, Problem> {
    let (view, caller) = match person {
        Ok(person) => (person.view, Some(person.caller)),
        Err(_) => (View::of(state.toolbox.base_url(), &headers, &uri), None),
    };
    let api = &documents.of(&state.toolbox, caller.as_ref()).api;
    let own = context! { api => Value::from(minijinja::value::Serde(api)) };
    Ok(view.page(&state.toolbox, state.site(), "page/docs.html", own)?)
}
