//! What the layers of this folder have in common: a service that is asked only once a guard has
//! looked at the request.

use std::task::{Context, Poll};

use axum::{extract::Request, response::Response};
use futures::future::BoxFuture;
use tower::Service;

/// A service behind a guard.
#[derive(Clone, Debug)]
pub struct Guarded<S, G> {
    inner: S,
    guard: G,
}

/// What can stand behind a guard.
pub trait Guardable:
    Service<Request, Response = Response, Future: Send + 'static, Error: Send> + Clone + Send + 'static
{
}

impl<S> Guardable for S where
    S: Service<Request, Response = Response, Future: Send + 'static, Error: Send>
        + Clone
        + Send
        + 'static
{
}

/// Looks at a request before a service does, and at its answer.
pub trait Guard: Clone + Send + 'static {
    /// The answer: of the service, which is ready, or a refusal.
    fn answer<S: Guardable>(
        self,
        inner: S,
        request: Request,
    ) -> impl Future<Output = Result<Response, S::Error>> + Send;
}

impl<S, G> Guarded<S, G> {
    pub(super) fn new(inner: S, guard: G) -> Self {
        Guarded { inner, guard }
    }
}

impl<S: Guardable, G: Guard> Service<Request> for Guarded<S, G> {
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The clone is not known to be ready; the one that was asked is.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(self.guard.clone().answer(inner, request))
    }
}
