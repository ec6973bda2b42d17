//! Protecting an application's own routes with locks, in one line each.
//!
//! ```no_run
//! # use axum::{Router, routing::{get, post}};
//! # use bgfiles::{Toolbox, lock_token::Resource, web::{holds_lock_on_object, locks_object}};
//! # fn build(toolbox: Toolbox) -> Router {
//! let page = |parts: &http::request::Parts| {
//!     Resource::new("cms", "page", parts.uri.path().rsplit('/').next()?).ok()
//! };
//! Router::new()
//!     .route("/edit/{page}", get(|| async { "…" }).layer(locks_object(&toolbox, page)))
//!     .route("/build/{page}", post(|| async { "…" }).layer(holds_lock_on_object(&toolbox, page)))
//! # }
//! ```

use std::{sync::Arc, time::Duration};

use axum::{
    extract::Request,
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use tokio::task::AbortHandle;
use tower::Layer;
use uuid::Uuid;

use super::{
    caller::{self, lock_session},
    guard::{Guard, Guardable, Guarded},
};
use crate::{
    auth_token::{Caller, Proof},
    error::{Error, Result},
    lock_token::{Held, Resource},
    toolbox::Toolbox,
    web::{Problem, problem},
};

type Name = Arc<dyn Fn(&Parts) -> Option<Resource> + Send + Sync>;

/// Locks what a request is about. Made by [`locks_object`] and [`holds_lock_on_object`].
#[derive(Clone)]
pub struct LockLayer {
    toolbox: Toolbox,
    name: Name,
    held: bool,
}

impl std::fmt::Debug for LockLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockLayer").field("held", &self.held).finish_non_exhaustive()
    }
}

/// Locks for the caller's session, which keeps the lock afterwards: for a page where editing
/// begins. 403 when somebody else has it, 404 when `name` names nothing. Inside, [`Held`] is a
/// request extension.
pub fn locks_object(
    toolbox: &Toolbox,
    name: impl Fn(&Parts) -> Option<Resource> + Send + Sync + 'static,
) -> LockLayer {
    LockLayer { toolbox: toolbox.clone(), name: Arc::new(name), held: false }
}

/// Locks while the handler runs, however long that takes: renewed meanwhile, released when it
/// returns, fails, panics, or when the client goes away. With it goes what [`locks_object`] took for
/// the same session: of a page that is edited, this is the saving. A tab that renews a token of its
/// own keeps the lock.
pub fn holds_lock_on_object(
    toolbox: &Toolbox,
    name: impl Fn(&Parts) -> Option<Resource> + Send + Sync + 'static,
) -> LockLayer {
    LockLayer { held: true, ..locks_object(toolbox, name) }
}

/// What [`LockLayer`] makes.
pub type LockService<S> = Guarded<S, LockLayer>;

impl<S> Layer<S> for LockLayer {
    type Service = LockService<S>;

    fn layer(&self, inner: S) -> LockService<S> {
        Guarded::new(inner, self.clone())
    }
}

/// A lock that is renewed as long as this lives, and released afterwards.
struct Holder {
    toolbox: Toolbox,
    resource: Resource,
    token: Option<String>,
    renewing: AbortHandle,
}

impl Holder {
    fn new(toolbox: &Toolbox, resource: &Resource, held: &Held) -> Self {
        let (house, thing, token) = (toolbox.clone(), resource.clone(), held.token.clone());
        let pause = Duration::from_secs(u64::from(held.ttl.unsigned_abs())) / 3;
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                match house.renew_lock(&thing, &token, None).await {
                    Ok(_) => {}
                    // Broken by staff: whoever took it has another fence.
                    Err(Error::LockRefused { .. }) => return,
                    Err(error) => {
                        tracing::warn!(resource = %thing, %error, "a lock was not renewed")
                    }
                }
            }
        });
        Holder {
            toolbox: toolbox.clone(),
            resource: resource.clone(),
            token: Some(held.token.clone()),
            renewing: renewing.abort_handle(),
        }
    }

    /// Should nobody wait for this any more, dropping it does the same.
    async fn release(mut self) {
        if let Some(token) = self.token.clone() {
            release(&self.toolbox, &self.resource, &token).await;
            self.token = None;
        }
    }
}

async fn release(toolbox: &Toolbox, resource: &Resource, token: &str) {
    match toolbox.unlock_with_pages(resource, token).await {
        Ok(()) | Err(Error::LockRefused { .. }) => {}
        Err(error) => tracing::warn!(%resource, %error, "a lock was not released; it expires"),
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.renewing.abort();
        if let Some(token) = self.token.take() {
            let (toolbox, resource) = (self.toolbox.clone(), self.resource.clone());
            tokio::spawn(async move { release(&toolbox, &resource, &token).await });
        }
    }
}

/// Who shares a lock with whom: the tabs of a session; else the calls of one token or user.
fn session(toolbox: &Toolbox, caller: Option<&Caller>, parts: &Parts) -> String {
    let own = || match caller.map(|caller| (&caller.proof, &caller.username)) {
        Some((Proof::Token(token), _)) => format!("token {}", token.id),
        Some((_, username)) => format!("user {username}"),
        None => format!("request {}", Uuid::new_v4()),
    };
    lock_session(toolbox, caller, &parts.headers).unwrap_or_else(own)
}

impl LockLayer {
    async fn lock(&self, parts: &Parts) -> Result<(Resource, Held)> {
        let resource = (self.name)(parts).ok_or(Error::NotFound("object"))?;
        let caller = match self.toolbox.lock_settings().open {
            true => caller::identify(&self.toolbox, parts).await?,
            false => Some(caller::require(&self.toolbox, parts).await?),
        };
        let session = session(&self.toolbox, caller.as_ref(), parts);
        if !self.held && caller.is_none() && session.starts_with("request ") {
            return Err(Error::Forbidden("a lock that lasts is somebody's: send Lock-Session"));
        }
        let owner = caller.as_ref().map(|caller| caller.username.as_str());
        let held = match self.held {
            true => self.toolbox.lock_for_session(&resource, &session, owner, false).await?,
            false => self.toolbox.lock_for_page(&resource, &session, owner).await?,
        };
        Ok((resource, held))
    }
}

impl Guard for LockLayer {
    async fn answer<S: Guardable>(
        self,
        mut inner: S,
        request: Request,
    ) -> Result<Response, S::Error> {
        let (mut parts, body) = request.into_parts();
        let (resource, held) = match self.lock(&parts).await {
            Ok(locked) => locked,
            Err(error) => return Ok(refusal(&self.toolbox, error)),
        };
        let holder = self.held.then(|| Holder::new(&self.toolbox, &resource, &held));
        parts.extensions.insert(held);
        let response = inner.call(Request::from_parts(parts, body)).await;
        if let Some(holder) = holder {
            holder.release().await;
        }
        response
    }
}

fn refusal(toolbox: &Toolbox, error: Error) -> Response {
    let problem = match error {
        Error::Locked(_) => Problem::new(
            StatusCode::FORBIDDEN,
            "locked",
            "Locked",
            "The object you are trying to access is locked.",
        ),
        other => other.into(),
    };
    let mut response = problem.into_response();
    problem::challenge(toolbox, &mut response);
    response
}
