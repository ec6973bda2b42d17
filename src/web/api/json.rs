//! Bodies of JSON, with errors that name the field.

use std::{collections::HashMap, fmt, marker::PhantomData};

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::StatusCode,
};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, IntoDeserializer, MapAccess, Unexpected, Visitor,
        value::MapAccessDeserializer,
    },
};
use serde_json::value::RawValue;

use crate::{
    error::Error,
    web::{
        Problem,
        media_type::{content_type, essence},
    },
};

/// A JSON body and its bytes.
pub(crate) struct JsonBody<T> {
    pub(crate) value: T,
    pub(crate) bytes: Bytes,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let essence = essence(content_type(request.headers()));
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        let is_json = essence == "application/json" || essence.ends_with("+json");
        let nothing = essence.is_empty() && bytes.is_empty();
        if !is_json && !nothing {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Unsupported media type",
                "send JSON with Content-Type: application/json",
            ));
        }
        // A body that is left out is an empty object.
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let json: serde_json::Value = serde_json::from_slice(text).map_err(|e| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "malformed_json",
                "Bad request",
                format!("the body is not valid JSON: {e}"),
            )
        })?;
        // Lists would do for serde.
        if !json.is_object() {
            return Err(Error::invalid("body", "must be a JSON object").into());
        }
        let value = serde_path_to_error::deserialize(json).map_err(|e| {
            let path = e.path().to_string();
            let field = if path == "." { "body".to_owned() } else { path };
            Problem::from(Error::invalid(field, e.into_inner().to_string()))
        })?;
        Ok(JsonBody { value, bytes })
    }
}

impl<T> JsonBody<T> {
    /// A member as it was written, digits and all; `null` when it is left out.
    pub(crate) fn written(&self, name: &str) -> &str {
        let members = serde_json::from_slice::<HashMap<String, &RawValue>>(&self.bytes);
        // It was read once before, and a body that is left out has no members.
        members.ok().and_then(|members| members.get(name).map(|json| json.get())).unwrap_or("null")
    }
}

/// A whole number, also written `3600.0` or `36e2`: to JSON Schema, and to many writers of JSON,
/// these are integers.
pub(crate) struct Whole<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Number(PhantomData))
    }
}

struct Number<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Number<T> {
    type Value = Whole<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        T::deserialize(number.into_deserializer()).map(Whole)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
        T::deserialize(number.into_deserializer()).map(Whole)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Self::Value, E> {
        // Beyond, floating point numbers are further apart than whole ones.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if number.fract() != 0.0 || number.abs() > EXACT {
            return Err(E::invalid_type(Unexpected::Float(number), &self));
        }
        // Exact, as was just checked.
        self.visit_i64(number as i64)
    }
}

fn unreadable(rejection: BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "Body too large",
            "the body is too large",
        ),
        _ => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_incomplete",
            "Incomplete body",
            "the body did not arrive whole",
        ),
    }
}

/// Tells `null` from a field that is not there, with `#[serde(default)]`.
pub(crate) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// An object or `null`, and not a list, which would do for serde.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    from.deserialize_option(Object(PhantomData))
}

struct Object<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Some)
    }
}
