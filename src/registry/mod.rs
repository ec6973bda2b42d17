//! Handlers by file type.
//!
//! [`Handler`] is how files of one type are made. [`Registry`] is the one visible list of them;
//! a name that comes twice refuses to start.

mod handler;
mod output;
mod progress;

use std::{collections::BTreeMap, sync::Arc};

pub use crate::file_request::notice::MailKind;
pub use handler::{Delivery, Handler, Job};
pub use output::{Output, OutputWriter};
pub(crate) use progress::GUESS_AFTER;
pub use progress::{Guess, Progress};

use crate::error::{Error, Result};

/// The handlers of this process, by file type.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<String, Arc<dyn Handler>>);

impl Registry {
    /// With nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler under its own name.
    ///
    /// # Errors
    /// [`Error::Config`] when the name is taken or cannot be a file type.
    pub fn register(&mut self, handler: impl Handler) -> Result<()> {
        self.register_arc(Arc::new(handler))
    }

    /// As [`Registry::register`], for a handler that is shared already.
    ///
    /// # Errors
    /// As [`Registry::register`].
    pub fn register_arc(&mut self, handler: Arc<dyn Handler>) -> Result<()> {
        let name = handler.file_type().to_owned();
        if let Err(why) = name.parse::<crate::ids::FileType>() {
            return Err(Error::Config(format!("file type {name:?}: {why}")));
        }
        if self.0.contains_key(&name) {
            return Err(Error::Config(format!("file type {name:?} is registered twice")));
        }
        self.0.insert(name, handler);
        Ok(())
    }

    /// The handler of a file type.
    ///
    /// # Errors
    /// [`Error::UnknownFileType`].
    pub fn get(&self, file_type: &str) -> Result<&Arc<dyn Handler>> {
        self.0.get(file_type).ok_or_else(|| Error::UnknownFileType(file_type.to_owned()))
    }

    /// All handlers, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Handler>> {
        self.0.values()
    }
}
