//! What happens to logins and tokens, for host applications that want to know.

use chrono::{DateTime, Utc};
use tokio::sync::broadcast;
use uuid::Uuid;

/// How many events a subscriber may be behind before it loses the oldest.
const BACKLOG: usize = 1024;

/// What happened. Sent once what it tells is committed, in the process where it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthEvent {
    /// Somebody logged in (Django's `user_logged_in`).
    LoggedIn {
        /// Who.
        username: String,
        /// From which client.
        client: String,
        /// The token that they use.
        token_id: Uuid,
    },
    /// Somebody logged out, here or everywhere (Django's `user_logged_out`).
    LoggedOut {
        /// Who.
        username: String,
    },
    /// A token's time was over, and it was removed (durin's `token_expired`).
    TokenExpired {
        /// Whose.
        username: String,
        /// Who noticed: `auth_token` (it was used) or `cleaner`.
        source: &'static str,
    },
    /// A token lasts longer (durin's `token_renewed`).
    TokenRenewed {
        /// Whose.
        username: String,
        /// Which.
        token_id: Uuid,
        /// Until when; for ever when `None`.
        new_expiry: Option<DateTime<Utc>>,
    },
}

/// Where events are sent to.
#[derive(Debug)]
pub struct Signals(broadcast::Sender<AuthEvent>);

impl Default for Signals {
    fn default() -> Self {
        Signals(broadcast::Sender::new(BACKLOG))
    }
}

impl Signals {
    /// Everything from now on. Whoever is more than 1,024 events behind is told how many they lost.
    pub fn subscribe(&self) -> broadcast::Receiver<AuthEvent> {
        self.0.subscribe()
    }

    pub(crate) fn send(&self, event: AuthEvent) {
        // An error says that nobody listens.
        let _ = self.0.send(event);
    }
}
