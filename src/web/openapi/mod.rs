//! What `/openapi.json` says, in the words of whoever says it: a route has its [`Operation`] next to
//! its handler, a body is a type with a derived schema. `api/document.rs` puts it together.

mod operation;
mod refusals;
mod schema;

pub(super) use operation::{DIGEST, HTML, NEXT, Operation, PLAIN, SESSION, TOKEN, text};
pub(super) use refusals::{Family, REFUSALS};
pub(super) use schema::{
    Detail, Events, Facts, HtmlPage, ITEMS, Items, MOST_ITEMS, NO_NUL, Page, Refusal, Schemas,
    Text, VISIBLE, component, one_of, or_null, parse,
};
