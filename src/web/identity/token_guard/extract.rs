//! `RequestToken<Scope>`: a token as an argument of a handler.

use std::marker::PhantomData;

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
};

use crate::web::identity::token_guard::Found;
use crate::{
    error::{Error, Result},
    request_token,
    toolbox::Admission,
    web::Problem,
};

/// Names a scope, so that a type can stand for it.
pub trait Scope: Send + Sync + 'static {
    /// What tokens must be for. Never empty: that does not compile.
    const NAME: &'static str;
    /// Whether uses are logged; they count all the same.
    const LOG: bool = true;
}

/// A token for the scope `S` that admits. Taking it counts one use. As `Option`, for routes that
/// need none: a token that does not admit is refused all the same, unless the settings say so.
///
/// Needs the layer [`crate::web::identity::token_guard::request_tokens`] around the router.
#[derive(Debug)]
pub struct RequestToken<S> {
    /// The row, this use counted.
    pub token: request_token::RequestToken,
    /// Who acts: whoever is logged in, else the token's user where its login mode says so.
    pub user: Option<String>,
    scope: PhantomData<S>,
}

impl<S> RequestToken<S> {
    fn new(admission: Admission) -> Self {
        RequestToken { token: admission.token, user: admission.user, scope: PhantomData }
    }
}

fn found(parts: &Parts) -> Result<&Found> {
    parts.extensions.get::<Found>().ok_or_else(|| {
        Error::Internal("RequestToken needs the layer request_tokens around the router".into())
    })
}

impl<S: Scope, T: Send + Sync> FromRequestParts<T> for RequestToken<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Result<Self, Problem> {
        const { assert!(!S::NAME.is_empty(), "a scope needs a name") };
        let admission = found(parts)?.admit_required(S::NAME, S::LOG).await?;
        Ok(Self::new(admission))
    }
}

impl<S: Scope, T: Send + Sync> OptionalFromRequestParts<T> for RequestToken<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Result<Option<Self>, Problem> {
        const { assert!(!S::NAME.is_empty(), "a scope needs a name") };
        let admission = found(parts)?.admit_optional(S::NAME, S::LOG).await?;
        Ok(admission.map(Self::new))
    }
}
