//! One SMTP server: where it is, how to reach it, and what can go wrong with it.

use std::{io, time::Duration};

use lettre::transport::smtp::{
    self,
    authentication::{Credentials, DEFAULT_MECHANISMS},
    client::{AsyncSmtpConnection, AsyncTokioStream, Certificate, Tls, TlsParameters},
    commands::Ehlo,
    extension::ClientId,
};
use tokio::net::TcpStream;
use url::Url;

use super::{encrypted::Encrypted, wrong};
use crate::error::{Error, Result};

/// How long one step may take: reaching an address, a handshake, a login, a command.
const STEP: Duration = Duration::from_secs(60);

/// Where a server is, and how to speak with it. Printing it shows no password.
#[derive(Debug)]
pub(super) struct Server {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    hello: ClientId,
}

impl Server {
    /// Reads `smtp:` and `smtps:`, see [`Mailer::open`](super::Mailer::open).
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(super) fn parse(url: &Url) -> Result<Server> {
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
            _ => {
                let message = "tls= must be required, opportunistic or none, and not with smtps";
                return Err(wrong(message));
            }
        };
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
        };
        let credentials = (!url.username().is_empty()).then(|| {
            let password = decode(url.password().unwrap_or_default());
            Credentials::new(decode(url.username()), password)
        });
        let port = url.port().unwrap_or(port);
        Ok(Server { host: host.to_owned(), port, tls, credentials, hello: ClientId::default() })
    }

    /// A connection that is ready for a message: greeted, encrypted and logged in as the URL says.
    pub(super) async fn connect(&self) -> Result<Connection, Trouble> {
        let stream = self.dial().await?;
        let stream: Box<dyn AsyncTokioStream> = match &self.tls {
            Tls::Wrapper(tls) => Box::new(step(Encrypted::over(stream, tls.clone())).await?),
            Tls::None | Tls::Opportunistic(_) | Tls::Required(_) => Box::new(stream),
        };
        let hello = &self.hello;
        let mut connection =
            step(AsyncSmtpConnection::connect_with_transport(stream, hello)).await?;
        match &self.tls {
            Tls::Required(tls) => step(connection.starttls(tls.clone(), hello)).await?,
            Tls::Opportunistic(tls) if connection.can_starttls() => {
                step(connection.starttls(tls.clone(), hello)).await?;
            }
            Tls::None | Tls::Opportunistic(_) | Tls::Wrapper(_) => {}
        }
        // lettre has heard what the server offers, and does not pass on all of it. A server that does
        // not want to say it twice is spoken to one command at a time.
        let takes_groups = match step(connection.command(Ehlo::new(hello.clone()))).await {
            Ok(offers) => {
                offers.message().any(|line| line.trim().eq_ignore_ascii_case("PIPELINING"))
            }
            Err(trouble) if trouble.ends_connection() => return Err(trouble),
            Err(_) => false,
        };
        if let Some(credentials) = &self.credentials {
            step(connection.auth(DEFAULT_MECHANISMS, credentials)).await?;
        }
        Ok(Connection { smtp: connection, takes_groups, awaits_message: false })
    }

    /// Tries the host's addresses one after the other.
    ///
    /// lettre's own connections leave Nagle's algorithm on and write a message and the dot that
    /// ends it separately: the dot then waits for the server's delayed ACK, 40 ms a mail. Hence
    /// connections of ours.
    async fn dial(&self) -> Result<TcpStream, Trouble> {
        let mut last = io::Error::other("the name has no address");
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        for address in addresses.map_err(no_connection)? {
            match tokio::time::timeout(STEP, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).map_err(no_connection)?;
                    return Ok(stream);
                }
                Ok(Err(e)) => last = e,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(no_connection(last))
    }
}

/// A connection to a server, and what lettre does not know of it.
pub(super) struct Connection {
    pub smtp: AsyncSmtpConnection,
    /// Commands need not wait for the answer to the one before (PIPELINING, RFC 2920).
    pub takes_groups: bool,
    /// The server takes whatever comes for the message, though nobody is going to send one.
    pub awaits_message: bool,
}

fn no_connection(error: io::Error) -> Trouble {
    Trouble::Lost(format!("Connection error: {error}"))
}

/// One step of the conversation, in bounded time.
pub(super) async fn step<T>(
    conversation: impl Future<Output = Result<T, smtp::Error>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(STEP, conversation).await {
        Ok(result) => result.map_err(Trouble::from),
        Err(_) => Err(Trouble::Lost("the server took too long".into())),
    }
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
}

impl Trouble {
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

/// A server's 5xx is final, except where it speaks of us and not of the message (530 to 538:
/// authentication), which an operator can mend within the day. All else (no connection, time-out,
/// TLS, 4xx) is temporary.
impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        let (temporary, message) = match trouble {
            Trouble::Refused { code, text } => (code < 500 || (530..=538).contains(&code), text),
            Trouble::Lost(text) | Trouble::Lacking(text) => (true, text),
        };
        Error::Mail { temporary, message }
    }
}
