//! Sending mail: SMTP, a folder of `.eml` files, or memory.
//!
//! A [`Mail`] is built from templates by its caller; here it becomes a message with text and HTML
//! twins, and no field can bring a header of its own. Connections to a server are kept for the next
//! mail (`smtp.rs`), and never hold a packet back (`server.rs`): a few thousand mails take seconds.
//!
//! The conversation is ours, as lettre 0.11.23 leaves Nagle's algorithm on: 42 ms a mail on the loopback
//! interface, and 1.2 ms without it (lettre's pull request 1159, merged on 2026-09-09, for the release
//! after 0.11.23). With that release `server.rs`, `connection.rs` and `encrypted.rs` can shrink to what
//! lettre has not: several commands at once (PIPELINING, RFC 2920).

mod address;
mod connection;
mod encrypted;
mod server;
mod smtp;
mod trouble;

use std::{
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, Utc};
use lettre::{
    Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};
use tokio::io::AsyncWriteExt;
use url::Url;

pub use self::address::address;
use self::{address::mailbox, server::Server, smtp::Smtp, trouble::wrong};
use crate::{
    config::Config,
    error::{Error, Result},
};

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
    /// Of the text: a language tag, or empty.
    pub language: String,
}

/// What stands on every mail besides its sender, as text that is checked by [`Mailer::with`]. Empty
/// for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Letterhead<'a> {
    /// The sender's name, unless the sender brings one.
    pub name: &'a str,
    /// Who gets answers: an address, or `Name <address>`.
    pub reply_to: &'a str,
    /// A line below the text, for templates that show it.
    pub footer: &'a str,
}

/// Sends mail.
#[derive(Clone, Debug)]
pub struct Mailer {
    from: Mailbox,
    reply_to: Option<Mailbox>,
    footer: String,
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
        Ok(Mailer { from, reply_to: None, footer: String::new(), transport })
    }

    /// As the configuration says.
    ///
    /// # Errors
    /// As [`Mailer::open`] and [`Mailer::with`].
    pub fn configured(config: &Config) -> Result<Mailer> {
        Mailer::open(config.mail.expose(), &config.mail_from)?.with(Letterhead {
            name: &config.mail_name,
            reply_to: &config.mail_reply_to,
            footer: &config.mail_footer,
        })
    }

    /// The same with a letterhead.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting that cannot stand on a mail.
    pub fn with(mut self, letterhead: Letterhead<'_>) -> Result<Mailer> {
        let Letterhead { name, reply_to, footer } = letterhead;
        for (setting, text) in [("BGFILES_MAIL_NAME", name), ("BGFILES_MAIL_FOOTER", footer)] {
            if text.chars().any(char::is_control) {
                return Err(Error::Config(format!("{setting}: must be one line")));
            }
        }
        if !name.trim().is_empty() && self.from.name.is_none() {
            self.from.name = Some(name.trim().to_owned());
        }
        if !reply_to.trim().is_empty() {
            let read = mailbox(reply_to.trim()).map_err(|why| {
                let how = "write an address or `Name <name@example.com>`";
                Error::Config(format!("BGFILES_MAIL_REPLY_TO: {reply_to:?} {why}; {how}"))
            });
            self.reply_to = Some(read?);
        }
        self.footer = footer.trim().to_owned();
        Ok(self)
    }

    /// The line that templates put below a mail; empty for none.
    pub fn footer(&self) -> &str {
        &self.footer
    }

    /// Sends. When this returns, the server has taken the message.
    ///
    /// # Errors
    /// [`Error::Mail`], which says whether a later try may work.
    pub async fn send(&self, mail: &Mail, now: DateTime<Utc>) -> Result<()> {
        self.deliver(mail, now).await.map(drop)
    }

    /// The same with what the server answered, or where the mail went.
    pub(crate) async fn deliver(&self, mail: &Mail, now: DateTime<Utc>) -> Result<String> {
        let message = self.message(mail, now)?;
        match &self.transport {
            Transport::Smtp(smtp) => {
                Ok(smtp.send(message.envelope(), &message.formatted()).await?)
            }
            Transport::File(folder) => {
                write_eml(folder, mail, &message.formatted()).await?;
                Ok(format!("written to {}", folder.display()))
            }
            Transport::Memory(sent) => {
                sent.lock().unwrap_or_else(|e| e.into_inner()).push(mail.clone());
                Ok("kept in memory".into())
            }
        }
    }

    /// Goes as far as one can without a mail: to a server that has greeted, encrypted and logged in as
    /// the settings say; to a folder that can be written. Gives what was found, in words.
    ///
    /// # Errors
    /// As [`Mailer::send`].
    pub(crate) async fn try_out(&self) -> Result<String> {
        match &self.transport {
            Transport::Smtp(smtp) => Ok(smtp.try_out().await?),
            Transport::File(folder) => {
                let probe = folder.join(".doctor.new");
                let tried = async {
                    tokio::fs::write(&probe, "").await?;
                    tokio::fs::remove_file(&probe).await
                };
                tried.await.map_err(Error::io(folder.display().to_string()))?;
                Ok(format!("the folder {}", folder.display()))
            }
            Transport::Memory(_) => Ok("memory: mails go to nobody".into()),
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
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        for to in &mail.to {
            let address = address(to)
                .map_err(|why| permanent(format!("nothing can be mailed to {to:?}: it {why}")))?;
            builder = builder.to(Mailbox::new(None, address));
        }
        let built = match &mail.html {
            Some(html) => builder
                .multipart(MultiPart::alternative_plain_html(mail.text.clone(), html.clone())),
            None => builder.body(mail.text.clone()),
        };
        let mut message = built.map_err(|e| permanent(e.to_string()))?;
        let mut set = |name, value: &str| {
            let name = HeaderName::new_from_ascii_str(name);
            message.headers_mut().insert_raw(HeaderValue::new(name, value.into()));
        };
        // No out-of-office answers, please: RFC 3834, and what Exchange looks at instead.
        set("Auto-Submitted", "auto-generated");
        set("X-Auto-Response-Suppress", "All");
        let is_tag = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        if !mail.language.is_empty() && mail.language.bytes().all(is_tag) {
            set("Content-Language", &mail.language);
        }
        Ok(message)
    }
}

/// A line break in a header would begin another header; lettre panics on one in a display name.
fn one_line(text: &str) -> String {
    text.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn parse_from(text: &str) -> Result<Mailbox> {
    mailbox(text).map_err(|_| {
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
