//! `GET /api/file-types`: the registry.

use axum::{Json, extract::State, http::HeaderMap};
use serde_json::{Value, json};

use crate::{auth_token::Caller, file_request::links::RequesterOnly, toolbox::Toolbox};

pub(super) async fn list(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    headers: HeaderMap,
) -> Json<Value> {
    let language = headers.get("accept-language").and_then(|value| value.to_str().ok());
    let language = language.and_then(|l| l.split([',', ';']).next()).map_or("en", str::trim);
    let items: Vec<Value> = toolbox
        .requests()
        .by(&caller)
        .file_types()
        .map(|handler| {
            let policy = handler.policy();
            json!({
                "name": handler.file_type(),
                "title": handler.title(language),
                "formats": handler.formats(),
                "requester_only": policy.requester_only != RequesterOnly::No,
                "link": policy.to_json(),
                "criteria": handler.criteria_schema(language),
            })
        })
        .collect();
    Json(json!({ "items": items }))
}
