//! Settings, and the only reader of the environment.
//!
//! Flags win over the environment, the environment over `bgfiles.toml`, the file over the
//! defaults. [`SETTINGS`] is the one list: name, default and meaning;
//! `docs/src/reference/settings.md` and `bgfiles check` are made from it.

mod checks;
mod doubts;
mod explain;
mod load;
mod origins;
mod scalar;
mod settings;
mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;

use self::scalar::{list, minutes, names, optional, optional_path, parsed, seconds};
pub use self::{
    checks::MIN_SECRET,
    doubts::Doubts,
    origins::Origins,
    settings::{SETTINGS, Setting},
    values::{BaseUrl, LogFormat, Secret, Serve},
};
use crate::{
    limits::{Rate, TokenTtl},
    visitor::TrustedProxies,
};

/// What is in force.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite:…` or `postgres:…`.
    pub database_url: String,
    /// Most connections of a process to it, on PostgreSQL.
    #[serde(deserialize_with = "parsed")]
    pub database_connections: u32,
    /// Signing secrets; the first signs.
    #[serde(deserialize_with = "list")]
    pub secret_key: Vec<Secret>,
    /// Salt of download tokens.
    pub salt: String,
    /// Age up to which download tokens are good.
    #[serde(deserialize_with = "seconds")]
    pub max_age: Duration,
    /// URL of the storage.
    pub storage: String,
    /// Who sends the bytes of a download.
    #[serde(deserialize_with = "parsed")]
    pub serve: Serve,
    /// URL of the mail transport.
    pub mail: Secret,
    /// Sender of notices.
    pub mail_from: String,
    /// Name of the sender, unless it brings one.
    pub mail_name: String,
    /// Who gets answers.
    pub mail_reply_to: String,
    /// Line at the end of each mail.
    pub mail_footer: String,
    /// Beginning of every link, without a slash at the end.
    #[serde(deserialize_with = "parsed")]
    pub base_url: BaseUrl,
    /// Where the web process listens.
    #[serde(deserialize_with = "parsed")]
    pub bind: SocketAddr,
    /// Where worker and cleaner answer monitors.
    #[serde(deserialize_with = "optional")]
    pub metrics_bind: Option<SocketAddr>,
    /// Declared file types.
    pub jobs_dir: PathBuf,
    /// Templates that win over the built-in ones.
    #[serde(deserialize_with = "optional_path")]
    pub templates_dir: Option<PathBuf>,
    /// Files made at the same time.
    #[serde(deserialize_with = "parsed")]
    pub workers: std::num::NonZeroUsize,
    /// How long a claim holds without a heartbeat.
    #[serde(deserialize_with = "seconds")]
    pub lease: Duration,
    /// How long running work may go on after SIGTERM.
    #[serde(deserialize_with = "seconds")]
    pub drain: Duration,
    /// How long a redeemed link's download may be resumed.
    #[serde(deserialize_with = "seconds")]
    pub grant_age: Duration,
    /// Most calls of links from one network.
    #[serde(deserialize_with = "optional")]
    pub download_rate: Option<Rate>,
    /// How long an answer with a file made in it may take.
    #[serde(deserialize_with = "seconds")]
    pub inline_timeout: Duration,
    /// Whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "parsed")]
    pub trusted_proxies: TrustedProxies,
    /// How long a login lasts.
    #[serde(deserialize_with = "seconds")]
    pub session_age: Duration,
    /// How long API tokens live by default.
    #[serde(deserialize_with = "parsed")]
    pub default_token_ttl: TokenTtl,
    /// Scheme of the `Authorization` header.
    pub auth_header_prefix: String,
    /// How logins write `expiry`.
    pub expiry_datetime_format: String,
    /// How long a token's lookup is kept.
    #[serde(deserialize_with = "seconds")]
    pub token_cache_timeout: Duration,
    /// Whether a login renews a token that is there.
    #[serde(deserialize_with = "parsed")]
    pub refresh_token_on_login: bool,
    /// Client of users' own API tokens.
    pub api_access_client_name: String,
    /// Whether those are not shown as sessions.
    #[serde(deserialize_with = "parsed")]
    pub api_access_exclude_from_sessions: bool,
    /// Whether a login says who it is.
    #[serde(deserialize_with = "parsed")]
    pub login_include_user: bool,
    /// Rate of callers without a client with one.
    #[serde(deserialize_with = "optional")]
    pub default_throttle_rate: Option<Rate>,
    /// Clients that may call.
    #[serde(deserialize_with = "names")]
    pub allowed_clients: BTreeSet<String>,
    /// Clients that may not.
    #[serde(deserialize_with = "names")]
    pub disallowed_clients: BTreeSet<String>,
    /// Where a trusted proxy says who calls.
    #[serde(deserialize_with = "optional")]
    pub identity_header: Option<http::HeaderName>,
    /// Where it says their mail address.
    #[serde(deserialize_with = "optional")]
    pub identity_email_header: Option<http::HeaderName>,
    /// Origins whose pages may call the API.
    #[serde(deserialize_with = "parsed")]
    pub cors_origins: Origins,
    /// Name of request tokens in queries, bodies and forms.
    pub request_token_querystring: String,
    /// How long session tokens work.
    #[serde(deserialize_with = "minutes")]
    pub request_token_expiry: Duration,
    /// How often request tokens admit.
    #[serde(deserialize_with = "parsed")]
    pub request_token_default_max_uses: std::num::NonZeroU32,
    /// Whether uses of request tokens are not logged.
    #[serde(deserialize_with = "parsed")]
    pub request_token_disable_logs: bool,
    /// Page for people whom a request token does not admit.
    pub request_token_403_template: String,
    /// Whether a token that does not admit counts as none where none is needed.
    #[serde(deserialize_with = "parsed")]
    pub request_token_ignore_invalid: bool,
    /// How long locks last.
    #[serde(deserialize_with = "seconds")]
    pub lock_tokens_timeout: Duration,
    /// How long one may last at most.
    #[serde(deserialize_with = "seconds")]
    pub lock_tokens_max_timeout: Duration,
    /// How many locks one user may hold at a time.
    #[serde(deserialize_with = "parsed")]
    pub lock_tokens_max_held: NonZeroU32,
    /// How `expires` of a lock is written.
    pub lock_tokens_dateformat: String,
    /// Whether there are pages besides the API.
    #[serde(deserialize_with = "parsed")]
    pub pages: bool,
    /// Whether `/dev/mail` shows mails.
    #[serde(deserialize_with = "parsed")]
    pub dev_mail: bool,
    /// Whether nobody in particular may lock.
    #[serde(deserialize_with = "parsed")]
    pub lock_tokens_open: bool,
    /// Status when somebody else has the lock.
    #[serde(deserialize_with = "parsed")]
    pub lock_tokens_conflict_status: u16,
    /// Kinds of things of other applications.
    #[serde(deserialize_with = "names")]
    pub lock_tokens_resources: BTreeSet<String>,
    /// Most bytes of a request body.
    #[serde(deserialize_with = "parsed")]
    pub body_limit: usize,
    /// Filter of the log.
    pub log: String,
    /// Text or JSON.
    #[serde(deserialize_with = "parsed")]
    pub log_format: LogFormat,
    /// Databases that declared file types read, by name, besides `default`.
    #[serde(default)]
    pub sources: BTreeMap<String, Secret>,
    /// `AWS_…`, `GOOGLE_…`, `AZURE_…` as found in the environment.
    #[serde(skip)]
    pub storage_options: Vec<(String, String)>,
}

/// Settings given on the command line: key and value.
pub type Flags = Vec<(&'static str, String)>;
