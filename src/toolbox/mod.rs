//! The operations a host application calls, and the only place that composes the concepts.
//!
//! ```text
//! requests   add_request · respond_to · cancel · retry · delete · history · expire ·
//!            notify_again; `requests().by(&caller)`: what a caller may see and do, with its line
//!            in the audit log; who may ask for which files; requests as they are seen, and changes
//!            that count on it; dispatch: one attempt of a worker, from claim to publish;
//!            deliver_notice: one try to mail; watch; a file made in the response that asks for it;
//!            give_up_unknown: requests of types that nobody knows
//! links      create_link · extend_link · revoke_link · send_link; `links().by(&caller)`; open_link:
//!            links that were found good, in memory; create_token · create_general_token · decode ·
//!            visit · evaluate_request; attach_file · attach_local_file · serve; redeem ·
//!            evaluate_grant: a limited link's use and its download; record_hit · note_sent ·
//!            flush_receipts: what became of each link
//! request_tokens   create · admit · conclude · expire, and sessions; `request_tokens().by(&caller)`
//! auth       who a secret, a session or a name is; throttling; log_in · refresh · log_out; users and
//!            clients of our own; `accounts().by(&caller)` for operators
//! locks      lock · renew_lock · unlock · guard_lock · lock_for_session · break_lock
//! operations overview · audit; `operations().by(&caller)`
//! health     readiness · gauges: what monitors ask
//! places     so many at a time for each caller
//! rehearsal  every mail as it would be, for `bgfiles check`
//! soundness  rows that cannot work, for `bgfiles check --database`
//! space      note_full_disk: what /readyz says of it
//! ```

mod auth;
mod health;
mod links;
mod locks;
mod operations;
mod places;
mod rehearsal;
mod request_tokens;
mod requests;
mod soundness;
mod space;

use std::{
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use chrono::TimeDelta;
use tokio::sync::mpsc;

pub use auth::{Accounts, ActingOnAccounts, ApiAccess, Login, NewUser, UserChanges};
pub use health::{Gauges, Readiness};
pub use links::{
    ActingOnLinks, Download, FileOverrides, LinkEdit, LinkOptions, Links, LinksOf, Opened, Ready,
    Redeemer, Rules, Visit,
};
pub use locks::{ActingOnLocks, Edit, Editor, LockAccess, LockPolicy, Lockable, Locks};
pub use operations::{AuditFilter, Operations, Operator, Overview, WorkerView};
pub use request_tokens::{
    ActingOnRequestTokens, Admission, Presented, RequestTokenFilter, RequestTokens,
};
pub use requests::{
    ActingOnRequests, Deliver, Dispatched, Expected, History, IdempotencyKey, Inline,
    RequestFilter, Requests, Response, SEARCHED, Unknown, Watched, backoff::backoff,
};

use crate::{
    auth_token::{self, Memory, Users},
    clock::Clock,
    config::{BaseUrl, Config},
    db::Db,
    error::Result,
    limits::Rate,
    lock_token,
    mail::Mailer,
    queue,
    registry::Registry,
    request_token,
    signer::Signer,
    storage::Storage,
    templates::Templates,
    visitor::TrustedProxies,
};

/// Failed and cancelled requests stay this long, so that people can see what happened.
const KEEP_ENDED: TimeDelta = TimeDelta::days(30);

/// Everything a process needs to record, make and hand out files. Cheap to clone.
#[derive(Clone)]
pub struct Toolbox(Arc<Inner>);

struct Inner {
    tools: Tools,
    memory: Memory,
    link_cache: links::cache::LinkCache,
    receipts: links::receipts::Receipts,
    recorder: requests::recorder::Recorder,
    bell: queue::Bell,
    /// Who mails what is made in this process.
    mail_sender: Mutex<Option<mpsc::Sender<requests::publisher::ClaimedNotice>>>,
    publisher: requests::publisher::Publisher,
    sent: requests::publisher::Sent,
    /// Files that are being made in this process.
    at_work: AtomicUsize,
    /// Whose files are made in answers.
    inline: places::Places,
    watching: requests::watching::Watching,
    space: space::Space,
}

/// What a [`Toolbox`] is made of.
pub struct Tools {
    /// The database.
    pub db: Db,
    /// Where files are.
    pub storage: Storage,
    /// Who sends mail.
    pub mailer: Mailer,
    /// Texts of mails and pages.
    pub templates: Templates,
    /// Who makes which files.
    pub registry: Registry,
    /// Signs links, unless a handler brings its own signer.
    pub signer: Signer,
    /// The time.
    pub clock: Clock,
    /// The beginning of every link.
    pub base_url: BaseUrl,
    /// How long a claim holds without a heartbeat.
    pub lease: Duration,
    /// Who people are.
    pub users: Users,
    /// How logins, tokens and callers are treated.
    pub auth: auth_token::Settings,
    /// How locks behave.
    pub locks: lock_token::Settings,
    /// Which things of the host application there are, and who may lock them.
    pub lock_policy: Option<Arc<dyn LockPolicy>>,
    /// Keys and defaults of request tokens.
    pub request_tokens: request_token::Settings,
    /// How long a login lasts.
    pub session_age: Duration,
    /// How long a redeemed link's download may be resumed.
    pub grant_age: Duration,
    /// Most calls of links from one network; no limit when `None`.
    pub download_rate: Option<Rate>,
    /// How long an answer with a file made in it may take in all.
    pub inline_timeout: Duration,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
}

impl Tools {
    /// The usual parts over a database and a storage; change what should be otherwise.
    ///
    /// `secrets` sign links and request tokens (the first signs, all verify; 32 characters or
    /// more); `base_url` is where people reach the router.
    ///
    /// # Errors
    /// [`crate::Error::Config`] without a secret.
    pub fn new<S: AsRef<[u8]>>(
        db: Db,
        storage: Storage,
        mailer: Mailer,
        registry: Registry,
        secrets: impl IntoIterator<Item = S> + Clone,
        base_url: BaseUrl,
    ) -> Result<Self> {
        let day = Duration::from_secs(86_400);
        Ok(Tools {
            users: Users::Own,
            auth: auth_token::Settings::default(),
            locks: lock_token::Settings::default(),
            lock_policy: None,
            signer: Signer::new(secrets.clone(), "bgfiles", Some(day))?,
            request_tokens: request_token::Settings::new(secrets)?,
            db,
            storage,
            mailer,
            templates: Templates::new(None),
            registry,
            clock: Clock::system(),
            base_url,
            lease: Duration::from_secs(10),
            session_age: day * 14,
            grant_age: Duration::from_secs(3600),
            download_rate: None,
            inline_timeout: Duration::from_secs(60),
            trusted_proxies: TrustedProxies::default(),
        })
    }
}

impl std::fmt::Debug for Toolbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Toolbox").field("db", &self.db().kind()).finish_non_exhaustive()
    }
}

impl Toolbox {
    /// From parts of one's own.
    pub fn new(tools: Tools) -> Self {
        let memory = Memory::new(&tools.db);
        Toolbox(Arc::new(Inner {
            tools,
            memory,
            link_cache: links::cache::LinkCache::default(),
            receipts: links::receipts::Receipts::default(),
            recorder: requests::recorder::recorder(),
            bell: queue::Bell::default(),
            mail_sender: Mutex::default(),
            publisher: requests::publisher::publisher(),
            sent: requests::publisher::sent(),
            at_work: AtomicUsize::new(0),
            inline: requests::inline::places(),
            watching: requests::watching::Watching::default(),
            space: space::Space::default(),
        }))
    }

    /// The database.
    pub fn db(&self) -> &Db {
        &self.0.tools.db
    }

    /// Where files are.
    pub fn storage(&self) -> &Storage {
        &self.0.tools.storage
    }

    /// What sends mail.
    pub fn mailer(&self) -> &Mailer {
        &self.0.tools.mailer
    }

    /// Texts of mails and pages.
    pub fn templates(&self) -> &Templates {
        &self.0.tools.templates
    }

    /// The handlers of file types.
    pub fn registry(&self) -> &Registry {
        &self.0.tools.registry
    }

    /// Signs links, unless a handler brings its own signer.
    pub fn signer(&self) -> &Signer {
        &self.0.tools.signer
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.0.tools.clock
    }

    /// The beginning of every link.
    pub fn base_url(&self) -> &BaseUrl {
        &self.0.tools.base_url
    }

    /// Who people are.
    pub fn users(&self) -> &Users {
        &self.0.tools.users
    }

    /// The proxies whose `X-Forwarded-For` is believed.
    pub fn trusted_proxies(&self) -> &TrustedProxies {
        &self.0.tools.trusted_proxies
    }

    /// How logins, tokens and callers are treated.
    pub fn auth_settings(&self) -> &auth_token::Settings {
        &self.0.tools.auth
    }

    /// How locks behave.
    pub fn lock_settings(&self) -> &lock_token::Settings {
        &self.0.tools.locks
    }

    /// Keys and defaults of request tokens.
    pub fn request_token_settings(&self) -> &request_token::Settings {
        &self.0.tools.request_tokens
    }

    pub(crate) fn lease(&self) -> Duration {
        self.0.tools.lease
    }

    pub(crate) fn lock_policy(&self) -> Option<&Arc<dyn LockPolicy>> {
        self.0.tools.lock_policy.as_ref()
    }

    pub(crate) fn session_age(&self) -> Duration {
        self.0.tools.session_age
    }

    pub(crate) fn grant_age(&self) -> Duration {
        self.0.tools.grant_age
    }

    pub(crate) fn download_rate(&self) -> Option<Rate> {
        self.0.tools.download_rate
    }

    pub(crate) fn inline_timeout(&self) -> Duration {
        self.0.tools.inline_timeout
    }

    /// What this process keeps in memory of tokens; its `signals` tell what happens to them.
    pub fn memory(&self) -> &Memory {
        &self.0.memory
    }

    fn space(&self) -> &space::Space {
        &self.0.space
    }

    fn receipts(&self) -> &links::receipts::Receipts {
        &self.0.receipts
    }

    /// Writes down what is still in memory, and lets go of the database.
    pub async fn close(&self) {
        if let Err(error) = self.flush_receipts().await {
            tracing::warn!(%error, "the last receipts of downloads were not written");
        }
        if let Err(error) = self.flush_uses().await {
            tracing::warn!(%error, "the last uses of tokens were not written down");
        }
        self.memory().watch.close().await;
        self.db().close().await;
    }

    /// Brings a database's schema up to date: the queue's tables, then ours. Safe to repeat, and to
    /// run while others do.
    ///
    /// # Errors
    /// When a migration fails; what was applied before it stays.
    pub async fn migrate(db: &Db) -> Result<()> {
        queue::migrate(db).await?;
        crate::failpoint::reached("migrating");
        db.migrate().await?;
        crate::failpoint::reached("migrated");
        let mut tx = db.begin().await?;
        auth_token::store::fill_username_keys(&mut tx).await?;
        tx.commit().await
    }

    /// As the configuration says, with the given handlers.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the setting that cannot be used.
    pub fn from_config(config: &Config, registry: Registry) -> Result<Self> {
        let templates = Templates::new(config.templates_dir.clone());
        templates.check(config.templates_dir.as_ref())?;
        let db = Db::open_with(&config.database_url, config.database_connections)?;
        Ok(Self::new(Tools {
            users: Users::Own,
            auth: auth_token::Settings::configured(config),
            locks: lock_token::Settings::configured(config),
            lock_policy: None,
            request_tokens: request_token::Settings::configured(config)?,
            session_age: config.session_age,
            grant_age: config.grant_age,
            download_rate: config.download_rate,
            inline_timeout: config.inline_timeout,
            trusted_proxies: config.trusted_proxies.clone(),
            db,
            storage: Storage::open(&config.storage, &config.storage_options)?,
            mailer: Mailer::configured(config)?,
            templates,
            registry,
            signer: Signer::configured(config)?,
            clock: Clock::system(),
            base_url: config.base_url.clone(),
            lease: config.lease,
        }))
    }
}
