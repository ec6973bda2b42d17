//! Settings of logins and tokens: durin's, by its names, and ours.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use http::HeaderName;

use crate::{
    config::Config,
    limits::{Rate, TokenTtl},
};

/// How logins, tokens and callers are treated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `DEFAULT_TOKEN_TTL`: how long tokens of a client live that says nothing about it.
    pub default_token_ttl: TokenTtl,
    /// `AUTH_HEADER_PREFIX`: the scheme of the `Authorization` header.
    pub header_prefix: String,
    /// `EXPIRY_DATETIME_FORMAT`: strftime; RFC 3339 when empty.
    pub expiry_format: String,
    /// `TOKEN_CACHE_TIMEOUT`: how long a token's lookup is kept in memory; zero for not at all.
    pub token_cache: Duration,
    /// `REFRESH_TOKEN_ON_LOGIN`.
    pub refresh_on_login: bool,
    /// `API_ACCESS_CLIENT_NAME`; none when empty.
    pub api_access_client: String,
    /// `API_ACCESS_EXCLUDE_FROM_SESSIONS`.
    pub api_access_excluded: bool,
    /// Whether the answer to a login says who it is (durin's `USER_SERIALIZER`).
    pub login_includes_user: bool,
    /// The rate of callers whose client has none.
    pub default_throttle: Option<Rate>,
    /// Only these clients may call the API; all when empty.
    pub allowed_clients: BTreeSet<String>,
    /// These may not.
    pub disallowed_clients: BTreeSet<String>,
    /// Header in which a trusted proxy says who calls.
    pub identity_header: Option<HeaderName>,
    /// Header in which it says where to mail them.
    pub identity_email_header: Option<HeaderName>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            default_token_ttl: TokenTtl::DAY,
            header_prefix: "Token".into(),
            expiry_format: String::new(),
            token_cache: Duration::from_secs(60),
            refresh_on_login: false,
            api_access_client: String::new(),
            api_access_excluded: false,
            login_includes_user: false,
            default_throttle: None,
            allowed_clients: BTreeSet::new(),
            disallowed_clients: BTreeSet::new(),
            identity_header: None,
            identity_email_header: None,
        }
    }
}

impl Settings {
    /// As the configuration says.
    pub fn configured(config: &Config) -> Self {
        Settings {
            default_token_ttl: config.default_token_ttl,
            header_prefix: config.auth_header_prefix.clone(),
            expiry_format: config.expiry_datetime_format.clone(),
            token_cache: config.token_cache_timeout,
            refresh_on_login: config.refresh_token_on_login,
            api_access_client: config.api_access_client_name.clone(),
            api_access_excluded: config.api_access_exclude_from_sessions,
            login_includes_user: config.login_include_user,
            default_throttle: config.default_throttle_rate,
            allowed_clients: config.allowed_clients.clone(),
            disallowed_clients: config.disallowed_clients.clone(),
            identity_header: config.identity_header.clone(),
            identity_email_header: config.identity_email_header.clone(),
        }
    }

    /// The expiry of a login or a refresh, in words or as RFC 3339; `None` for never.
    pub fn format_expiry(&self, expiry: Option<DateTime<Utc>>) -> Option<String> {
        expiry.map(|at| match self.expiry_format.as_str() {
            "" => at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            format => at.format(format).to_string(),
        })
    }
}
