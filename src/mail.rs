//! Sending mail: SMTP, a folder of `.eml` files, or memory.
//!
//! A [`Mail`] is built from templates by its caller; here it becomes a message with text and HTML
//! twins, and no field can bring a header of its own.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        PoolConfig,
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use url::Url;

use crate::error::{Error, Result};

/// How long one SMTP command may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A mail, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Mail {
    /// Addresses.
    pub to: Vec<String>,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
    /// Without the angle brackets; the same on every try.
    pub message_id: String,
}

/// Sends mail.
#[derive(Clone, Debug)]
pub struct Mailer {
    from: Mailbox,
    transport: Transport,
}

#[derive(Clone, Debug)]
enum Transport {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    File(PathBuf),
    Memory(Arc<Mutex<Vec<Mail>>>),
}

impl Mailer {
    /// Opens `smtp://user:password@host:587`, `smtps://…`, `file:///folder` or `memory:`.
    ///
    /// `smtp:` insists on STARTTLS; `?tls=opportunistic` takes it when offered, `?tls=none` never
    /// does. `?ca=FILE` (PEM) trusts a certificate authority of one's own.
    ///
    /// # Errors
    /// [`Error::Config`] when the URL or the sender is not understood.
    pub fn open(url: &str, from: &str) -> Result<Mailer> {
        let from = parse_from(from)?;
        let parsed = Url::parse(url)
            .map_err(|_| wrong("must be smtp://…, smtps://…, file:FOLDER or memory:"))?;
        let transport = match parsed.scheme() {
            "memory" => Transport::Memory(Arc::default()),
            "file" => {
                let folder = parsed.to_file_path().ok().filter(|_| url.starts_with("file:///"));
                let folder =
                    folder.ok_or_else(|| wrong("file: needs an absolute path, file:///…"))?;
                std::fs::create_dir_all(&folder)
                    .map_err(|e| wrong(&format!("{}: {e}", folder.display())))?;
                Transport::File(folder)
            }
            "smtp" | "smtps" => Transport::Smtp(smtp(&parsed)?),
            other => {
                return Err(wrong(&format!(
                    "{other}: is not known; use smtp://…, smtps://…, file:FOLDER or memory:"
                )));
            }
        };
        Ok(Mailer { from, transport })
    }

    /// Sends. When this returns, the server has taken the message.
    ///
    /// # Errors
    /// [`Error::Mail`], which says whether a later try may work.
    pub async fn send(&self, mail: &Mail, now: DateTime<Utc>) -> Result<()> {
        let message = self.message(mail, now)?;
        match &self.transport {
            Transport::Smtp(transport) => {
                transport.send(message).await.map(drop).map_err(|e| classify(&e))
            }
            Transport::File(folder) => write_eml(folder, mail, &message.formatted()).await,
            Transport::Memory(sent) => {
                sent.lock().unwrap_or_else(|e| e.into_inner()).push(mail.clone());
                Ok(())
            }
        }
    }

    /// The folder that mails are written to, if they are.
    pub fn folder(&self) -> Option<&std::path::Path> {
        match &self.transport {
            Transport::File(folder) => Some(folder),
            Transport::Smtp(_) | Transport::Memory(_) => None,
        }
    }

    /// What was sent to memory, oldest first.
    pub fn sent(&self) -> Vec<Mail> {
        match &self.transport {
            Transport::Memory(sent) => sent.lock().unwrap_or_else(|e| e.into_inner()).clone(),
            _ => Vec::new(),
        }
    }

    fn message(&self, mail: &Mail, now: DateTime<Utc>) -> Result<Message> {
        let permanent = |message: String| Error::Mail { temporary: false, message };
        let mut builder = Message::builder()
            .from(self.from.clone())
            .date(now.into())
            .message_id(Some(format!("<{}>", one_line(&mail.message_id))))
            .subject(one_line(&mail.subject));
        for to in &mail.to {
            let address: Address =
                to.parse().map_err(|_| permanent("a recipient is no e-mail address".into()))?;
            builder = builder.to(Mailbox::new(None, address));
        }
        let built = match &mail.html {
            Some(html) => builder
                .multipart(MultiPart::alternative_plain_html(mail.text.clone(), html.clone())),
            None => builder.body(mail.text.clone()),
        };
        let mut message = built.map_err(|e| permanent(e.to_string()))?;
        // RFC 3834: no out-of-office answers, please.
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".into()));
        Ok(message)
    }
}

/// A line break in a header would begin another header; lettre panics on one in a display name.
fn one_line(text: &str) -> String {
    text.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn wrong(message: &str) -> Error {
    Error::Config(format!("BGFILES_MAIL: {message}"))
}

fn parse_from(text: &str) -> Result<Mailbox> {
    one_line(text).parse().map_err(|_| {
        Error::Config(format!(
            "BGFILES_MAIL_FROM: {text:?} is no sender; write `Name <name@example.com>`"
        ))
    })
}

fn smtp(url: &Url) -> Result<AsyncSmtpTransport<Tokio1Executor>> {
    let host = url.host_str().ok_or_else(|| wrong("names no host"))?;
    let option = |name: &str| url.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v);
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(ca) = option("ca") {
        let pem = std::fs::read(ca.as_ref()).map_err(|e| wrong(&format!("ca={ca}: {e}")))?;
        let certificate =
            Certificate::from_pem(&pem).map_err(|e| wrong(&format!("ca={ca}: {e}")))?;
        parameters = parameters.add_root_certificate(certificate);
    }
    let parameters = parameters.build().map_err(|e| wrong(&e.to_string()))?;
    let tls = option("tls");
    let (tls, port) = match (url.scheme(), tls.as_deref()) {
        ("smtps", None) => (Tls::Wrapper(parameters), 465),
        ("smtp", None | Some("required")) => (Tls::Required(parameters), 587),
        ("smtp", Some("opportunistic")) => (Tls::Opportunistic(parameters), 587),
        ("smtp", Some("none")) => (Tls::None, 25),
        _ => return Err(wrong("tls= must be required, opportunistic or none, and not with smtps")),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(url.port().unwrap_or(port))
        .tls(tls)
        .timeout(Some(TIMEOUT))
        .pool_config(PoolConfig::new().max_size(4));
    if !url.username().is_empty() {
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
        };
        let password = decode(url.password().unwrap_or_default());
        builder = builder.credentials(Credentials::new(decode(url.username()), password));
    }
    Ok(builder.build())
}

/// A server's 5xx is final, except where it speaks of us and not of the message (530 to 538:
/// authentication), which an operator can mend within the day. All else (no connection, time-out,
/// TLS, 4xx) is temporary; lettre itself does not count a refused connection as such.
fn classify(error: &lettre::transport::smtp::Error) -> Error {
    let about_us = error.status().is_some_and(|code| {
        let number: u16 = code.into();
        (530..=538).contains(&number)
    });
    Error::Mail { temporary: !error.is_permanent() || about_us, message: error.to_string() }
}

/// The name is the Message-ID: a repeat replaces the first one.
async fn write_eml(folder: &std::path::Path, mail: &Mail, bytes: &[u8]) -> Result<()> {
    let name = mail.message_id.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "_");
    let (path, draft) = (folder.join(format!("{name}.eml")), folder.join(format!(".{name}.new")));
    let write = async {
        tokio::fs::write(&draft, bytes).await?;
        tokio::fs::rename(&draft, &path).await
    };
    write
        .await
        .map_err(|e| Error::Mail { temporary: true, message: format!("{}: {e}", path.display()) })
}
