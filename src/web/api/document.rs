//! `GET /openapi.json`: the HTTP API as an OpenAPI 3.1 document, put together of what each route says
//! of itself, and of what is particular to this service.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::{header, request::Parts},
    response::{IntoResponse, Response},
};
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ComponentsBuilder, HttpMethod, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
        PathItem, PathsBuilder, RefOr, Schema, Server,
        security::{ApiKey, ApiKeyValue, SecurityScheme},
        tag::{Tag, TagBuilder},
    },
};

use super::{auth, file_types, health, links, locks, request_tokens, requests};
use crate::{
    auth_token::{Caller, Role},
    ids::hex,
    toolbox::Toolbox,
    web::{
        conditional::{is_known, not_modified},
        download,
        identity::caller,
        openapi::{
            Detail, Facts, Family, HtmlPage, Operation, REFUSALS, Refusal, SESSION, Schemas, TOKEN,
            parse, text,
        },
        problem::Refused,
        routes::Routes,
        session,
    },
};

const DOCUMENT: &str = "document";

/// An OpenAPI document.
struct Described;

impl PartialSchema for Described {
    fn schema() -> RefOr<Schema> {
        let about = "An OpenAPI document.";
        parse(json!({ "type": "object", "additionalProperties": true, "description": about }))
    }
}

impl ToSchema for Described {
    fn name() -> Cow<'static, str> {
        "Document".into()
    }
}

/// What is particular to this service: its file types, formats, lock times.
fn particular(name: &str, schema: &mut Value, facts: &Facts) {
    match name {
        "NewFileRequest" => requests::particular(schema, facts),
        "NewLock" | "NewLockForm" | "LockRenewal" | "LockRenewalForm" => {
            schema["properties"]["ttl"]["maximum"] = facts.longest_lock.max(5).into();
        }
        "LoggedIn" | "Refreshed" if facts.plain_expiry => {
            schema["properties"]["expiry"]["format"] = "date-time".into();
        }
        _ => {}
    }
}

/// For somebody: which file types there are is for those who may ask for them.
fn facts_of(toolbox: &Toolbox, caller: Option<&Caller>) -> Facts {
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
        longest_lock: toolbox.lock_settings().longest.as_secs(),
        conflict_status: toolbox.lock_settings().conflict_status,
        open_locks: toolbox.lock_settings().open,
        plain_expiry: toolbox.auth_settings().expiry_format.is_empty(),
    }
}

/// The documents of a service, each made once: whoever asks may be anybody, and it takes
/// milliseconds. What they say hangs on the role of the reader alone.
#[derive(Clone)]
pub(in crate::web) struct Documents {
    operations: Arc<[Operation]>,
    made: Arc<[OnceLock<Document>; 4]>,
}

/// A document, as it is sent, and its entity tag.
pub(in crate::web) struct Document {
    pub(in crate::web) api: OpenApi,
    text: Bytes,
    tag: String,
}

impl Documents {
    /// Of a service with these operations.
    pub(in crate::web) fn new(operations: Vec<Operation>) -> Self {
        Documents { operations: operations.into(), made: Arc::default() }
    }

    /// The one for somebody.
    pub(in crate::web) fn of(&self, toolbox: &Toolbox, caller: Option<&Caller>) -> &Document {
        let place = match caller.map(|caller| caller.role) {
            None => 0,
            Some(Role::User) => 1,
            Some(Role::Service) => 2,
            Some(Role::Staff) => 3,
        };
        self.made[place].get_or_init(|| {
            let api = document(&self.operations, toolbox, caller);
            let text = serde_json::to_vec(&api).unwrap_or_else(|error| {
                tracing::error!(%error, "the description of the API could not be written");
                b"{}".to_vec()
            });
            let tag = format!("\"{}\"", &hex(&Sha256::digest(&text))[..16]);
            Document { api, text: text.into(), tag }
        })
    }
}

pub(in crate::web) fn routes() -> Routes {
    let operation = Operation::get("/openapi.json", "openapi", DOCUMENT, "Shows this document.")
        .header("If-None-Match", "Entity tags: 304 when the document has one of them.", text())
        .answers::<Described>(200, "The document.")
        .carrying("ETag", "Changes with the document.")
        .plainly(304, "The document is the one that the caller has.")
        .carrying("ETag", "Changes with the document.");
    Routes::default().route(operation, show)
}

/// `GET /openapi.json`.
async fn show(
    State(toolbox): State<Toolbox>,
    Extension(documents): Extension<Documents>,
    parts: Parts,
) -> Response {
    let caller = caller::identify(&toolbox, &parts).await.ok().flatten();
    let Document { text, tag, .. } = documents.of(&toolbox, caller.as_ref());
    let about = [
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::CONTENT_TYPE, "application/json"),
    ];
    let response = (about, text.clone()).into_response();
    if is_known(&parts.headers, tag) { not_modified(response) } else { response }
}

/// The document, as this service is configured.
fn document(operations: &[Operation], toolbox: &Toolbox, caller: Option<&Caller>) -> OpenApi {
    let facts = facts_of(toolbox, caller);
    let (mut paths, mut schemas) = (PathsBuilder::new(), Schemas::default());
    // What shared refusals refer to.
    schemas.learn::<Refused>();
    schemas.learn::<Refusal>();
    schemas.learn::<Detail>();
    schemas.learn::<HtmlPage>();
    for operation in operations {
        let (method, path) = (http_method(&operation.method), operation.path);
        let (operation, named) = operation.clone().build(&facts);
        paths = paths.path(path, PathItem::new(method, operation));
        schemas.extend(named);
    }
    let mut components = ComponentsBuilder::new();
    for (name, mut schema) in schemas.into_json() {
        particular(&name, &mut schema, &facts);
        components = components.schema(name, parse(schema));
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
    let license = env!("CARGO_PKG_LICENSE");
    let license = LicenseBuilder::new().name(license).identifier(Some(license)).build();
    let info = InfoBuilder::new()
        .title("bgfiles")
        .version(env!("CARGO_PKG_VERSION"))
        .license(Some(license))
        .description(Some(
            "Background file requests: recorded, made later, stored, mailed as a signed link, \
             expired. Every GET answers HEAD, too. Every answer has `X-Request-Id`. Errors are \
             `application/problem+json`, or a page for callers whose `Accept` names `text/html`; \
             those of `/api/auth` and `/lock_tokens` are as Django REST framework has them.",
        ))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new(toolbox.base_url().join("").trim().to_owned())]))
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
        (requests::REQUESTS, "Asking for files, and what becomes of the requests."),
        (links::LINKS, "Links that can be limited, extended, revoked and watched."),
        (download::DOWNLOADS, "Handing out files to whoever has a link."),
        (file_types::FILE_TYPES, "Which files can be asked for."),
        (
            request_tokens::REQUEST_TOKENS,
            "Tokens that admit to a scope, so and so many times. For applications and staff.",
        ),
        (auth::AUTH, "Logging in and out, and one's own tokens; as django-rest-durin has it."),
        (locks::LOCKS, "Who holds what: looking, waiting, breaking."),
        (locks::LOCK_TOKENS, "Taking and keeping locks; as django-lock-tokens has it."),
        (health::MONITORING, "What monitors ask."),
        (DOCUMENT, "This document."),
    ];
    let tag =
        |(name, about): (&str, &str)| TagBuilder::new().name(name).description(Some(about)).build();
    all.map(tag).into()
}

fn security(toolbox: &Toolbox) -> [(&'static str, SecurityScheme); 2] {
    let prefix = &toolbox.auth_settings().header_prefix;
    let token = format!(
        "`{prefix} SECRET` or `Bearer SECRET`: a secret that `POST /api/auth/login` answers with."
    );
    let name = session::name(toolbox.base_url());
    let session = "Set by logging in on a page, and by a request token that logs its user in. \
        Requests that change something must then come from our own pages.";
    [
        (
            TOKEN,
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "Authorization",
                token.as_str(),
            ))),
        ),
        (
            SESSION,
            SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
                name.as_str(),
                session,
            ))),
        ),
    ]
}
