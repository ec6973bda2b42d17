//! What is in force and where it came from, without secrets: for `bgfiles check`.

use super::{
    Config, Flags,
    load::{environment, figment},
    scalar::text_of,
    settings::{SETTINGS, Setting},
};
use crate::{duration::Short, error::Result};

impl Config {
    /// Every setting with its value in force and where that came from; secrets are hidden.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn explain(flags: &Flags) -> Result<Vec<(&'static Setting, String, String)>> {
        let figment = figment(flags, &environment())?;
        let rows = SETTINGS.iter().map(|setting| {
            let value = figment.find_value(setting.key).ok();
            let from = value.as_ref().and_then(|v| figment.get_metadata(v.tag()));
            let from = from.map_or("default".into(), |m| m.name.to_string());
            let text = value.and_then(text_of).unwrap_or_default();
            let length = setting.length.and_then(|bare| bare.parse(text.trim()).ok());
            let text = length.map_or(text, |length| Short(length).to_string());
            let shown =
                if setting.secret && !text.is_empty() { "(set)".into() } else { hide(&text) };
            (setting, shown, from)
        });
        Ok(rows.collect())
    }
}

/// Schemes of URLs that name files, or nothing: they have no passwords.
const FILES: [&str; 4] = ["file", "sqlite", "memory", "x-accel"];

/// Passwords in URLs are not for eyes, however they are spelled.
fn hide(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else {
        // It may be one all but for a typing error.
        return if text.contains("://") { "(not a URL)".into() } else { text.to_owned() };
    };
    // Of one without slashes (`postgres:user:secret@host/app`) nobody can tell the parts.
    if url.cannot_be_a_base() && !FILES.contains(&url.scheme()) && text.contains('@') {
        return "(not a URL)".into();
    }
    let is_secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["pass", "pwd", "secret", "token", "key"].iter().any(|word| name.contains(word))
    };
    if url.query_pairs().any(|(name, _)| is_secret(&name)) {
        let pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| {
                let value = if is_secret(&name) { "***".into() } else { value.into_owned() };
                (name.into_owned(), value)
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    } else if url.password().is_none() {
        return text.to_owned();
    }
    if url.password().is_some() {
        // Only URLs without a host refuse, and those have no password.
        let _ = url.set_password(Some("***"));
    }
    url.to_string()
}
