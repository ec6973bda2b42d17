//! `/lock_tokens/{app}/{model}/{id}/[{token}/]` as django-lock-tokens has it, and `/api/locks`: who
//! holds what, waiting, breaking.

mod routes;
mod types;

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(in crate::web) use routes::{LOCK_TOKENS, LOCKS, routes, token_routes};
use types::{HeldLock, LateFence, Lock, LockState};

use crate::{
    auth_token::Caller,
    error::{Error, Result},
    lock_token::{Acquired, Ask, Held, Resource},
    toolbox::Toolbox,
    web::{
        Problem,
        api::{
            drf::{Answer, Fields, Refusal},
            json::Whole,
            paging,
        },
        assets::asset,
        identity::caller::{self, lock_session},
        openapi::Items,
        rate,
        state::Shared,
    },
};

/// Longest a caller may wait in one call.
const WAIT: u64 = 60;

/// The client for browsers.
async fn script(headers: HeaderMap) -> Response {
    asset(include_str!("../../static/lock_tokens.js"), "text/javascript; charset=utf-8", &headers)
}

/// Its types.
async fn script_types(headers: HeaderMap) -> Response {
    asset(include_str!("../../static/lock_tokens.d.ts"), "text/plain; charset=utf-8", &headers)
}

type Names = (String, String, String);
type NamesAndToken = (String, String, String, String);

fn resource(app: &str, model: &str, id: &str) -> Result<Resource> {
    Resource::new(app, model, id).map_err(|_| Error::NotFound("resource"))
}

/// Who asks; nobody where locking is open.
async fn who(toolbox: &Toolbox, parts: &Parts) -> Result<Option<Caller>> {
    if toolbox.lock_settings().open && caller::identify(toolbox, parts).await?.is_none() {
        rate::count(toolbox, parts, None).await?;
        return Ok(None);
    }
    let caller = caller::require(toolbox, parts).await?;
    toolbox.check_client(&caller)?;
    Ok(Some(caller))
}

fn answer(toolbox: &Toolbox, status: StatusCode, held: &Held) -> Response {
    let fence = format!("\"{}\"", held.lock.fence);
    let headers = [(header::ETAG, fence), (header::CACHE_CONTROL, "no-store".to_owned())];
    (status, headers, Json(HeldLock::of(toolbox, held))).into_response()
}

/// A late writer says which fence it holds: 412 when that is over.
fn check_fence(headers: &HeaderMap, held: &Held) -> Answer<()> {
    let Some(wanted) = headers.get(header::IF_MATCH) else { return Ok(()) };
    let current = format!("\"{}\"", held.lock.fence);
    let listed = wanted.to_str().unwrap_or("").split(',').map(str::trim);
    if listed.into_iter().any(|tag| tag == "*" || tag == current) {
        return Ok(());
    }
    Err(Refusal::of(StatusCode::PRECONDITION_FAILED, json!(LateFence::of(held))))
}

fn number(fields: &Map<String, Value>, name: &str) -> Result<Option<u32>> {
    let wrong = || Error::invalid(name, "must be a whole number of seconds");
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(number @ Value::Number(_)) => {
            Whole::deserialize(number).map(|Whole(number)| Some(number)).map_err(|_| wrong())
        }
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| wrong()),
        Some(_) => Err(wrong()),
    }
}

fn flag(fields: &Map<String, Value>, name: &str) -> Result<bool> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) if text == "true" => Ok(true),
        Some(Value::String(text)) if text == "false" => Ok(false),
        Some(_) => Err(Error::invalid(name, "must be true or false")),
    }
}

async fn acquire(
    State(toolbox): State<Toolbox>,
    Path((app, model, id)): Path<Names>,
    parts: Parts,
    Fields(fields): Fields,
) -> Answer {
    let caller = who(&toolbox, &parts).await?;
    let resource = resource(&app, &model, &id)?;
    toolbox.may_lock(caller.as_ref(), &resource).await?;
    let mut instead_of = None;
    if let (true, Some(lock)) = (flag(&fields, "force")?, toolbox.lock_on(&resource).await?) {
        let nobody = Error::Forbidden("only its owner and staff may end a lock");
        toolbox.may_take_from(caller.as_ref().ok_or(nobody)?, &lock)?;
        instead_of = Some(lock.fence);
    }
    let reason = fields.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
    let ask = Ask {
        session: lock_session(&toolbox, caller.as_ref(), &parts.headers),
        owner: caller.map(|caller| caller.username),
        reason,
        ttl: number(&fields, "ttl")?,
        instead_of,
    };
    match toolbox.lock(&resource, ask).await? {
        Acquired::Held(held) => Ok(answer(&toolbox, StatusCode::CREATED, &held)),
        Acquired::Taken(lock) => {
            let status = StatusCode::from_u16(toolbox.lock_settings().conflict_status);
            Err(Refusal::of(status.unwrap_or(StatusCode::CONFLICT), json!(Lock::of(&lock))))
        }
    }
}

/// The lock of the token in the path, for who may see the thing.
async fn held(toolbox: &Toolbox, parts: &Parts, names: &NamesAndToken) -> Answer<(Resource, Held)> {
    let caller = who(toolbox, parts).await?;
    let (app, model, id, token) = names;
    let resource = resource(app, model, id)?;
    toolbox.may_lock(caller.as_ref(), &resource).await?;
    let held = toolbox.held_lock(&resource, token).await?;
    check_fence(&parts.headers, &held)?;
    Ok((resource, held))
}

async fn show(
    State(toolbox): State<Toolbox>,
    Path(names): Path<NamesAndToken>,
    parts: Parts,
) -> Answer {
    let (_, held) = held(&toolbox, &parts, &names).await?;
    Ok(answer(&toolbox, StatusCode::OK, &held))
}

async fn renew(
    State(toolbox): State<Toolbox>,
    Path(names): Path<NamesAndToken>,
    parts: Parts,
    Fields(fields): Fields,
) -> Answer {
    let (resource, held) = held(&toolbox, &parts, &names).await?;
    let renewed = toolbox.renew_lock(&resource, &held.token, number(&fields, "ttl")?).await?;
    Ok(answer(&toolbox, StatusCode::OK, &renewed))
}

async fn release(
    State(toolbox): State<Toolbox>,
    Path(names): Path<NamesAndToken>,
    parts: Parts,
) -> Answer {
    let (resource, held) = held(&toolbox, &parts, &names).await?;
    toolbox.unlock(&resource, &held.token).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The query of `GET /api/locks`.
#[derive(Deserialize)]
struct Which {
    resource: Option<String>,
    owner: Option<String>,
    limit: Option<String>,
}

/// Applications and staff see all locks, others their own.
async fn list(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Query(query): Query<Which>,
) -> Result<Json<Items<Lock>>, Problem> {
    let limit = paging::limit(query.limit.as_deref())?;
    let locks = toolbox.locks().by(&caller);
    let locks = locks.list(query.resource.as_deref(), query.owner.as_deref(), limit).await?;
    Ok(Json(Items { items: locks.iter().map(Lock::of).collect() }))
}

/// The query of `GET /api/locks/{app}/{model}/{id}`.
#[derive(Deserialize)]
struct Wait {
    /// Seconds.
    wait: Option<u64>,
}

/// Who holds it: `{"lock": … or null}`. With `?wait=N`, as soon as nobody does, after N seconds at
/// the latest.
async fn state(
    State(state): Shared,
    caller: Caller,
    Path((app, model, id)): Path<Names>,
    Query(query): Query<Wait>,
) -> Result<Json<LockState>, Problem> {
    let toolbox = &state.toolbox;
    let resource = resource(&app, &model, &id)?;
    toolbox.may_lock(Some(&caller), &resource).await?;
    let most = query.wait.unwrap_or(0);
    if most > WAIT {
        return Err(Error::invalid("wait", format!("must be up to {WAIT} seconds")).into());
    }
    let lock = tokio::select! {
        lock = toolbox.wait_for_lock(&resource, Duration::from_secs(most)) => lock?,
        () = state.shutdown.cancelled() => toolbox.lock_on(&resource).await?,
    };
    Ok(Json(LockState { lock: lock.as_ref().map(Lock::of) }))
}

async fn break_lock(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path((app, model, id)): Path<Names>,
) -> Result<StatusCode, Problem> {
    let resource = resource(&app, &model, &id)?;
    toolbox.may_lock(Some(&caller), &resource).await?;
    toolbox.break_lock(&caller, &resource).await?;
    Ok(StatusCode::NO_CONTENT)
}
