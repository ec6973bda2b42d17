//! A conversation with an SMTP server: commands, replies, and what the server offers.
//!
//! lettre makes commands, logins and TLS for it. lettre's own connection does not pass on all that a
//! server offers, and who asks twice is refused for good by some: OpenSMTPD answers a second EHLO with
//! 503, msmtpd with 500, and hangs up.

use std::{fmt::Display, io, time::Duration};

use lettre::transport::smtp::{
    authentication::{Credentials, DEFAULT_MECHANISMS, Mechanism},
    client::{AsyncTokioStream, TlsParameters},
    commands::{Auth, Ehlo, Starttls},
    extension::ClientId,
    response::Response,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::{encrypted::Encrypted, trouble::Trouble};

/// How long one step may take: reaching an address, a handshake, a login, a command.
pub(super) const STEP: Duration = Duration::from_secs(60);
/// Longest reply, in bytes. The limit of a line is 512 (RFC 5321, 4.5.3.1.5); servers exceed it.
const REPLY: u64 = 64 * 1024;
/// Challenges of one login.
const CHALLENGES: usize = 10;

/// A connection to a server.
pub(super) struct Connection {
    stream: BufReader<Box<dyn AsyncTokioStream>>,
    /// What it said to EHLO, which it hears once; once more after STARTTLS (RFC 3207, 4.2).
    pub offers: Offers,
    /// The server takes whatever comes for the message, though nobody is going to send one.
    pub awaits_message: bool,
}

impl Connection {
    /// Waits for the greeting, and asks what the server offers.
    pub(super) async fn open(
        stream: Box<dyn AsyncTokioStream>,
        hello: &ClientId,
    ) -> Result<Self, Trouble> {
        let mut connection = Connection::over(stream);
        step(connection.reply()).await?;
        connection.hello(hello).await
    }

    /// The same connection after STARTTLS. What was heard before does not count any more.
    pub(super) async fn encrypt(
        mut self,
        tls: TlsParameters,
        hello: &ClientId,
    ) -> Result<Self, Trouble> {
        if !self.offers.has("STARTTLS") {
            return Err(Trouble::Lacking("the server does not offer STARTTLS".into()));
        }
        step(self.command(Starttls)).await?;
        // It would be taken for what comes through the encryption.
        if !self.stream.buffer().is_empty() {
            return Err(Trouble::Lost("the server went on in the open after STARTTLS".into()));
        }
        let stream = step(Encrypted::over(self.stream.into_inner(), tls)).await?;
        Connection::over(Box::new(stream)).hello(hello).await
    }

    fn over(stream: Box<dyn AsyncTokioStream>) -> Self {
        let stream = BufReader::new(stream);
        Connection { stream, offers: Offers::default(), awaits_message: false }
    }

    async fn hello(mut self, hello: &ClientId) -> Result<Self, Trouble> {
        self.offers = Offers(step(self.command(Ehlo::new(hello.clone()))).await?.lines);
        Ok(self)
    }

    /// Logs in by the first mechanism of ours that the server offers.
    pub(super) async fn log_in(&mut self, credentials: &Credentials) -> Result<(), Trouble> {
        let offered = self.offers.mechanisms();
        let is_offered = |ours: &&Mechanism| {
            offered.iter().any(|name| name.eq_ignore_ascii_case(&ours.to_string()))
        };
        let Some(mechanism) = DEFAULT_MECHANISMS.iter().copied().find(|ours| is_offered(&ours))
        else {
            return Err(Trouble::Lacking(no_login(&offered)));
        };
        let own = |error: lettre::transport::smtp::Error| Trouble::Lacking(error.to_string());
        let begin = Auth::new(mechanism, credentials.clone(), None).map_err(own)?;
        let mut reply = step(self.command(begin)).await?;
        for _ in 0..CHALLENGES {
            if reply.code != 334 {
                return Ok(());
            }
            let challenge: Response = format!("334 {}\r\n", reply.text()).parse().map_err(own)?;
            let answer = Auth::new_from_response(mechanism, credentials.clone(), &challenge);
            reply = step(self.command(answer.map_err(own)?)).await?;
        }
        Err(Trouble::Lost("the server does not stop to ask who we are".into()))
    }

    /// Says a command, or several in one go, and waits for the first reply.
    pub(super) async fn command(&mut self, command: impl Display) -> Result<Reply, Trouble> {
        self.say(command.to_string().as_bytes()).await
    }

    /// Says something and waits for the reply.
    pub(super) async fn say(&mut self, bytes: &[u8]) -> Result<Reply, Trouble> {
        let said = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        said.await.map_err(lost)?;
        self.reply().await
    }

    /// The next reply (RFC 5321, 4.2), which may have several lines.
    pub(super) async fn reply(&mut self) -> Result<Reply, Trouble> {
        let mut stream = (&mut self.stream).take(REPLY);
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            stream.read_until(b'\n', &mut line).await.map_err(lost)?;
            if !line.ends_with(b"\n") {
                let why = if stream.limit() == 0 { "never stops to talk" } else { "hung up" };
                return Err(Trouble::Lost(format!("the server {why}")));
            }
            let (code, goes_on, text) = parsed(&String::from_utf8_lossy(&line))?;
            lines.push(text);
            if !goes_on {
                return Reply { code, lines }.judged();
            }
        }
    }
}

fn no_login(offered: &[String]) -> String {
    let they = match offered {
        [] => "no login at all on this connection".to_owned(),
        offered => offered.join(", "),
    };
    format!("the server has no login that we know (PLAIN, LOGIN); it offers: {they}")
}

fn lost(error: io::Error) -> Trouble {
    Trouble::Lost(format!("Connection error: {error}"))
}

/// Code, whether another line follows, and the text of a line.
fn parsed(line: &str) -> Result<(u16, bool, String), Trouble> {
    let line = line.trim_end_matches(['\r', '\n']);
    let parse = || {
        let code = line.get(..3).filter(|code| code.bytes().all(|b| b.is_ascii_digit()))?;
        let code = code.parse().ok().filter(|code| (200..600).contains(code))?;
        let goes_on = match line.as_bytes().get(3) {
            None | Some(b' ') => false,
            Some(b'-') => true,
            Some(_) => return None,
        };
        Some((code, goes_on, line.get(4..).unwrap_or_default().to_owned()))
    };
    parse().ok_or_else(|| Trouble::Lost("what answers does not speak SMTP".into()))
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    /// `250 2.0.0 OK`, as the server wrote it.
    pub(super) fn said(&self) -> String {
        format!("{} {}", self.code, self.text())
    }

    fn text(&self) -> String {
        self.lines.join(" ")
    }

    fn judged(self) -> Result<Self, Trouble> {
        let kind = match self.code {
            ..400 => return Ok(self),
            400..500 => "transient",
            500.. => "permanent",
        };
        let (code, text) = (self.code, self.text());
        Err(Trouble::Refused { code, text: format!("{kind} error ({code}): {text}") })
    }
}

/// The lines of the reply to EHLO (RFC 5321, 4.1.1.1). The first greets.
#[derive(Debug, Default)]
pub(super) struct Offers(Vec<String>);

impl Offers {
    fn words(&self) -> impl Iterator<Item = impl Iterator<Item = &str>> {
        self.0.iter().skip(1).map(|line| line.split_ascii_whitespace())
    }

    /// Whether the server offers an extension.
    pub(super) fn has(&self, extension: &str) -> bool {
        self.words()
            .any(|mut words| words.next().is_some_and(|word| word.eq_ignore_ascii_case(extension)))
    }

    /// How one may log in. Old servers write `AUTH=PLAIN LOGIN`, many write both.
    fn mechanisms(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for mut words in self.words() {
            let Some((name, first)) = words.next().map(|w| w.split_once('=').unwrap_or((w, "")))
            else {
                continue;
            };
            if !name.eq_ignore_ascii_case("AUTH") {
                continue;
            }
            for word in std::iter::once(first).chain(words).filter(|word| !word.is_empty()) {
                if !found.iter().any(|known| known.eq_ignore_ascii_case(word)) {
                    found.push(word.to_owned());
                }
            }
        }
        found
    }
}

/// One step of the conversation, in bounded time.
pub(super) async fn step<T, E: Into<Trouble>>(
    conversation: impl Future<Output = Result<T, E>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(STEP, conversation).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(Trouble::Lost("the server took too long".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_found_however_it_is_written() {
        let lines = ["PIPELINING here", "Pipelining", "AUTH=CRAM-MD5 plain", "AUTH GSSAPI PLAIN"];
        let offers = Offers(lines.map(str::to_owned).into());
        assert!(offers.has("PIPELINING") && !offers.has("here") && !offers.has("STARTTLS"));
        assert_eq!(offers.mechanisms(), ["CRAM-MD5", "plain", "GSSAPI"]);
        let greeting_alone = Offers(vec!["STARTTLS".into()]);
        assert!(!greeting_alone.has("STARTTLS"), "a name is no offer");
    }

    #[test]
    fn lines_of_replies_are_read_strictly() {
        let line = |text| parsed(text).ok();
        assert_eq!(line("250-one two\r\n"), Some((250, true, "one two".into())));
        assert_eq!(line("250 \n"), Some((250, false, String::new())));
        assert_eq!(line("354\r\n"), Some((354, false, String::new())));
        for nonsense in ["", "25", "2500 x", "199 x", "+OK ready", "HTTP/1.1 400 Bad Request"] {
            assert_eq!(line(nonsense), None, "{nonsense}");
        }
    }
}
