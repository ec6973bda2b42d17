//! Settings, and the only reader of the environment.
//!
//! Flags win over the environment, the environment over `bgfiles.toml`, the file over the
//! defaults. [`SETTINGS`] is the one list: name, default and meaning; the README's table and
//! `bgfiles check` are made from it.

mod doubts;
mod origins;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use figment::{
    Figment, Profile,
    error::Kind,
    providers::{Format, Serialized, Toml},
    value::{Dict, Map, Value},
};
use serde::{Deserialize, Deserializer, de};

use crate::{
    duration::{Bare, Short},
    error::{Error, Result},
    limits::{Rate, TokenTtl},
    nearest::did_you_mean,
    visitor::TrustedProxies,
};

pub use doubts::Doubts;
pub use origins::Origins;

/// Fewest connections to PostgreSQL that a process can work with: two at once, one for the queue, one
/// to listen and one to announce.
const FEWEST_CONNECTIONS: u32 = 5;
/// Most files that a process makes at the same time: more is a slip of the pen.
const MOST_WORKERS: usize = 1_000;
/// Shortest secret key accepted, in bytes.
pub const MIN_SECRET: usize = 32;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key in `bgfiles.toml`.
    pub key: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// Its default, as text; empty for none.
    pub default: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Whether it is shown.
    pub secret: bool,
    /// Of a length of time: what a number without a unit counts.
    pub length: Option<Bare>,
}

const fn setting(
    key: &'static str,
    env: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { key, env, default, help, secret: false, length: None }
}

const fn secret(key: &'static str, env: &'static str, help: &'static str) -> Setting {
    Setting { key, env, default: "", help, secret: true, length: None }
}

/// A length of time; `bare` is what a number without a unit counts.
const fn length(
    key: &'static str,
    env: &'static str,
    default: &'static str,
    help: &'static str,
    bare: Bare,
) -> Setting {
    Setting { key, env, default, help, secret: false, length: Some(bare) }
}

/// Every setting.
pub const SETTINGS: &[Setting] = &[
    setting("database_url", "DATABASE_URL", "sqlite:bgfiles.db", "`sqlite:PATH` or `postgres://…`"),
    setting(
        "database_connections",
        "BGFILES_DATABASE_CONNECTIONS",
        "28",
        "most connections that a process opens to `database_url` on PostgreSQL, 5 or more; exports have further ones",
    ),
    secret(
        "secret_key",
        "BGFILES_SECRET_KEY",
        "signs links; 32 characters or more; several with commas: the first signs, all verify",
    ),
    setting("salt", "BGFILES_SALT", "bgfiles", "salt of the link signer"),
    length(
        "max_age",
        "BGFILES_MAX_AGE",
        "1d",
        "how long a link works, and a file stays unless its type says otherwise; a bare number is seconds",
        Bare::Seconds,
    ),
    setting(
        "storage",
        "BGFILES_STORAGE",
        "file:bgfiles-storage",
        "`file:FOLDER`, `s3://bucket/prefix`, `gs://…`, `az://…` or `memory:`; credentials by the usual `AWS_…`, `GOOGLE_…`, `AZURE_…`",
    ),
    setting(
        "serve",
        "BGFILES_SERVE",
        "stream",
        "`stream`, `x-accel:/internal/`, `x-sendfile` or `presigned`: who sends the bytes of a download",
    ),
    setting(
        "mail",
        "BGFILES_MAIL",
        "file:bgfiles-mail",
        "`smtp://user:password@host:587` (STARTTLS), `smtps://…`, `smtp://…?tls=none`, `file:FOLDER` or `memory:`",
    ),
    setting(
        "mail_from",
        "BGFILES_MAIL_FROM",
        "bgfiles@localhost",
        "sender of notices, `Name <address>` or an address",
    ),
    setting(
        "mail_name",
        "BGFILES_MAIL_NAME",
        "",
        "the sender's name, unless `BGFILES_MAIL_FROM` has one",
    ),
    setting(
        "mail_reply_to",
        "BGFILES_MAIL_REPLY_TO",
        "",
        "who gets answers to mails, `Name <address>` or an address; the sender when empty",
    ),
    setting("mail_footer", "BGFILES_MAIL_FOOTER", "", "a line at the end of each mail"),
    setting(
        "base_url",
        "BGFILES_BASE_URL",
        "http://localhost:8000",
        "where people reach the web process; the beginning of every link",
    ),
    setting("bind", "BGFILES_BIND", "127.0.0.1:8000", "address the web process listens on"),
    setting(
        "metrics_bind",
        "BGFILES_METRICS_BIND",
        "",
        "address on which `worker` and `clean --every` answer `/metrics` and `/healthz`; none when empty (`web` answers on its own)",
    ),
    setting(
        "jobs_dir",
        "BGFILES_JOBS_DIR",
        "jobs",
        "folder of declared file types and `cleaner.toml`",
    ),
    setting(
        "templates_dir",
        "BGFILES_TEMPLATES_DIR",
        "",
        "folder whose templates win over the built-in ones",
    ),
    setting("workers", "BGFILES_WORKERS", "8", "files a worker process makes at the same time"),
    length(
        "lease",
        "BGFILES_LEASE",
        "10s",
        "how long a worker may be silent before its request is taken over; a bare number is seconds",
        Bare::Seconds,
    ),
    length(
        "drain",
        "BGFILES_DRAIN",
        "30s",
        "how long running work gets to end after SIGTERM; a bare number is seconds",
        Bare::Seconds,
    ),
    length(
        "grant_age",
        "BGFILES_GRANT_AGE",
        "1h",
        "how long a redeemed link's download may be resumed, past the link's own end too; a bare number is seconds",
        Bare::Seconds,
    ),
    setting(
        "download_rate",
        "BGFILES_DOWNLOAD_RATE",
        "",
        "most calls of links from one network: `600/m`; no limit when empty",
    ),
    length(
        "inline_timeout",
        "BGFILES_INLINE_TIMEOUT",
        "1m",
        "how long an answer with a file made in it (`deliver: now`) may take in all, also for who reads it slowly; a bare number is seconds",
        Bare::Seconds,
    ),
    setting(
        "trusted_proxies",
        "BGFILES_TRUSTED_PROXIES",
        "",
        "addresses and networks (`10.0.0.0/8, 127.0.0.1`) whose `X-Forwarded-For` is believed",
    ),
    length(
        "session_age",
        "BGFILES_SESSION_AGE",
        "14d",
        "how long a login lasts; a bare number is seconds",
        Bare::Seconds,
    ),
    setting(
        "default_token_ttl",
        "BGFILES_DEFAULT_TOKEN_TTL",
        "1d",
        "how long API tokens live whose client does not say: `90s`, `12h`, `30d`, `never`",
    ),
    setting(
        "auth_header_prefix",
        "BGFILES_AUTH_HEADER_PREFIX",
        "Token",
        "scheme of the `Authorization` header of API tokens",
    ),
    setting(
        "expiry_datetime_format",
        "BGFILES_EXPIRY_DATETIME_FORMAT",
        "",
        "how logins and refreshes write `expiry`, as strftime; RFC 3339 when empty",
    ),
    length(
        "token_cache_timeout",
        "BGFILES_TOKEN_CACHE_TIMEOUT",
        "1m",
        "how long a web process keeps the lookup of an API token; revoking works at once all the same; 0 for not at all; a bare number is seconds",
        Bare::Seconds,
    ),
    setting(
        "refresh_token_on_login",
        "BGFILES_REFRESH_TOKEN_ON_LOGIN",
        "false",
        "`true`: a login where there is a token already begins its time anew",
    ),
    setting(
        "api_access_client_name",
        "BGFILES_API_ACCESS_CLIENT_NAME",
        "",
        "client of the tokens that users get at `/api/auth/apiaccess`; off when empty",
    ),
    setting(
        "api_access_exclude_from_sessions",
        "BGFILES_API_ACCESS_EXCLUDE_FROM_SESSIONS",
        "false",
        "`true`: such tokens are not among a user's sessions",
    ),
    setting(
        "login_include_user",
        "BGFILES_LOGIN_INCLUDE_USER",
        "false",
        "`true`: the answer to a login says who it is, under `user`",
    ),
    setting(
        "default_throttle_rate",
        "BGFILES_DEFAULT_THROTTLE_RATE",
        "",
        "most API calls of who has no client with a rate: `100/m`; no limit when empty",
    ),
    setting(
        "allowed_clients",
        "BGFILES_ALLOWED_CLIENTS",
        "",
        "only these clients may call the API, `/api/auth` apart; all when empty",
    ),
    setting("disallowed_clients", "BGFILES_DISALLOWED_CLIENTS", "", "these clients may not"),
    setting(
        "identity_header",
        "BGFILES_IDENTITY_HEADER",
        "",
        "header in which a trusted proxy says who calls, e.g. `X-Remote-User`; off when empty",
    ),
    setting(
        "identity_email_header",
        "BGFILES_IDENTITY_EMAIL_HEADER",
        "",
        "header in which it gives their mail address",
    ),
    setting(
        "cors_origins",
        "BGFILES_CORS_ORIGINS",
        "",
        "origins whose pages may call the API from a browser, without cookies: `https://app.example.com, …` or `*`; none when empty",
    ),
    setting(
        "request_token_querystring",
        "BGFILES_REQUEST_TOKEN_QUERYSTRING",
        "rt",
        "name of request tokens in queries, JSON bodies and forms",
    ),
    length(
        "request_token_expiry",
        "BGFILES_REQUEST_TOKEN_EXPIRY",
        "10m",
        "how long a session token works, unless its maker says; a bare number is minutes",
        Bare::Minutes,
    ),
    setting(
        "request_token_default_max_uses",
        "BGFILES_REQUEST_TOKEN_DEFAULT_MAX_USES",
        "10",
        "times a request token admits, unless its maker says",
    ),
    setting(
        "request_token_disable_logs",
        "BGFILES_REQUEST_TOKEN_DISABLE_LOGS",
        "false",
        "`true`: uses of request tokens are counted and not logged",
    ),
    setting(
        "request_token_403_template",
        "BGFILES_REQUEST_TOKEN_403_TEMPLATE",
        "page/problem.html",
        "page for people whom a request token does not admit",
    ),
    setting(
        "request_token_ignore_invalid",
        "BGFILES_REQUEST_TOKEN_IGNORE_INVALID",
        "false",
        "`true`: where no token is needed, one that does not admit counts as none (django-request-token's way) instead of being refused",
    ),
    length(
        "lock_tokens_timeout",
        "BGFILES_LOCK_TOKENS_TIMEOUT",
        "1h",
        "how long a lock lasts, unless it says otherwise; a bare number is seconds",
        Bare::Seconds,
    ),
    length(
        "lock_tokens_max_timeout",
        "BGFILES_LOCK_TOKENS_MAX_TIMEOUT",
        "1d",
        "how long a lock may ask for at most; a bare number is seconds",
        Bare::Seconds,
    ),
    setting(
        "lock_tokens_max_held",
        "BGFILES_LOCK_TOKENS_MAX_HELD",
        "100",
        "locks that one user may hold at a time",
    ),
    setting(
        "lock_tokens_dateformat",
        "BGFILES_LOCK_TOKENS_DATEFORMAT",
        "%Y-%m-%d %H:%M:%S %Z",
        "how `expires` of a lock is written, as strftime",
    ),
    setting(
        "pages",
        "BGFILES_PAGES",
        "true",
        "`false`: only the API, links and no pages to log in to",
    ),
    setting(
        "dev_mail",
        "BGFILES_DEV_MAIL",
        "false",
        "`true`: `/dev/mail` shows the mails of a `file:` folder; for development",
    ),
    setting(
        "lock_tokens_open",
        "BGFILES_LOCK_TOKENS_OPEN",
        "false",
        "`true`: nobody in particular may lock, as in django-lock-tokens",
    ),
    setting(
        "lock_tokens_conflict_status",
        "BGFILES_LOCK_TOKENS_CONFLICT_STATUS",
        "409",
        "answer when somebody else has the lock: 409, or 403 as django-lock-tokens documents",
    ),
    setting(
        "lock_tokens_resources",
        "BGFILES_LOCK_TOKENS_RESOURCES",
        "",
        "kinds of things of other applications that callers may lock: `shop/order, cms/*`",
    ),
    setting("body_limit", "BGFILES_BODY_LIMIT", "1048576", "bytes of a request body"),
    setting(
        "log",
        "BGFILES_LOG",
        "info",
        "what is logged: `info`, `debug`, `bgfiles=debug,info` …",
    ),
    setting("log_format", "BGFILES_LOG_FORMAT", "text", "`text` or `json`"),
];

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

/// Text that is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Who sends the bytes of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serve {
    /// The web process.
    Stream,
    /// nginx, told by `X-Accel-Redirect` with this prefix.
    XAccel(String),
    /// Apache or lighttpd, told by `X-Sendfile`.
    XSendfile,
    /// The object store, by a redirect to a presigned URL.
    Presigned,
}

impl std::str::FromStr for Serve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stream" => Ok(Serve::Stream),
            "x-sendfile" => Ok(Serve::XSendfile),
            "presigned" => Ok(Serve::Presigned),
            _ => match text.strip_prefix("x-accel:") {
                Some(prefix) if prefix.starts_with('/') && prefix.ends_with('/') => {
                    Ok(Serve::XAccel(prefix.to_owned()))
                }
                _ => Err("must be stream, x-accel:/prefix/, x-sendfile or presigned".into()),
            },
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("must be text or json".into()),
        }
    }
}

/// An `http(s)` URL without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// The URL of a path that begins with a slash.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Whether people come by https.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// Whether an `Origin` header names where people reach us.
    pub fn has_origin(&self, origin: &str) -> bool {
        url::Url::parse(&self.0).is_ok_and(|url| url.origin().ascii_serialization() == origin)
    }

    /// The same without scheme and host: what stands in a `Location` or a cookie's path.
    pub fn path(&self, path: &str) -> String {
        let prefix = url::Url::parse(&self.0).map(|url| url.path().to_owned()).unwrap_or_default();
        format!("{}{path}", prefix.trim_end_matches('/'))
    }

    /// The host, for `Message-ID`s.
    pub fn host(&self) -> String {
        let url = url::Url::parse(&self.0).ok();
        url.and_then(|u| u.host_str().map(str::to_owned)).unwrap_or_else(|| "localhost".into())
    }
}

impl std::str::FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match url::Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.query().is_none() => {
                Ok(BaseUrl(text.trim_end_matches('/').to_owned()))
            }
            _ => Err("must be an http:// or https:// URL".into()),
        }
    }
}

/// Settings given on the command line: key and value.
pub type Flags = Vec<(&'static str, String)>;

impl Config {
    /// Reads everything: flags, environment, file, defaults.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting and where it came from.
    pub fn load(flags: &Flags) -> Result<Config> {
        Self::load_from(flags, &environment())
    }

    /// As [`Config::load`] with an environment of one's own.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_from(flags: &Flags, env: &BTreeMap<String, String>) -> Result<Config> {
        let figment = figment(flags, env)?;
        let mut config: Config = figment.extract().map_err(|e| describe(&e))?;
        config.storage_options = env
            .iter()
            .filter(|(name, _)| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|p| name.starts_with(p)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        config.storage = absolute(&config.storage)?;
        config.mail = Secret(absolute(&config.mail.0)?);
        config.check_auth()?;
        if config.database_connections < FEWEST_CONNECTIONS {
            let message = "database_connections (BGFILES_DATABASE_CONNECTIONS): must be 5 or more";
            return Err(Error::Config(message.into()));
        }
        if config.workers.get() > MOST_WORKERS {
            let message = format!("workers (BGFILES_WORKERS): must be {MOST_WORKERS} or less");
            return Err(Error::Config(message));
        }
        if config.inline_timeout.is_zero() {
            let message = "inline_timeout (BGFILES_INLINE_TIMEOUT): must be a second or more";
            return Err(Error::Config(message.into()));
        }
        if config.lease < Duration::from_secs(1) {
            return Err(Error::Config("lease (BGFILES_LEASE): must be a second or more".into()));
        }
        Ok(config)
    }

    fn check_auth(&self) -> Result<()> {
        let wrong = |message: &str| Err(Error::Config(message.into()));
        let prefix = &self.auth_header_prefix;
        let is_scheme = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if prefix.is_empty() || !prefix.bytes().all(is_scheme) {
            return wrong(
                "auth_header_prefix (BGFILES_AUTH_HEADER_PREFIX): must be one word, like Token",
            );
        }
        let is_format = |text: &str| {
            let mut items = chrono::format::StrftimeItems::new(text);
            !items.any(|item| matches!(item, chrono::format::Item::Error))
        };
        if !is_format(&self.lock_tokens_dateformat) || self.lock_tokens_dateformat.is_empty() {
            return wrong(
                "lock_tokens_dateformat (BGFILES_LOCK_TOKENS_DATEFORMAT): is no strftime format, like %Y-%m-%d %H:%M",
            );
        }
        if ![403, 409].contains(&self.lock_tokens_conflict_status) {
            return wrong(
                "lock_tokens_conflict_status (BGFILES_LOCK_TOKENS_CONFLICT_STATUS): must be 409 or 403",
            );
        }
        let longest = self.lock_tokens_max_timeout;
        if self.lock_tokens_timeout < Duration::from_secs(5) || self.lock_tokens_timeout > longest {
            return wrong(
                "lock_tokens_timeout (BGFILES_LOCK_TOKENS_TIMEOUT): must be 5 seconds or more, and lock_tokens_max_timeout or less",
            );
        }
        if !is_format(&self.expiry_datetime_format) {
            return wrong(
                "expiry_datetime_format (BGFILES_EXPIRY_DATETIME_FORMAT): is no strftime format, like %Y-%m-%d %H:%M",
            );
        }
        if self.identity_header.is_some() && self.trusted_proxies == TrustedProxies::default() {
            return wrong(
                "identity_header (BGFILES_IDENTITY_HEADER): needs trusted_proxies (BGFILES_TRUSTED_PROXIES), as anybody else could write it",
            );
        }
        Ok(())
    }

    /// The signing secrets, once they were checked.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none or one is too short.
    pub fn secrets(&self) -> Result<impl Iterator<Item = &str>> {
        if self.secret_key.is_empty() || self.secret_key.iter().any(|k| k.0.len() < MIN_SECRET) {
            return Err(Error::Config(format!(
                "BGFILES_SECRET_KEY: needs {MIN_SECRET} characters or more; make one with `openssl rand -base64 48`"
            )));
        }
        Ok(self.secret_key.iter().map(Secret::expose))
    }

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

/// `file:relative` becomes `file:///absolute`, so that it means the same wherever it is used.
fn absolute(url: &str) -> Result<String> {
    let Some(path) = url.strip_prefix("file:").filter(|path| !path.starts_with("//")) else {
        return Ok(url.to_owned());
    };
    let path = std::path::absolute(path).map_err(Error::io(format!("file:{path}")))?;
    url::Url::from_file_path(&path)
        .map(String::from)
        .map_err(|()| Error::Config(format!("file:{}: is not a path", path.display())))
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

/// Settings that a file may hold: those that are secrets, or URLs with one. `NAME_FILE` names it, as
/// Docker and systemd hand secrets over.
fn may_be_in_a_file(setting: &Setting) -> bool {
    setting.secret || matches!(setting.key, "database_url" | "mail")
}

/// What is in the file that a variable names; of several lines, with commas between them.
fn of_file(variable: &str, path: &str) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Config(format!("{variable}: {path}: {error}")))?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.is_empty() {
        true => Err(Error::Config(format!("{variable}: {path} is empty"))),
        false => Ok(lines.join(",")),
    }
}

#[allow(clippy::disallowed_methods, reason = "this module is where the environment is read")]
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn figment(flags: &Flags, env: &BTreeMap<String, String>) -> Result<Figment> {
    let file = env.get("BGFILES_CONFIG").map_or("bgfiles.toml", String::as_str);
    if env.contains_key("BGFILES_CONFIG") && !std::path::Path::new(file).is_file() {
        return Err(Error::Config(format!("BGFILES_CONFIG: there is no file {file}")));
    }
    let mut figment = Figment::new();
    for setting in SETTINGS {
        figment = figment.merge(Named("default", setting.key, setting.default.to_owned()));
    }
    figment = figment.merge(Toml::file(file));
    for setting in SETTINGS {
        if let Some(value) = env.get(setting.env) {
            figment = figment.merge(Named(setting.env, setting.key, value.clone()));
        }
        let variable = format!("{}_FILE", setting.env);
        let path = env.get(&variable).filter(|_| may_be_in_a_file(setting));
        if let Some(path) = path {
            if env.contains_key(setting.env) {
                let message = format!("{variable}: give either this or {}", setting.env);
                return Err(Error::Config(message));
            }
            let value = of_file(&variable, path)?;
            figment = figment.merge(Named(&variable, setting.key, value));
        }
    }
    let mut sources = Dict::new();
    for (name, value) in env {
        let Some(source) = name.strip_prefix("BGFILES_SOURCE_") else { continue };
        // A source whose name ends so has a URL.
        match source.strip_suffix("_FILE").filter(|_| !value.contains(':')) {
            None => sources.insert(source.to_ascii_lowercase(), Value::from(value.as_str())),
            Some(source) if env.contains_key(&format!("BGFILES_SOURCE_{source}")) => {
                let message = format!("{name}: give either this or BGFILES_SOURCE_{source}");
                return Err(Error::Config(message));
            }
            Some(source) => {
                sources.insert(source.to_ascii_lowercase(), Value::from(of_file(name, value)?))
            }
        };
    }
    if !sources.is_empty() {
        figment = figment.merge(Serialized::default("sources", sources));
    }
    for (key, value) in flags {
        figment = figment.merge(Named("command line", key, value.clone()));
    }
    Ok(figment)
}

/// One value, with where it came from for error messages.
struct Named<'a>(&'a str, &'a str, String);

impl figment::Provider for Named<'_> {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(self.0.to_owned())
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        let value = Value::from(self.2.as_str());
        Ok(Map::from([(Profile::Default, Dict::from([(self.1.to_owned(), value)]))]))
    }
}

fn describe(error: &figment::Error) -> Error {
    let lines: Vec<String> = error
        .clone()
        .into_iter()
        .map(|e| {
            let key = e.path.join(".");
            let env = SETTINGS.iter().find(|s| s.key == key).map_or("", |s| s.env);
            let from = e.metadata.as_ref().map_or(String::new(), |m| {
                let source = m.source.as_ref().map_or(String::new(), |s| format!(" {s}"));
                format!(" (from {}{source})", m.name)
            });
            if let Kind::UnknownField(name, _) = &e.kind {
                let keys = SETTINGS.iter().map(|s| s.key).chain(["sources"]);
                return format!("{name} is no setting{}{from}", did_you_mean(name, keys));
            }
            let name = if env.is_empty() { key } else { format!("{key} ({env})") };
            match name.as_str() {
                "" => format!("{}{from}", e.kind),
                _ => format!("{name}: {}{from}", e.kind),
            }
        })
        .collect();
    Error::Config(lines.join("\n"))
}

/// Values are text in the environment and may be numbers in the file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Integer(i64),
    Boolean(bool),
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Scalar::Text(text) => text,
            Scalar::Integer(number) => number.to_string(),
            Scalar::Boolean(flag) => flag.to_string(),
        }
    }
}

fn text_of(value: Value) -> Option<String> {
    value.deserialize::<Scalar>().ok().map(Scalar::text)
}

fn parsed<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<T, D::Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = Scalar::deserialize(deserializer)?.text();
    text.parse().map_err(|e| de::Error::custom(format!("{text:?}: {e}")))
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration(deserializer, Bare::Seconds)
}

fn minutes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration(deserializer, Bare::Minutes)
}

fn duration<'de, D: Deserializer<'de>>(from: D, bare: Bare) -> Result<Duration, D::Error> {
    let text = Scalar::deserialize(from)?.text();
    bare.parse(text.trim()).map_err(|why| de::Error::custom(format!("{text:?} {why}")))
}

fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Secret>, D::Error> {
    let text = Scalar::deserialize(deserializer)?.text();
    let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty());
    Ok(keys.map(Secret::new).collect())
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let text = Scalar::deserialize(deserializer)?.text();
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

fn optional<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = Scalar::deserialize(deserializer)?.text();
    let parse =
        |text: String| text.parse().map_err(|e| de::Error::custom(format!("{text:?}: {e}")));
    (!text.is_empty()).then_some(text).map(parse).transpose()
}

fn optional_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let text = Scalar::deserialize(deserializer)?.text();
    Ok((!text.is_empty()).then(|| text.into()))
}
