//! Answers and bodies as Django REST framework has them, for the endpoints that are compatible with
//! programs written against it.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{Method, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::{Map, Value, json};

use crate::{
    auth_token::Caller,
    error::Error,
    web::{
        Problem, WebState,
        identity::caller,
        media_type::{content_type, essence},
    },
};

/// A refusal in that shape: `{"detail": …}`, `{field: […]}` or a list.
pub(crate) struct Refusal {
    problem: Box<Problem>,
    body: Value,
}

pub(crate) type Answer<T = Response> = Result<T, Refusal>;

impl Refusal {
    /// 400 with any body.
    pub(crate) fn bad(body: Value) -> Self {
        Self::of(StatusCode::BAD_REQUEST, body)
    }

    pub(crate) fn of(status: StatusCode, body: Value) -> Self {
        Refusal { problem: Box::new(Problem::new(status, "refused", "", "")), body }
    }

    /// 400 with a text about the whole.
    pub(crate) fn detail(text: &str) -> Self {
        Self::bad(json!({ "detail": text }))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let body = match &error {
            Error::Invalid(errors) => {
                let fields = errors.iter().map(|e| (e.field.clone(), json!([e.message])));
                return Self::bad(Value::Object(fields.collect()));
            }
            Error::NotFound(_) => json!({ "detail": "Not found." }),
            other => json!({ "detail": other.public_message() }),
        };
        Refusal { problem: Box::new(error.into()), body }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.problem.status(), Json(self.body)).into_response();
        self.problem.headers(response.headers_mut());
        self.problem.mark(&mut response);
        response
    }
}

/// 405 in that shape.
pub(crate) async fn no_method(method: Method) -> Response {
    let detail = format!("Method \"{method}\" not allowed.");
    (StatusCode::METHOD_NOT_ALLOWED, Json(json!({ "detail": detail }))).into_response()
}

/// The caller, with refusals in that shape, whatever client they use.
pub(crate) struct Known(pub(crate) Caller);

impl FromRequestParts<Arc<WebState>> for Known {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<WebState>) -> Answer<Self> {
        Ok(Known(caller::require(&state.toolbox, parts).await?))
    }
}

/// The fields of a JSON object or a form.
pub(crate) struct Fields(pub(crate) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        let content_type = content_type(request.headers()).to_owned();
        let unreadable = json!({ "detail": "The body cannot be read, or is too large." });
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|rejection| Refusal::of(rejection.status(), unreadable))?;
        let fields = match essence(&content_type).as_str() {
            _ if bytes.is_empty() => Map::new(),
            "application/json" => json_fields(&bytes)?,
            "application/x-www-form-urlencoded" => form_fields(&bytes),
            "multipart/form-data" => multipart_fields(bytes, &content_type).await?,
            _ => {
                let detail = format!("Unsupported media type \"{content_type}\" in request.");
                let body = json!({ "detail": detail });
                return Err(Refusal::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, body));
            }
        };
        Ok(Fields(fields))
    }
}

fn json_fields(bytes: &[u8]) -> Answer<Map<String, Value>> {
    let kind = match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => return Ok(fields),
        Ok(Value::Array(_)) => "list",
        Ok(Value::String(_)) => "str",
        Ok(Value::Bool(_)) => "bool",
        Ok(Value::Number(number)) if number.is_f64() => "float",
        Ok(Value::Number(_)) => "int",
        Ok(Value::Null) => "NoneType",
        Err(error) => return Err(Refusal::detail(&format!("JSON parse error - {error}"))),
    };
    let text = format!("Invalid data. Expected a dictionary, but got {kind}.");
    Err(Refusal::bad(json!({ "non_field_errors": [text] })))
}

fn form_fields(bytes: &[u8]) -> Map<String, Value> {
    let pairs = url::form_urlencoded::parse(bytes);
    pairs.map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect()
}

async fn multipart_fields(bytes: Bytes, content_type: &str) -> Answer<Map<String, Value>> {
    let broken =
        |error: multer::Error| Refusal::detail(&format!("Multipart form parse error - {error}"));
    let boundary = multer::parse_boundary(content_type).map_err(broken)?;
    let whole = stream::iter([Ok::<_, std::convert::Infallible>(bytes)]);
    let mut form = multer::Multipart::new(whole, boundary);
    let mut fields = Map::new();
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if let Some(name) = field.name().map(str::to_owned) {
            fields.insert(name, field.text().await.map_err(broken)?.into());
        }
    }
    Ok(fields)
}

/// A required text as its `CharField` takes it, or why not.
pub(crate) fn text(
    fields: &Map<String, Value>,
    name: &str,
    trim: bool,
) -> Result<String, &'static str> {
    let text = match fields.get(name) {
        None => return Err("This field is required."),
        Some(Value::Null) => return Err("This field may not be null."),
        Some(Value::String(text)) if trim => text.trim().to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err("Not a valid string."),
    };
    match text.as_str() {
        "" => Err("This field may not be blank."),
        other if other.contains('\0') => Err("Null characters are not allowed."),
        _ => Ok(text),
    }
}
