//! What goes wrong between us and a mail server.

use lettre::transport::smtp;

use crate::error::Error;

/// A fault of the setting that names the server.
pub(super) fn wrong(message: &str) -> Error {
    Error::Config(format!("BGFILES_MAIL: {message}"))
}

/// What went wrong with a server.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It answered no.
    Refused {
        /// 400 to 599.
        code: u16,
        /// Its own words.
        text: String,
    },
    /// There is no connection, or nothing sensible came back on it.
    Lost(String),
    /// It lacks what is needed: to log in, to encrypt, to take such a message.
    Lacking(String),
    /// It lacks what this message needs for good, as its address is what it is.
    Unfit(String),
    /// It answered no before it had heard of any message: it serves nobody, or not us.
    Closed(String),
}

impl Trouble {
    /// The trouble of a conversation that did not come to a message, and says nothing of one.
    pub(super) fn of_the_server(self) -> Self {
        match self {
            Trouble::Refused { text, .. } => Trouble::Closed(text),
            other => other,
        }
    }

    /// Whether the connection is of no use any more, whatever one says on it. 421 is how a server
    /// takes leave (RFC 5321, 3.8), for one of a connection that idled too long.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(self, Trouble::Lost(_) | Trouble::Refused { code: 421, .. })
    }
}

impl From<smtp::Error> for Trouble {
    fn from(error: smtp::Error) -> Self {
        let text = error.to_string();
        match error.status() {
            Some(code) => Trouble::Refused { code: code.into(), text },
            None if error.is_client() => Trouble::Lacking(text),
            None => Trouble::Lost(text),
        }
    }
}
