//! Values of settings that are more than text, numbers and times.

use serde::Deserialize;

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
