//! `/api/requests/{id}/links`: links that can be listed and revoked.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Problem, body::JsonBody, requests::visible};
use crate::{
    auth_token::Caller,
    error::Error,
    file_request::links::store,
    toolbox::{LinkOptions, Toolbox},
};

/// The body of `POST /api/requests/{id}/links`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    requester_only: Option<bool>,
    /// Seconds.
    max_age: Option<u32>,
    max_uses: Option<u32>,
    #[serde(default)]
    data: Map<String, Value>,
}

pub(super) async fn create(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody<Ask>,
) -> Result<Response, Problem> {
    let (row, ask) = (visible(&toolbox, &caller, &id).await?, body.value);
    if ask.max_age == Some(0) {
        return Err(Error::invalid("max_age", "must be a second or more").into());
    }
    // A counted link that a mail scanner can use up would be worse than none.
    if ask.max_uses.is_some() {
        return Err(Error::invalid("max_uses", "is not available in this version").into());
    }
    let options = LinkOptions {
        requester_only: ask.requester_only,
        max_age: ask.max_age.map(|seconds| Duration::from_secs(seconds.into())),
        data: ask.data,
        created_by: caller.username,
    };
    let mut tx = toolbox.db.begin().await?;
    let (link, url) = toolbox.create_link(&mut tx, &row, options).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(link.to_json(Some(&url)))).into_response())
}

pub(super) async fn list(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let row = visible(&toolbox, &caller, &id).await?;
    let mut tx = toolbox.db.read().await?;
    let links = store::list(&mut tx, row.id).await?;
    let items: Vec<Value> = links.iter().map(|link| link.to_json(None)).collect();
    Ok(Json(json!({ "items": items })))
}

pub(super) async fn revoke(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path((id, jti)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let row = visible(&toolbox, &caller, &id).await?;
    let jti = jti.parse().map_err(|_| Error::NotFound("link"))?;
    let mut tx = toolbox.db.begin().await?;
    if !store::revoke(&mut tx, row.id, jti, toolbox.clock.now()).await? {
        return Err(Error::NotFound("link").into());
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
