//! The databases that declared file types read, by name.

use std::collections::BTreeMap;

use super::Source;
use crate::error::{Error, Result};

/// `default`, which is the product's own database, and whatever else is configured.
#[derive(Clone, Debug)]
pub struct Sources(BTreeMap<String, Source>);

impl Sources {
    /// Opens every source. They connect on first use.
    ///
    /// # Errors
    /// [`Error::Config`] naming the source whose URL is not understood.
    pub fn open<'a>(
        default: &'a str,
        others: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Sources> {
        let all = std::iter::once(("default", default)).chain(others);
        let opened = all.map(|(name, url)| {
            let source = Source::open(url);
            let source = source.map_err(|e| Error::Config(format!("source {name:?}: {e}")))?;
            Ok((name.to_owned(), source))
        });
        Ok(Sources(opened.collect::<Result<_>>()?))
    }

    /// The source of this name.
    ///
    /// # Errors
    /// [`Error::Config`] with the names there are.
    pub fn get(&self, name: &str) -> Result<Source> {
        self.0.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            let known = known.join(", ");
            Error::Config(format!("there is no source {name:?}; configured are: {known}"))
        })
    }
}
