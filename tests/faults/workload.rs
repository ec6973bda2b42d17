//! Clients: what they ask, and a log of every call and answer.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use uuid::Uuid;

use crate::{chance::Chance, plan::Plan};

/// A call and what became of it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Call {
    /// Milliseconds since the run began.
    pub at: u128,
    pub who: &'static str,
    pub what: &'static str,
    /// The tag of the request, or the id of what it is about.
    pub about: String,
    /// The status; 0 when there was no answer.
    pub status: u16,
    pub note: String,
}

/// What a client was told that is to be held against the end.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Tag and id of acknowledged requests.
    pub acknowledged: Vec<(String, Uuid)>,
    pub cancelled: Vec<Uuid>,
    pub deleted: Vec<Uuid>,
    /// Acknowledged requests whose file stays for seconds only.
    pub gone_soon: Vec<Uuid>,
    /// Limited links: most uses, and how often somebody was let in.
    pub links: Vec<(Uuid, u32, u32)>,
    /// Request tokens, the same.
    pub tokens: Vec<(i64, u32, u32)>,
    /// What must not have been seen.
    pub wrong: Vec<String>,
}

/// A kind of file, how many rows, and who asks: all that its contents depend on.
#[derive(Clone, Debug)]
pub struct Asked {
    pub file_type: &'static str,
    pub rows: u64,
    pub tag: String,
}

/// A kilobyte, as in `jobs/wide.toml`.
const PADDING: &str = "abcdefghijklmnopqrstuvwxyz0123456789";

/// The file that it has to be, made without the product: SHA-256 in hex.
pub fn expected_sha256(file_type: &str, rows: u64, tag: &str) -> String {
    let is_wide = file_type == "wide";
    let padding: String = PADDING.chars().cycle().take(1000).collect();
    let mut text = String::from("number,sevenfold,tag");
    text.push_str(if is_wide { ",padding\r\n" } else { "\r\n" });
    for row in 1..=rows.max(1) {
        let _ = write!(text, "{row},{},{tag}", row * 7);
        if is_wide {
            text.push(',');
            text.push_str(&padding);
        }
        text.push_str("\r\n");
    }
    hex(&Sha256::digest(text.as_bytes()))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub struct Clients {
    pub base: String,
    pub http: reqwest::Client,
    /// Of an application, and of a stranger.
    tokens: [String; 2],
    began: Instant,
    pub calls: Mutex<Vec<Call>>,
    pub told: Mutex<Told>,
    /// Once set, who has no answer asks once more at most.
    pub closing: AtomicBool,
}

impl Clients {
    pub fn new(base: String, tokens: [String; 2]) -> Arc<Clients> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(15))
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        Arc::new(Clients {
            base,
            http,
            tokens,
            began: Instant::now(),
            calls: Mutex::default(),
            told: Mutex::default(),
            closing: AtomicBool::new(false),
        })
    }

    fn log(&self, who: &'static str, what: &'static str, about: &str, status: u16, note: String) {
        let at = self.began.elapsed().as_millis();
        let call = Call { at, who, what, about: about.to_owned(), status, note };
        self.calls.lock().unwrap().push(call);
    }

    pub fn wrong(&self, what: String) {
        self.told.lock().unwrap().wrong.push(what);
    }

    /// One call; its status, headers and body, or nothing.
    async fn call(
        &self,
        who: usize,
        what: &'static str,
        about: &str,
        request: reqwest::RequestBuilder,
    ) -> Option<(u16, reqwest::header::HeaderMap, Vec<u8>)> {
        let name = ["application", "stranger"][who];
        let request = request.header("Authorization", format!("Token {}", self.tokens[who]));
        let answered = async {
            let response = request.send().await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Ok::<_, reqwest::Error>((status, headers, response.bytes().await?.to_vec()))
        };
        match answered.await {
            Ok(answer) => {
                let note = if answer.0 < 400 { String::new() } else { text(&answer.2) };
                self.log(name, what, about, answer.0, note);
                Some(answer)
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                self.log(name, what, about, 0, format!("{error}: {}", source.unwrap_or_default()));
                None
            }
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Asks until there is an answer that counts; what it says.
    async fn insist(
        &self,
        what: &'static str,
        about: &str,
        request: impl Fn() -> reqwest::RequestBuilder,
    ) -> Option<(u16, Value)> {
        let mut last_chance = false;
        loop {
            if let Some((status, _, body)) = self.call(0, what, about, request()).await
                && status < 500
                && status != 429
            {
                return Some((status, serde_json::from_slice(&body).unwrap_or_default()));
            }
            if last_chance {
                return None;
            }
            last_chance = self.closing.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Asks for a file; its id once that was acknowledged. With a key it is asked again and again.
    pub async fn request(&self, asked: &Asked, key: Option<&str>) -> Option<Uuid> {
        let body = json!({
            "file_type": asked.file_type,
            "criteria": { "upto": asked.rows, "tag": asked.tag },
            "requester": { "id": asked.tag, "email": format!("{}@example.com", asked.tag) },
            "notify": asked.file_type != "brief",
        });
        let post = || {
            let request = self.http.post(self.url("/api/requests")).json(&body);
            key.iter().fold(request, |request, key| request.header("Idempotency-Key", *key))
        };
        let (status, answer) = match key {
            Some(_) => self.insist("request", &asked.tag, post).await?,
            None => {
                let (status, _, body) = self.call(0, "request", &asked.tag, post()).await?;
                (status, serde_json::from_slice(&body).unwrap_or_default())
            }
        };
        if status != 202 {
            if status < 500 {
                self.wrong(format!(
                    "a request for {} was answered with {status}: {answer}",
                    asked.tag
                ));
            }
            return None;
        }
        let id: Uuid = answer["id"].as_str()?.parse().ok()?;
        let mut told = self.told.lock().unwrap();
        told.acknowledged.push((asked.tag.clone(), id));
        if asked.file_type == "brief" {
            told.gone_soon.push(id);
        }
        Some(id)
    }

    /// Looks until it has ended. `None`: it has not, or is gone.
    pub async fn ended(&self, id: Uuid) -> Option<Value> {
        loop {
            let get = || self.http.get(self.url(&format!("/api/requests/{id}")));
            let (status, row) = self.insist("show", &id.to_string(), get).await?;
            match row["status"].as_str() {
                _ if status != 200 => return None,
                Some("pending" | "running") if !self.closing.load(Ordering::SeqCst) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                _ => return Some(row),
            }
        }
    }

    /// Downloads once. A clean end must be the whole file.
    pub async fn download(&self, url: &str, asked: &Asked) -> bool {
        // As somebody with nothing but the link.
        let got = async {
            let get = self.http.get(url).timeout(Duration::from_secs(60));
            let response = get.send().await?;
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>((status, response.bytes().await?.to_vec()))
        };
        match got.await {
            Ok((200, bytes)) => {
                self.log("anybody", "download", &asked.tag, 200, bytes.len().to_string());
                let is_right = hex(&Sha256::digest(&bytes))
                    == expected_sha256(asked.file_type, asked.rows, &asked.tag);
                if !is_right {
                    let size = bytes.len();
                    self.wrong(format!(
                        "a download of {} ended well with {size} wrong bytes",
                        asked.tag
                    ));
                }
                is_right
            }
            Ok((status, body)) => {
                self.log("anybody", "download", &asked.tag, status, text(&body));
                false
            }
            Err(error) => {
                self.log("anybody", "download", &asked.tag, 0, error.to_string());
                false
            }
        }
    }

    /// A limited link, redeemed by more people than it is for.
    pub async fn limited_link(&self, id: Uuid, chance: &mut Chance) {
        let most = u32::try_from(chance.range(1, 4)).unwrap();
        let url = self.url(&format!("/api/requests/{id}/links"));
        let post = || self.http.post(&url).json(&json!({ "max_uses": most }));
        let Some((201, link)) = self.insist("link", &id.to_string(), post).await else { return };
        let (Some(url), Some(jti)) = (link["url"].as_str(), link["jti"].as_str()) else {
            return self.wrong(format!("a link without an address: {link}"));
        };
        let redeemed = futures::future::join_all((0..most + 3).map(|_| async {
            let post = self.http.post(url).header("content-length", "0");
            self.call(0, "redeem-link", jti, post).await.is_some_and(|(status, ..)| status == 303)
        }));
        let let_in = redeemed.await.into_iter().filter(|yes| *yes).count();
        let known = (jti.parse().unwrap(), most, u32::try_from(let_in).unwrap());
        self.told.lock().unwrap().links.push(known);
    }

    /// A request token, the same.
    pub async fn request_token(&self, chance: &mut Chance) {
        let most = u32::try_from(chance.range(1, 4)).unwrap();
        let body = json!({ "scope": "harness", "max_uses": most, "expires_in": 86_400 });
        let post = || self.http.post(self.url("/api/request-tokens")).json(&body);
        let Some((201, token)) = self.insist("token", "", post).await else { return };
        let (Some(jwt), Some(id)) = (token["jwt"].as_str(), token["id"].as_i64()) else {
            return self.wrong(format!("a request token without its JWT: {token}"));
        };
        let body = json!({ "token": jwt, "scope": "harness" });
        let redeemed = futures::future::join_all((0..most + 3).map(|_| async {
            let post = self.http.post(self.url("/api/request-tokens/redeem")).json(&body);
            let answer = self.call(0, "redeem-token", &id.to_string(), post).await;
            answer.is_some_and(|(status, ..)| status == 200)
        }));
        let let_in = redeemed.await.into_iter().filter(|yes| *yes).count();
        self.told.lock().unwrap().tokens.push((id, most, u32::try_from(let_in).unwrap()));
    }

    /// Somebody else looks.
    async fn pry(&self, id: Uuid) {
        for (what, path) in [
            ("pry", format!("/api/requests/{id}")),
            ("pry", format!("/api/requests/{id}/links")),
            ("pry", format!("/api/requests/{id}/log")),
        ] {
            let get = self.http.get(self.url(&path));
            if let Some((status, ..)) = self.call(1, what, &id.to_string(), get).await
                && status < 400
            {
                self.wrong(format!("a stranger read {path}"));
            }
        }
        let list = self.http.get(self.url("/api/requests"));
        if let Some((200, _, body)) = self.call(1, "pry", "", list).await
            && text(&body).contains(&id.to_string())
        {
            self.wrong(format!("a stranger's list has {id}"));
        }
    }

    pub async fn cancel(&self, id: Uuid) {
        let post = || self.http.post(self.url(&format!("/api/requests/{id}/cancel")));
        // 202 is a wish: a worker that is done first wins.
        if let Some((200, _)) = self.insist("cancel", &id.to_string(), post).await {
            self.told.lock().unwrap().cancelled.push(id);
        }
    }

    pub async fn delete(&self, id: Uuid) {
        let delete = || self.http.delete(self.url(&format!("/api/requests/{id}")));
        // 404 to a repeat whose first answer was lost.
        if let Some((204 | 404, _)) = self.insist("delete", &id.to_string(), delete).await {
            self.told.lock().unwrap().deleted.push(id);
        }
    }

    /// Clients that change a request and leave before they are answered; others record meanwhile,
    /// without a key.
    pub async fn leave(&self, seed: u64, many: u64) {
        let tag = |name: &str| format!("s{seed}{name}{}", Uuid::new_v4().simple());
        let asked = |name| Asked { file_type: "numbers", rows: 1, tag: tag(name) };
        let Some(id) = self.request(&asked("left"), Some(&tag("key"))).await else { return };
        let address = self.base.trim_start_matches("http://");
        let body = r#"{"description":"left"}"#;
        let head = format!(
            "PATCH /api/requests/{id} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Token {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.tokens[0],
            body.len()
        );
        let left = AtomicBool::new(false);
        let leaving = async {
            for turn in 0..many {
                if let Ok(mut client) = TcpStream::connect(address).await {
                    let _ = client.write_all(head.as_bytes()).await;
                    tokio::time::sleep(Duration::from_millis(turn * 7 % 20)).await;
                }
            }
            left.store(true, Ordering::SeqCst);
        };
        let recording = async {
            for _ in 0..20 {
                if left.load(Ordering::SeqCst) {
                    return;
                }
                self.request(&asked("beside"), None).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::join!(leaving, recording);
    }

    /// One client from its first call to its last.
    pub async fn visit(self: Arc<Self>, number: u64, plan: Arc<Plan>) {
        let mut chance = Chance::new(plan.seed * 1000 + number);
        let tag = format!("s{}n{number}", plan.seed);
        let (file_type, rows) = match number % 20 {
            0 | 10 => ("wide", chance.range(9_000, 14_000)),
            1 | 6 | 11 | 16 => ("numbers", chance.range(5_000, 20_000)),
            2 => ("brief", 20),
            3 => ("bounded", 11),
            _ => ("numbers", chance.range(1, 600)),
        };
        let asked = Asked { file_type, rows, tag };
        tokio::time::sleep(Duration::from_millis(chance.range(0, 5_000))).await;
        let key = chance.percent(75).then(|| format!("key-{}", asked.tag));
        let Some(id) = self.request(&asked, key.as_deref()).await else { return };
        if let Some(key) = key.as_deref().filter(|_| chance.percent(20)) {
            // The same again is the same request.
            if let Some(again) = self.request(&asked, Some(key)).await
                && again != id
            {
                self.wrong(format!("{key} got {id} and then {again}"));
            }
        }
        match chance.range(0, 12) {
            0 => {
                tokio::time::sleep(Duration::from_millis(chance.range(0, 1_500))).await;
                return self.cancel(id).await;
            }
            1 => self.pry(id).await,
            2 => self.request_token(&mut chance).await,
            _ => {}
        }
        let Some(row) = self.ended(id).await else { return };
        let Some(url) = row["download_url"].as_str() else { return };
        match chance.range(0, 6) {
            0 => self.limited_link(id, &mut chance).await,
            1 => self.delete(id).await,
            2 | 3 => {
                self.download(url, &asked).await;
            }
            _ => {}
        }
    }

    pub fn write_log(&self, path: &std::path::Path) {
        let calls = self.calls.lock().unwrap();
        let lines: Vec<String> =
            calls.iter().map(|call| serde_json::to_string(call).unwrap()).collect();
        let _ = std::fs::write(path, lines.join("\n") + "\n");
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(300).collect()
}
