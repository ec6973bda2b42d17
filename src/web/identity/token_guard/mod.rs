//! Protecting routes with request tokens, in one line each.
//!
//! ```no_run
//! # use axum::{Router, routing::get};
//! # use bgfiles::{Toolbox, web::{RequestToken, Scope, request_tokens, require_token}};
//! # fn build(toolbox: Toolbox) -> bgfiles::Result<Router> {
//! struct Report;
//! impl Scope for Report {
//!     const NAME: &'static str = "report";
//! }
//! async fn report(token: RequestToken<Report>) -> String {
//!     format!("for {:?}", token.user)
//! }
//! Ok(Router::new()
//!     // Either a layer that lets nobody in without a token …
//!     .route("/ledger", get(|| async { "…" }).layer(require_token(&toolbox, "ledger")?))
//!     // … or an extractor, which hands the token to the handler.
//!     .route("/report", get(report))
//!     .layer(request_tokens(&toolbox)))
//! # }
//! ```
//!
//! A token may come in the query (`rt`), as `Authorization: Bearer`, as a key of a JSON object or
//! as a field of a form, with any method. A use is counted before the handler runs and logged with
//! the status of its answer; a handler that panics gives it back.

mod extract;
mod find;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
};

use axum::{
    extract::Request,
    http::header,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use tower::Layer;

pub use extract::{RequestToken, Scope};

use super::{
    caller::{Identified, RequestContext, RequesterId, request_context},
    guard::{Guard, Guardable, Guarded},
};
use crate::{
    auth_token::SessionSecret,
    error::{Error, Result},
    request_token::{Denial, check_scope},
    toolbox::{Admission, Presented, Toolbox},
    web::{
        Problem,
        problem::{self, wants_html},
        session,
        view::{Site, View},
    },
};

/// Finds the tokens of requests; with a guard, admits only who has one for its scope. Made by
/// [`request_tokens`], [`require_token`] and [`optional_token`].
#[derive(Clone, Debug)]
pub struct TokenLayer {
    toolbox: Toolbox,
    demand: Option<Demand>,
}

#[derive(Clone, Debug)]
struct Demand {
    scope: Arc<str>,
    required: bool,
    log: bool,
}

/// Finds tokens for the extractor [`RequestToken`], and refuses nobody by itself.
pub fn request_tokens(toolbox: &Toolbox) -> TokenLayer {
    TokenLayer { toolbox: toolbox.clone(), demand: None }
}

/// Admits only who has a token for `scope`; 403 for everybody else.
///
/// # Errors
/// [`Error::Invalid`] on an empty scope.
pub fn require_token(toolbox: &Toolbox, scope: &str) -> Result<TokenLayer> {
    guarded(toolbox, scope, true)
}

/// Admits who has no token, and who has one for `scope`. One that does not admit is refused, or
/// counts as none where the settings say so.
///
/// # Errors
/// [`Error::Invalid`] on an empty scope.
pub fn optional_token(toolbox: &Toolbox, scope: &str) -> Result<TokenLayer> {
    guarded(toolbox, scope, false)
}

fn guarded(toolbox: &Toolbox, scope: &str, required: bool) -> Result<TokenLayer> {
    check_scope(scope).map_err(|message| Error::invalid("scope", message))?;
    let demand = Demand { scope: scope.into(), required, log: true };
    Ok(TokenLayer { toolbox: toolbox.clone(), demand: Some(demand) })
}

impl TokenLayer {
    /// Does not log uses of this route; they count all the same.
    pub fn without_log(mut self) -> Self {
        if let Some(demand) = &mut self.demand {
            demand.log = false;
        }
        self
    }
}

/// What [`TokenLayer`] makes.
pub type TokenService<S> = Guarded<S, TokenLayer>;

impl<S> Layer<S> for TokenLayer {
    type Service = TokenService<S>;

    fn layer(&self, inner: S) -> TokenService<S> {
        Guarded::new(inner, self.clone())
    }
}

/// What the outermost layer found, for everything inside it.
#[derive(Clone)]
pub(crate) struct Found(Arc<Finding>);

struct Finding {
    toolbox: Toolbox,
    jwt: Option<String>,
    context: RequestContext,
    uses: Mutex<Uses>,
}

#[derive(Default)]
struct Uses {
    admissions: Vec<Admission>,
    session: Option<SessionSecret>,
}

impl Found {
    fn uses(&self) -> std::sync::MutexGuard<'_, Uses> {
        self.0.uses.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Counts a use of the token that was found for a scope. `None` when there is none, or none
    /// that counts.
    async fn admit(&self, scope: &str, log: bool) -> Result<Option<Admission>> {
        let (found, toolbox) = (&self.0, &self.0.toolbox);
        let Some(jwt) = &found.jwt else { return Ok(None) };
        let presented = Presented {
            jwt,
            scope,
            user: found.context.user.as_deref(),
            visitor: &found.context.visitor,
            log,
        };
        let admission = toolbox.admit(&presented).await?;
        let session = match &admission.user {
            Some(user) if admission.begins_session => {
                Some(toolbox.begin_session(user, found.context.session.as_ref()).await?)
            }
            _ => None,
        };
        let mut uses = self.uses();
        uses.admissions.push(admission.clone());
        uses.session = session.or(uses.session.take());
        Ok(Some(admission))
    }

    /// As [`Found::admit`] where a token is not needed.
    async fn admit_optional(&self, scope: &str, log: bool) -> Result<Option<Admission>> {
        match self.admit(scope, log).await {
            Err(Error::TokenRefused { .. })
                if self.0.toolbox.request_token_settings().ignore_invalid =>
            {
                Ok(None)
            }
            other => other,
        }
    }

    async fn admit_required(&self, scope: &str, log: bool) -> Result<Admission> {
        self.admit(scope, log).await?.ok_or(Denial::Missing.into())
    }

    /// Once the answer is there: the log, the session's cookie, the page of a refusal.
    async fn finish(&self, mut response: Response, html: Option<&View>) -> Response {
        let toolbox = &self.0.toolbox;
        let Uses { admissions, session } = std::mem::take(&mut *self.uses());
        for admission in &admissions {
            if let Err(error) = toolbox.conclude_use(admission, response.status().as_u16()).await {
                tracing::error!(token = admission.token.id, %error, "a use was counted but its status not logged");
            }
        }
        if let Some(view) = html
            && let Some(problem) = response.extensions().get::<Problem>().cloned()
        {
            let template = match problem.refuses_token() {
                true => toolbox.request_token_settings().template_403.as_str(),
                false => "page/problem.html",
            };
            if let Some(page) = problem.page(toolbox, Site::default(), view, template) {
                response = page;
            }
        }
        if let Some(secret) = session {
            match session::begin(toolbox, &secret) {
                Ok(cookie) => drop(response.headers_mut().append(header::SET_COOKIE, cookie)),
                Err(error) => tracing::error!(%error, "no session cookie"),
            }
        }
        response
    }

    async fn panicked(&self) {
        let Uses { admissions, .. } = std::mem::take(&mut *self.uses());
        for admission in &admissions {
            if let Err(error) = self.0.toolbox.give_back_use(admission).await {
                tracing::error!(token = admission.token.id, %error, "a use was not given back");
            }
        }
    }
}

impl Guard for TokenLayer {
    async fn answer<S: Guardable>(
        self,
        mut inner: S,
        request: Request,
    ) -> Result<Response, S::Error> {
        let html = wants_html(request.headers())
            .then(|| View::of(self.toolbox.base_url(), request.headers(), request.uri()));
        let (mut request, found, outermost) = match request.extensions().get::<Found>().cloned() {
            Some(found) => (request, found, false),
            None => match look(&self.toolbox, request).await {
                Ok((request, found)) => (request, found, true),
                Err(error) => {
                    let mut response = Problem::from(error).into_response();
                    problem::challenge(&self.toolbox, &mut response);
                    return Ok(response);
                }
            },
        };
        if let Some(demand) = &self.demand {
            let admitted = match demand.required {
                true => found.admit_required(&demand.scope, demand.log).await.map(Some),
                false => found.admit_optional(&demand.scope, demand.log).await,
            };
            match admitted {
                Ok(admission) => {
                    if let Some(admission) = admission {
                        // Whoever is logged in stays who they are, with how they proved it.
                        if let Some(user) = &admission.user
                            && found.0.context.user.is_none()
                        {
                            request.extensions_mut().insert(RequesterId(user.clone()));
                        }
                        request.extensions_mut().insert(admission.token);
                    }
                }
                Err(error) => {
                    let response = Problem::from(error).into_response();
                    return Ok(if outermost {
                        found.finish(response, html.as_ref()).await
                    } else {
                        response
                    });
                }
            }
        }
        if !outermost {
            return inner.call(request).await;
        }
        match AssertUnwindSafe(inner.call(request)).catch_unwind().await {
            Ok(response) => Ok(found.finish(response?, html.as_ref()).await),
            Err(panic) => {
                found.panicked().await;
                std::panic::resume_unwind(panic)
            }
        }
    }
}

async fn look(toolbox: &Toolbox, request: Request) -> Result<(Request, Found)> {
    let (parts, body) = request.into_parts();
    let context = request_context(toolbox, &parts).await?;
    let (jwt, body) = find::find(&toolbox.request_token_settings().querystring, &parts, body).await;
    let finding =
        Finding { toolbox: toolbox.clone(), jwt, context, uses: Mutex::new(Uses::default()) };
    let found = Found(Arc::new(finding));
    let mut request = Request::from_parts(parts, body);
    if let Some(caller) = &found.0.context.caller {
        request.extensions_mut().insert(RequesterId(caller.username.clone()));
        request.extensions_mut().insert(Identified(caller.clone()));
    }
    request.extensions_mut().insert(found.clone());
    Ok((request, found))
}
