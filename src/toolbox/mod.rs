//! The operations a host application calls, and the only place that composes the concepts.
//!
//! ```text
//! requests   add_request · respond_to · cancel · retry · delete
//! tokens     create_token · create_general_token · decode · evaluate_request · links
//! files      attach_file · attach_local_file · serve
//! dispatch   dispatch: one attempt of a worker, from claim to publish
//! notices    deliver_notice: one try to mail
//! inline     a file made in the response that asks for it
//! ```

mod dispatch;
mod files;
mod inline;
mod notices;
mod requests;
mod tokens;

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;

pub use dispatch::{Dispatched, backoff};
pub use files::{Download, FileOverrides};
pub use inline::Inline;
pub use requests::{Deliver, IdempotencyKey, Response};
pub use tokens::{LinkOptions, Rules};

use crate::{
    clock::Clock,
    config::{BaseUrl, Config},
    db::Db,
    error::Result,
    mail::Mailer,
    queue,
    registry::Registry,
    signer::Signer,
    storage::Storage,
    templates::Templates,
};

/// Failed and cancelled requests stay this long, so that people can see what happened.
const KEEP_ENDED: TimeDelta = TimeDelta::days(30);

/// Everything a process needs to record, make and hand out files. Cheap to clone.
#[derive(Clone)]
pub struct Toolbox(Arc<Tools>);

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
}

impl std::ops::Deref for Toolbox {
    type Target = Tools;

    fn deref(&self) -> &Tools {
        &self.0
    }
}

impl Toolbox {
    /// From parts of one's own.
    pub fn new(tools: Tools) -> Self {
        Toolbox(Arc::new(tools))
    }

    /// Brings a database's schema up to date: the queue's tables, then ours. Safe to repeat, and to
    /// run while others do.
    ///
    /// # Errors
    /// When a migration fails; what was applied before it stays.
    pub async fn migrate(db: &Db) -> Result<()> {
        queue::migrate(db).await?;
        db.migrate().await
    }

    /// As the configuration says, with the given handlers.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the setting that cannot be used.
    pub fn from_config(config: &Config, registry: Registry) -> Result<Self> {
        let templates = Templates::new(config.templates_dir.clone());
        templates.check(config.templates_dir.as_ref())?;
        Ok(Self::new(Tools {
            db: Db::open(&config.database_url)?,
            storage: Storage::open(&config.storage, &config.storage_options)?,
            mailer: Mailer::open(config.mail.expose(), &config.mail_from)?,
            templates,
            registry,
            signer: Signer::configured(config)?,
            clock: Clock::system(),
            base_url: config.base_url.clone(),
            lease: config.lease,
        }))
    }
}
