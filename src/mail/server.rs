//! One SMTP server: where it is, how to reach it, and what can go wrong with it.

use std::io;

use lettre::transport::smtp::{
    authentication::Credentials,
    client::{AsyncTokioStream, Certificate, Tls, TlsParameters},
    extension::ClientId,
};
use tokio::net::TcpStream;
use url::Url;

use super::{
    connection::{Connection, Offers, STEP, step},
    encrypted::Encrypted,
    trouble::{Trouble, wrong},
};
use crate::error::{Error, Result};

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

    /// Where it is, and how one speaks with it.
    pub(super) fn describe(&self, offers: &Offers) -> String {
        let tls = match &self.tls {
            Tls::None => "without encryption",
            // After it, a server offers it no more (RFC 3207, section 4.2).
            Tls::Opportunistic(_) if offers.has("STARTTLS") => "without encryption",
            Tls::Opportunistic(_) => "encrypted where it can be",
            Tls::Required(_) | Tls::Wrapper(_) => "encrypted",
        };
        let login = if self.credentials.is_some() { "logged in" } else { "no login" };
        format!("{}:{} greets; {tls}, {login}", self.host, self.port)
    }

    /// A connection that is ready for a message: greeted, encrypted and logged in as the URL says.
    pub(super) async fn connect(&self) -> Result<Connection, Trouble> {
        self.prepare().await.map_err(Trouble::of_the_server)
    }

    async fn prepare(&self) -> Result<Connection, Trouble> {
        let stream = Box::new(self.dial().await?);
        let stream: Box<dyn AsyncTokioStream> = match &self.tls {
            Tls::Wrapper(tls) => Box::new(step(Encrypted::over(stream, tls.clone())).await?),
            Tls::None | Tls::Opportunistic(_) | Tls::Required(_) => stream,
        };
        let hello = &self.hello;
        let mut connection = Connection::open(stream, hello).await?;
        connection = match &self.tls {
            Tls::Required(tls) => connection.encrypt(tls.clone(), hello).await?,
            Tls::Opportunistic(tls) if connection.offers.has("STARTTLS") => {
                connection.encrypt(tls.clone(), hello).await?
            }
            Tls::None | Tls::Opportunistic(_) | Tls::Wrapper(_) => connection,
        };
        if let Some(credentials) = &self.credentials {
            connection.log_in(credentials).await?;
        }
        Ok(connection)
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

fn no_connection(error: io::Error) -> Trouble {
    Trouble::Lost(format!("Connection error: {error}"))
}

/// A server's 5xx is final, except where it speaks of us and not of the message (530 to 538:
/// authentication; whatever comes before MAIL), which an operator can mend within the day. All else
/// (no connection, time-out, TLS, 4xx) is temporary.
impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        let (temporary, message) = match trouble {
            Trouble::Refused { code, text } => (code < 500 || (530..=538).contains(&code), text),
            Trouble::Lost(text) | Trouble::Lacking(text) | Trouble::Closed(text) => (true, text),
            Trouble::Unfit(text) => (false, text),
        };
        Error::Mail { temporary, message }
    }
}
