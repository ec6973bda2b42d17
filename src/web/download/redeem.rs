//! Links that wait for a confirmation: the page, the button, and the download that it begins.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use minijinja::context;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    error::{Error, Result},
    file_request::{
        FileRequest,
        links::{Event, Grant, GrantSecret},
        model::rfc3339,
    },
    ids::random_bytes,
    toolbox::{Redeemer, Toolbox, Visit},
    visitor::Visitor,
    web::{
        Problem, WebState,
        idempotency::{REPLAYED, idempotency_key},
        identity::caller::{self, RequestContext, request_context},
        problem::wants_html,
        session,
        state::Shared,
        view::View,
    },
};

use super::{
    pace,
    send::{Receipt, denied, serve_under},
};

/// The cookie by which a browser finds its download again.
const GRANT: &str = "bgfiles_grant";
/// Most bytes of the form that the button sends.
const MAX_FORM: usize = 4096;

const PATH_SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `GET /d/{token}` of a link that waits: what it is, and nothing used.
pub(crate) async fn show(
    state: &WebState,
    headers: &HeaderMap,
    uri: &Uri,
    context: &RequestContext,
    visit: Visit,
    receipt: &Receipt,
) -> Result<Response, Problem> {
    let toolbox = &state.toolbox;
    let resumable = cookie_grant(toolbox, headers, context, &visit).await;
    let (row, link, bound) = (visit.row, visit.link, visit.bound);
    if resumable.is_none()
        && let Err(error) = visit.verdict
    {
        return Err(denied(toolbox, receipt, error).await);
    }
    toolbox.record_hit(receipt.hit(Event::Page)).await?;
    if !wants_html(headers) {
        return Err(Error::ConfirmationNeeded.into());
    }
    let view = View::of(toolbox.base_url(), headers, uri).or_timezone(row.timezone());
    let page = view.render(
        toolbox,
        state.site(),
        "page/link.html",
        context! {
            description => &row.description,
            filename => &row.filename,
            size => row.size,
            expires_at => rfc3339(link.as_ref().map(|link| link.expires_at).or(row.expires_at)),
            uses => link.as_ref().map(|link| link.uses),
            max_uses => link.as_ref().and_then(|link| link.max_uses),
            for_requester => bound.then(|| row.requester.clone()).flatten(),
            nonce => URL_SAFE_NO_PAD.encode(random_bytes::<16>()),
            resume_url => resumable.map(|secret| grant_url(toolbox, &secret, &row)),
        },
    )?;
    let mut response = Html(page).into_response();
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    Ok(response)
}

/// The grant of this browser's earlier redemption, while it can be resumed.
async fn cookie_grant(
    toolbox: &Toolbox,
    headers: &HeaderMap,
    context: &RequestContext,
    visit: &Visit,
) -> Option<GrantSecret> {
    let secret = GrantSecret::parse(session::secret_below(toolbox.base_url(), headers, GRANT)?)?;
    let found = toolbox.evaluate_grant(&secret, context.user.as_deref()).await;
    let ours = |grant: &Grant| grant.request_id == visit.row.id && grant.jti == visit.claims.jti;
    found.is_ok_and(|(_, grant)| ours(&grant)).then_some(secret)
}

/// `POST /d/{token}`: one use, answered with 303 to the grant's own URL. A second click of the
/// same page (its nonce), a program's repeat (its `Idempotency-Key`) and a browser that has a
/// download under way (its cookie) are not a second use.
pub(crate) async fn redeem(
    State(state): Shared,
    token: Result<Path<String>, PathRejection>,
    parts: Parts,
    body: Bytes,
) -> Result<Response, Problem> {
    let Path(token) = token.map_err(|_| Error::BadToken("it is not text"))?;
    let toolbox = &state.toolbox;
    pace(toolbox, &parts).await?;
    if !caller::comes_from_here(toolbox, &parts) {
        return Err(Error::Forbidden("this request was made by another site").into());
    }
    let context = request_context(toolbox, &parts).await?;
    let visit = toolbox.visit(&token, context.user.as_deref()).await?;
    let row = visit.row.clone();
    let (secret, again) = match cookie_grant(toolbox, &parts.headers, &context, &visit).await {
        Some(secret) => (secret, false),
        None => {
            let nonce = nonce(&parts.headers, &body, &context.visitor)?;
            let by = Redeemer {
                user: context.user.as_deref(),
                visitor: &context.visitor,
                nonce: nonce.as_deref(),
            };
            toolbox.redeem_once(visit, by).await?
        }
    };
    let location = grant_url(toolbox, &secret, &row);
    let cookie = session::set(
        toolbox,
        GRANT,
        secret.expose(),
        &toolbox.base_url().path(&format!("/d/{token}")),
        toolbox.grant_age(),
    )?;
    let headers = [
        (header::LOCATION, text(&location)?),
        (header::SET_COOKIE, cookie),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let mut response = (StatusCode::SEE_OTHER, headers).into_response();
    if again && parts.headers.contains_key("idempotency-key") {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// A page's nonce is random. A program's key may be `1`, like that of somebody else whom the link was
/// sent to: it counts in its network.
fn nonce(headers: &HeaderMap, body: &[u8], visitor: &Visitor) -> Result<Option<String>> {
    let key = idempotency_key(headers)?;
    if key.is_some() || body.len() > MAX_FORM {
        return Ok(key.map(|key| format!("{key}\n{}", visitor.network())));
    }
    let mut pairs = url::form_urlencoded::parse(body);
    let nonce = pairs.find(|(name, _)| name == "nonce").map(|(_, value)| value.into_owned());
    Ok(nonce.filter(|nonce| (1..=200).contains(&nonce.len())))
}

/// The URL ends with the file's name, for those who save under that.
fn grant_url(toolbox: &Toolbox, secret: &GrantSecret, row: &FileRequest) -> String {
    let name = if row.filename.is_empty() { "file" } else { row.filename.as_str() };
    let name = utf8_percent_encode(name, PATH_SEGMENT);
    toolbox.base_url().path(&format!("/g/{}/{name}", secret.expose()))
}

fn text(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|e| Error::Internal(format!("{text:?}: {e}")))
}

/// `GET /g/{grant}/{name}`: the file, in one piece or in many, as long as the grant lasts. POST
/// is answered alike, whatever its body: nothing is used up here.
pub(crate) async fn granted(
    State(state): State<Arc<WebState>>,
    method: Method,
    path: Result<Path<(String, String)>, PathRejection>,
    parts: Parts,
) -> Result<Response, Problem> {
    let missing = || Error::NotFound("download");
    let Path((secret, _name)) = path.map_err(|_| missing())?;
    pace(&state.toolbox, &parts).await?;
    let secret = GrantSecret::parse(&secret).ok_or_else(missing)?;
    let context = request_context(&state.toolbox, &parts).await?;
    let (row, grant) = state.toolbox.evaluate_grant(&secret, context.user.as_deref()).await?;
    let file = state.toolbox.serve_late(&row)?;
    let receipt = Receipt {
        request_id: row.id,
        jti: grant.jti,
        grant: Some(grant.hash),
        visitor: context.visitor,
        user: context.user,
    };
    let method = if method == Method::HEAD { Method::HEAD } else { Method::GET };
    Ok(serve_under(&state, &method, &parts.headers, &file, Some(receipt)).await?)
}
