//! Schemas that several areas share, and how derived ones are gathered.
//!
//! Bodies are types that derive `ToSchema`. Their fields' comments are what the document says of
//! them; an `Option` of an answer is always there, as `null` if need be (`#[schema(required)]`).

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Header, HeaderBuilder, RefOr, Schema},
};

/// Text without NUL, which no database keeps.
pub(in crate::web) const NO_NUL: &str = "^[^\\x00]*$";
/// Text without control characters.
pub(in crate::web) const VISIBLE: &str = "^[^\\x00-\\x1F\\x7F-\\x9F]*$";

/// Items of a page, unless the caller says how many; and at most.
pub(in crate::web) const ITEMS: i64 = 50;
pub(in crate::web) const MOST_ITEMS: i64 = 200;

/// What the document says of this very service.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct Facts {
    /// Names of the registered file types.
    pub(in crate::web) file_types: Vec<String>,
    /// Every format of any of them.
    pub(in crate::web) formats: Vec<String>,
    /// Most seconds of a lock.
    pub(in crate::web) longest_lock: u64,
    /// The status of a lock that somebody else has.
    pub(in crate::web) conflict_status: u16,
    /// Whether nobody in particular may lock.
    pub(in crate::web) open_locks: bool,
    /// Whether the expiry of a login is RFC 3339.
    pub(in crate::web) plain_expiry: bool,
}

/// Component schemas by name.
#[derive(Clone, Default)]
pub(in crate::web) struct Schemas(BTreeMap<String, RefOr<Schema>>);

impl Schemas {
    /// Takes in a type, and whatever it refers to.
    pub(in crate::web) fn learn<T: ToSchema>(&mut self) {
        let mut found = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut found);
        self.0.extend(found);
    }

    /// Takes in others.
    pub(in crate::web) fn extend(&mut self, others: Schemas) {
        self.0.extend(others.0);
    }

    /// Each by its name, as JSON, for what is particular to this service.
    pub(in crate::web) fn into_json(self) -> impl Iterator<Item = (String, Value)> {
        let json = |(name, schema)| {
            let mut json = serde_json::to_value(schema).unwrap_or_default();
            tidy(&mut json);
            (name, json)
        };
        self.0.into_iter().map(json)
    }
}

/// Makes one paragraph of the lines of a comment, which are as long as the source wants them; and says
/// of a property that may be anything that it is of no type, without which the library does not read
/// it again.
fn tidy(json: &mut Value) {
    let Value::Object(members) = json else {
        return if let Value::Array(items) = json {
            items.iter_mut().for_each(tidy)
        };
    };
    if let Some(Value::String(text)) = members.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    for (name, value) in members.iter_mut() {
        match (name.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for property in properties.values_mut() {
                    let typed = ["type", "$ref", "oneOf", "anyOf", "allOf", "enum"];
                    if !typed.iter().any(|key| property.get(key).is_some()) {
                        property["type"] = Value::Null;
                    }
                    tidy(property);
                }
            }
            // Somebody's data.
            ("examples" | "example" | "enum", _) => {}
            (_, other) => tidy(other),
        }
    }
}

/// A header of an answer.
pub(super) fn text_header(about: &str) -> Header {
    let schema = parse(json!({ "type": "string" }));
    HeaderBuilder::new().schema(Some(schema)).description(Some(about)).build()
}

/// A schema as the library has it. It keeps a subset: no `const`, no `not`, nothing beside `oneOf`
/// and `anyOf`.
pub(in crate::web) fn parse(schema: Value) -> RefOr<Schema> {
    serde_json::from_value(schema).unwrap_or_else(|error| {
        tracing::error!(%error, "a schema of the API's description cannot be read");
        RefOr::default()
    })
}

/// A text out of a list.
pub(in crate::web) fn one_of(values: &[&str], about: &str) -> Value {
    json!({ "type": "string", "description": about, "enum": values })
}

/// The same schema, or `null`.
pub(in crate::web) fn or_null(mut schema: Value) -> Value {
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.push(Value::Null);
    }
    let kind = schema["type"].take();
    schema["type"] = json!([kind, "null"]);
    schema
}

/// Where a component stands.
pub(in crate::web) fn component(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// A type whose schema is written by hand.
macro_rules! written {
    ($(#[$about:meta])* $name:ident as $component:literal: $schema:expr) => {
        $(#[$about])*
        pub(in crate::web) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                parse($schema)
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                $component.into()
            }
        }
    };
}

written! {
    /// Any text.
    Text as "Text": json!({ "type": "string", "description": "Text." })
}

written! {
    /// What browsers get.
    HtmlPage as "Page": json!({ "type": "string", "description": "An HTML page." })
}

written! {
    /// A stream of server-sent events about a request.
    Events as "Events": json!({
        "type": "string",
        "description": "Server-sent events: `status` carries a FileRequest, `progress` a Progress; \
            `end` is the last one. Each has an `id`.",
        "examples": [
            "id: 1.running\nevent: status\ndata: {\"id\": \"9b2f3a52-…\", \"status\": \"running\", …}\n\n\
             id: 1.running.5000\nevent: progress\n\
             data: {\"done\": 5000, \"total\": 111279, \"estimated\": true}\n\n\
             id: 1.end.1795512000000000\nevent: end\ndata: {}\n\n",
        ],
    })
}

written! {
    /// Why a body is refused, as Django REST framework has it.
    Refusal as "Refusal": {
        let text = json!({ "type": "string", "description": "A text." });
        let texts = |about: &str| json!({ "type": "array", "items": text, "description": about });
        json!({
            "description": "What is wrong with a body, as Django REST framework has it.",
            "anyOf": [
                {
                    "type": "object",
                    "description": "Texts by field; `non_field_errors` is about the whole.",
                    "additionalProperties": { "anyOf": [text, texts("Texts.")] },
                },
                texts("Texts about the whole."),
            ],
            "examples": [
                { "non_field_errors": ["Unable to log in with provided credentials."] },
                { "detail": "No client specified." },
                ["An API token was already issued to you."],
            ],
        })
    }
}

/// An error as Django REST framework has it.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({ "detail": "Not found." })))]
pub(in crate::web) struct Detail {
    /// For people.
    pub(in crate::web) detail: String,
}

/// One page of a list, the newest first.
#[derive(Serialize)]
pub(in crate::web) struct Page<T> {
    pub(in crate::web) items: Vec<T>,
    /// The `cursor` of the next one.
    pub(in crate::web) next: Option<String>,
}

impl<T: ToSchema> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        parse(json!({
            "type": "object",
            "description": "One page of a list, the newest first.",
            "properties": {
                "items": items::<T>(),
                "next": {
                    "type": ["string", "null"],
                    "description": "The `cursor` of the next page; null when this is the last one.",
                },
            },
            "required": ["items", "next"],
            "examples": example::<T>().map(|item| json!({ "items": [item], "next": null })),
        }))
    }
}

impl<T: ToSchema> ToSchema for Page<T> {
    fn name() -> Cow<'static, str> {
        format!("{}Page", T::name()).into()
    }

    fn schemas(found: &mut Vec<(String, RefOr<Schema>)>) {
        found.push((T::name().into_owned(), T::schema()));
        T::schemas(found);
    }
}

/// A whole list.
#[derive(Serialize)]
pub(in crate::web) struct Items<T> {
    pub(in crate::web) items: Vec<T>,
}

impl<T: ToSchema> PartialSchema for Items<T> {
    fn schema() -> RefOr<Schema> {
        parse(json!({
            "type": "object",
            "description": "A whole list.",
            "properties": { "items": items::<T>() },
            "required": ["items"],
            "examples": example::<T>().map(|item| json!({ "items": [item] })),
        }))
    }
}

impl<T: ToSchema> ToSchema for Items<T> {
    fn name() -> Cow<'static, str> {
        format!("{}List", T::name()).into()
    }

    fn schemas(found: &mut Vec<(String, RefOr<Schema>)>) {
        found.push((T::name().into_owned(), T::schema()));
        T::schemas(found);
    }
}

fn items<T: ToSchema>() -> Value {
    json!({ "type": "array", "items": component(&T::name()), "description": "The items." })
}

/// The first example of a type, in a list as schemas have them.
fn example<T: ToSchema>() -> [Value; 1] {
    let schema = serde_json::to_value(T::schema()).unwrap_or_default();
    [schema["examples"].get(0).cloned().unwrap_or_default()]
}
