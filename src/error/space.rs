//! Whether it is for want of space: a full disk below the database or the store.

use std::{error::Error as StdError, io};

use super::Error;

/// SQLSTATE `disk_full`.
const POSTGRES: &str = "53100";
/// SQLITE_FULL.
const SQLITE: &str = "13";

impl Error {
    /// Whether a disk of ours is full, or a quota on it. The disk of a database that an export reads is
    /// somebody else's.
    pub fn is_of_space(&self) -> bool {
        match self {
            Error::Database(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| code == POSTGRES || code == SQLITE)
            }
            Error::Io { source, .. } => is_of_space(source),
            Error::Storage(error) => {
                let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
                while let Some(error) = cause {
                    if error.downcast_ref::<io::Error>().is_some_and(is_of_space) {
                        return true;
                    }
                    cause = error.source();
                }
                false
            }
            _ => false,
        }
    }
}

fn is_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_found_below_whatever_says_so() {
        let full = || io::Error::from_raw_os_error(28);
        let store = object_store::Error::Generic { store: "x", source: Box::new(full()) };
        assert_eq!(Error::Storage(store).code(), "disk_full");
        assert_eq!(Error::io("writing")(full()).code(), "disk_full");
        assert_eq!(Error::io("writing")(io::ErrorKind::NotFound.into()).code(), "io");
    }
}
