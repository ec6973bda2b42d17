//! Protecting an application's own routes by who calls them, in one line each.
//!
//! ```no_run
//! # use axum::{Extension, Router, routing::get};
//! # use bgfiles::{Toolbox, auth_token::{Caller, Role}, web::{allow_clients, require_caller}};
//! # fn build(toolbox: Toolbox) -> Router {
//! async fn ledger(Extension(caller): Extension<Caller>) -> String {
//!     format!("for {}", caller.username)
//! }
//! Router::new()
//!     .route("/ledger", get(ledger).layer(allow_clients(&toolbox, ["web", "mobile"])))
//!     .route("/accounts", get(|| async { "…" }).layer(require_caller(&toolbox).with_role(Role::Staff)))
//! # }
//! ```
//!
//! 401 for nobody, 403 for whom the rule refuses, 429 above the client's rate. Inside, the
//! [`Caller`] is a request extension.

use std::{
    collections::BTreeSet,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use futures::future::BoxFuture;
use tower::{Layer, Service};

use super::{Problem, RequesterId, caller::require, problem, rate::Meter};
use crate::{
    auth_token::{Caller, Role},
    error::{Error, Result},
    toolbox::Toolbox,
};

/// Admits callers. Made by [`require_caller`], [`allow_clients`] and [`disallow_clients`].
#[derive(Clone, Debug)]
pub struct CallerLayer {
    toolbox: Toolbox,
    clients: Option<Arc<Clients>>,
    role: Option<Role>,
}

#[derive(Debug)]
struct Clients {
    names: BTreeSet<String>,
    admitted: bool,
}

/// Admits whoever proves who they are.
pub fn require_caller(toolbox: &Toolbox) -> CallerLayer {
    CallerLayer { toolbox: toolbox.clone(), clients: None, role: None }
}

/// Admits callers with a token of one of these clients (durin's `AllowSpecificClients`). Who proves
/// themselves without a token has no client, and is refused.
pub fn allow_clients<S: Into<String>>(
    toolbox: &Toolbox,
    names: impl IntoIterator<Item = S>,
) -> CallerLayer {
    by_client(toolbox, names, true)
}

/// Admits callers with a token of any other client (durin's `DisallowSpecificClients`). Who proves
/// themselves without a token has no client, and is refused.
pub fn disallow_clients<S: Into<String>>(
    toolbox: &Toolbox,
    names: impl IntoIterator<Item = S>,
) -> CallerLayer {
    by_client(toolbox, names, false)
}

fn by_client<S: Into<String>>(
    toolbox: &Toolbox,
    names: impl IntoIterator<Item = S>,
    admitted: bool,
) -> CallerLayer {
    let names = names.into_iter().map(Into::into).collect();
    CallerLayer { clients: Some(Arc::new(Clients { names, admitted })), ..require_caller(toolbox) }
}

impl CallerLayer {
    /// Admits only who has this role. Staff may do everything.
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = Some(role);
        self
    }

    fn check(&self, caller: &Caller) -> Result<()> {
        if let Some(clients) = &self.clients {
            let listed = caller.client().map(|client| clients.names.contains(client));
            if listed != Some(clients.admitted) {
                return Err(Error::Forbidden("this client may not do this"));
            }
        }
        let fits = |role| caller.role == role || caller.role == Role::Staff;
        if self.role.is_some_and(|role| !fits(role)) {
            return Err(Error::Forbidden("your role may not do this"));
        }
        Ok(())
    }
}

impl<S> Layer<S> for CallerLayer {
    type Service = CallerService<S>;

    fn layer(&self, inner: S) -> CallerService<S> {
        CallerService { inner, layer: self.clone() }
    }
}

/// What [`CallerLayer`] makes.
#[derive(Clone, Debug)]
pub struct CallerService<S> {
    inner: S,
    layer: CallerLayer,
}

impl<S> Service<Request> for CallerService<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The clone is not known to be ready; the one that was asked is.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let meter = Meter::of(&mut parts.extensions);
            let admitted = require(&layer.toolbox, &parts).await;
            match admitted.and_then(|caller| layer.check(&caller).map(|()| caller)) {
                Ok(caller) => {
                    parts.extensions.insert(RequesterId(caller.username.clone()));
                    parts.extensions.insert(caller);
                    let mut response = inner.call(Request::from_parts(parts, body)).await?;
                    meter.show(response.headers_mut());
                    Ok(response)
                }
                Err(error) => {
                    let mut response = Problem::from(error).into_response();
                    problem::challenge(&layer.toolbox, &mut response);
                    meter.show(response.headers_mut());
                    Ok(response)
                }
            }
        })
    }
}
