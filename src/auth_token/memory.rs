//! What a process keeps in memory of tokens: who they were when last looked up, and who uses them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::Cache;
use uuid::Uuid;

use super::{Signals, Throttle, TokenUse};
use crate::{
    db::{Db, Watch},
    visitor::Visitor,
};

/// Tokens kept at most.
const MANY: usize = 10_000;
/// Time between two writes of who uses which token.
const FLUSH: Duration = Duration::from_secs(10);

/// The memory of one process.
#[derive(Debug)]
pub struct Memory {
    /// Says whether what is kept still holds.
    pub watch: Watch,
    /// What happens.
    pub signals: Signals,
    /// Everybody's buckets.
    pub throttle: Throttle,
    tokens: Cache<String, CachedToken>,
    seen: Mutex<Seen>,
}

#[derive(Clone, Debug)]
struct CachedToken {
    generation: u64,
    read_at: DateTime<Utc>,
    token: TokenUse,
}

#[derive(Debug, Default)]
struct Seen {
    uses: HashMap<Uuid, (DateTime<Utc>, Visitor)>,
    written: DateTime<Utc>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// Nothing yet.
    pub fn new(db: &Db) -> Self {
        Memory {
            watch: Watch::new(db),
            signals: Signals::default(),
            throttle: Throttle::default(),
            tokens: Cache::new(MANY),
            seen: Mutex::default(),
        }
    }

    /// The token with this hash, if it was read in this generation, not longer than `age` ago, and
    /// has not expired since.
    pub fn recall(
        &self,
        hash: &str,
        generation: u64,
        age: TimeDelta,
        now: DateTime<Utc>,
    ) -> Option<TokenUse> {
        let kept = self.tokens.get(hash)?;
        let holds = kept.generation == generation
            && now - kept.read_at < age
            && kept.token.expires_at.is_none_or(|end| end > now);
        holds.then_some(kept.token)
    }

    /// Keeps what was read while `generation` was the current one.
    pub fn keep(&self, hash: String, token: TokenUse, generation: u64, now: DateTime<Utc>) {
        self.tokens.insert(hash, CachedToken { generation, read_at: now, token });
    }

    /// Notes a use of a token; when to write them down, if nobody was told to yet.
    pub fn note(&self, token: Uuid, visitor: &Visitor, now: DateTime<Utc>) -> Option<Duration> {
        let mut seen = lock(&self.seen);
        let first = seen.uses.is_empty();
        seen.uses.insert(token, (now, visitor.clone()));
        if now - seen.written >= TimeDelta::from_std(FLUSH).unwrap_or_default() {
            seen.written = now;
            return Some(Duration::ZERO);
        }
        first.then_some(FLUSH)
    }

    /// Takes uses back that could not be written; newer ones win.
    pub fn put_back(&self, uses: Vec<(Uuid, (DateTime<Utc>, Visitor))>) {
        let mut seen = lock(&self.seen);
        for (token, used) in uses {
            seen.uses.entry(token).or_insert(used);
        }
    }

    /// The uses that were noted and not written down.
    pub fn take_uses(&self) -> HashMap<Uuid, (DateTime<Utc>, Visitor)> {
        std::mem::take(&mut lock(&self.seen).uses)
    }
}
