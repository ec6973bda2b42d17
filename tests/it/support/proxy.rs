//! A proxy that keeps answers back while a test wants it, as a store does that accepts and hangs.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub struct Proxy {
    pub endpoint: String,
    held: watch::Sender<bool>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    /// In front of `http://host:port`.
    pub async fn to(endpoint: &str) -> Proxy {
        let server = endpoint.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            held: watch::Sender::new(false),
            connections: Arc::default(),
        };
        let (held, connections) = (proxy.held.subscribe(), proxy.connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(carry(client, server, held.clone()));
            }
        });
        proxy
    }

    /// Whether answers are kept back.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// How many there were so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn carry(client: TcpStream, server: TcpStream, mut held: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut answer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from_server.read(&mut answer).await {
        if held.wait_for(|held| !held).await.is_err()
            || to_client.write_all(&answer[..length]).await.is_err()
        {
            return;
        }
    }
}
