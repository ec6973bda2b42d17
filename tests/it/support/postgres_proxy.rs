//! Between a program and a PostgreSQL server: answers come late, never, or are refusals.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{oneshot, watch},
    time::Instant,
};

const BEGIN: &[u8] = b"BEGIN\0";

/// What becomes of announcements on their way to who listens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Announcements {
    #[default]
    Heard,
    Lost,
    /// Revocations are lost; of what a listener says to itself it hears something else.
    Foreign,
    /// Revocations are lost; of what a listener says to itself it hears what it said before.
    Late,
}

#[derive(Default)]
struct State {
    /// How long the answer to a BEGIN is held back, in milliseconds.
    hold: AtomicU64,
    /// Connections up to this number are dead: open, and nobody says anything.
    dead: watch::Sender<u64>,
    made: AtomicU64,
    /// Pieces that clients sent.
    asked: AtomicU64,
    /// What BEGIN is answered with.
    refusal: Option<Vec<u8>>,
    /// Whoever has connected waits for ever with the first statement.
    is_full: AtomicBool,
    announcements: Mutex<Announcements>,
}

pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

impl Proxy {
    /// To the server of a URL.
    pub async fn to(url: &str) -> Proxy {
        Self::with(url, State::default()).await
    }

    /// One that answers BEGIN with an error, and hangs up.
    pub async fn that_refuses(url: &str, code: &str, message: &str) -> Proxy {
        let fields = format!("SERROR\0VERROR\0C{code}\0M{message}\0\0");
        let mut refusal = vec![b'E'];
        refusal.extend(u32::try_from(fields.len() + 4).unwrap().to_be_bytes());
        refusal.extend(fields.as_bytes());
        Self::with(url, State { refusal: Some(refusal), ..State::default() }).await
    }

    /// Lets in, and then keeps statements waiting, as a pooler does that has no session left.
    pub fn fill(&self, is_full: bool) {
        self.state.is_full.store(is_full, Ordering::SeqCst);
    }

    async fn with(url: &str, state: State) -> Proxy {
        let url = url::Url::parse(url).unwrap();
        let target = (url.host_str().unwrap().to_owned(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(state);
        let accepting = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target.clone()).await else { continue };
                tokio::spawn(pass(client, server, accepting.clone()));
            }
        });
        Proxy { port, state }
    }

    /// The same URL by way of the proxy, which must read what is said.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_query(Some("sslmode=disable"));
        url.to_string()
    }

    /// The same over TLS, where the server has it.
    pub fn url_tls(&self, url: &str) -> String {
        self.url(url).replace("sslmode=disable", "sslmode=prefer")
    }

    pub fn hold(&self, time: Duration) {
        self.state.hold.store(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn announcements(&self, what: Announcements) {
        *self.state.announcements.lock().unwrap() = what;
    }

    /// How often clients have asked for something, about.
    pub fn asked(&self) -> u64 {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// Nobody hears of those any more that are open now.
    pub fn black_hole(&self) {
        self.state.dead.send_replace(self.state.made.load(Ordering::SeqCst));
    }
}

async fn pass(client: TcpStream, server: TcpStream, state: Arc<State>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let number = state.made.fetch_add(1, Ordering::SeqCst) + 1;
    let mut dead = state.dead.subscribe();
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let until = watch::Sender::new(Instant::now());
    let held = until.subscribe();
    let (refused, refusal) = oneshot::channel();
    tokio::select! {
        () = ask(&mut from_client, to_server, &state, until, refused) => return,
        () = answer(from_server, &mut to_client, held, refusal, &state) => return,
        _ = dead.wait_for(|dead| *dead >= number) => {}
    }
    // The server has hung up, and the client hears nothing of it.
    while from_client.read(&mut [0; 1024]).await.is_ok_and(|size| size > 0) {}
}

async fn ask(
    from: &mut OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &State,
    until: watch::Sender<Instant>,
    refused: oneshot::Sender<Vec<u8>>,
) {
    let (mut piece, mut refused) = (vec![0; 64 * 1024], Some(refused));
    loop {
        let size = match from.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(size) => size,
        };
        state.asked.fetch_add(1, Ordering::SeqCst);
        if piece[..size].windows(BEGIN.len()).any(|window| window == BEGIN) {
            let hold = Duration::from_millis(state.hold.load(Ordering::SeqCst));
            until.send_replace(Instant::now() + hold);
            if let Some(refusal) = &state.refusal
                && let Some(refused) = refused.take()
            {
                let _ = refused.send(refusal.clone());
                continue;
            }
        }
        // A Query or a Parse; who connects says neither.
        if state.is_full.load(Ordering::SeqCst) && matches!(piece[0], b'Q' | b'P') {
            continue;
        }
        if to.write_all(&piece[..size]).await.is_err() {
            return;
        }
    }
}

async fn answer(
    mut from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    until: watch::Receiver<Instant>,
    mut refusal: oneshot::Receiver<Vec<u8>>,
    state: &State,
) {
    let mut piece = vec![0; 64 * 1024];
    let mut filter = Filter::default();
    loop {
        let size = tokio::select! {
            Ok(refusal) = &mut refusal => {
                let _ = to.write_all(&refusal).await;
                return;
            }
            size = from.read(&mut piece) => size.unwrap_or(0),
        };
        let until = *until.borrow();
        tokio::time::sleep_until(until).await;
        let announcements = *state.announcements.lock().unwrap();
        let passed = filter.pass(&piece[..size], announcements);
        if size == 0 || to.write_all(&passed).await.is_err() {
            return;
        }
    }
}

/// Takes the server's messages apart, where nothing is encrypted.
#[derive(Default)]
struct Filter {
    sealed: bool,
    rest: Vec<u8>,
    before: Option<Vec<u8>>,
}

impl Filter {
    fn pass(&mut self, bytes: &[u8], announcements: Announcements) -> Vec<u8> {
        // One byte answers whether there is TLS.
        self.sealed |= bytes == b"S";
        if self.sealed || bytes == b"N" {
            return bytes.to_vec();
        }
        self.rest.extend(bytes);
        let mut passed = Vec::new();
        while let Some(length) = self.rest.get(1..5) {
            let length = 1 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if self.rest.len() < length {
                break;
            }
            let message: Vec<u8> = self.rest.drain(..length).collect();
            if message[0] != b'A' || announcements == Announcements::Heard {
                passed.extend(message);
                continue;
            }
            // Tag, length, the sender's pid, channel, payload.
            let texts = message[9..].split(|byte| *byte == 0).collect::<Vec<_>>();
            let is_word = !texts[1].is_empty();
            match announcements {
                Announcements::Foreign if is_word => {
                    let mut foreign = message.clone();
                    let payload = length - 1 - texts[1].len()..length - 1;
                    foreign[payload].reverse();
                    passed.extend(foreign);
                }
                Announcements::Late if is_word => {
                    passed.extend(self.before.replace(message).unwrap_or_default());
                }
                _ => {}
            }
        }
        passed
    }
}
