//! The one list of settings: key, variable, default and meaning. The README's table and
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
