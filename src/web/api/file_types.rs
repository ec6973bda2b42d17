//! `/api/file-types`: what can be asked for.

use std::num::NonZeroU32;

use axum::{Json, extract::State, http::HeaderMap};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    auth_token::Caller,
    file_request::links::RequesterOnly,
    registry::Handler,
    toolbox::Toolbox,
    web::{
        openapi::{Items, Operation, parse, text},
        routes::Routes,
    },
};

/// The tag of these routes.
pub(super) const FILE_TYPES: &str = "file types";

pub(super) fn routes() -> Routes {
    let about = "The language of the titles: its first is taken.";
    Routes::default().route(
        Operation::get(
            "/api/file-types",
            "listFileTypes",
            FILE_TYPES,
            "Lists what can be asked for.",
        )
        .header("Accept-Language", about, text())
        .answers::<Items<FileType>>(200, "The file types.")
        .guarded(),
        list,
    )
}

/// A kind of file that can be asked for.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({
    "name": "flights",
    "title": "Flights",
    "formats": ["xlsx", "csv"],
    "requester_only": false,
    "link": {
        "max_uses": null,
        "scanner_safe": false,
        "max_age": null,
        "requester_only": false,
    },
    "criteria": {
        "type": "object",
        "properties": { "origin": { "type": "string" } },
        "required": ["origin"],
    },
})))]
struct FileType {
    /// Its name, for `file_type`.
    name: String,
    /// For people, in the language of `Accept-Language`.
    title: String,
    /// Its formats, the default first.
    formats: Vec<String>,
    /// Whether links are for the requester alone, unless a request is loosened.
    requester_only: bool,
    /// What links may be.
    link: LinkPolicy,
    /// A JSON Schema of its criteria.
    #[schema(schema_with = criteria)]
    criteria: Value,
}

/// What links of a file type may be.
#[derive(Serialize, ToSchema)]
struct LinkPolicy {
    /// How often each can be redeemed; null without a limit.
    #[schema(required)]
    max_uses: Option<u32>,
    /// Whether opening it shows a page first.
    scanner_safe: bool,
    /// Seconds that it works; null for as long as the file stays.
    #[schema(required, minimum = 0)]
    max_age: Option<u64>,
    /// `false`, `true` or `"always"`.
    requester_only: Value,
}

/// JSON Schema in JSON Schema.
fn criteria() -> RefOr<Schema> {
    let about = "A JSON Schema of its criteria.";
    parse(json!({ "type": "object", "additionalProperties": true, "description": about }))
}

impl FileType {
    fn of(handler: &dyn Handler, language: &str) -> Self {
        let policy = handler.policy();
        FileType {
            name: handler.file_type().to_owned(),
            title: handler.title(language),
            formats: handler.formats().iter().map(|format| (*format).to_owned()).collect(),
            requester_only: policy.requester_only != RequesterOnly::No,
            link: LinkPolicy {
                max_uses: policy.max_uses.map(NonZeroU32::get),
                scanner_safe: policy.scanner_safe,
                max_age: policy.max_age.map(|age| age.as_secs()),
                requester_only: match policy.requester_only {
                    RequesterOnly::No => json!(false),
                    RequesterOnly::Yes => json!(true),
                    RequesterOnly::Always => json!("always"),
                },
            },
            criteria: handler.criteria_schema(language),
        }
    }
}

async fn list(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    headers: HeaderMap,
) -> Json<Items<FileType>> {
    let language = headers.get("accept-language").and_then(|value| value.to_str().ok());
    let language = language.and_then(|l| l.split([',', ';']).next()).map_or("en", str::trim);
    let requests = toolbox.requests().by(&caller);
    let items = requests.file_types().map(|handler| FileType::of(&**handler, language)).collect();
    Json(Items { items })
}
