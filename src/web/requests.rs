//! `/api/requests`: ask, list, look, cancel, try again, remove.

use axum::{
    Json,
    body::{Body, HttpBody},
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{AppendHeaders, Html, IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use minijinja::context;
use serde::{Deserialize, de::IgnoredAny};
use sha2::{Digest, Sha256};

use super::{
    Problem, Shared, WebState,
    body::{JsonBody, object},
    download::{REPR_DIGEST, UNCHANGED, repr_digest},
    locks::session_of,
    paging::{self, filled},
    problem::wants_html,
    range::{expected, is_known},
    view::View,
};
use crate::{
    auth_token::{Caller, Role},
    error::{Error, Result},
    file_request::{Criteria, FileRequest, NewFileRequest, Requester, Status},
    ids::{RequestId, hex},
    toolbox::{Deliver, Editor, IdempotencyKey, Inline, RequestFilter, Response as Made, Toolbox},
};

/// Says that an answer is what an earlier call with the same `Idempotency-Key` came to.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Nobody is told to wait longer, in seconds.
const DAY: u64 = 86_400;

/// The body of `POST /api/requests`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    file_type: String,
    /// Read as it was written.
    #[serde(default, rename = "criteria")]
    _criteria: IgnoredAny,
    format: Option<String>,
    #[serde(default, deserialize_with = "object")]
    requester: Option<AskRequester>,
    filename: Option<String>,
    description: Option<String>,
    language: Option<String>,
    timezone: Option<String>,
    requester_only: Option<bool>,
    notify: Option<bool>,
    deliver: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskRequester {
    id: Option<String>,
    email: Option<String>,
}

impl Ask {
    fn into_new(self, criteria: Criteria, caller: &Caller) -> Result<(NewFileRequest, Deliver)> {
        let deliver = self.deliver.as_deref().map(str::parse).transpose();
        let deliver = deliver.map_err(|message: String| Error::invalid("deliver", message))?;
        let new = NewFileRequest {
            file_type: self.file_type.parse()?,
            criteria,
            format: self.format,
            requester: requester(self.requester.unwrap_or_default(), caller)?,
            filename: self.filename,
            description: self.description,
            language: self.language,
            timezone: self.timezone,
            requester_only: self.requester_only,
            notify: self.notify,
        };
        Ok((new, deliver.unwrap_or_default()))
    }
}

/// Users ask for themselves, an application for anybody. Staff ask for themselves unless they
/// name somebody.
fn requester(asked: AskRequester, caller: &Caller) -> Result<Requester> {
    let own_email = || (!caller.email.is_empty()).then(|| caller.email.clone());
    match caller.role {
        Role::Service => Ok(Requester { id: asked.id, email: asked.email.unwrap_or_default() }),
        Role::Staff if asked.id.is_some() => {
            Ok(Requester { id: asked.id, email: asked.email.unwrap_or_default() })
        }
        Role::Staff => Ok(Requester {
            id: Some(caller.username.clone()),
            email: asked.email.or_else(own_email).unwrap_or_default(),
        }),
        Role::User => {
            if asked.id.is_some_and(|id| id != caller.username) {
                return Err(Error::Forbidden("users ask for files for themselves only"));
            }
            if asked.email.is_some_and(|email| email != caller.email) {
                return Err(Error::Forbidden("users are mailed at their own address only"));
            }
            let email = own_email().unwrap_or_default();
            Ok(Requester { id: Some(caller.username.clone()), email })
        }
    }
}

/// The `Idempotency-Key` of a request, if there is one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().unwrap_or("");
    IdempotencyKey::check(key)?;
    Ok(Some(key))
}

pub(super) async fn create(
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

pub(super) fn inline(file: Inline) -> Result<Response> {
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
    let location = toolbox.base_url.join(&format!("/api/requests/{}", row.id));
    let location = [(header::LOCATION, location)];
    if !wants_html(headers) {
        return Ok((location, answer(toolbox, caller, row, StatusCode::ACCEPTED)).into_response());
    }
    let own = toolbox.registry.get(row.file_type.as_str())?.delayed_page(row);
    let page = match own {
        Some(page) => page,
        None => {
            let own = context! {
                description => &row.description,
                email => &row.requester_email,
                id => row.id.to_string(),
            };
            View::of(&state.toolbox.base_url, headers, uri).render(
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
    let json = toolbox.request_json(row, caller.role);
    let tag = toolbox.request_tag(row);
    let again = ask_again(row, toolbox.clock.now()).map(|seconds| (header::RETRY_AFTER, seconds));
    let again = again.map(|(name, seconds)| AppendHeaders([(name, seconds.to_string())]));
    (status, [(header::ETAG, tag)], again, Json(json)).into_response()
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
pub(super) fn request_id(text: &str) -> Result<RequestId> {
    text.parse().map_err(|_| Error::NotFound("request"))
}

pub(super) async fn show(
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
    let mut response = answer(&toolbox, &caller, &row, StatusCode::OK);
    if is_known(&headers, &tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        let json = std::mem::take(response.body_mut());
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        // Of HEAD the framework would say zero, which must not be (RFC 9110, section 8.6).
        if let Some(length) = json.size_hint().exact() {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
    }
    Ok(response)
}

/// The query of `GET /api/requests`. Text that is empty is as if left out: forms and generated
/// clients send it so.
#[derive(Deserialize)]
pub(super) struct Page {
    status: Option<String>,
    file_type: Option<String>,
    requester: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

pub(super) async fn list(
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
    // One more than asked for tells whether there is a next page.
    let mut rows = toolbox.requests().by(&caller).list(filter, limit + 1).await?;
    let more = rows.len() as i64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(200));
    let next = rows.last().filter(|_| more).map(cursor);
    let items = rows.iter().map(|row| toolbox.request_json(row, caller.role)).collect();
    Ok(paging::listed(&toolbox, &uri, items, next))
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
pub(super) fn before(cursor: Option<&str>) -> Result<Option<(DateTime<Utc>, RequestId)>> {
    filled(cursor).map(read_cursor).transpose()
}

pub(super) async fn cancel(
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

/// The body of `PATCH /api/requests/{id}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    description: String,
}

/// Who edits: with the lock of `Lock-Token`, else of their session, else a moment's own.
pub(super) fn editor<'a>(
    toolbox: &Toolbox,
    caller: &'a Caller,
    headers: &'a HeaderMap,
) -> Result<Editor<'a>> {
    let token = headers.get("lock-token").map(|value| value.to_str());
    let token = token.transpose().map_err(|_| Error::LockRefused { held: true })?;
    Ok(Editor {
        name: &caller.username,
        session: session_of(toolbox, Some(caller), headers),
        token,
    })
}

pub(super) async fn update(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: JsonBody<Change>,
) -> Result<Response, Problem> {
    let requests = toolbox.requests().by(&caller).expecting(expected(&headers));
    let editor = editor(&toolbox, &caller, &headers)?;
    let row = requests.describe(request_id(&id)?, &body.value.description, editor).await?;
    Ok(answer(&toolbox, &caller, &row, StatusCode::OK))
}

pub(super) async fn retry(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let requests = toolbox.requests().by(&caller).expecting(expected(&headers));
    let row = requests.retry(request_id(&id)?).await?;
    Ok(answer(&toolbox, &caller, &row, StatusCode::ACCEPTED))
}

pub(super) async fn remove(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let requests = toolbox.requests().by(&caller).expecting(expected(&headers));
    requests.delete(request_id(&id)?, editor(&toolbox, &caller, &headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
