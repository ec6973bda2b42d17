//! Handing messages to a server, over connections that are kept for the next one.
//!
//! Each message has a connection to itself while it is handed over; then the connection waits for
//! the next. There are as many at once as there are callers.

use std::{sync::Arc, time::Duration};

use lettre::{
    address::Envelope,
    transport::smtp::{
        commands::{Data, Mail, Noop, Quit, Rcpt},
        extension::{MailBodyParameter, MailParameter},
    },
};

use super::{
    connection::{Connection, step},
    server::Server,
    trouble::Trouble,
};
use crate::idle::Idle;

/// Most connections that wait for a message.
const KEPT: usize = 16;
/// How long one waits before it is closed.
const IDLE: Duration = Duration::from_secs(60);
/// How long one is taken for alive without asking the server.
const FRESH: Duration = Duration::from_secs(5);

/// Sends over one server.
#[derive(Debug)]
pub(super) struct Smtp {
    server: Server,
    idle: Arc<Idle<Connection>>,
}

impl Smtp {
    /// Connects when there is something to send.
    pub(super) fn new(server: Server) -> Self {
        Smtp { server, idle: Idle::new(KEPT, IDLE, quit) }
    }

    /// Hands over one message. A kept connection that turns out to be dead when the message is
    /// announced is replaced by a fresh one, once. Later nothing is tried again here: the server
    /// may have taken what it did not acknowledge.
    ///
    /// When the caller stops waiting, the connection is dropped with the conversation half-way.
    pub(super) async fn send(&self, envelope: &Envelope, email: &[u8]) -> Result<String, Trouble> {
        if let Some(mut connection) = self.take().await {
            match announce(&mut connection, envelope, email).await {
                Err(trouble) if trouble.ends_connection() => {
                    tracing::debug!(?trouble, "a kept connection had died");
                }
                announced => return self.finish(connection, announced, email).await,
            }
        }
        let mut connection = self.server.connect().await?;
        let announced = announce(&mut connection, envelope, email).await;
        self.finish(connection, announced, email).await
    }

    /// Connects as for a message, takes leave, and says what the server is like.
    pub(super) async fn try_out(&self) -> Result<String, Trouble> {
        let connection = self.server.connect().await?;
        let words = self.server.describe(&connection.offers);
        quit(connection);
        Ok(words)
    }

    /// Hands over what was announced, and decides what becomes of the connection.
    ///
    /// Who calls limits the time: servers check a message before they answer (RFC 5321,
    /// 4.5.3.2.6 gives them ten minutes), and giving up early makes doubles.
    async fn finish(
        &self,
        mut connection: Connection,
        announced: Result<(), Trouble>,
        email: &[u8],
    ) -> Result<String, Trouble> {
        let sent = match announced {
            Ok(()) => hand_over(&mut connection, email).await,
            Err(trouble) => Err(trouble),
        };
        match &sent {
            // It would take our words for those of the message: just hang up.
            Err(_) if connection.awaits_message => drop(connection),
            Ok(_) | Err(Trouble::Lacking(_) | Trouble::Unfit(_)) => self.idle.keep(connection),
            Err(Trouble::Refused { .. } | Trouble::Closed(_)) => quit(connection),
            // What the server would make of a QUIT depends on what it has heard.
            Err(Trouble::Lost(_)) => drop(connection),
        }
        sent
    }

    /// The connection that was used last, if it still works.
    async fn take(&self) -> Option<Connection> {
        let (mut connection, idle) = self.idle.take()?;
        let works = idle < FRESH || step(connection.command(Noop)).await.is_ok();
        works.then_some(connection)
    }
}

/// Takes leave (RFC 5321, 4.1.1.10) without keeping anybody waiting.
fn quit(mut connection: Connection) {
    tokio::spawn(async move {
        let _ = step(connection.command(Quit)).await;
    });
}

/// Sender, recipients, and that a message comes: in one go where the server takes that, as each
/// answer that is waited for is a journey. The server has nothing of the message before the last of
/// them.
async fn announce(
    connection: &mut Connection,
    envelope: &Envelope,
    email: &[u8],
) -> Result<(), Trouble> {
    let offers = &connection.offers;
    let mut options = Vec::new();
    let mut addresses = envelope.from().into_iter().chain(envelope.to());
    if addresses.any(|address| !AsRef::<str>::as_ref(address).is_ascii()) {
        if !offers.has("SMTPUTF8") {
            let why =
                "the address is not ASCII before its @, and the server does not offer SMTPUTF8";
            return Err(Trouble::Unfit(why.into()));
        }
        options.push(MailParameter::SmtpUtfEight);
    }
    if !email.is_ascii() {
        if !offers.has("8BITMIME") {
            let why = "the server does not offer 8BITMIME, which the message needs";
            return Err(Trouble::Lacking(why.into()));
        }
        options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let mut commands = vec![Mail::new(envelope.from().cloned(), options).to_string()];
    let recipient = |to| Rcpt::new(to, Vec::new()).to_string();
    commands.extend(envelope.to().iter().cloned().map(recipient));
    commands.push(Data.to_string());
    // Commands need not wait for the answer to the one before (RFC 2920).
    match offers.has("PIPELINING") {
        true => say_together(connection, &commands).await,
        false => {
            for command in commands {
                step(connection.command(command)).await?;
            }
            Ok(())
        }
    }
}

/// Commands in one go, the last of them DATA. Each has its answer, whatever became of the others.
async fn say_together(connection: &mut Connection, commands: &[String]) -> Result<(), Trouble> {
    let mut answer = step(connection.command(commands.concat())).await;
    let mut trouble = None;
    for _ in 1..commands.len() {
        match answer {
            Err(lost @ Trouble::Lost(_)) => return Err(trouble.unwrap_or(lost)),
            Err(refused) => trouble = trouble.or(Some(refused)),
            Ok(_) => {}
        }
        answer = step(connection.reply()).await;
    }
    let Some(trouble) = trouble else { return answer.map(drop) };
    // Servers may go on all the same (RFC 2920, 3.1).
    connection.awaits_message = answer.is_ok();
    Err(trouble)
}

/// The message with the dot that ends it, in one go: two would be two packets.
async fn hand_over(connection: &mut Connection, email: &[u8]) -> Result<String, Trouble> {
    connection.say(&stuffed(email)).await.map(|reply| reply.said())
}

/// A message as a server takes it (RFC 5321, 4.5.2): a dot at the beginning of a line is doubled,
/// and one alone on its line is the end.
fn stuffed(email: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(email.len() + email.len() / 64 + 8);
    for byte in email {
        if *byte == b'.' && (wire.is_empty() || wire.ends_with(b"\r\n")) {
            wire.push(b'.');
        }
        wire.push(*byte);
    }
    let end: &[u8] = if wire.ends_with(b"\r\n") { b".\r\n" } else { b"\r\n.\r\n" };
    wire.extend_from_slice(end);
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_where_lines_begin_with_them() {
        for (text, wire) in [
            ("", "\r\n.\r\n"),
            ("a.\r\n", "a.\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("a\r\n.\r\n.b\r\n..", "a\r\n..\r\n..b\r\n...\r\n.\r\n"),
        ] {
            assert_eq!(stuffed(text.as_bytes()), wire.as_bytes(), "{text:?}");
        }
    }
}
