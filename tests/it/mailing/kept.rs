//! Connections that are kept for the next mail, and what becomes of mails when one dies.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bgfiles::mail::Mailer;
use mail_parser::MessageParser;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{certificate, mail};
use crate::support::{
    child::Process,
    patience,
    smtp::{Smtp, python},
};

/// A line to the server that counts its connections, and is cut when the test wants it.
struct Line {
    port: u16,
    connections: Arc<AtomicUsize>,
    cut: Arc<Mutex<Cut>>,
    hang_up: watch::Sender<&'static str>,
}

/// When a line is cut by itself.
#[derive(Clone, Copy)]
enum Cut {
    Never,
    /// The server does not hear this any more.
    Before(&'static str),
    /// The server hears it, and its answer is lost.
    AnswerTo(&'static str),
}

impl Line {
    async fn to(server: u16) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Line {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            cut: Arc::new(Mutex::new(Cut::Never)),
            hang_up: watch::Sender::new(""),
        };
        let (connections, cut) = (line.connections.clone(), line.cut.clone());
        let hang_up = line.hang_up.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                tokio::spawn(carry(client, server, cut.clone(), hang_up.clone()));
            }
        });
        line
    }

    fn mailer(&self) -> Mailer {
        let url = format!("smtp://127.0.0.1:{}?tls=none", self.port);
        Mailer::open(&url, "files@example.com").unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn cut(&self, cut: Cut) {
        *self.cut.lock().unwrap() = cut;
    }

    /// Ends all connections there are, as a server does whose patience is over.
    async fn hang_up(&self, farewell: &'static str) {
        self.hang_up.send_replace(farewell);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Carries what both sides say, until one of them ends or the line is cut.
async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    cut: Arc<Mutex<Cut>>,
    mut hang_up: watch::Receiver<&'static str>,
) {
    hang_up.mark_unchanged();
    let (mut said, mut heard, mut answer) = (Vec::new(), [0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            Ok(()) = hang_up.changed() => {
                let farewell = *hang_up.borrow_and_update();
                let _ = client.write_all(farewell.as_bytes()).await;
                return;
            }
            Ok(length) = client.read(&mut heard) => {
                if length == 0 {
                    return;
                }
                said.extend_from_slice(&heard[..length]);
                let cut = *cut.lock().unwrap();
                let says = |text: &str| said.windows(text.len()).any(|part| part == text.as_bytes());
                match cut {
                    Cut::Before(text) if says(text) => return,
                    Cut::AnswerTo(text) if says(text) => {
                        server.write_all(&heard[..length]).await.unwrap();
                        assert!(server.read(&mut answer).await.unwrap() > 0);
                        return;
                    }
                    Cut::Never | Cut::Before(_) | Cut::AnswerTo(_) => {}
                }
                if server.write_all(&heard[..length]).await.is_err() {
                    return;
                }
            }
            Ok(length) = server.read(&mut answer) => {
                if length == 0 || client.write_all(&answer[..length]).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
}

/// Sends one after the other.
async fn send(mailer: &Mailer, names: std::ops::Range<usize>) {
    for name in names {
        send_one(mailer, name).await.unwrap();
    }
}

/// Sends one after the other, and sees that they are not held up. With Nagle's algorithm each of
/// them would wait 40 ms for a delayed ACK; a busy machine does not slow all of them that much.
async fn send_without_waiting(mailer: &Mailer, names: std::ops::Range<usize>) {
    let mut took = Vec::new();
    for name in names {
        let begun = Instant::now();
        send_one(mailer, name).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    assert!(took[took.len() / 4] < patience(Duration::from_millis(35)), "{took:?}");
}

async fn send_one(mailer: &Mailer, name: usize) -> bgfiles::Result<()> {
    mailer.send(&mail(&format!("{name}@example.com")), bgfiles::Clock::system().now()).await
}

/// The server's messages are these, each of them once.
fn assert_each_once(smtp: &Smtp, names: std::ops::Range<usize>) {
    let messages = smtp.messages();
    let id = |message: &Vec<u8>| {
        let message = MessageParser::default().parse(message).unwrap();
        message.message_id().unwrap().to_owned()
    };
    assert_eq!(messages.len(), names.len());
    let wanted: BTreeSet<_> = names.map(|name| format!("{name}@example.com")).collect();
    assert_eq!(messages.iter().map(id).collect::<BTreeSet<_>>(), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_mails_take_one_connection_and_do_not_wait_for_acknowledgements() {
    let dir = tempfile::tempdir().unwrap();
    let smtp = Smtp::start(dir.path().into(), &[]);
    let line = Line::to(smtp.port).await;
    let mailer = line.mailer();
    send_without_waiting(&mailer, 0..100).await;
    assert_eq!(line.connections(), 1);
    assert_each_once(&smtp, 0..100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_at_once_keep_sixteen_connections() {
    let dir = tempfile::tempdir().unwrap();
    let smtp = Smtp::start(dir.path().into(), &[]);
    let line = Line::to(smtp.port).await;
    let mailer = line.mailer();
    for round in 0..5 {
        let sent = (0..16).map(|slot| send_one(&mailer, round * 16 + slot));
        futures::future::try_join_all(sent).await.unwrap();
    }
    assert!((1..=16).contains(&line.connections()), "{}", line.connections());
    assert_each_once(&smtp, 0..80);
    // More than are kept go as well.
    let sent = (80..120).map(|name| send_one(&mailer, name));
    futures::future::try_join_all(sent).await.unwrap();
    assert_each_once(&smtp, 0..120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_idle_connections_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let smtp = Smtp::start(dir.path().into(), &[]);
    let line = Line::to(smtp.port).await;
    let mailer = line.mailer();
    send(&mailer, 0..3).await;
    for (round, farewell) in ["", "421 4.4.2 idle for too long\r\n", ""].into_iter().enumerate() {
        line.hang_up(farewell).await;
        send(&mailer, 3 + round * 2..5 + round * 2).await;
    }
    assert_eq!(line.connections(), 4);
    assert_each_once(&smtp, 0..9);
    // Many connections that are all dead.
    let sent = (9..25).map(|name| send_one(&mailer, name));
    futures::future::try_join_all(sent).await.unwrap();
    line.hang_up("").await;
    let sent = (25..41).map(|name| send_one(&mailer, name));
    futures::future::try_join_all(sent).await.unwrap();
    assert_each_once(&smtp, 0..41);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_dies_at_the_announcement_is_replaced_once() {
    let dir = tempfile::tempdir().unwrap();
    let smtp = Smtp::start(dir.path().into(), &[]);
    let line = Line::to(smtp.port).await;
    let mailer = line.mailer();
    send(&mailer, 0..1).await;
    line.cut(Cut::Before("MAIL FROM:"));
    let error = send_one(&mailer, 1).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(line.connections(), 2, "the kept one and a fresh one");
    line.cut(Cut::Never);
    send(&mailer, 1..2).await;
    assert_each_once(&smtp, 0..2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_dies_in_the_message_is_reported_and_the_message_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let smtp = Smtp::start(dir.path().into(), &[]);
    let line = Line::to(smtp.port).await;
    let mailer = line.mailer();
    send(&mailer, 0..1).await;
    // The server hears the beginning of the message at most.
    line.cut(Cut::Before("<1@example.com>"));
    let error = send_one(&mailer, 1).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(line.connections(), 1);
    assert_each_once(&smtp, 0..1);
    line.cut(Cut::Never);
    send(&mailer, 1..2).await;
    // The server takes the message, and nobody hears of it.
    line.cut(Cut::AnswerTo("\r\n.\r\n"));
    let connections = line.connections();
    let error = send_one(&mailer, 2).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(line.connections() <= connections + 1);
    assert_each_once(&smtp, 0..3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_stops_waiting_leaves_no_conversation_half_way() {
    let dir = tempfile::tempdir().unwrap();
    let smtp = Smtp::start(dir.path().into(), &[]);
    let line = Line::to(smtp.port).await;
    let mailer = line.mailer();
    for name in 0..20 {
        let patience = Duration::from_micros(200 * name as u64);
        let _ = tokio::time::timeout(patience, send_one(&mailer, 1000 + name)).await;
        send_one(&mailer, name).await.unwrap();
    }
    let ids: Vec<_> = smtp
        .messages()
        .iter()
        .map(|message| {
            MessageParser::default().parse(message).unwrap().message_id().unwrap().to_owned()
        })
        .collect();
    for name in 0..20 {
        let id = format!("{name}@example.com");
        assert_eq!(ids.iter().filter(|other| **other == id).count(), 1, "{id}");
    }
}

/// Takes the TLS off and passes the rest on.
const TLS: &str = r#"
import asyncio, ssl, sys

async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    writer.close()

async def serve(reader, writer):
    print("connected", flush=True)
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[3]))
    await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_from_the_first_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(dir.path());
    let smtp = Smtp::start(dir.path().join("mail"), &["--auth", "user", "secret"]);
    let mut child = Command::new(python())
        .args(["-c", TLS, &cert, &key, &smtp.port.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let process = Process(child);
    let port = lines.next().unwrap().unwrap();
    let open = |host: &str, ending: &str| {
        let url = format!("smtps://user:secret@{host}:{port}{ending}");
        Mailer::open(&url, "files@example.com").unwrap()
    };
    for mailer in [open("localhost", ""), open("127.0.0.1", &format!("?ca={cert}"))] {
        let error = send_one(&mailer, 0).await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("certificate"), "{error}");
    }
    let mailer = open("localhost", &format!("?ca={cert}"));
    send_without_waiting(&mailer, 0..50).await;
    assert_each_once(&smtp, 0..50);
    drop((mailer, process));
    let connected = lines.filter(|line| line.as_ref().is_ok_and(|line| line == "connected"));
    assert_eq!(connected.count(), 1);
}
