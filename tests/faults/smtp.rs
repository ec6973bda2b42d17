//! An SMTP server that keeps what it took, and can lose its answers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// A mail that the server has taken.
#[derive(Clone, Debug)]
pub struct Taken {
    pub at: Instant,
    pub to: String,
    pub message_id: String,
    pub text: String,
    /// Whether the sender heard of it.
    pub answered: bool,
}

#[derive(Default)]
pub struct Sink {
    pub taken: Mutex<Vec<Taken>>,
    /// So many of the next mails are taken without an answer.
    pub lose: AtomicU64,
    /// So many are refused for now.
    pub refuse: AtomicU64,
}

fn one_of(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Sink {
    pub async fn serve() -> (u16, Arc<Sink>) {
        let sink = Arc::new(Sink::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let taking = sink.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let sink = taking.clone();
                tokio::spawn(async move { sink.talk(socket).await.ok() });
            }
        });
        (port, sink)
    }

    pub fn so_far(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    async fn talk(&self, socket: TcpStream) -> std::io::Result<()> {
        let (from, mut to) = socket.into_split();
        let mut from = BufReader::new(from);
        to.write_all(b"220 here\r\n").await?;
        let mut recipient = String::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let upper = line.to_ascii_uppercase();
            let answer: &[u8] = match upper.split([' ', '\r', ':']).next().unwrap_or_default() {
                "EHLO" => b"250-here\r\n250 8BITMIME\r\n",
                "RCPT" => {
                    let inside = line.split(['<', '>']).nth(1).unwrap_or_default();
                    recipient = inside.to_owned();
                    b"250 yes\r\n"
                }
                "DATA" => {
                    to.write_all(b"354 go on\r\n").await?;
                    let mut mail = String::new();
                    loop {
                        let mut line = String::new();
                        if from.read_line(&mut line).await? == 0 {
                            return Ok(());
                        }
                        if line == ".\r\n" {
                            break;
                        }
                        mail.push_str(&line);
                    }
                    if one_of(&self.refuse) {
                        to.write_all(b"451 later\r\n").await?;
                        continue;
                    }
                    let answered = !one_of(&self.lose);
                    self.take(&recipient, mail, answered);
                    if !answered {
                        return Ok(());
                    }
                    b"250 taken\r\n"
                }
                "QUIT" => {
                    to.write_all(b"221 bye\r\n").await?;
                    return Ok(());
                }
                _ => b"250 yes\r\n",
            };
            to.write_all(answer).await?;
        }
    }

    fn take(&self, to: &str, mail: String, answered: bool) {
        let parsed = mail_parser::MessageParser::default().parse(mail.as_bytes());
        let message_id = parsed.as_ref().and_then(|m| m.message_id()).unwrap_or_default();
        let text = parsed.as_ref().and_then(|m| m.body_text(0)).unwrap_or_default();
        let taken = Taken {
            at: Instant::now(),
            to: to.to_owned(),
            message_id: message_id.to_owned(),
            text: text.into_owned(),
            answered,
        };
        self.taken.lock().unwrap().push(taken);
    }
}
