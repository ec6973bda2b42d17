//! Download tokens, byte-compatible with Django's `signing.dumps` (5.2).
//!
//! `base64url(json) ":" base62(timestamp) ":" base64url(HMAC-SHA256)`. The key of the HMAC is
//! `SHA-256(salt + "signer" + secret)`. A leading dot says that the JSON was compressed with zlib.

use std::{fmt, io::Read, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    config::Config,
    error::{Error, Result},
};

/// Most bytes that a compressed payload may unfold to. Only what carries our signature is
/// unfolded, yet a leaked key should not be a way to fill memory.
const MAX_PAYLOAD: u64 = 1024 * 1024;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Signs and verifies download tokens.
#[derive(Clone)]
pub struct Signer {
    /// Derived keys; the first signs, all verify.
    keys: Vec<[u8; 32]>,
    max_age: Option<Duration>,
    compress: bool,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} keys, max age {:?})", self.keys.len(), self.max_age)
    }
}

/// A verified token.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// The signed JSON.
    pub data: Value,
    /// When it was signed, to the second.
    pub signed_at: DateTime<Utc>,
}

impl Signer {
    /// A signer over one or more secrets (the first signs, all verify), a salt, and the age up to
    /// which tokens are good (`None`: for ever).
    ///
    /// # Errors
    /// [`Error::Config`] without a secret.
    pub fn new<S: AsRef<[u8]>>(
        secrets: impl IntoIterator<Item = S>,
        salt: &str,
        max_age: Option<Duration>,
    ) -> Result<Self> {
        let keys: Vec<[u8; 32]> = secrets
            .into_iter()
            .map(|secret| {
                let derived = Sha256::new().chain_update(salt).chain_update("signer");
                derived.chain_update(secret.as_ref()).finalize().into()
            })
            .collect();
        if keys.is_empty() {
            return Err(Error::Config("a signer needs at least one key".into()));
        }
        Ok(Signer { keys, max_age, compress: false })
    }

    /// The signer that the settings describe; a maximum age of 0 means none.
    ///
    /// # Errors
    /// [`Error::Config`] when the secret key is missing or too short.
    pub fn configured(config: &Config) -> Result<Self> {
        let max_age = (!config.max_age.is_zero()).then_some(config.max_age);
        Self::new(config.secrets()?, &config.salt, max_age)
    }

    /// Compresses payloads that get shorter by it, as `signing.dumps(compress=True)`.
    pub fn with_compression(mut self) -> Self {
        self.compress = true;
        self
    }

    /// The same keys with another age.
    pub fn with_max_age(mut self, max_age: Option<Duration>) -> Self {
        self.max_age = max_age;
        self
    }

    /// The age up to which tokens are good.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// A token over `data`, signed at `now`.
    pub fn sign(&self, data: &Value, now: DateTime<Utc>) -> String {
        let json = django_json(data);
        let mut payload = String::new();
        match self.compress.then(|| deflate(&json)) {
            Some(packed) if packed.len() < json.len() - 1 => {
                payload.push('.');
                BASE64.encode_string(packed, &mut payload);
            }
            _ => BASE64.encode_string(&json, &mut payload),
        }
        let signed = format!("{payload}:{}", base62(now.timestamp()));
        let signature = BASE64.encode(mac(&self.keys[0], &signed).finalize().into_bytes());
        format!("{signed}:{signature}")
    }

    /// The data of a token that is ours and not older than the maximum age at `now`.
    ///
    /// # Errors
    /// [`Error::BadToken`] for whatever we did not sign, [`Error::LinkExpired`] for age.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Verified> {
        let verified = self.verify_signature(token)?;
        self.check_age(&verified, now)?;
        Ok(verified)
    }

    /// Whether a verified token is not older than the maximum age at `now`.
    ///
    /// # Errors
    /// [`Error::LinkExpired`].
    pub fn check_age(&self, verified: &Verified, now: DateTime<Utc>) -> Result<()> {
        let oldest = self.max_age.and_then(|age| TimeDelta::from_std(age).ok());
        match oldest.is_some_and(|oldest| now - verified.signed_at > oldest) {
            true => Err(Error::LinkExpired),
            false => Ok(()),
        }
    }

    /// 32 bytes that only the holder of the first key can make from `text`; other purposes give
    /// others.
    pub fn derive(&self, purpose: &str, text: &str) -> [u8; 32] {
        mac(&self.keys[0], &format!("{purpose}\0{text}")).finalize().into_bytes().into()
    }

    /// As [`Signer::verify`], whatever the age.
    ///
    /// # Errors
    /// [`Error::BadToken`].
    pub fn verify_signature(&self, token: &str) -> Result<Verified> {
        let malformed = || Error::BadToken("it is incomplete");
        let (signed, signature) = token.rsplit_once(':').ok_or_else(malformed)?;
        let (payload, timestamp) = signed.rsplit_once(':').ok_or_else(malformed)?;
        let signature = BASE64.decode(signature).map_err(|_| malformed())?;
        // Every key is tried, so that the time taken says nothing about which one fits.
        let matches = self
            .keys
            .iter()
            .fold(false, |found, key| mac(key, signed).verify_slice(&signature).is_ok() | found);
        if !matches {
            return Err(Error::BadToken("its signature is wrong"));
        }
        let signed_at = from_base62(timestamp)
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .ok_or_else(malformed)?;
        let json = match payload.strip_prefix('.') {
            Some(packed) => inflate(&BASE64.decode(packed).map_err(|_| malformed())?)?,
            None => BASE64.decode(payload).map_err(|_| malformed())?,
        };
        let data = serde_json::from_slice(&json).map_err(|_| malformed())?;
        Ok(Verified { data, signed_at })
    }
}

/// The claims of a download token: the request, the requester when the link is bound to one, the
/// `jti` when a row rules it, and whatever else was signed along.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// Which request.
    pub id: crate::ids::RequestId,
    /// Who alone may use the link.
    pub requester: Option<String>,
    /// The row that rules the link.
    pub jti: Option<uuid::Uuid>,
    /// All of the payload.
    pub data: Map<String, Value>,
}

impl TryFrom<Value> for Claims {
    type Error = Error;

    /// Reads a verified payload. Numbers are taken for a requester too, as Django signs primary
    /// keys.
    fn try_from(data: Value) -> Result<Self> {
        let Value::Object(data) = data else {
            return Err(Error::BadToken("it holds no claims"));
        };
        let text = |name: &str| match data.get(name) {
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            None | Some(Value::Null) => Ok(None),
            Some(_) => Err(Error::BadToken("a claim is of the wrong kind")),
        };
        let id = text("id")?.ok_or(Error::BadToken("it names no request"))?;
        let id = id.parse().map_err(|_| Error::BadToken("it names no request"))?;
        let jti = text("jti")?
            .map(|jti| jti.parse().map_err(|_| Error::BadToken("its jti is not one")))
            .transpose()?;
        let requester = text("requester")?;
        Ok(Claims { id, requester, jti, data })
    }
}

/// HMAC pads keys with zeros to the length of a block (RFC 2104).
fn block(key: &[u8; 32]) -> hmac::digest::Key<Hmac<Sha256>> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    block[..key.len()].copy_from_slice(key);
    block
}

fn mac(key: &[u8; 32], text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new(&block(key));
    mac.update(text.as_bytes());
    mac
}

fn base62(mut number: i64) -> String {
    let negative = number < 0;
    let mut digits = Vec::new();
    loop {
        digits.push(BASE62[(number % 62).unsigned_abs() as usize]);
        number /= 62;
        if number == 0 {
            break;
        }
    }
    if negative {
        digits.push(b'-');
    }
    digits.iter().rev().map(|&b| char::from(b)).collect()
}

fn from_base62(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let number = digits.bytes().try_fold(0i64, |number, byte| {
        let digit = BASE62.iter().position(|&b| b == byte)?;
        number.checked_mul(62)?.checked_add(i64::try_from(digit).ok()?)
    })?;
    Some(if negative { -number } else { number })
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = flate2::bufread::ZlibEncoder::new(bytes, flate2::Compression::default());
    // Reading from memory into memory cannot fail.
    let _ = encoder.read_to_end(&mut packed);
    packed
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    flate2::bufread::ZlibDecoder::new(bytes)
        .take(MAX_PAYLOAD)
        .read_to_end(&mut json)
        .map_err(|_| Error::BadToken("it cannot be unpacked"))?;
    Ok(json)
}

/// JSON as Python's `json.dumps(…, separators=(",", ":"))` writes it: ASCII only.
fn django_json(data: &Value) -> Vec<u8> {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut json, Ascii);
    // A `Value` written to memory cannot fail.
    let _ = data.serialize(&mut serializer);
    json
}

struct Ascii;

impl serde_json::ser::Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        for c in fragment.chars() {
            match c {
                // Python leaves DEL as it is, and so does serde_json.
                '\0'..='\x7f' => writer.write_all(&[c as u8])?,
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}
