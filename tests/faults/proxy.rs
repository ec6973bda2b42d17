//! A TCP proxy that cuts, stalls, slows and refuses.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::plan::Wire;

const UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

pub struct Proxy {
    pub port: u16,
    wire: Arc<watch::Sender<Wire>>,
    /// Connections that began before the last time that this changed are dead.
    dead: Arc<watch::Sender<u64>>,
}

impl Proxy {
    pub async fn to(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let wire = Arc::new(watch::Sender::new(Wire::Pass));
        let dead = Arc::new(watch::Sender::new(0));
        let (accepting, dying) = (wire.clone(), dead.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, target, accepting.subscribe(), dying.subscribe()));
            }
        });
        Proxy { port, wire, dead }
    }

    pub fn set(&self, wire: Wire) {
        if wire == Wire::BlackHole {
            self.dead.send_modify(|dead| *dead += 1);
        } else {
            self.wire.send_replace(wire);
        }
    }
}

async fn connect(
    mut client: TcpStream,
    target: u16,
    mut wire: watch::Receiver<Wire>,
    mut dead: watch::Receiver<u64>,
) {
    let at_first = *wire.borrow();
    match at_first {
        Wire::Cut => return,
        Wire::Unavailable => {
            let _ = client.read(&mut [0; 64 * 1024]).await;
            let _ = client.write_all(UNAVAILABLE).await;
            return;
        }
        Wire::Pass | Wire::Stall | Wire::Slow(_) | Wire::BlackHole => {}
    }
    let _ = wire.wait_for(|wire| *wire != Wire::Stall).await;
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = wire.clone();
    tokio::select! {
        () = copy(&mut from_client, to_server, wire.clone()) => return,
        () = copy(from_server, &mut to_client, wire) => return,
        _ = cut.wait_for(|wire| matches!(wire, Wire::Cut | Wire::Unavailable)) => return,
        _ = dead.changed() => {}
    }
    // The server has hung up, and the client hears nothing of it.
    while from_client.read(&mut [0; 1024]).await.is_ok_and(|size| size > 0) {}
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut wire: watch::Receiver<Wire>,
) {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let size = match from.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(size) => size,
        };
        let now = *wire.borrow();
        match now {
            Wire::Slow(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Wire::Stall => drop(wire.wait_for(|wire| *wire != Wire::Stall).await),
            Wire::Pass | Wire::Cut | Wire::Unavailable | Wire::BlackHole => {}
        }
        if to.write_all(&piece[..size]).await.is_err() {
            return;
        }
    }
}
