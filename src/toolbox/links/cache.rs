//! Links that were found good, kept in memory: a download asks the database nothing.
//!
//! Memory only ever says yes. What is kept was looked up under the current generation
//! ([`crate::db::Watch`]), which ends with whatever takes something away from the holder of a link:
//! triggers see to that, whoever does it and however. What time takes away (the age of the
//! signature, the ends of link and file) is held against the clock at each use. Whatever is not
//! granted from memory is looked up, and only then refused. Links with limits, and those that wait
//! for a confirmation, are never kept.

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::Cache;
use uuid::Uuid;

use crate::{
    error::Result,
    ids::RequestId,
    signer::{Signer, Verified},
    toolbox::{Download, Toolbox, Visit},
};

/// Links kept at most.
const MANY: usize = 8_192;
/// Longer tokens are not kept: they carry data of a host application.
const LONGEST: usize = 1_024;

/// A link that may be used, as far as the database is asked; and its file.
#[derive(Debug)]
pub struct Ready {
    /// Which request.
    pub request_id: RequestId,
    /// The row of the link, when it has one.
    pub jti: Option<Uuid>,
    /// What to send.
    pub file: Download,
    /// The headers of every answer with it, once somebody has made them.
    pub headers: OnceLock<http::HeaderMap>,
    /// Who alone may use it.
    requester: Option<String>,
    /// From when the link's row lets it be used.
    begins: Option<DateTime<Utc>>,
    /// From then on link or file are over.
    ends: Option<DateTime<Utc>>,
    /// The last moment of the signature's age.
    aged: Option<DateTime<Utc>>,
}

impl Ready {
    fn new(visit: &Visit, file: Download) -> Self {
        let Visit { claims, row, link, bound, .. } = visit;
        let link = link.as_ref();
        let ends = [row.expires_at, link.map(|link| link.expires_at)];
        Ready {
            request_id: row.id,
            jti: claims.jti,
            file,
            headers: OnceLock::new(),
            requester: row.requester.clone().filter(|_| *bound),
            begins: link.and_then(|link| link.not_before),
            ends: ends.into_iter().flatten().min(),
            aged: None,
        }
    }

    /// The row of a link decides in place of its signature's age.
    fn aging(self, signer: &Signer, verified: &Verified) -> Self {
        let age = signer.max_age().filter(|_| self.jti.is_none());
        let age = age.and_then(|age| TimeDelta::from_std(age).ok());
        Ready { aged: age.and_then(|age| verified.signed_at.checked_add_signed(age)), ..self }
    }

    fn is_for(&self, caller: Option<&str>, now: DateTime<Utc>) -> bool {
        (self.requester.is_none() || self.requester.as_deref() == caller)
            && self.begins.is_none_or(|at| at <= now)
            && self.ends.is_none_or(|at| at > now)
            && self.aged.is_none_or(|at| at >= now)
    }
}

/// What [`Toolbox::open_link`] found.
#[derive(Debug)]
pub enum Opened {
    /// A file that the caller may have.
    Ready(Arc<Ready>),
    /// A link that has to be looked at more closely.
    Visit(Box<Visit>),
}

/// The links that one process keeps: by token, with the generation under which each was read.
#[derive(Debug)]
pub(in crate::toolbox) struct LinkCache(Cache<Box<str>, (u64, Arc<Ready>)>);

impl Default for LinkCache {
    fn default() -> Self {
        LinkCache(Cache::new(MANY))
    }
}

impl LinkCache {
    fn recall(&self, token: &str, generation: u64) -> Option<Arc<Ready>> {
        let (of, ready) = self.0.get(token)?;
        (of == generation).then_some(ready)
    }

    fn keep(&self, token: &str, ready: Arc<Ready>, generation: u64) {
        self.0.insert(token.into(), (generation, ready));
    }
}

impl Toolbox {
    /// What `caller` may have by a link, if that is known without asking the database.
    pub async fn recall_link(&self, token: &str, caller: Option<&str>) -> Option<Arc<Ready>> {
        let generation = self.memory().watch.generation().await?;
        let ready = self.0.link_cache.recall(token, generation)?;
        ready.is_for(caller, self.clock().now()).then_some(ready)
    }

    /// As [`Toolbox::visit`], out of memory where that is possible. What is looked up is kept.
    ///
    /// # Errors
    /// As [`Toolbox::visit`].
    pub async fn open_link(&self, token: &str, caller: Option<&str>) -> Result<Opened> {
        // The generation comes first: what is read afterwards is at least as new.
        let generation = self.memory().watch.generation().await;
        let kept = generation.and_then(|generation| self.0.link_cache.recall(token, generation));
        if let Some(ready) = kept
            && ready.is_for(caller, self.clock().now())
        {
            return Ok(Opened::Ready(ready));
        }
        let (visit, signer, verified) = self.visit_by(token, caller).await?;
        if let (Some(generation), Ok(())) = (generation, &visit.verdict)
            && !visit.waits_for_confirmation()
            && token.len() <= LONGEST
            && let Ok(file) = self.serve(&visit.row)
        {
            let ready = Arc::new(Ready::new(&visit, file).aging(&signer, &verified));
            self.0.link_cache.keep(token, ready.clone(), generation);
            return Ok(Opened::Ready(ready));
        }
        Ok(Opened::Visit(Box::new(visit)))
    }
}
