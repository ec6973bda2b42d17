//! What is asked of requests. What is answered is a [`Shown`](crate::file_request::Shown).

use chrono_tz::TZ_VARIANTS;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    auth_token::{Caller, Role},
    error::{Error, Result},
    file_request::{
        Criteria, NewFileRequest, Requester, criteria::MAX_ENCODED, model::LONGEST_DESCRIPTION,
    },
    toolbox::Deliver,
    web::{
        api::json::object,
        openapi::{Facts, NO_NUL, one_of, or_null, parse},
    },
};

/// What to ask for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFileRequest, examples(json!({
    "file_type": "flights",
    "format": "xlsx",
    "criteria": { "origin": "JFK" },
    "requester": { "id": "amy", "email": "amy@example.com" },
    "language": "nl",
    "timezone": "Europe/Amsterdam",
})))]
pub(super) struct Ask {
    /// Which kind of file: a `name` of `GET /api/file-types`.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    file_type: String,
    // Read as it was written.
    #[serde(default, rename = "criteria")]
    #[schema(schema_with = criteria)]
    _criteria: IgnoredAny,
    /// One of the file type's `formats`; its first when empty, null or left out.
    format: Option<String>,
    /// For whom; the caller when null or left out.
    #[serde(default, deserialize_with = "object")]
    requester: Option<AskRequester>,
    /// Overrides the file type's name for the file. It gets the extension of the format, and at
    /// most 200 bytes stay.
    #[schema(max_length = 200, pattern = "^[^\\x00]*$")]
    filename: Option<String>,
    #[schema(schema_with = description)]
    description: Option<String>,
    /// BCP 47, like `nl` or `pt-BR`.
    #[schema(max_length = 35, pattern = "^([A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*)?$")]
    language: Option<String>,
    #[schema(value_type = TimeZone, required = false)]
    timezone: Option<String>,
    /// Whether the requester alone may download; as the file type says when null. `false` where
    /// the file type says otherwise is for `service` and `staff`, and for nobody where it says
    /// `always`.
    requester_only: Option<bool>,
    /// Whether to mail about the end; yes when null.
    notify: Option<bool>,
    #[schema(schema_with = deliver)]
    deliver: Option<String>,
}

/// Who wants the file. Users ask for themselves, applications for anybody, staff for themselves
/// unless they name somebody.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Requester, examples(json!({ "id": "amy", "email": "amy@example.com" })))]
struct AskRequester {
    /// Their id in the application; null when there is none.
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\x00]*$")]
    id: Option<String>,
    #[schema(schema_with = email)]
    email: Option<String>,
}

/// What an edit changes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "description": "Flights from JFK, for the board" })))]
pub(super) struct FileRequestEdit {
    #[schema(schema_with = edited_description)]
    pub(super) description: String,
}

/// The name of a time zone.
struct TimeZone;

impl PartialSchema for TimeZone {
    fn schema() -> RefOr<Schema> {
        let mut names: Vec<&str> = TZ_VARIANTS.iter().map(|zone| zone.name()).collect();
        names.push("");
        let about = "A name of the IANA time zone database; UTC when empty or null.";
        parse(or_null(one_of(&names, about)))
    }
}

impl ToSchema for TimeZone {}

fn criteria() -> RefOr<Schema> {
    let plain = json!({
        "type": ["string", "number", "boolean", "null"],
        "pattern": NO_NUL,
        "description": "Text, a number, true or false; null is as empty text, and takes no default.",
    });
    parse(json!({
        "description": "What to put in the file, as the file type's `criteria` say.",
        "anyOf": [
            {
                "type": "object",
                "description": "By name; several values as a list. 16 KiB at most, urlencoded.",
                "additionalProperties": {
                    "anyOf": [
                        plain,
                        { "type": "array", "items": plain, "description": "Several values." },
                    ],
                },
            },
            {
                "type": "string",
                "description": "The same, urlencoded: `origin=JFK&carrier=AA`.",
                "maxLength": MAX_ENCODED,
                "pattern": NO_NUL,
            },
            {
                "type": "array",
                "items": plain,
                "description": "None: how PHP writes an empty object.",
                "maxItems": 0,
            },
            { "type": "null", "description": "None." },
        ],
    }))
}

fn for_people(about: &str) -> Value {
    json!({
        "type": "string",
        "description": about,
        "maxLength": LONGEST_DESCRIPTION,
        "pattern": NO_NUL,
    })
}

fn description() -> RefOr<Schema> {
    parse(or_null(for_people("For people; the file type's own when empty.")))
}

fn edited_description() -> RefOr<Schema> {
    parse(for_people("For people: up to 2,000 characters."))
}

fn deliver() -> RefOr<Schema> {
    let names = [Deliver::Later, Deliver::Auto, Deliver::Now].map(Deliver::as_str);
    let about = "`later` (the default): a worker makes it. `now`: the file is the answer. `auto`: \
        the file is the answer when it is small, and made within seconds; else a worker makes it.";
    parse(or_null(one_of(&names, about)))
}

fn email() -> RefOr<Schema> {
    parse(json!({
        "description": "Where the notice goes; nowhere when empty. Users are mailed at their own \
            address only.",
        "anyOf": [
            {
                "type": ["string", "null"],
                "description": "An address.",
                "format": "email",
                "maxLength": 254,
            },
            one_of(&[""], "Nowhere."),
        ],
    }))
}

/// What is particular to this service in the schema of [`Ask`]: its file types and their formats.
pub(in crate::web) fn particular(schema: &mut Value, facts: &Facts) {
    let names = &facts.file_types;
    // A reader who may ask for nothing is told of no formats.
    let Some(first) = names.first() else { return };
    let formats = facts.formats.iter().map(|name| json!(name));
    schema["properties"]["format"]["enum"] = formats.chain([json!(""), Value::Null]).collect();
    if let Some(file_type) = schema["properties"]["file_type"].as_object_mut() {
        file_type.remove("pattern");
        file_type.insert("enum".into(), json!(names));
    }
    let example = &mut schema["examples"][0];
    if !names.iter().any(|name| example["file_type"] == *name) {
        *example = json!({ "file_type": first, "requester": example["requester"].take() });
    }
}

/// A body that this service takes.
pub(super) fn example(facts: &Facts) -> Value {
    let mut schema = serde_json::to_value(Ask::schema()).unwrap_or_default();
    particular(&mut schema, facts);
    schema["examples"][0].take()
}

impl Ask {
    pub(super) fn into_new(
        self,
        criteria: Criteria,
        caller: &Caller,
    ) -> Result<(NewFileRequest, Deliver)> {
        let deliver = self.deliver.as_deref().map(str::parse).transpose();
        let deliver = deliver.map_err(|message: String| Error::invalid("deliver", message))?;
        let new = NewFileRequest {
            file_type: self.file_type.parse()?,
            criteria,
            format: self.format,
            requester: requester(self.requester.unwrap_or_default(), caller)?,
            filename: self.filename,
            description: self.description,
            language: self.language,
            timezone: self.timezone,
            requester_only: self.requester_only,
            notify: self.notify,
        };
        Ok((new, deliver.unwrap_or_default()))
    }
}

/// Users ask for themselves, an application for anybody. Staff ask for themselves unless they
/// name somebody.
fn requester(asked: AskRequester, caller: &Caller) -> Result<Requester> {
    let own_email = || (!caller.email.is_empty()).then(|| caller.email.clone());
    match caller.role {
        Role::Service => Ok(Requester { id: asked.id, email: asked.email.unwrap_or_default() }),
        Role::Staff if asked.id.is_some() => {
            Ok(Requester { id: asked.id, email: asked.email.unwrap_or_default() })
        }
        Role::Staff => Ok(Requester {
            id: Some(caller.username.clone()),
            email: asked.email.or_else(own_email).unwrap_or_default(),
        }),
        Role::User => {
            if asked.id.is_some_and(|id| id != caller.username) {
                return Err(Error::Forbidden("users ask for files for themselves only"));
            }
            if asked.email.is_some_and(|email| email != caller.email) {
                return Err(Error::Forbidden("users are mailed at their own address only"));
            }
            let email = own_email().unwrap_or_default();
            Ok(Requester { id: Some(caller.username.clone()), email })
        }
    }
}
