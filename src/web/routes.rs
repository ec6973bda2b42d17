//! Routes together with the list of them, so that nobody adds one unseen.

use axum::{
    Router,
    handler::Handler,
    http::Method,
    routing::{self, MethodRouter},
};

use super::WebState;

type State = std::sync::Arc<WebState>;

/// A router that knows its routes.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) router: Router<State>,
    listed: Vec<(Method, String)>,
}

macro_rules! methods {
    ($($name:ident $method:ident),*) => {
        $(pub(super) fn $name<H, T>(self, path: &str, handler: H) -> Self
        where
            H: Handler<T, State>,
            T: 'static,
        {
            self.on(Method::$method, path, routing::$name(handler))
        })*
    };
}

impl Routes {
    methods!(get GET, post POST, patch PATCH, delete DELETE);

    fn on(mut self, method: Method, path: &str, route: MethodRouter<State>) -> Self {
        self.listed.push((method, path.to_owned()));
        self.router = self.router.route(path, route);
        self
    }

    /// Changes the router, not the list.
    pub(super) fn map(mut self, change: impl FnOnce(Router<State>) -> Router<State>) -> Self {
        self.router = change(self.router);
        self
    }

    /// The same under another address, which is not listed.
    pub(super) fn alias(self, path: &str, route: MethodRouter<State>) -> Self {
        self.map(|router| router.route(path, route))
    }

    /// Another's routes beside these.
    pub(super) fn merge(mut self, other: Routes) -> Self {
        self.listed.extend(other.listed);
        self.router = self.router.merge(other.router);
        self
    }

    /// Another's routes below a prefix.
    pub(super) fn nest(mut self, prefix: &str, inner: Routes) -> Self {
        let below = inner.listed.into_iter().map(|(m, path)| (m, format!("{prefix}{path}")));
        self.listed.extend(below);
        self.router = self.router.nest(prefix, inner.router);
        self
    }

    /// Method and path of each route.
    pub(super) fn list(self) -> Vec<(Method, String)> {
        self.listed
    }
}
