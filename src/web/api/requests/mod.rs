//! `/api/requests`: ask, list, look, cancel, try again, remove.

pub(in crate::web) mod events;
mod routes;
mod types;

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{AppendHeaders, Html, IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use minijinja::context;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    auth_token::Caller,
    error::{Error, Result},
    file_request::{Criteria, FileRequest, Status},
    ids::{RequestId, hex},
    toolbox::{Editor, IdempotencyKey, Inline, RequestFilter, Response as Made, Toolbox},
    web::{
        Problem, WebState,
        api::{
            json::JsonBody,
            paging::{self, filled},
        },
        conditional::{expected, is_known, not_modified},
        download::{REPR_DIGEST, UNCHANGED, repr_digest},
        idempotency::{REPLAYED, idempotency_key},
        identity::caller::lock_session,
        problem::wants_html,
        state::Shared,
        view::View,
    },
};
pub(in crate::web) use routes::{REQUESTS, routes};
pub(in crate::web) use types::particular;
use types::{Ask, FileRequestEdit};

/// Nobody is told to wait longer, in seconds.
const DAY: u64 = 86_400;

async fn create(
    State(state): Shared,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    body: JsonBody<Ask>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let criteria = Criteria::from_json_text(body.written("criteria"))?;
    // Keys that were stored earlier stand for the bytes of their calls.
    let bytes = key.map(|_| hex(&Sha256::digest(&body.bytes)));
    let (new, deliver) = body.value.into_new(criteria, &caller)?;
    let fingerprint = key.map(|_| new.fingerprint(deliver.as_str())).unwrap_or_default();
    let key = key.map(|key| IdempotencyKey {
        caller: &caller.username,
        key,
        fingerprint: &fingerprint,
        before: bytes.as_deref(),
    });
    match state.toolbox.requests().by(&caller).ask(new, deliver, key).await? {
        Made::Now(file) => Ok(inline(file)?),
        Made::Later(row) => Ok(accepted(&state, &caller, &row, &headers, &uri)?),
        Made::Earlier(row) => {
            let mut response = accepted(&state, &caller, &row, &headers, &uri)?;
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            Ok(response)
        }
    }
}

pub(crate) fn inline(file: Inline) -> Result<Response> {
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, &file.content_type)
        .header(header::CONTENT_DISPOSITION, &file.disposition)
        .header(header::CACHE_CONTROL, UNCHANGED)
        .header(header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
    if let Some(digest) = file.sha256().as_deref().and_then(repr_digest) {
        response = response.header(REPR_DIGEST, digest);
    }
    response.body(Body::from_stream(file.into_stream())).map_err(|e| Error::Internal(e.to_string()))
}

fn accepted(
    state: &WebState,
    caller: &Caller,
    row: &FileRequest,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Response> {
    let toolbox = &state.toolbox;
    let location = toolbox.base_url().join(&format!("/api/requests/{}", row.id));
    let location = [(header::LOCATION, location)];
    if !wants_html(headers) {
        return Ok((location, answer(toolbox, caller, row, StatusCode::ACCEPTED)).into_response());
    }
    let own = toolbox.registry().get(row.file_type.as_str())?.delayed_page(row);
    let page = match own {
        Some(page) => page,
        None => {
            let own = context! {
                description => &row.description,
                email => &row.requester_email,
                id => row.id.to_string(),
            };
            View::of(state.toolbox.base_url(), headers, uri).render(
                toolbox,
                state.site(),
                "page/delayed.html",
                own,
            )?
        }
    };
    Ok((StatusCode::ACCEPTED, location, Html(page)).into_response())
}

/// A request as an answer, with its tag, and with when to ask again while it is not over.
fn answer(toolbox: &Toolbox, caller: &Caller, row: &FileRequest, status: StatusCode) -> Response {
    let shown = toolbox.shown(row, caller.role);
    let tag = toolbox.request_tag(row);
    let again = ask_again(row, toolbox.clock().now()).map(|seconds| (header::RETRY_AFTER, seconds));
    let again = again.map(|(name, seconds)| AppendHeaders([(name, seconds.to_string())]));
    (status, [(header::ETAG, tag)], again, Json(shown)).into_response()
}

/// After how many seconds it is worth asking again: a quarter of the time that the request has
/// waited so far, or when it is due. `None` once it is over.
fn ask_again(row: &FileRequest, now: DateTime<Utc>) -> Option<i64> {
    let waited = (now - row.run_at).num_milliseconds();
    match row.status {
        Status::Pending if waited < 0 => Some(waited.unsigned_abs().div_ceil(1000).min(DAY) as i64),
        Status::Pending | Status::Running => Some((waited / 4000).clamp(1, 30)),
        _ => None,
    }
}

/// The id that a path names; what is none names no request.
pub(crate) fn request_id(text: &str) -> Result<RequestId> {
    text.parse().map_err(|_| Error::NotFound("request"))
}

async fn show(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let row = toolbox.requests().by(&caller).find(request_id(&id)?).await?;
    let tag = toolbox.request_tag(&row);
    if !expected(&headers).meets(&tag) {
        return Err(Error::PreconditionFailed.into());
    }
    let response = answer(&toolbox, &caller, &row, StatusCode::OK);
    Ok(if is_known(&headers, &tag) { not_modified(response) } else { response })
}

/// The query of `GET /api/requests`. Text that is empty is as if left out: forms and generated
/// clients send it so.
#[derive(Deserialize)]
struct Page {
    status: Option<String>,
    file_type: Option<String>,
    requester: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

async fn list(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Query(page): Query<Page>,
    uri: Uri,
) -> Result<Response, Problem> {
    let limit = paging::limit(page.limit.as_deref())?;
    let status = page.status.as_deref().map(str::parse).transpose();
    let filter = RequestFilter {
        status: status.map_err(|message: String| Error::invalid("status", message))?,
        file_type: page.file_type.filter(|name| !name.is_empty()),
        requester: page.requester.filter(|id| !id.is_empty()),
        search: None,
        before: before(page.cursor.as_deref())?,
    };
    let rows = toolbox.requests().by(&caller).list(filter, limit + 1).await?;
    Ok(paging::page(&toolbox, &uri, rows, limit, cursor, |row| toolbox.shown(row, caller.role)))
}

/// Where a list of requests goes on after this one.
pub fn cursor(row: &FileRequest) -> String {
    paging::cursor(row.requested_at, row.id)
}

/// The place that [`cursor`] told.
///
/// # Errors
/// [`Error::Invalid`] on `cursor`.
pub fn read_cursor(text: &str) -> Result<(DateTime<Utc>, RequestId)> {
    paging::read_cursor(text)
}

/// The place of a query's cursor, when it has one.
pub(crate) fn before(cursor: Option<&str>) -> Result<Option<(DateTime<Utc>, RequestId)>> {
    filled(cursor).map(read_cursor).transpose()
}

async fn cancel(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let requests = toolbox.requests().by(&caller).expecting(expected(&headers));
    let row = requests.cancel(request_id(&id)?).await?;
    let status = if row.status.is_terminal() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(answer(&toolbox, &caller, &row, status))
}

/// Who edits: with the lock of `Lock-Token`, else of their session, else a moment's own.
pub(crate) fn editor<'a>(
    toolbox: &Toolbox,
    caller: &'a Caller,
    headers: &'a HeaderMap,
) -> Result<Editor<'a>> {
    let token = headers.get("lock-token").map(|value| value.to_str());
    let token = token.transpose().map_err(|_| Error::LockRefused { held: true })?;
    Ok(Editor {
        name: &caller.username,
        session: lock_session(toolbox, Some(caller), headers),
        token,
    })
}

async fn update(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: JsonBody<FileRequestEdit>,
) -> Result<Response, Problem> {
    let requests = toolbox.requests().by(&caller).expecting(expected(&headers));
    let editor = editor(&toolbox, &caller, &headers)?;
    let row = requests.describe(request_id(&id)?, &body.value.description, editor).await?;
    Ok(answer(&toolbox, &caller, &row, StatusCode::OK))
}

async fn retry(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let requests = toolbox.requests().by(&caller).expecting(expected(&headers));
    let row = requests.retry(request_id(&id)?).await?;
    Ok(answer(&toolbox, &caller, &row, StatusCode::ACCEPTED))
}

async fn remove(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let requests = toolbox.requests().by(&caller).expecting(expected(&headers));
    requests.delete(request_id(&id)?, editor(&toolbox, &caller, &headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
