//! Reading a JWT of django-request-token: HS256 and nothing else, the claims `jti`, `sub` and
//! `mod` mandatory, `exp` and `nbf` numbers, no leeway.

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

/// Why a JWT is not good. The order is that of PyJWT's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is no JWT.
    Malformed,
    /// Its header names another algorithm (`none` included).
    WrongAlgorithm,
    /// No key fits.
    BadSignature,
    /// `jti`, `sub` or `mod` is not there.
    MissingClaim,
    /// `nbf` lies ahead.
    NotYetValid,
    /// `exp` has passed.
    Expired,
}

/// The claims of a JWT that one of `keys` signed and that is good at `now`.
///
/// # Errors
/// The first flaw.
pub fn verify(
    token: &str,
    keys: &[impl AsRef<[u8]>],
    now: DateTime<Utc>,
) -> Result<Map<String, Value>, Flaw> {
    let header = header(token).ok_or(Flaw::Malformed)?;
    if header.get("alg").and_then(Value::as_str) != Some("HS256") {
        return Err(Flaw::WrongAlgorithm);
    }
    let mut validation = Validation::new(Algorithm::HS256);
    // Time is checked below, against our clock and with numbers only.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let decode = |key: &[u8]| {
        let key = DecodingKey::from_secret(key);
        jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation)
    };
    let claims = keys.iter().find_map(|key| decode(key.as_ref()).ok());
    let claims = claims.ok_or(Flaw::BadSignature)?.claims;
    check(&claims, now)?;
    Ok(claims)
}

fn header(token: &str) -> Option<Map<String, Value>> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut parts = token.split('.');
    let (header, _claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()
}

fn check(claims: &Map<String, Value>, now: DateTime<Utc>) -> Result<(), Flaw> {
    if ["jti", "sub", "mod"].iter().any(|name| claims.get(*name).is_none_or(Value::is_null)) {
        return Err(Flaw::MissingClaim);
    }
    // A time that is no number must not pass for "no time".
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(Flaw::Malformed),
    };
    let now = now.timestamp_micros() as f64 / 1e6;
    if time("nbf")?.is_some_and(|nbf| nbf > now) {
        return Err(Flaw::NotYetValid);
    }
    if time("exp")?.is_some_and(|exp| exp <= now) {
        return Err(Flaw::Expired);
    }
    Ok(())
}
