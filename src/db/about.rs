//! Which database it is, for the log of a process that starts.

use std::fmt;

use sqlx::postgres::PgConnectOptions;

use super::Db;
use crate::error::Result;

/// A database without anything secret: no user, no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// `PostgreSQL` or `SQLite`.
    pub kind: &'static str,
    /// `HOST:PORT/NAME`, or the path of the file.
    pub place: String,
    /// As the server says it.
    pub version: String,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.kind, self.version, self.place)
    }
}

impl Db {
    /// Asks the database for its version, and says where it is.
    ///
    /// # Errors
    /// The database's.
    pub async fn about(&self) -> Result<About> {
        let (kind, place, version) = match self {
            Db::Postgres(pool) => {
                let version: String =
                    sqlx::query_scalar("SHOW server_version").fetch_one(pool).await?;
                ("PostgreSQL", place(&pool.connect_options()), version)
            }
            Db::Sqlite(pool) => {
                let version: String =
                    sqlx::query_scalar("SELECT sqlite_version()").fetch_one(pool).await?;
                let options = pool.connect_options();
                let path = options.get_filename();
                let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
                ("SQLite", path.display().to_string(), version)
            }
        };
        Ok(About { kind, place, version })
    }
}

fn place(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let name = options.get_database().unwrap_or_else(|| options.get_username());
    format!("{host}:{}/{name}", options.get_port())
}
