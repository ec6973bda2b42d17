//! Sending mail: SMTP, a folder of `.eml` files, or memory.
//!
//! A [`Mail`] is built from templates by its caller; here it becomes a message with text and HTML
//! twins, and no field can bring a header of its own. Connections to a server are kept for the next
//! mail (`smtp.rs`), and never hold a packet back (`server.rs`): a few thousand mails take seconds.

mod connection;
mod encrypted;
mod server;
mod smtp;

use std::{
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, Utc};
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};
use tokio::io::AsyncWriteExt;
use url::Url;

use self::{server::Server, smtp::Smtp};
use crate::error::{Error, Result};

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
    Smtp(Arc<Smtp>),
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
                // Mails have links that work: they are for nobody else to read.
                let private =
                    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
                private.map_err(|e| wrong(&format!("{}: {e}", folder.display())))?;
                Transport::File(folder)
            }
            "smtp" | "smtps" => Transport::Smtp(Arc::new(Smtp::new(Server::parse(&parsed)?))),
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
            Transport::Smtp(smtp) => {
                Ok(smtp.send(message.envelope(), &message.formatted()).await?)
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

/// The name is the Message-ID: a repeat replaces the first one.
async fn write_eml(folder: &std::path::Path, mail: &Mail, bytes: &[u8]) -> Result<()> {
    let name = mail.message_id.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "_");
    let (path, draft) = (folder.join(format!("{name}.eml")), folder.join(format!(".{name}.new")));
    let write = async {
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft);
        let mut file = file.await?;
        file.write_all(bytes).await?;
        file.flush().await?;
        tokio::fs::rename(&draft, &path).await
    };
    write
        .await
        .map_err(|e| Error::Mail { temporary: true, message: format!("{}: {e}", path.display()) })
}
