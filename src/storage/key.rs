//! The paths of objects. Nothing else makes them.

use std::{fmt, str::FromStr};

use crate::{
    error::{Error, Result},
    ids::RequestId,
};

/// The place of one generation of one request's file: `requests/{id}/{generation}`. Nothing else
/// makes paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StorageKey {
    /// Whose file.
    pub request: RequestId,
    /// Made under which claim, so that a late worker never writes where another one does.
    pub generation: i64,
}

impl fmt::Display for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "requests/{}/{}", self.request, self.generation)
    }
}

impl FromStr for StorageKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (id, generation) = text.strip_prefix("requests/")?.split_once('/')?;
            Some(StorageKey { request: id.parse().ok()?, generation: generation.parse().ok()? })
        };
        parse().ok_or_else(|| Error::Internal(format!("{text:?} is no storage key")))
    }
}
