//! `GET /d/{token}`: the file.

mod redeem;
mod routes;
mod send;

use axum::{
    extract::{MatchedPath, Path, Request, State, rejection::PathRejection},
    http::{Method, header, request::Parts},
    response::Response,
};

pub(super) use routes::{DOWNLOADS, grant_routes, link_routes};
pub use send::serve_file;
pub(super) use send::{REPR_DIGEST, UNCHANGED, repr_digest};
use send::{Receipt, denied, serve_under};

use super::{
    Problem, RequesterId, WebState, identity::caller::request_context, session, state::Shared,
    visitor::visitor,
};
use crate::{
    auth_token::Caller,
    config::Serve,
    error::{Error, Result},
    toolbox::{Opened, Toolbox},
};

async fn download(
    State(state): Shared,
    token: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    // What is no text is no token of ours.
    let Path(token) = token.map_err(|_| Error::BadToken("it is not text"))?;
    let (parts, _) = request.into_parts();
    let toolbox = &state.toolbox;
    pace(toolbox, &parts).await?;
    let context = request_context(toolbox, &parts).await?;
    let visit = match toolbox.open_link(&token, context.user.as_deref()).await? {
        Opened::Ready(ready) => {
            let receipt = Receipt {
                request_id: ready.request_id,
                jti: ready.jti,
                grant: None,
                visitor: context.visitor,
                user: context.user,
            };
            let (method, headers) = (&parts.method, &parts.headers);
            return Ok(serve_under(&state, method, headers, &ready.file, Some(receipt)).await?);
        }
        Opened::Visit(visit) => *visit,
    };
    let receipt = Receipt {
        request_id: visit.row.id,
        jti: visit.claims.jti,
        grant: None,
        visitor: context.visitor.clone(),
        user: context.user.clone(),
    };
    if visit.waits_for_confirmation() {
        return redeem::show(&state, &parts.headers, &parts.uri, &context, visit, &receipt).await;
    }
    match visit.verdict.and_then(|()| toolbox.serve(&visit.row)) {
        Ok(file) => {
            Ok(serve_under(&state, &parts.method, &parts.headers, &file, Some(receipt)).await?)
        }
        Err(error) => Err(denied(toolbox, &receipt, error).await),
    }
}

/// The answer to somebody unknown who asks for a small file by a link, when link and file are in
/// memory: most of what a busy service is asked, and so cheap that what other answers go through
/// would be most of its cost. `None` for anything else, which then goes that way.
pub(crate) async fn at_once(state: &WebState, request: &Parts) -> Option<Response> {
    let of_a_link = |path: &MatchedPath| path.as_str().ends_with("/d/{token}");
    let (extensions, headers) = (&request.extensions, &request.headers);
    if !matches!(request.method, Method::GET | Method::HEAD)
        || !extensions.get::<MatchedPath>().is_some_and(of_a_link)
        || state.serve != Serve::Stream
        || state.toolbox.download_rate().is_some()
    {
        return None;
    }
    let toolbox = &state.toolbox;
    let known = headers.contains_key(header::AUTHORIZATION)
        || toolbox.auth_settings().identity_header.is_some()
        || extensions.get::<Caller>().is_some()
        || extensions.get::<RequesterId>().is_some()
        || session::of(toolbox.base_url(), headers).is_some();
    // Our tokens need no escapes; somebody else may write some all the same.
    let token = request.uri.path().rsplit('/').next().filter(|token| !token.contains('%'));
    let (false, Some(token)) = (known, token) else { return None };
    let ready = toolbox.recall_link(token, None).await?;
    let bytes = ready.file.remembered()?;
    toolbox.keep_pace().await;
    let receipt = Receipt {
        request_id: ready.request_id,
        jti: ready.jti,
        grant: None,
        visitor: visitor(headers, extensions, toolbox.trusted_proxies()),
        user: None,
    };
    send::from_memory(state, request, &ready, &bytes, receipt)
}

/// Counts a call of a link, before anything is looked up for it.
pub(crate) async fn pace(toolbox: &Toolbox, parts: &Parts) -> Result<()> {
    let visitor = visitor(&parts.headers, &parts.extensions, toolbox.trusted_proxies());
    toolbox.throttle_download(&visitor).await
}
