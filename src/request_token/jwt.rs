//! JWTs as django-request-token makes them: HS256 and nothing else, the claims `jti`, `sub` and
//! `mod` mandatory, `exp` and `nbf` numbers, no leeway.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, TokenData, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result as OurResult};

/// The keys: the first signs, all verify. A JWT names its key (`kid`), so that the right one is
/// tried first; one without a name is tried with each.
#[derive(Clone)]
pub struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    kid: String,
    secret: Vec<u8>,
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.secret
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.kid)).finish()
    }
}

impl Keys {
    /// From one or more secrets.
    ///
    /// # Errors
    /// [`Error::Config`] without a secret.
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> OurResult<Self> {
        let key = |secret: S| {
            let digest = Sha256::new().chain_update("kid").chain_update(secret.as_ref()).finalize();
            let kid = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            Key { kid, secret: secret.as_ref().to_vec() }
        };
        let keys: Vec<Key> = secrets.into_iter().map(key).collect();
        match keys.is_empty() {
            true => Err(Error::Config("request tokens need at least one key".into())),
            false => Ok(Keys(keys)),
        }
    }

    /// A JWT over `claims`.
    ///
    /// # Errors
    /// [`Error::Internal`] when the library cannot sign.
    pub fn sign(&self, claims: &Map<String, Value>) -> OurResult<String> {
        let key = &self.0[0];
        let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(&key.secret))
            .map_err(|e| Error::Internal(format!("signing a JWT: {e}")))
    }

    /// As [`verify`], the key that the JWT names first.
    ///
    /// # Errors
    /// The first flaw.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Map<String, Value>, Flaw> {
        let claims = self.signed(token)?;
        check(&claims, now)?;
        Ok(claims)
    }

    /// The claims of a JWT that one of the keys signed, whatever they say.
    ///
    /// # Errors
    /// [`Flaw::Malformed`], [`Flaw::WrongAlgorithm`], [`Flaw::BadSignature`].
    pub fn signed(&self, token: &str) -> Result<Map<String, Value>, Flaw> {
        // With one key there is nothing to choose; the header is looked at if it does not fit.
        if let [only] = self.0.as_slice()
            && let Some(claims) = decode(token, &only.secret)
        {
            return Ok(claims);
        }
        let head = head(token).ok_or(Flaw::Malformed)?;
        let is_named = |key: &&Key| head.kid.as_ref().is_some_and(|kid| *kid == key.kid.as_str());
        let named = self.0.iter().filter(is_named);
        let others = self.0.iter().filter(|key| !is_named(key));
        signed(token, &head, named.chain(others).map(AsRef::as_ref))
    }
}

/// Whether text has the form of a JWT with the claims of a request token. Says nothing of its
/// signature.
pub fn is_jwt(text: &str) -> bool {
    head(text).is_some_and(|head| head.alg.is_some())
        && claims(text).is_some_and(|claims| missing(&claims).is_none())
}

/// Whether a JWT names its key, as ours do and django-request-token's do not. Says nothing of its
/// signature.
pub fn names_key(token: &str) -> bool {
    head(token).is_some_and(|head| head.kid.is_some())
}

fn claims(token: &str) -> Option<Map<String, Value>> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?).ok()
}

fn missing(claims: &Map<String, Value>) -> Option<&'static str> {
    let there = |name: &&str| claims.get(*name).is_some_and(|claim| !claim.is_null());
    ["jti", "sub", "mod"].into_iter().find(|name| !there(name))
}

/// The row that verified claims name. `None` when `jti` is no number.
pub fn row_id(claims: &Map<String, Value>) -> Option<i64> {
    match claims.get("jti")? {
        Value::String(text) => text.parse().ok(),
        // Up to 2.3.1 it was a number.
        number => number.as_i64(),
    }
}

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
    let head = head(token).ok_or(Flaw::Malformed)?;
    let claims = signed(token, &head, keys.iter().map(AsRef::as_ref))?;
    check(&claims, now)?;
    Ok(claims)
}

/// What the library is to look at: the signature. Time is checked below, against our clock and with
/// numbers only.
static SIGNATURE_ONLY: LazyLock<Validation> = LazyLock::new(|| {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
});

fn signed<'k>(
    token: &str,
    head: &Head,
    mut keys: impl Iterator<Item = &'k [u8]>,
) -> Result<Map<String, Value>, Flaw> {
    if head.alg.as_ref().is_none_or(|alg| alg != "HS256") {
        return Err(Flaw::WrongAlgorithm);
    }
    keys.find_map(|key| decode(token, key)).ok_or(Flaw::BadSignature)
}

/// The claims, if the algorithm is HS256 and the signature by this key.
fn decode(token: &str, key: &[u8]) -> Option<Map<String, Value>> {
    let key = DecodingKey::from_secret(key);
    let token: TokenData<Map<String, Value>> =
        jsonwebtoken::decode(token, &key, &SIGNATURE_ONLY).ok()?;
    // Whatever a header calls critical would have to be understood (RFC 7515, 4.1.11); nothing is.
    token.header.crit.is_none().then_some(token.claims)
}

/// What a JWT's header says, as far as it matters.
#[derive(Deserialize)]
struct Head {
    alg: Option<Value>,
    kid: Option<Value>,
}

fn head(token: &str) -> Option<Head> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut parts = token.split('.');
    let (head, _claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let head = URL_SAFE_NO_PAD.decode(head).ok()?;
    // A struct would take a list as well.
    head.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(&head).ok())?
}

fn check(claims: &Map<String, Value>, now: DateTime<Utc>) -> Result<(), Flaw> {
    if missing(claims).is_some() {
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
