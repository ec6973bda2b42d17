//! Handing messages to a server, over connections that are kept for the next one.
//!
//! Each message has a connection to itself while it is handed over; then the connection waits for
//! the next. There are as many at once as there are callers.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use lettre::{
    address::Envelope,
    transport::smtp::{
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Noop, Quit, Rcpt},
        extension::{Extension, MailBodyParameter, MailParameter},
    },
};
use tokio::time::Instant;

use super::server::{Server, Trouble, step};

/// Most connections that wait for a message.
const KEPT: usize = 16;
/// How long one waits before it is closed.
const IDLE: Duration = Duration::from_secs(60);
/// How long one is taken for alive without asking the server.
const FRESH: Duration = Duration::from_secs(5);

/// Sends over one server.
pub(super) struct Smtp {
    server: Server,
    kept: Mutex<Kept>,
}

/// Connections that wait, the longest idle first.
#[derive(Default)]
struct Kept {
    idle: Vec<Idle>,
    /// Whether a task looks after them.
    swept: bool,
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Smtp {
    /// Connects when there is something to send.
    pub(super) fn new(server: Server) -> Arc<Smtp> {
        Arc::new(Smtp { server, kept: Mutex::default() })
    }

    /// Hands over one message. A kept connection that turns out to be dead when the message is
    /// announced is replaced by a fresh one, once. Later nothing is tried again here: the server
    /// may have taken what it did not acknowledge.
    ///
    /// When the caller stops waiting, the connection is dropped with the conversation half-way.
    pub(super) async fn send(
        self: &Arc<Self>,
        envelope: &Envelope,
        email: &[u8],
    ) -> Result<(), Trouble> {
        if let Some(mut connection) = self.take().await {
            match announce(&mut connection, envelope, email).await {
                Err(trouble) if trouble.ends_connection() => {
                    tracing::debug!(?trouble, "a kept connection had died");
                }
                announced => return self.finish(connection, announced, envelope, email).await,
            }
        }
        let mut connection = self.server.connect().await?;
        let announced = announce(&mut connection, envelope, email).await;
        self.finish(connection, announced, envelope, email).await
    }

    /// Hands over what was announced, and decides what becomes of the connection.
    async fn finish(
        self: &Arc<Self>,
        mut connection: AsyncSmtpConnection,
        announced: Result<(), Trouble>,
        envelope: &Envelope,
        email: &[u8],
    ) -> Result<(), Trouble> {
        let sent = match announced {
            Ok(()) => hand_over(&mut connection, envelope, email).await,
            Err(trouble) => Err(trouble),
        };
        match &sent {
            Ok(()) | Err(Trouble::Lacking(_)) => self.keep(connection),
            Err(Trouble::Refused { .. }) => quit(connection),
            // What the server would make of a QUIT depends on what it has heard: just hang up.
            Err(Trouble::Lost(_)) => drop(connection),
        }
        sent
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last, if it still works. The others then reach their end of
    /// idling when there is less to do.
    async fn take(&self) -> Option<AsyncSmtpConnection> {
        let Idle { mut connection, since } = self.kept().idle.pop()?;
        let works = match since.elapsed() {
            idle if idle < FRESH => true,
            idle => idle < IDLE && step(connection.command(Noop)).await.is_ok(),
        };
        works.then_some(connection)
    }

    fn keep(self: &Arc<Self>, connection: AsyncSmtpConnection) {
        let mut kept = self.kept();
        if kept.idle.len() == KEPT {
            return quit(connection);
        }
        kept.idle.push(Idle { connection, since: Instant::now() });
        if !std::mem::replace(&mut kept.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what has idled long enough. When the next one will have; `None` when none is left.
    fn sweep(&self) -> Option<Instant> {
        let mut kept = self.kept();
        let old = kept.idle.partition_point(|idle| idle.since.elapsed() >= IDLE);
        kept.idle.drain(..old).for_each(|idle| quit(idle.connection));
        kept.swept = !kept.idle.is_empty();
        kept.idle.first().map(|idle| idle.since + IDLE)
    }
}

/// Runs for as long as there are connections that wait.
async fn sweep(smtp: Weak<Smtp>) {
    while let Some(next) = smtp.upgrade().and_then(|smtp| smtp.sweep()) {
        tokio::time::sleep_until(next).await;
    }
}

/// Takes leave (RFC 5321, 4.1.1.10) without keeping anybody waiting.
fn quit(mut connection: AsyncSmtpConnection) {
    tokio::spawn(async move {
        let _ = step(connection.command(Quit)).await;
    });
}

/// MAIL FROM. Until this is answered the server has nothing of the message.
async fn announce(
    connection: &mut AsyncSmtpConnection,
    envelope: &Envelope,
    email: &[u8],
) -> Result<(), Trouble> {
    let lacking = |name: &str| Err(Trouble::Lacking(format!("the server does not offer {name}")));
    let offers = |extension| connection.server_info().supports_feature(extension);
    let mut options = Vec::new();
    let mut addresses = envelope.from().into_iter().chain(envelope.to());
    if addresses.any(|address| !AsRef::<str>::as_ref(address).is_ascii()) {
        if !offers(Extension::SmtpUtfEight) {
            return lacking("SMTPUTF8, which an address needs");
        }
        options.push(MailParameter::SmtpUtfEight);
    }
    if !email.is_ascii() {
        if !offers(Extension::EightBitMime) {
            return lacking("8BITMIME, which the message needs");
        }
        options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    step(connection.command(Mail::new(envelope.from().cloned(), options))).await.map(drop)
}

/// The recipients and the message. Who calls limits the time for the latter: servers check it
/// before they answer (RFC 5321, 4.5.3.2.6 gives them ten minutes), and giving up early makes
/// doubles.
async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    envelope: &Envelope,
    email: &[u8],
) -> Result<(), Trouble> {
    for to in envelope.to() {
        step(connection.command(Rcpt::new(to.clone(), Vec::new()))).await?;
    }
    step(connection.command(Data)).await?;
    connection.message(email).await?;
    Ok(())
}
