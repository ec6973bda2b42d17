//! What the demo shows: one request, as an application and its user live through it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use mail_parser::MessageParser;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{
    cli::output::{self, note, progress, progress_done, say},
    error::{Error, Result},
    ids::hex,
    toolbox::Toolbox,
};

/// How long the file and its mail may take: a slow machine, a debug build.
const PATIENCE: Duration = Duration::from_secs(300);

/// An application over HTTP, and somebody who reads mail.
pub(super) struct Visit {
    http: reqwest::Client,
    requests: String,
    secret: String,
    mailbox: PathBuf,
}

impl Visit {
    pub(super) fn new(toolbox: &Toolbox, mailbox: &Path, secret: &str) -> Self {
        Visit {
            http: reqwest::Client::new(),
            requests: toolbox.base_url().join("/api/requests"),
            secret: secret.to_owned(),
            mailbox: mailbox.to_owned(),
        }
    }

    pub(super) async fn run(&self, download: bool) -> Result<()> {
        note(format_args!("Asking for every flight as XLSX: POST {}", self.requests));
        let began = Instant::now();
        let asked = self.ask().await?;
        let id = asked["id"].as_str().unwrap_or_default().to_owned();
        let done = self.watch(&id).await?;
        note(format_args!(
            "Made in {:.1} s: {} rows, {} bytes.\n",
            began.elapsed().as_secs_f64(),
            done["rows"],
            done["size"]
        ));
        let (mail, link) = self.read_mail(&id).await?;
        say(&mail);
        if download {
            return self.check(&done, &link).await;
        }
        note(format_args!(
            "Try it yourself; the file appears on amy's page:\n\n  curl -H 'Authorization: Token {}' \\\n    -H 'Content-Type: application/json' \\\n    -d '{{\"file_type\": \"flights\", \"format\": \"csv\", \"criteria\": {{\"origin\": \"JFK\"}}, \"requester\": {{\"id\": \"amy\", \"email\": \"amy@example.com\"}}}}' \\\n    {}\n",
            self.secret, self.requests
        ));
        Ok(())
    }

    async fn ask(&self) -> Result<Value> {
        let body = json!({
            "file_type": "flights",
            "format": "xlsx",
            "requester": {"id": "amy", "email": "amy@example.com"},
            "timezone": "America/New_York",
        });
        let response = self.http.post(&self.requests).json(&body);
        self.json(response).await
    }

    async fn json(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let authorization = format!("Token {}", self.secret);
        let response = request.header("Authorization", authorization).send().await.map_err(http)?;
        let ok = response.status().is_success();
        let body: Value = response.json().await.map_err(http)?;
        if ok { Ok(body) } else { Err(Error::permanent("demo", body["detail"].to_string())) }
    }

    async fn watch(&self, id: &str) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let row = self.json(self.http.get(format!("{}/{id}", self.requests))).await?;
            let status = row["status"].as_str().unwrap_or_default();
            let far = &row["progress"];
            let (done, total) = (far["done"].as_u64().unwrap_or_default(), far["total"].as_u64());
            let rows = output::rows(done, total, far["estimated"] == true);
            progress(format_args!("{status}: {rows}"));
            if matches!(status, "finished" | "failed" | "cancelled") {
                progress_done();
            }
            match status {
                "finished" => return Ok(row),
                "failed" | "cancelled" => {
                    return Err(Error::permanent("demo", row["error"]["message"].to_string()));
                }
                _ if Instant::now() > deadline => {
                    return Err(Error::temporary("demo", "the file is taking too long"));
                }
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// The mail about this request as its reader sees it, and the link in it.
    async fn read_mail(&self, id: &str) -> Result<(String, String)> {
        let deadline = Instant::now() + PATIENCE;
        let simple: String = id.chars().filter(|c| *c != '-').collect();
        loop {
            if let Some(path) = self.newest(&simple) {
                let raw = std::fs::read(&path).map_err(Error::io(path.display().to_string()))?;
                return read(&raw).ok_or_else(|| Error::Internal("the mail has no link".into()));
            }
            if Instant::now() > deadline {
                return Err(Error::temporary("demo", "the mail is taking too long"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn newest(&self, request: &str) -> Option<PathBuf> {
        let entries = std::fs::read_dir(&self.mailbox).ok()?;
        let mut paths = entries.flatten().map(|entry| entry.path());
        paths
            .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(request)))
    }

    /// Downloads through the mailed link and compares.
    async fn check(&self, row: &Value, link: &str) -> Result<()> {
        let began = Instant::now();
        let mut response = self.http.get(link).send().await.map_err(http)?;
        let (status, mut digest, mut size) = (response.status(), Sha256::new(), 0u64);
        while let Some(chunk) = response.chunk().await.map_err(http)? {
            digest.update(&chunk);
            size += chunk.len() as u64;
        }
        let sha256 = hex(&digest.finalize());
        if !status.is_success() || row["size"] != size || row["sha256"] != sha256.as_str() {
            let message = format!("the download differs: {status}, {size} bytes, SHA-256 {sha256}");
            return Err(Error::permanent("demo", message));
        }
        say(format_args!(
            "Downloaded through the mailed link in {:.1} s: {size} bytes, SHA-256 {sha256}, as promised.",
            began.elapsed().as_secs_f64()
        ));
        Ok(())
    }
}

fn read(raw: &[u8]) -> Option<(String, String)> {
    let mail = MessageParser::default().parse(raw)?;
    let text = mail.body_text(0)?.into_owned();
    let link = text.split_whitespace().find(|word| word.contains("/d/"))?.to_owned();
    let to = mail.to().and_then(|to| to.first()).and_then(|to| to.address()).unwrap_or_default();
    let subject = mail.subject().unwrap_or_default();
    let rule = "─".repeat(72);
    Some((format!("{rule}\nTo: {to}\nSubject: {subject}\n\n{}\n{rule}", text.trim_end()), link))
}

fn http(error: reqwest::Error) -> Error {
    Error::temporary("demo", format!("HTTP: {error}"))
}
