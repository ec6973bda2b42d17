//! Who is calling.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{HeaderMap, header, request::Parts},
};

use super::{Problem, WebState};
use crate::{
    auth_token::{AuthSecret, Caller, store},
    error::{Error, Result},
    toolbox::Toolbox,
};

/// Set by a host application's own layer (request extension) when it knows who is calling: the
/// requester id, as it stands in the file requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequesterId(pub String);

/// The secret of `Authorization: Token <secret>`; `None` without the header or with another
/// scheme.
fn secret(headers: &HeaderMap) -> Result<Option<AuthSecret>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    // Bytes that are no text are somebody's mistake, not a crash.
    let value = value.to_str().map_err(|_| Error::Unauthenticated("Invalid token."))?;
    let mut words = value.split_ascii_whitespace();
    if !words.next().is_some_and(|scheme| scheme.eq_ignore_ascii_case("token")) {
        return Ok(None);
    }
    let secret = words
        .next()
        .ok_or(Error::Unauthenticated("Invalid token header. No credentials provided."))?;
    if words.next().is_some() {
        return Err(Error::Unauthenticated(
            "Invalid token header. Token string should not contain spaces.",
        ));
    }
    Ok(Some(AuthSecret::parse(secret).ok_or(Error::Unauthenticated("Invalid token."))?))
}

/// Who calls with `Authorization: Token …`; `None` without it.
///
/// # Errors
/// [`Error::Unauthenticated`] for a token that is not good.
pub(super) async fn by_token(toolbox: &Toolbox, headers: &HeaderMap) -> Result<Option<Caller>> {
    let Some(secret) = secret(headers)? else { return Ok(None) };
    let mut tx = toolbox.db.read().await?;
    let caller = store::authenticate(&mut tx, &secret.hash(), toolbox.clock.now()).await?;
    caller.map(Some).ok_or(Error::Unauthenticated("Invalid token."))
}

impl FromRequestParts<Arc<WebState>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<WebState>) -> Result<Self, Problem> {
        let caller = by_token(&state.toolbox, &parts.headers).await?;
        let missing = "Authentication credentials were not provided.";
        Ok(caller.ok_or(Error::Unauthenticated(missing))?)
    }
}

/// For routes that need nobody, but treat somebody differently. Wrong credentials are refused all
/// the same.
impl OptionalFromRequestParts<Arc<WebState>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<WebState>,
    ) -> Result<Option<Self>, Problem> {
        Ok(by_token(&state.toolbox, &parts.headers).await?)
    }
}
