//! What there is once all is quiet: rows, files, mails, and what clients and processes were told.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use bgfiles::Db;
use sha2::{Digest, Sha256};
use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    plan::Store,
    process::Ended,
    smtp::Taken,
    workload::{Told, hex},
};

#[derive(Clone, Debug, FromRow)]
pub struct Row {
    pub id: Uuid,
    pub file_type: String,
    pub criteria: String,
    pub status: String,
    pub generation: i64,
    pub attempts: i32,
    pub crashes: i32,
    pub lost: i32,
    pub storage_key: Option<String>,
    pub sha256: Option<String>,
    pub size: Option<i64>,
    pub notify: bool,
    pub requester_email: String,
    pub error_code: Option<String>,
}

impl Row {
    /// What the criteria say.
    pub fn criterion(&self, name: &str) -> Option<&str> {
        self.criteria.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    pub fn tag(&self) -> &str {
        self.criterion("tag").unwrap_or_default()
    }
}

/// An attempt that ended with a word.
#[derive(Clone, Debug, FromRow)]
pub struct Attempt {
    pub request_id: Uuid,
    pub generation: i64,
    pub outcome: String,
}

#[derive(Clone, Debug, FromRow)]
pub struct Link {
    pub jti: Uuid,
    pub max_uses: Option<i32>,
    pub uses: i32,
    pub grants: i64,
    pub redeemed: i64,
}

#[derive(Clone, Debug, FromRow)]
pub struct Token {
    pub id: i64,
    pub max_uses: i32,
    pub used: i32,
    pub logged: i64,
}

/// Something that may have broken off whatever went on.
#[derive(Clone, Debug)]
pub struct Disruption {
    pub from: Instant,
    pub to: Instant,
    #[expect(dead_code, reason = "for whoever reads disruptions.log")]
    pub what: String,
}

#[derive(Clone, Debug)]
pub struct Evidence {
    pub rows: Vec<Row>,
    pub attempts: Vec<Attempt>,
    pub links: Vec<Link>,
    pub tokens: Vec<Token>,
    pub notices_waiting: i64,
    /// Transactions of PostgreSQL that nobody ended.
    pub left_open: usize,
    /// By key: size and SHA-256.
    pub objects: BTreeMap<String, (u64, String)>,
    /// Parts of uploads that nobody completed or gave up.
    pub unfinished: Vec<String>,
    pub mails: Vec<Taken>,
    pub told: Told,
    pub ended: Vec<Ended>,
    pub disruptions: Vec<Disruption>,
    /// How long a process may take to end.
    pub drain: Duration,
}

/// All rows of a query, of either database.
macro_rules! all {
    ($db:expr, $sql:expr) => {
        match $db {
            Db::Postgres(pool) => sqlx::query_as($sql).fetch_all(pool).await,
            Db::Sqlite(pool) => sqlx::query_as($sql).fetch_all(pool).await,
        }
    };
}
pub(crate) use all;

pub struct Tables {
    pub rows: Vec<Row>,
    pub attempts: Vec<Attempt>,
    pub links: Vec<Link>,
    pub tokens: Vec<Token>,
    pub notices_waiting: i64,
}

pub async fn tables(db: &Db) -> Tables {
    let rows = "SELECT id, file_type, criteria, status, generation, attempts, crashes, lost, storage_key, \
        sha256, size, notify, requester_email, error_code FROM bgfiles_file_requests";
    let attempts = "SELECT request_id, generation, outcome FROM bgfiles_attempts";
    let links = "SELECT jti, max_uses, uses, \
        (SELECT count(*) FROM bgfiles_link_grants g WHERE g.jti = l.jti) AS grants, \
        (SELECT count(*) FROM bgfiles_link_hits h WHERE h.jti = l.jti AND h.event = 'redeemed') \
        AS redeemed FROM bgfiles_links l";
    let tokens = "SELECT CAST(id AS bigint) AS id, max_uses, used_to_date AS used, \
        (SELECT count(*) FROM bgfiles_request_token_uses u \
        WHERE u.token_id = t.id AND u.outcome = 'used') AS logged FROM bgfiles_request_tokens t";
    let waiting = "SELECT count(*) FROM bgfiles_notices WHERE status = 'pending'";
    let waiting: Vec<(i64,)> = all!(db, waiting).unwrap();
    Tables {
        rows: all!(db, rows).unwrap(),
        attempts: all!(db, attempts).unwrap(),
        links: all!(db, links).unwrap(),
        tokens: all!(db, tokens).unwrap(),
        notices_waiting: waiting[0].0,
    }
}

/// Objects below `requests/` and what is left of uploads.
pub fn objects(folder: &Path, store: Store) -> (BTreeMap<String, (u64, String)>, Vec<String>) {
    let (mut objects, mut unfinished) = (BTreeMap::new(), Vec::new());
    let root = match store {
        Store::Folder => folder.to_owned(),
        Store::S3 => folder.join("bucket/files"),
    };
    if store == Store::S3 {
        // As s3s-fs has it: a file for each upload under way.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".upload-") {
                unfinished.push(name);
            }
        }
    }
    let mut folders = vec![root.join("requests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name.contains('#') {
                unfinished.push(name);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                let size = bytes.len() as u64;
                objects.insert(name, (size, hex(&Sha256::digest(&bytes))));
            }
        }
    }
    (objects, unfinished)
}
