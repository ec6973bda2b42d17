//! `GET /openapi.json`: the HTTP API as an OpenAPI 3.1 document.
//!
//! ```text
//! operations   one entry for every route
//! schemas      what bodies and answers look like
//! here         what they share: refusals, security, tags
//! ```

mod operations;
mod schemas;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, Header, HeaderBuilder, HttpMethod, InfoBuilder, OpenApi,
    OpenApiBuilder, PathItem, PathsBuilder, Ref, Response as Described, ResponseBuilder, Server,
    security::{ApiKey, ApiKeyValue, SecurityScheme},
    tag::{Tag, TagBuilder},
};

use super::caller;
use crate::{
    auth_token::{Caller, Role},
    ids::hex,
    toolbox::Toolbox,
};

/// What the document says of this very service.
#[derive(Debug, Default)]
struct Facts {
    /// Names of the registered file types.
    file_types: Vec<String>,
    /// Every format of any of them.
    formats: Vec<String>,
    /// Most seconds of a lock.
    longest_lock: u64,
    /// The status of a lock that somebody else has.
    conflict_status: u16,
    /// Whether nobody in particular may lock.
    open_locks: bool,
    /// Whether the expiry of a login is RFC 3339.
    plain_expiry: bool,
}

impl Facts {
    /// For somebody: which file types there are is for those who may ask for them.
    fn of(toolbox: &Toolbox, caller: Option<&Caller>) -> Self {
        let open = || {
            let theirs = move |caller| toolbox.requests().by(caller).file_types();
            caller.into_iter().flat_map(theirs)
        };
        let mut formats: Vec<String> = Vec::new();
        for format in open().flat_map(|handler| handler.formats()) {
            if !formats.iter().any(|known| known == format) {
                formats.push((*format).to_owned());
            }
        }
        Facts {
            file_types: open().map(|h| h.file_type().to_owned()).collect(),
            formats,
            longest_lock: toolbox.locks.longest.as_secs(),
            conflict_status: toolbox.locks.conflict_status,
            open_locks: toolbox.locks.open,
            plain_expiry: toolbox.auth.expiry_format.is_empty(),
        }
    }
}

/// Examples, by the name of their schema.
type Examples = BTreeMap<&'static str, Value>;

/// The documents of a service, each made once: whoever asks may be anybody, and it takes
/// milliseconds. What they say hangs on the role of the reader alone.
#[derive(Clone, Default)]
pub(super) struct Documents(Arc<[OnceLock<Document>; 4]>);

/// A document, as it is sent, and its entity tag.
pub(super) struct Document {
    pub(super) api: OpenApi,
    text: Bytes,
    tag: String,
}

impl Documents {
    /// The one for somebody.
    pub(super) fn of(&self, toolbox: &Toolbox, caller: Option<&Caller>) -> &Document {
        let place = match caller.map(|caller| caller.role) {
            None => 0,
            Some(Role::User) => 1,
            Some(Role::Service) => 2,
            Some(Role::Staff) => 3,
        };
        self.0[place].get_or_init(|| {
            let api = document(toolbox, caller);
            let text = serde_json::to_vec(&api).unwrap_or_else(|error| {
                tracing::error!(%error, "the description of the API could not be written");
                b"{}".to_vec()
            });
            let tag = format!("\"{}\"", &hex(&Sha256::digest(&text))[..16]);
            Document { api, text: text.into(), tag }
        })
    }
}

/// `GET /openapi.json`.
pub(super) async fn json(
    State(toolbox): State<Toolbox>,
    Extension(documents): Extension<Documents>,
    parts: Parts,
) -> Response {
    let caller = caller::identify(&toolbox, &parts).await.ok().flatten();
    let Document { text, tag, .. } = documents.of(&toolbox, caller.as_ref());
    let known = parts.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is = |known: &str| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    };
    let known = known.is_some_and(|known| known.split(',').any(is));
    let common = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "private, no-cache")];
    match known {
        // Of HEAD the framework would say zero, which must not be (RFC 9110, section 8.6).
        true => {
            let length = [(header::CONTENT_LENGTH, text.len())];
            (StatusCode::NOT_MODIFIED, common, length).into_response()
        }
        false => {
            let json = [(header::CONTENT_TYPE, "application/json")];
            (common, json, text.clone()).into_response()
        }
    }
}

/// Method and path of every operation.
#[cfg(test)]
fn operations() -> Vec<(Method, &'static str)> {
    let all = operations::all(&Facts::default());
    all.into_iter().map(|operation| (operation.method, operation.path)).collect()
}

/// The document, as this service is configured.
fn document(toolbox: &Toolbox, caller: Option<&Caller>) -> OpenApi {
    let facts = Facts::of(toolbox, caller);
    let schemas = schemas::all(&facts);
    let examples: Examples = schemas
        .iter()
        .filter_map(|(name, schema)| Some((*name, schema["examples"].get(0)?.clone())))
        .collect();
    let mut paths = PathsBuilder::new();
    for operation in operations::all(&facts) {
        let (method, path) = (http_method(&operation.method), operation.path);
        paths = paths.path(path, PathItem::new(method, operation.build(&examples)));
    }
    let mut components = ComponentsBuilder::new();
    for (name, schema) in schemas {
        components = components.schema(name, schemas::parse(schema));
    }
    for refusal in REFUSALS {
        for family in [Family::Problem, Family::Django] {
            if family.has(refusal.status) {
                let name = family.name(refusal.status);
                components = components.response(name, family.response(refusal));
            }
        }
    }
    for (name, scheme) in security(toolbox) {
        components = components.security_scheme(name, scheme);
    }
    let info = InfoBuilder::new()
        .title("bgfiles")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Background file requests: recorded, made later, stored, mailed as a signed link, \
             expired. Every GET answers HEAD, too. Every answer has `X-Request-Id`. Errors are \
             `application/problem+json`, or a page for callers whose `Accept` names `text/html`; \
             those of `/api/auth` and `/lock_tokens` are as Django REST framework has them.",
        ))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new(toolbox.base_url.join("").trim().to_owned())]))
        .paths(paths)
        .components(Some(components.build()))
        .tags(Some(tags()))
        .build()
}

fn http_method(method: &Method) -> HttpMethod {
    match method.as_str() {
        "POST" => HttpMethod::Post,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn tags() -> Vec<Tag> {
    let all = [
        (operations::REQUESTS, "Asking for files, and what becomes of the requests."),
        (operations::LINKS, "Links that can be limited, extended, revoked and watched."),
        (operations::DOWNLOADS, "Handing out files to whoever has a link."),
        (operations::FILE_TYPES, "Which files can be asked for."),
        (
            operations::REQUEST_TOKENS,
            "Tokens that admit to a scope, so and so many times. For applications and staff.",
        ),
        (
            operations::AUTH,
            "Logging in and out, and one's own tokens; as django-rest-durin has it.",
        ),
        (operations::LOCKS, "Who holds what: looking, waiting, breaking."),
        (operations::LOCK_TOKENS, "Taking and keeping locks; as django-lock-tokens has it."),
        (operations::MONITORING, "What monitors ask."),
        (operations::DOCUMENT, "This document."),
    ];
    let tag =
        |(name, about): (&str, &str)| TagBuilder::new().name(name).description(Some(about)).build();
    all.map(tag).into()
}

fn security(toolbox: &Toolbox) -> [(&'static str, SecurityScheme); 2] {
    let prefix = &toolbox.auth.header_prefix;
    let token = format!(
        "`{prefix} SECRET` or `Bearer SECRET`: a secret that `POST /api/auth/login` answers with."
    );
    let session = "Set when a request token logs somebody in. Requests that change something must \
        then come from our own pages.";
    [
        (
            operations::TOKEN,
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "Authorization",
                token.as_str(),
            ))),
        ),
        (
            operations::SESSION,
            SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
                "bgfiles_session",
                session,
            ))),
        ),
    ]
}

fn text_header(about: &str) -> Header {
    let schema = schemas::parse(json!({ "type": "string" }));
    HeaderBuilder::new().schema(Some(schema)).description(Some(about)).build()
}

/// How errors look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// RFC 9457.
    Problem,
    /// As Django REST framework has them.
    Django,
}

/// An answer that many operations share.
struct Refusal {
    status: u16,
    about: &'static str,
    title: &'static str,
    code: &'static str,
    detail: &'static str,
}

/// Every status with which operations refuse.
const REFUSALS: &[Refusal] = &[
    Refusal {
        status: 400,
        about: "The request cannot be read: the body is not valid JSON (`malformed_json`), the path is no \
            text or the query names something twice (`refused`), the link is none of ours \
            (`bad_token`).",
        title: "Bad request",
        code: "malformed_json",
        detail: "the body is not valid JSON: expected value at line 1 column 1",
    },
    Refusal {
        status: 401,
        about: "No or wrong credentials.",
        title: "Authentication required",
        code: "unauthenticated",
        detail: "Authentication credentials were not provided.",
    },
    Refusal {
        status: 403,
        about: "The caller may not do this; `code` says why: `forbidden`, `wrong_lock_token`, \
            `link_policy`, `not_requester`, `link_expired` and its like, `token_expired` and its like.",
        title: "Forbidden",
        code: "forbidden",
        detail: "this client may not use the API",
    },
    Refusal {
        status: 404,
        about: "There is no such thing, or not for this caller (`not_found`); the file is not \
            ready (`file_not_ready`); nobody holds the lock (`not_locked`).",
        title: "Not found",
        code: "not_found",
        detail: "request not found",
    },
    Refusal {
        status: 405,
        about: "The link waits for a confirmation: POST redeems it.",
        title: "Confirmation required",
        code: "confirmation_needed",
        detail: "this link is redeemed by POST; GET and HEAD show what it is and leave it unused",
    },
    Refusal {
        status: 408,
        about: "The body did not arrive whole.",
        title: "Incomplete body",
        code: "body_incomplete",
        detail: "the body did not arrive whole",
    },
    Refusal {
        status: 409,
        about: "What is asked contradicts the state things are in; `code` says how: \
            `wrong_status`, `idempotency_key_reused`, `link_revoked`, `link_over`, `no_recipient`, \
            `already_concluded`, `too_late`.",
        title: "Conflict",
        code: "wrong_status",
        detail: "the request is finished and cannot be cancelled",
    },
    Refusal {
        status: 410,
        about: "The file's time is over (`file_expired`), it was made anew (`file_changed`), or it is no longer what was made (`file_lost`).",
        title: "File expired",
        code: "file_expired",
        detail: "the file has expired",
    },
    Refusal {
        status: 412,
        about: "The request is not as the caller expects it (`If-Match`).",
        title: "Precondition failed",
        code: "precondition_failed",
        detail: "the request has changed since; get it again and decide anew",
    },
    Refusal {
        status: 413,
        about: "The body is too large.",
        title: "Body too large",
        code: "body_too_large",
        detail: "the body is too large",
    },
    Refusal {
        status: 415,
        about: "The body is of a type that is not read here.",
        title: "Unsupported media type",
        code: "unsupported_media_type",
        detail: "send JSON with Content-Type: application/json",
    },
    Refusal {
        status: 422,
        about: "Something given is not acceptable; `errors` names each field.",
        title: "Invalid input",
        code: "invalid",
        detail: "criteria.upto: is required",
    },
    Refusal {
        status: 423,
        about: "Somebody else, or a worker, is at it.",
        title: "Locked",
        code: "locked",
        detail: "bgfiles/file_request/9b2f3a52-7d0c-4e0e-9d1c-5a8f0f6f2c11 is locked by bob since \
            2026-11-21 09:30 UTC",
    },
    Refusal {
        status: 429,
        about: "The caller is too fast.",
        title: "Too many requests",
        code: "throttled",
        detail: "Request was throttled. Expected available in 12 seconds.",
    },
    Refusal {
        status: 500,
        about: "Something went wrong on our side; the log says what.",
        title: "Internal error",
        code: "internal",
        detail: "something went wrong on our side",
    },
    Refusal {
        status: 503,
        about: "Not possible at the moment: the database or the store is in trouble (`database`, `storage`), a \
            disk is full (`disk_full`), the process ends (`shutting_down`).",
        title: "Temporarily unavailable",
        code: "database",
        detail: "something went wrong on our side",
    },
];

impl Family {
    /// Whether its operations refuse with this status.
    fn has(self, status: u16) -> bool {
        self == Family::Problem || !matches!(status, 405 | 408 | 409 | 410 | 412 | 422 | 423)
    }

    /// The name of the shared answer.
    fn name(self, status: u16) -> String {
        format!("{self:?}{status}")
    }

    fn response(self, refusal: &Refusal) -> Described {
        let Refusal { status, about, title, code, detail } = *refusal;
        let mut response = ResponseBuilder::new().description(about);
        if self == Family::Django {
            let (schema, example) = match status {
                400 => ("Refusal", json!({ "non_field_errors": ["JSON parse error"] })),
                404 => ("Detail", json!({ "detail": "Not found." })),
                _ => ("Detail", json!({ "detail": detail })),
            };
            let schema = Ref::from_schema_name(schema);
            let content = ContentBuilder::new().schema(Some(schema)).example(Some(example));
            response = response.content("application/json", content.build());
        }
        // What is refused before a route is asked (a path that is no text, say) is a problem
        // everywhere.
        if self == Family::Problem || matches!(status, 400 | 404 | 500) {
            let mut example = json!({
                "type": "about:blank",
                "title": title,
                "status": status,
                "code": code,
                "detail": detail,
            });
            if status == 422 {
                let error = json!({ "field": "criteria.upto", "message": "is required" });
                example["errors"] = json!([error]);
            }
            let problem = Ref::from_schema_name("Problem");
            let problem = ContentBuilder::new().schema(Some(problem)).example(Some(example));
            let page = ContentBuilder::new().schema(Some(Ref::from_schema_name("Page")));
            response = response
                .content("application/problem+json", problem.build())
                .content("text/html", page.build());
        }
        let header = match status {
            401 => Some(("WWW-Authenticate", "The schemes of `Authorization`, a header each.")),
            405 => Some(("Allow", "The methods that work here.")),
            429 | 503 => Some(("Retry-After", "Seconds to wait.")),
            _ => None,
        };
        if let Some((name, about)) = header {
            response = response.header(name, text_header(about));
        }
        if status == 429 {
            for (name, about) in [
                (
                    "RateLimit-Policy",
                    "The caller's rate: `\"calls\";q=100;w=60`, q calls in w seconds.",
                ),
                (
                    "RateLimit",
                    "What is left of it: `\"calls\";r=0;t=12`, r calls, all again in t seconds.",
                ),
            ] {
                response = response.header(name, text_header(about));
            }
        }
        response.build()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_route_of_the_api_is_described_and_nothing_else() {
        let sorted = |mut list: Vec<(String, String)>| {
            list.sort();
            list
        };
        let mut routes = super::super::table(false, 0).list();
        // Of the pages, not of the API.
        routes.retain(|(_, path)| !path.starts_with("/static/"));
        let routes = routes.into_iter().map(|(method, path)| (method.to_string(), path)).collect();
        let described = super::operations();
        let described =
            described.into_iter().map(|(method, path)| (method.to_string(), path.to_owned()));
        assert_eq!(sorted(described.collect()), sorted(routes));
    }
}
