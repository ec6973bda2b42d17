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

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use tower::Layer;

use super::{
    caller::{RequesterId, require},
    guard::{Guard, Guardable, Guarded},
};
use crate::{
    auth_token::{Caller, Role},
    error::{Error, Result},
    toolbox::Toolbox,
    web::{Problem, problem, rate::Meter},
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

/// What [`CallerLayer`] makes.
pub type CallerService<S> = Guarded<S, CallerLayer>;

impl<S> Layer<S> for CallerLayer {
    type Service = CallerService<S>;

    fn layer(&self, inner: S) -> CallerService<S> {
        Guarded::new(inner, self.clone())
    }
}

impl Guard for CallerLayer {
    async fn answer<S: Guardable>(
        self,
        mut inner: S,
        request: Request,
    ) -> Result<Response, S::Error> {
        let (mut parts, body) = request.into_parts();
        let meter = Meter::of(&mut parts.extensions);
        let admitted = require(&self.toolbox, &parts).await;
        let mut response = match admitted.and_then(|caller| self.check(&caller).map(|()| caller)) {
            Ok(caller) => {
                parts.extensions.insert(RequesterId(caller.username.clone()));
                parts.extensions.insert(caller);
                inner.call(Request::from_parts(parts, body)).await?
            }
            Err(error) => {
                let mut response = Problem::from(error).into_response();
                problem::challenge(&self.toolbox, &mut response);
                response
            }
        };
        meter.show(response.headers_mut());
        Ok(response)
    }
}
