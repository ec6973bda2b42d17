//! `bgfiles token inspect`

use std::{process::ExitCode, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{output::say, setup};
use crate::{
    auth_token::AuthSecret,
    clock::Clock,
    config::Flags,
    duration::Bare,
    error::{Error, Result},
    request_token::jwt::{self, Flaw},
    signer::Signer,
};

/// Tokens of every kind.
#[derive(clap::Subcommand)]
pub(super) enum Token {
    /// Decode and explain a download token, a JWT or an API secret; exit 0 when valid, else 1
    #[command(
        after_help = "Example:\n  bgfiles token inspect eyJpZCI6… --json\n\nReasons: ok, expired, not_yet_valid, bad_signature, wrong_algorithm, missing_claim, malformed"
    )]
    Inspect(Inspect),
}

/// Options of `token inspect`.
#[derive(clap::Args)]
pub(super) struct Inspect {
    /// The token, or the URL that ends with it
    #[arg(allow_hyphen_values = true)]
    token: String,
    /// As of this time: RFC 3339 or seconds since 1970; now when left out
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<DateTime<Utc>>,
    /// Keys instead of BGFILES_SECRET_KEY, several with commas
    #[arg(long, value_name = "KEYS", allow_hyphen_values = true)]
    key: Option<String>,
    /// Salt instead of BGFILES_SALT
    #[arg(long)]
    salt: Option<String>,
    /// Age instead of BGFILES_MAX_AGE: `1d`, or a number of seconds; 0 for any
    #[arg(long, value_name = "AGE", value_parser = age)]
    max_age: Option<Duration>,
    /// Print `{kind, valid, reason, data}`
    #[arg(long)]
    json: bool,
}

fn age(text: &str) -> Result<Duration, String> {
    Bare::Seconds.parse(text)
}

pub(super) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let parsed = match text.parse::<i64>() {
        Ok(seconds) => DateTime::from_timestamp(seconds, 0),
        Err(_) => text.parse().ok(),
    };
    parsed.ok_or_else(|| "must be RFC 3339 (2026-11-21T12:00:00Z) or seconds since 1970".into())
}

/// What a token turned out to be.
struct Finding {
    kind: &'static str,
    reason: &'static str,
    data: Value,
}

impl Token {
    pub(super) fn run(self, flags: &Flags) -> Result<ExitCode> {
        let Token::Inspect(inspect) = self;
        let finding = inspect.look(flags)?;
        let valid = finding.reason == "ok";
        if inspect.json {
            let Finding { kind, reason, data } = finding;
            say(json!({"kind": kind, "valid": valid, "reason": reason, "data": data}));
        } else {
            say(format_args!("{}: {}", finding.kind, finding.reason));
            if !finding.data.is_null() {
                say(format_args!("{:#}", finding.data));
            }
        }
        Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Inspect {
    fn look(&self, flags: &Flags) -> Result<Finding> {
        let token = token_of(&self.token);
        let token = token.as_str();
        if token.starts_with("bgf_") {
            let secret = AuthSecret::parse(token);
            let reason = if secret.is_some() { "ok" } else { "malformed" };
            let data = json!({ "prefix": secret.map(|secret| secret.prefix()) });
            return Ok(Finding { kind: "auth_token", reason, data });
        }
        let config = setup::config(flags)?;
        let keys: Vec<String> = match &self.key {
            // One key that holds a comma is tried as it is, too.
            Some(keys) => std::iter::once(keys.clone())
                .chain(keys.split(',').filter(|_| keys.contains(',')).map(str::to_owned))
                .collect(),
            None => config.secret_key.iter().map(|key| key.expose().to_owned()).collect(),
        };
        if keys.is_empty() {
            return Err(Error::Config("give --key or set BGFILES_SECRET_KEY".into()));
        }
        let now = self.at.unwrap_or_else(|| Clock::system().now());
        if !token.contains(':') && token.split('.').count() == 3 {
            return Ok(look_at_jwt(token, &keys, now));
        }
        let max_age = self.max_age.unwrap_or(config.max_age);
        let salt = self.salt.as_deref().unwrap_or(&config.salt);
        let signer = Signer::new(&keys, salt, (!max_age.is_zero()).then_some(max_age))?;
        Ok(look_at_download(token, &signer, now))
    }
}

/// A token by itself, at the end of a URL's path, or in its query.
fn token_of(text: &str) -> String {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let pairs = url::form_urlencoded::parse(query.split('#').next().unwrap_or("").as_bytes());
    let in_query = pairs.map(|(_, value)| value).find(|value| jwt::is_jwt(value));
    match in_query {
        Some(token) => token.into_owned(),
        None => path.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

fn look_at_jwt(token: &str, keys: &[String], now: DateTime<Utc>) -> Finding {
    let (reason, data) = match jwt::verify(token, keys, now) {
        Ok(claims) => ("ok", Value::Object(claims)),
        Err(flaw) => {
            let reason = match flaw {
                Flaw::Malformed => "malformed",
                Flaw::WrongAlgorithm => "wrong_algorithm",
                Flaw::BadSignature => "bad_signature",
                Flaw::MissingClaim => "missing_claim",
                Flaw::NotYetValid => "not_yet_valid",
                Flaw::Expired => "expired",
            };
            (reason, decoded(token.split('.').nth(1).unwrap_or_default()))
        }
    };
    Finding { kind: "jwt", reason, data }
}

fn look_at_download(token: &str, signer: &Signer, now: DateTime<Utc>) -> Finding {
    let (reason, data) = match signer.verify(token, now) {
        Ok(verified) => ("ok", verified.data),
        Err(Error::LinkExpired) => match signer.verify_signature(token) {
            Ok(verified) => ("expired", verified.data),
            Err(_) => ("bad_signature", Value::Null),
        },
        Err(_) => {
            let whole = token.split(':').filter(|part| !part.is_empty()).count() == 3;
            let reason = if whole { "bad_signature" } else { "malformed" };
            (reason, decoded(token.split(':').next().unwrap_or_default()))
        }
    };
    Finding { kind: "download", reason, data }
}

/// What an unverified payload says, for people who look for a mistake; null when it says nothing.
fn decoded(payload: &str) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}
