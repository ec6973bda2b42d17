//! The one list of settings: key, variable, default and meaning. `docs/src/reference/settings.md` and
//! `bgfiles check` are made from it.

use crate::duration::Bare;

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
    /// Whether it is hidden wherever settings are shown.
    pub secret: bool,
    /// Of a length of time: what a number without a unit counts.
    pub length: Option<Bare>,
}

impl Setting {
    /// Whether a file may hold it: what is secret, or a URL with a secret in it. `NAME_FILE` names
    /// the file, as Docker and systemd hand secrets over.
    pub(super) fn may_be_in_a_file(&self) -> bool {
        self.secret || matches!(self.key, "database_url" | "mail")
    }
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
        "keys that sign links, separated by commas: the first signs, all verify; each has 32 characters or more",
    ),
    setting("salt", "BGFILES_SALT", "bgfiles", "salt of the link signer"),
    length(
        "max_age",
        "BGFILES_MAX_AGE",
        "1d",
        "how long a link works, and how long a file stays unless its type sets `expires_after`; a bare number is seconds",
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
        "what sends the bytes of a download: `stream` (the web process), `x-accel:/internal/`, `x-sendfile` or `presigned`",
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
        "address for replies to mails, `Name <address>` or an address; the sender when empty",
    ),
    setting("mail_footer", "BGFILES_MAIL_FOOTER", "", "a line at the end of each mail"),
    setting(
        "base_url",
        "BGFILES_BASE_URL",
        "http://localhost:8000",
        "address at which people reach the web process; every link begins with it",
    ),
    setting("bind", "BGFILES_BIND", "127.0.0.1:8000", "address the web process listens on"),
    setting(
        "metrics_bind",
        "BGFILES_METRICS_BIND",
        "",
        "address on which `worker` and `clean --every` serve `/metrics`, `/healthz` and `/readyz`; off when empty (`web` serves them on its own address)",
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
        "folder of templates that replace the built-in ones",
    ),
    setting(
        "workers",
        "BGFILES_WORKERS",
        "8",
        "files that a worker process makes at the same time",
    ),
    length(
        "lease",
        "BGFILES_LEASE",
        "10s",
        "how long a worker may be silent before another worker takes its request over; a bare number is seconds",
        Bare::Seconds,
    ),
    length(
        "drain",
        "BGFILES_DRAIN",
        "30s",
        "how long running work may take to end after SIGTERM; a bare number is seconds",
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
        "rate limit for calls of links from one network: `600/m`; no limit when empty",
    ),
    length(
        "inline_timeout",
        "BGFILES_INLINE_TIMEOUT",
        "1m",
        "longest time for a response that contains a file made on the spot (`deliver: now`), slow readers included; a bare number is seconds",
        Bare::Seconds,
    ),
    setting(
        "trusted_proxies",
        "BGFILES_TRUSTED_PROXIES",
        "",
        "addresses and networks (`10.0.0.0/8, 127.0.0.1`) of proxies whose `X-Forwarded-For` is trusted",
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
        "lifetime of API tokens whose client sets none: `90s`, `12h`, `30d`, `never`",
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
        "strftime format of `expiry` in the responses to a login and a refresh; RFC 3339 when empty",
    ),
    length(
        "token_cache_timeout",
        "BGFILES_TOKEN_CACHE_TIMEOUT",
        "1m",
        "how long a web process caches the lookup of an API token; revoking still takes effect at once; 0 turns the cache off; a bare number is seconds",
        Bare::Seconds,
    ),
    setting(
        "refresh_token_on_login",
        "BGFILES_REFRESH_TOKEN_ON_LOGIN",
        "false",
        "`true`: a login renews the lifetime of a token that exists already",
    ),
    setting(
        "api_access_client_name",
        "BGFILES_API_ACCESS_CLIENT_NAME",
        "",
        "client of the API keys that users create at `/api/auth/apiaccess`; off when empty",
    ),
    setting(
        "api_access_exclude_from_sessions",
        "BGFILES_API_ACCESS_EXCLUDE_FROM_SESSIONS",
        "false",
        "`true`: API keys are not listed among a user's sessions",
    ),
    setting(
        "login_include_user",
        "BGFILES_LOGIN_INCLUDE_USER",
        "false",
        "`true`: the response to a login names the user, under `user`",
    ),
    setting(
        "default_throttle_rate",
        "BGFILES_DEFAULT_THROTTLE_RATE",
        "",
        "rate limit for callers whose client sets none: `100/m`; no limit when empty",
    ),
    setting(
        "allowed_clients",
        "BGFILES_ALLOWED_CLIENTS",
        "",
        "only these clients may call the API (`/api/auth` is open to all); every client when empty",
    ),
    setting(
        "disallowed_clients",
        "BGFILES_DISALLOWED_CLIENTS",
        "",
        "these clients may not call the API",
    ),
    setting(
        "identity_header",
        "BGFILES_IDENTITY_HEADER",
        "",
        "header in which a trusted proxy names the caller, e.g. `X-Remote-User`; off when empty",
    ),
    setting(
        "identity_email_header",
        "BGFILES_IDENTITY_EMAIL_HEADER",
        "",
        "header in which the proxy gives the caller's mail address",
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
        "lifetime of a request token in mode `session` that sets none; a bare number is minutes",
        Bare::Minutes,
    ),
    setting(
        "request_token_default_max_uses",
        "BGFILES_REQUEST_TOKEN_DEFAULT_MAX_USES",
        "10",
        "uses of a request token that sets no limit",
    ),
    setting(
        "request_token_disable_logs",
        "BGFILES_REQUEST_TOKEN_DISABLE_LOGS",
        "false",
        "`true`: uses of request tokens are counted but not logged",
    ),
    setting(
        "request_token_403_template",
        "BGFILES_REQUEST_TOKEN_403_TEMPLATE",
        "page/problem.html",
        "page for people whose request token is refused",
    ),
    setting(
        "request_token_ignore_invalid",
        "BGFILES_REQUEST_TOKEN_IGNORE_INVALID",
        "false",
        "`true`: where a request token is optional, an invalid one counts as none (as in django-request-token) instead of being refused",
    ),
    length(
        "lock_tokens_timeout",
        "BGFILES_LOCK_TOKENS_TIMEOUT",
        "1h",
        "how long a lock lasts unless it asks for another time; a bare number is seconds",
        Bare::Seconds,
    ),
    length(
        "lock_tokens_max_timeout",
        "BGFILES_LOCK_TOKENS_MAX_TIMEOUT",
        "1d",
        "longest time that a lock may ask for; a bare number is seconds",
        Bare::Seconds,
    ),
    setting(
        "lock_tokens_max_held",
        "BGFILES_LOCK_TOKENS_MAX_HELD",
        "100",
        "most locks that one user may hold at a time",
    ),
    setting(
        "lock_tokens_dateformat",
        "BGFILES_LOCK_TOKENS_DATEFORMAT",
        "%Y-%m-%d %H:%M:%S %Z",
        "strftime format of a lock's `expires`",
    ),
    setting(
        "pages",
        "BGFILES_PAGES",
        "true",
        "`false`: only the API and links, no pages that need a login",
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
        "`true`: callers without credentials may lock, as in django-lock-tokens",
    ),
    setting(
        "lock_tokens_conflict_status",
        "BGFILES_LOCK_TOKENS_CONFLICT_STATUS",
        "409",
        "status when someone else holds the lock: 409, or 403 as django-lock-tokens documents",
    ),
    setting(
        "lock_tokens_resources",
        "BGFILES_LOCK_TOKENS_RESOURCES",
        "",
        "kinds of things in other applications that callers may lock: `shop/order, cms/*`",
    ),
    setting("body_limit", "BGFILES_BODY_LIMIT", "1048576", "largest request body, in bytes"),
    setting(
        "log",
        "BGFILES_LOG",
        "info",
        "what is logged: `info`, `debug`, `bgfiles=debug,info` …",
    ),
    setting("log_format", "BGFILES_LOG_FORMAT", "text", "`text` or `json`"),
];
