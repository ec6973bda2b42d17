//! Routes together with what the document says of them, so that nobody adds one unseen.

use std::sync::Arc;

use axum::{
    Router,
    handler::Handler,
    http::Method,
    routing::{self, MethodFilter, MethodRouter},
};

use super::{openapi::Operation, state::WebState};

type State = Arc<WebState>;

/// A router that knows its routes.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) router: Router<State>,
    listed: Vec<(Method, String)>,
    operations: Vec<Operation>,
}

macro_rules! pages {
    ($($name:ident $method:ident),*) => {
        $(
        /// A route that is none of the API: a page, a form.
        pub(super) fn $name<H, T>(self, path: &str, handler: H) -> Self
        where
            H: Handler<T, State>,
            T: 'static,
        {
            self.on(Method::$method, path, routing::$name(handler))
        })*
    };
}

impl Routes {
    pages!(get GET, post POST);

    /// A route of the API: its method and path stand in what the document says of it.
    pub(super) fn route<H, T>(mut self, operation: Operation, handler: H) -> Self
    where
        H: Handler<T, State>,
        T: 'static,
    {
        let (method, path) = (operation.method.clone(), operation.path);
        let filter = filter(&method);
        self.operations.push(operation);
        self.on(method, path, routing::on(filter, handler))
    }

    /// The same, also under a second path, of which the document says nothing.
    pub(super) fn route_also<H, T>(self, operation: Operation, second: &str, handler: H) -> Self
    where
        H: Handler<T, State>,
        T: 'static,
    {
        let filter = filter(&operation.method);
        self.alias(second, routing::on(filter, handler.clone())).route(operation, handler)
    }

    /// As Django REST framework has them: also with a slash at the end, and with its refusals.
    pub(super) fn slashed<H, T>(self, operation: Operation, handler: H) -> Self
    where
        H: Handler<T, State>,
        T: 'static,
    {
        let second = format!("{}/", operation.path);
        self.route_also(operation.django(), &second, handler)
    }

    /// Another path of a route that is described already.
    pub(super) fn alias(self, path: &str, route: MethodRouter<State>) -> Self {
        self.map(|router| router.route(path, route))
    }

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

    /// Another's routes beside these.
    pub(super) fn merge(mut self, other: Routes) -> Self {
        self.listed.extend(other.listed);
        self.operations.extend(other.operations);
        self.router = self.router.merge(other.router);
        self
    }

    /// Method and path of each route.
    pub(super) fn list(self) -> Vec<(Method, String)> {
        self.listed
    }

    /// What the document says of each route of the API.
    pub(super) fn operations(&self) -> Vec<Operation> {
        self.operations.clone()
    }
}

/// The methods of operations are those of [`Operation`]'s constructors, which axum knows.
fn filter(method: &Method) -> MethodFilter {
    match *method {
        Method::POST => MethodFilter::POST,
        Method::PATCH => MethodFilter::PATCH,
        Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    }
}
