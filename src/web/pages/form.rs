//! Forms that people send.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::Person;
use crate::{
    auth_token::Proof,
    error::{Error, Result},
    web::{
        Problem, WebState,
        media_type::{content_type, essence},
        view::View,
    },
};

/// The fields of a form, in their order.
pub(super) struct Form {
    pub(super) bytes: Bytes,
    pairs: Vec<(String, String)>,
}

impl Form {
    /// The value of a field; its first, of several.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The same without spaces around it; `None` when nothing is left.
    pub(super) fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// All values of a field.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

impl FromRequest<Arc<WebState>> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<WebState>) -> Result<Self, Problem> {
        let essence = essence(content_type(request.headers()));
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let status = rejection.status();
            Problem::new(status, "body_too_large", "Body too large", "the form is too large")
        })?;
        if essence != "application/x-www-form-urlencoded" && !bytes.is_empty() {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Unsupported media type",
                "send a form: application/x-www-form-urlencoded",
            ));
        }
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(&bytes).into_owned().collect();
        if let Some((name, _)) =
            pairs.iter().find(|(name, value)| name.contains('\0') || value.contains('\0'))
        {
            return Err(Error::invalid(name.replace('\0', "?"), "has a NUL character").into());
        }
        Ok(Form { bytes, pairs })
    }
}

/// That a form is not the one that we handed out.
fn stale() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "stale_form",
        "This form is too old",
        "it was made for another login, or comes from another site; nothing was done",
    )
}

/// Checks the token of a form of somebody who is not logged in.
pub(super) fn check(view: &View, form: &Form) -> Result<(), Problem> {
    match view.is_ours(form.get("csrf").unwrap_or_default()) {
        true => Ok(()),
        false => Err(stale()),
    }
}

/// A form that somebody who is logged in sent from a page of ours. Programs that prove who they
/// are by a header need no token: no other site can make them send it.
pub(super) struct Posted {
    pub(super) person: Person,
    pub(super) form: Form,
}

impl FromRequest<Arc<WebState>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, state: &Arc<WebState>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let person = Person::from_request_parts(&mut parts, state).await?;
        let form = Form::from_request(Request::from_parts(parts, body), state).await;
        let form = form.map_err(IntoResponse::into_response)?;
        if !matches!(person.caller.proof, Proof::Token(_)) {
            check(&person.view, &form).map_err(IntoResponse::into_response)?;
        }
        Ok(Posted { person, form })
    }
}

impl Posted {
    /// Where the form says to go on to.
    pub(super) fn next<'a>(&'a self, otherwise: &'a str) -> &'a str {
        super::local(self.form.get("next")).unwrap_or(otherwise)
    }
}
