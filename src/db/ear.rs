//! A connection that hears PostgreSQL's announcements, and knows that it does.
//!
//! Behind a pooler that lends its sessions for a transaction at a time, LISTEN succeeds, and what is
//! announced afterwards goes to whoever the pooler has lent that session to. So an ear announces
//! something to itself, on another connection, and counts as one only while it hears that. It then
//! says nothing on its own connection: only who has the session while nothing is asked has it.

use std::time::{Duration, Instant};

use sqlx::{PgPool, postgres::PgListener};
use uuid::Uuid;

use super::{Lent, pool};

/// How long a word to itself may take.
pub(super) const TRUST: Duration = Duration::from_secs(2);
/// How often it says one.
pub(super) const PING: Duration = Duration::from_millis(500);

/// A connection of its own; it goes with what it holds when this is dropped.
pub(crate) struct Ear {
    listener: PgListener,
    /// The channel that only it knows.
    own: String,
    said: Option<Said>,
    /// When the last word was said that came back.
    proven: Instant,
    /// Since when it has been silent.
    quiet: Instant,
}

/// A word to itself that is on its way.
struct Said {
    word: String,
    at: Instant,
}

/// What an ear hears.
pub(crate) enum Heard {
    /// Its own word: whatever was announced before this moment was heard.
    Itself(Instant),
    /// Somebody's announcement.
    Other,
    /// The connection is lost.
    Lost,
    /// Its own word did not come back.
    Nothing,
    /// It is time to speak.
    Quiet,
}

impl Ear {
    /// Opens one over the options of `pool`, and says its first word on `mouth`. `None` when the
    /// connection hears nothing: a pooler shares its session.
    ///
    /// # Errors
    /// When a connection is not to be had, or refuses.
    pub(crate) async fn open(pool: &PgPool, mouth: &PgPool) -> sqlx::Result<Option<Ear>> {
        match Self::try_to_open(pool, mouth).await {
            Err(error) if is_anothers(&error) => Ok(None),
            tried => tried,
        }
    }

    async fn try_to_open(pool: &PgPool, mouth: &PgPool) -> sqlx::Result<Option<Ear>> {
        let options = pool.connect_options().as_ref().clone();
        // Not of the pool for work, whose places come back.
        let apart = pool::options(1).connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&apart).await?;
        listener.eager_reconnect(false);
        let own = format!("bgfiles_{}", Uuid::new_v4().simple());
        // Nothing else yet: a pooler would keep it, and disturb others with it.
        listener.listen(&own).await?;
        let mut ear =
            Ear { listener, own, said: None, proven: Instant::now(), quiet: Instant::now() };
        let word = ear.begin();
        say(mouth, &ear.own, &word).await?;
        loop {
            match ear.hear().await? {
                Heard::Itself(_) => return Ok(Some(ear)),
                Heard::Nothing => return Ok(None),
                Heard::Lost => {
                    return Err(sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into()));
                }
                Heard::Other | Heard::Quiet => {}
            }
        }
    }

    /// The connection, for a statement. What is heard meanwhile proves nothing.
    pub(crate) fn connection(&mut self) -> &mut PgListener {
        self.said = None;
        &mut self.listener
    }

    /// The connection alone, which was proven once.
    pub(crate) fn into_listener(self) -> PgListener {
        self.listener
    }

    /// When the last word was said that came back.
    pub(crate) fn proven(&self) -> Instant {
        self.proven
    }

    fn begin(&mut self) -> String {
        let word = Uuid::new_v4().simple().to_string();
        self.said = Some(Said { word: word.clone(), at: Instant::now() });
        word
    }

    /// Says a word to itself, when it is time to; and whether it did.
    pub(crate) fn speak(&mut self, mouth: &PgPool) -> bool {
        if self.said.is_some() || self.proven.elapsed() < PING {
            return false;
        }
        let (word, own, mouth) = (self.begin(), self.own.clone(), mouth.clone());
        // Beside the listening: announcements are heard while this one waits for a connection.
        tokio::spawn(async move {
            if let Err(error) = say(&mouth, &own, &word).await {
                tracing::debug!(%error, "a word to oneself was not said");
            }
        });
        true
    }

    /// The next thing that is heard, or is not.
    ///
    /// # Errors
    /// When the connection refuses.
    pub(crate) async fn hear(&mut self) -> sqlx::Result<Heard> {
        loop {
            let until = match &self.said {
                Some(said) => said.at + TRUST,
                None => self.proven.max(self.quiet) + PING,
            };
            let Ok(heard) = tokio::time::timeout_at(until.into(), self.listener.try_recv()).await
            else {
                self.quiet = Instant::now();
                return Ok(if self.said.is_some() { Heard::Nothing } else { Heard::Quiet });
            };
            let Some(one) = heard? else { return Ok(Heard::Lost) };
            if one.channel() != self.own {
                return Ok(Heard::Other);
            }
            // A late one says nothing of what was announced since, and a foreign one nothing at all.
            if let Some(said) = self.said.take_if(|said| said.word == one.payload()) {
                self.proven = said.at;
                return Ok(Heard::Itself(said.at));
            }
        }
    }
}

async fn say(mouth: &PgPool, channel: &str, word: &str) -> sqlx::Result<()> {
    let mut conn = Lent::of(mouth).await?;
    let sql = "SELECT pg_notify($1, $2)";
    sqlx::query(sql).bind(channel).bind(word).execute(&mut *conn).await.map(drop)
}

/// Whether an error says that a session is shared: a statement that somebody else prepared, or one that
/// is gone, as older poolers leave them to whom they lend a session next; or a word that another
/// connection was to hear.
fn is_anothers(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| matches!(code.as_ref(), "42P05" | "26000"))
        }
        sqlx::Error::Protocol(words) => words.contains("NotificationResponse"),
        _ => false,
    }
}

/// Whether connections of this pool are shared with others by a pooler.
///
/// # Errors
/// When a connection is not to be had.
pub(crate) async fn is_shared(pool: &PgPool) -> sqlx::Result<bool> {
    Ok(Ear::open(pool, pool).await?.is_none())
}
