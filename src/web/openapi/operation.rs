//! What the document says of a route: written where the route is, next to its handler.
//!
//! ```text
//! Operation::get("/api/things/{id}", "showThing", THINGS, "Shows a thing.")
//!     .part("id", …)                            parameters
//!     .json::<NewThing>(true)                   a body
//!     .answers::<Thing>(200, "The thing.")      an answer, with `.carrying(…)` headers
//!     .guarded().refuses(&[409])                shared refusals
//! ```

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{
        self, ContentBuilder, Ref, Required, ResponseBuilder, SecurityRequirement,
        path::{
            Operation as Described, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
        },
        request_body::{RequestBody, RequestBodyBuilder},
    },
};

use super::{
    refusals::Family,
    schema::{self, Facts, ITEMS, MOST_ITEMS, Schemas, text_header},
};
use crate::toolbox::IdempotencyKey;

/// The security scheme of `Authorization`.
pub(in crate::web) const TOKEN: &str = "token";
/// The security scheme of the cookie.
pub(in crate::web) const SESSION: &str = "session";

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data";
pub(in crate::web) const HTML: &str = "text/html";
pub(in crate::web) const PLAIN: &str = "text/plain";
/// Whatever the file is.
pub(in crate::web) const FILE: &str = "*/*";

/// A visible text: what `Idempotency-Key` takes.
const KEY: &str = "^[!-~]([ -~]*[!-~])?$";

/// What the header of a list's next page says.
pub(in crate::web) const NEXT: &str =
    "`<…>; rel=\"next\"` (RFC 8288), unless this is the last page.";
/// What `Repr-Digest` says.
pub(in crate::web) const DIGEST: &str =
    "`sha-256=:…:`, the digest of the whole file (RFC 9530), where it is known.";

/// An operation in the making.
#[derive(Clone)]
pub(in crate::web) struct Operation {
    pub(in crate::web) method: Method,
    pub(in crate::web) path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    about: Option<&'static str>,
    parameters: Vec<Parameter>,
    family: Family,
    /// Statuses of shared refusals.
    refusals: BTreeSet<u16>,
    answers: Vec<Answer>,
    body: Option<Body>,
    security: Vec<SecurityRequirement>,
    schemas: Schemas,
    configured: Option<fn(Self, &Facts) -> Self>,
}

/// An answer that is the operation's own.
#[derive(Clone)]
struct Answer {
    status: u16,
    about: &'static str,
    contents: Vec<Content>,
    headers: Vec<(&'static str, &'static str)>,
}

#[derive(Clone)]
struct Body {
    needed: bool,
    contents: Vec<Content>,
}

/// A media type, with the name of its component schema and an example of it, if there are any.
#[derive(Clone)]
struct Content {
    media_type: &'static str,
    schema: Option<String>,
    example: Option<Value>,
}

impl Content {
    fn of<T: ToSchema>(media_type: &'static str) -> Self {
        let schema = serde_json::to_value(T::schema()).unwrap_or_default();
        let example = schema["examples"].get(0).cloned();
        Content { media_type, schema: Some(T::name().into_owned()), example }
    }

    fn build(self) -> openapi::Content {
        let schema = self.schema.map(Ref::from_schema_name);
        ContentBuilder::new().schema(schema).example(self.example).build()
    }
}

impl Operation {
    fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Operation {
            method,
            path,
            id,
            tag,
            summary,
            about: None,
            parameters: Vec::new(),
            family: Family::Problem,
            refusals: BTreeSet::new(),
            answers: Vec::new(),
            body: None,
            security: Vec::new(),
            schemas: Schemas::default(),
            configured: None,
        }
    }

    pub(in crate::web) fn get(
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::GET, path, id, tag, summary)
    }

    pub(in crate::web) fn post(
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::POST, path, id, tag, summary)
    }

    pub(in crate::web) fn patch(
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::PATCH, path, id, tag, summary)
    }

    pub(in crate::web) fn delete(
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::DELETE, path, id, tag, summary)
    }

    pub(in crate::web) fn about(mut self, text: &'static str) -> Self {
        self.about = Some(text);
        self
    }

    /// Somebody must call.
    pub(in crate::web) fn guarded(mut self) -> Self {
        self.security.push(SecurityRequirement::new(TOKEN, Vec::<String>::new()));
        self.security.push(SecurityRequirement::new(SESSION, Vec::<String>::new()));
        self.refuses(&[401, 403, 429, 500, 503])
    }

    /// Anybody may call; who calls may matter.
    pub(in crate::web) fn open(mut self) -> Self {
        self.security.push(SecurityRequirement::default());
        self
    }

    /// Errors are as Django REST framework has them.
    pub(in crate::web) fn django(mut self) -> Self {
        self.family = Family::Django;
        self
    }

    pub(in crate::web) fn refuses(mut self, statuses: &[u16]) -> Self {
        self.refusals.extend(statuses);
        self
    }

    pub(in crate::web) fn parameter(mut self, parameter: ParameterBuilder) -> Self {
        self.parameters.push(parameter.build());
        self
    }

    /// A part of the path; what is no text is refused.
    pub(in crate::web) fn part(
        self,
        name: &'static str,
        about: &'static str,
        schema: Value,
        example: Value,
    ) -> Self {
        let parameter = parameter(ParameterIn::Path, name, about, schema).example(Some(example));
        self.parameter(parameter).refuses(&[400, 404])
    }

    /// A member of the query; one that comes twice is refused.
    pub(in crate::web) fn query(
        self,
        name: &'static str,
        about: &'static str,
        schema: Value,
    ) -> Self {
        self.parameter(parameter(ParameterIn::Query, name, about, schema)).refuses(&[400])
    }

    pub(in crate::web) fn header(
        self,
        name: &'static str,
        about: &'static str,
        schema: Value,
    ) -> Self {
        self.parameter(parameter(ParameterIn::Header, name, about, schema))
    }

    /// A JSON body.
    pub(in crate::web) fn json<T: ToSchema>(mut self, needed: bool) -> Self {
        self.schemas.learn::<T>();
        self.body = Some(Body { needed, contents: vec![Content::of::<T>(JSON)] });
        self.refuses(&[400, 408, 413, 415, 422])
    }

    /// A body as Django REST framework takes it: JSON, or a form of either kind.
    pub(in crate::web) fn fields<T: ToSchema, Form: ToSchema>(mut self, needed: bool) -> Self {
        self.schemas.learn::<T>();
        self.schemas.learn::<Form>();
        let contents =
            vec![Content::of::<T>(JSON), Content::of::<Form>(FORM), Content::of::<Form>(MULTIPART)];
        self.body = Some(Body { needed, contents });
        self.refuses(&[400, 413, 415])
    }

    /// A body of which a form is read, and anything else is ignored.
    pub(in crate::web) fn form<T: ToSchema>(mut self) -> Self {
        self.schemas.learn::<T>();
        self.body = Some(Body { needed: false, contents: vec![Content::of::<T>(FORM)] });
        self.refuses(&[400, 413])
    }

    /// An answer with a JSON body.
    pub(in crate::web) fn answers<T: ToSchema>(self, status: u16, about: &'static str) -> Self {
        self.plainly(status, about).with::<T>(JSON)
    }

    /// An answer without a body.
    pub(in crate::web) fn plainly(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push(Answer { status, about, contents: Vec::new(), headers: Vec::new() });
        self
    }

    /// A media type of the last answer.
    pub(in crate::web) fn with<T: ToSchema>(mut self, media_type: &'static str) -> Self {
        self.schemas.learn::<T>();
        self.content(Content::of::<T>(media_type))
    }

    /// Whatever the file is, as the body of the last answer.
    pub(in crate::web) fn file(self) -> Self {
        self.content(Content { media_type: FILE, schema: None, example: None })
    }

    fn content(mut self, content: Content) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.contents.push(content);
        }
        self
    }

    /// A header of the last answer.
    pub(in crate::web) fn carrying(mut self, name: &'static str, about: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push((name, about));
        }
        self
    }

    /// Another example of the body than the one of its type.
    pub(in crate::web) fn body_example(mut self, example: &Value) -> Self {
        for content in self.body.iter_mut().flat_map(|body| &mut body.contents) {
            content.example = Some(example.clone());
        }
        self
    }

    /// What hangs on how this service is configured.
    pub(in crate::web) fn when_configured(self, change: fn(Self, &Facts) -> Self) -> Self {
        Operation { configured: Some(change), ..self }
    }

    /// As the library has it, with the schemas that it names.
    pub(in crate::web) fn build(mut self, facts: &Facts) -> (Described, Schemas) {
        if let Some(change) = self.configured {
            self = change(self, facts);
        }
        let mut operation = OperationBuilder::new()
            .operation_id(Some(self.id))
            .tag(self.tag)
            .summary(Some(self.summary))
            .description(self.about)
            .parameters((!self.parameters.is_empty()).then_some(self.parameters))
            .securities(Some(self.security));
        if let Some(body) = self.body {
            operation = operation.request_body(Some(body.build()));
        }
        for status in self.refusals {
            let name = self.family.name(status);
            operation = operation.response(status.to_string(), Ref::from_response_name(name));
        }
        for answer in self.answers {
            operation = operation.response(answer.status.to_string(), answer.build());
        }
        (operation.build(), self.schemas)
    }
}

impl Answer {
    fn build(self) -> ResponseBuilder {
        let mut response = ResponseBuilder::new().description(self.about);
        for content in self.contents {
            response = response.content(content.media_type, content.build());
        }
        for (name, about) in self.headers {
            response = response.header(name, text_header(about));
        }
        response
    }
}

impl Body {
    fn build(self) -> RequestBody {
        let needed = if self.needed { Required::True } else { Required::False };
        let mut body = RequestBodyBuilder::new().required(Some(needed));
        for content in self.contents {
            body = body.content(content.media_type, content.build());
        }
        body.build()
    }
}

fn parameter(
    place: ParameterIn,
    name: &'static str,
    about: &'static str,
    schema: Value,
) -> ParameterBuilder {
    let needed = if place == ParameterIn::Path { Required::True } else { Required::False };
    Parameter::builder()
        .name(name)
        .parameter_in(place)
        .required(needed)
        .description(Some(about))
        .schema(Some(schema::parse(schema)))
}

// What several areas have.

/// The schema of a text.
pub(in crate::web) fn text() -> Value {
    json!({ "type": "string" })
}

impl Operation {
    pub(in crate::web) fn request(self) -> Self {
        let schema = json!({ "type": "string", "format": "uuid" });
        let example = json!("9b2f3a52-7d0c-4e0e-9d1c-5a8f0f6f2c11");
        self.part("id", "The request's id.", schema, example)
    }

    pub(in crate::web) fn limit(self) -> Self {
        let mut schema = json!({ "type": "integer", "minimum": 1, "maximum": MOST_ITEMS });
        schema["default"] = json!(ITEMS);
        self.query("limit", "Most items of an answer.", schema).refuses(&[422])
    }

    /// A page of what is numbered.
    pub(in crate::web) fn paged(self) -> Self {
        let cursor = json!({ "type": "string", "pattern": "^[0-9]{0,18}$" });
        self.limit().query("cursor", "What `next` of the page before said.", cursor)
    }

    pub(in crate::web) fn lock_session(self) -> Self {
        self.header(
            "Lock-Session",
            "16 to 100 visible characters of the caller's own: calls with the same ones share a \
             lock. Anything else is as if left out.",
            text(),
        )
    }

    pub(in crate::web) fn keyed(self, about: &'static str) -> Self {
        let longest = IdempotencyKey::LONGEST;
        let schema =
            json!({ "type": "string", "minLength": 1, "maxLength": longest, "pattern": KEY });
        self.header("Idempotency-Key", about, schema).refuses(&[422])
    }

    /// Whoever calls, if anybody: for links that are bound to a requester.
    pub(in crate::web) fn for_whom_it_may_concern(self) -> Self {
        let mut open = self.open().refuses(&[400, 401, 403, 404, 410, 500, 503]);
        open.security.push(SecurityRequirement::new(TOKEN, Vec::<String>::new()));
        open.security.push(SecurityRequirement::new(SESSION, Vec::<String>::new()));
        open
    }
}
