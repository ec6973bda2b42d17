//! `/api/request-tokens`: issue, list, show, edit, expire, log; and redeeming for applications
//! that are not written in Rust.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Problem,
    body::{JsonBody, Whole, given},
    paging::{self, Page, page},
};
use crate::{
    auth_token::Caller,
    error::{Error, Result},
    request_token::{Changes, LoginMode, NewRequestToken},
    toolbox::{Presented, RequestTokenFilter, Toolbox},
    visitor::Visitor,
};

/// The body of `POST /api/request-tokens`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    #[serde(default)]
    scope: String,
    login_mode: Option<String>,
    user: Option<String>,
    expiration_time: Option<DateTime<Utc>>,
    /// Seconds from now, instead.
    expires_in: Option<Whole<u32>>,
    not_before_time: Option<DateTime<Utc>>,
    max_uses: Option<Whole<i32>>,
    data: Option<Value>,
    /// To be answered with the token in it.
    url: Option<String>,
}

impl Ask {
    fn into_new(self, now: DateTime<Utc>) -> Result<NewRequestToken> {
        let login_mode = self.login_mode.as_deref().map(str::parse::<LoginMode>).transpose();
        let login_mode = login_mode.map_err(|message| Error::invalid("login_mode", message))?;
        let expires_in = self.expires_in.map(|after| now + TimeDelta::seconds(after.0.into()));
        if expires_in.is_some() && self.expiration_time.is_some() {
            return Err(Error::invalid("expires_in", "give either this or expiration_time"));
        }
        Ok(NewRequestToken {
            login_mode: login_mode.unwrap_or_default(),
            user_id: self.user,
            expiration_time: self.expiration_time.or(expires_in),
            not_before_time: self.not_before_time,
            data: self.data.unwrap_or_else(|| json!({})),
            max_uses: self.max_uses.map(|uses| uses.0),
            ..NewRequestToken::new(self.scope)
        })
    }
}

pub(super) async fn create(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    body: JsonBody<Ask>,
) -> Result<Response, Problem> {
    let tokens = toolbox.request_tokens().by(&caller)?;
    let (mut ask, now) = (body.value, toolbox.clock.now());
    let url = ask.url.take();
    let token = tokens.create(ask.into_new(now)?).await?;
    let mut json = token.to_json(now);
    json["jwt"] = toolbox.jwt(&token)?.into();
    if let Some(url) = url {
        json["url"] = toolbox.tokenise(&token, &url)?.into();
    }
    let location = toolbox.base_url.join(&format!("/api/request-tokens/{}", token.id));
    Ok((StatusCode::CREATED, [("location", location)], Json(json)).into_response())
}

/// The query of `GET /api/request-tokens`.
#[derive(Deserialize)]
pub(super) struct Which {
    scope: Option<String>,
    user: Option<String>,
    /// A pasted JWT: the one token that it is of.
    jwt: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

pub(super) async fn list(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Query(query): Query<Which>,
    uri: Uri,
) -> Result<Response, Problem> {
    let tokens = toolbox.request_tokens().by(&caller)?;
    let now = toolbox.clock.now();
    let limit = paging::limit(query.limit.as_deref())?;
    let before = paging::before(query.cursor.as_deref())?;
    if let Some(jwt) = &query.jwt {
        let found = tokens.find_by_jwt(jwt.trim()).await?;
        let items: Vec<Value> = found.iter().map(|token| token.to_json(now)).collect();
        return Ok(paging::listed(&toolbox, &uri, items, None));
    }
    let filter = RequestTokenFilter { scope: query.scope, user_id: query.user, before };
    let rows = tokens.list(&filter, limit + 1).await?;
    Ok(page(&toolbox, &uri, rows, limit, |token| token.id, |token| token.to_json(now)))
}

/// The number that a path names; what is none names no token.
pub(super) fn number(text: &str) -> Result<i64> {
    text.parse().map_err(|_| Error::NotFound("request token"))
}

pub(super) async fn show(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let token = toolbox.request_tokens().by(&caller)?.find(number(&id)?).await?;
    Ok(Json(token.to_json(toolbox.clock.now())))
}

/// The body of `PATCH /api/request-tokens/{id}`; `null` takes a time away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    scope: Option<String>,
    max_uses: Option<Whole<i32>>,
    #[serde(default, deserialize_with = "given")]
    expiration_time: Option<Option<DateTime<Utc>>>,
    #[serde(default, deserialize_with = "given")]
    not_before_time: Option<Option<DateTime<Utc>>>,
    data: Option<Value>,
}

pub(super) async fn update(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody<Edit>,
) -> Result<Json<Value>, Problem> {
    let (tokens, edit) = (toolbox.request_tokens().by(&caller)?, body.value);
    let changes = Changes {
        scope: edit.scope,
        max_uses: edit.max_uses.map(|uses| uses.0),
        expiration_time: edit.expiration_time,
        not_before_time: edit.not_before_time,
        data: edit.data,
    };
    let token = tokens.update(number(&id)?, &changes).await?;
    Ok(Json(token.to_json(toolbox.clock.now())))
}

pub(super) async fn expire(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let token = toolbox.request_tokens().by(&caller)?.expire(number(&id)?).await?;
    Ok(Json(token.to_json(toolbox.clock.now())))
}

pub(super) async fn log(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Page>,
    uri: Uri,
) -> Result<Response, Problem> {
    let tokens = toolbox.request_tokens().by(&caller)?;
    let token = tokens.find(number(&id)?).await?;
    let (limit, before) = (query.limit()?, query.before()?);
    let uses = tokens.uses(&token, before, limit + 1).await?;
    Ok(page(&toolbox, &uri, uses, limit, |used| used.id, |used| used.to_json()))
}

/// The body of `POST /api/request-tokens/redeem`: what an application learnt from its own visitor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redeem {
    token: String,
    scope: String,
    /// Who is logged in there.
    user: Option<String>,
    client_ip: Option<std::net::IpAddr>,
    #[serde(default)]
    user_agent: String,
    /// Whether to log the use.
    log: Option<bool>,
}

/// Counts one use of a token on behalf of an application: 200 with the token and who acts, or 403
/// with the reason.
pub(super) async fn redeem(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    body: JsonBody<Redeem>,
) -> Result<Json<Value>, Problem> {
    let tokens = toolbox.request_tokens().by(&caller)?;
    let ask = body.value;
    let visitor = Visitor::new(ask.client_ip, &ask.user_agent);
    let presented = Presented {
        jwt: &ask.token,
        scope: &ask.scope,
        user: ask.user.as_deref(),
        visitor: &visitor,
        log: ask.log.unwrap_or(true),
    };
    let (admission, used) = tokens.redeem(&presented).await?;
    Ok(Json(json!({
        "use": used,
        "token": admission.token.to_json(toolbox.clock.now()),
        "user": admission.user,
        "begins_session": admission.begins_session,
    })))
}

/// The body of `POST /api/request-tokens/uses/{use}/conclude`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Conclude {
    /// How the application answered its visitor.
    status: Whole<u16>,
}

/// Writes how an application answered the visitor for whom it redeemed a token.
pub(super) async fn conclude(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody<Conclude>,
) -> Result<Json<Value>, Problem> {
    let tokens = toolbox.request_tokens().by(&caller)?;
    let Whole(status) = body.value.status;
    if !(100..600).contains(&status) {
        return Err(Error::invalid("status", "must be an HTTP status, 100 to 599").into());
    }
    let id = id.parse().map_err(|_| Error::NotFound("use"))?;
    Ok(Json(tokens.conclude(id, status).await?.to_json()))
}
