//! What a database says of itself, for who looks what is wrong with it.

use chrono::{DateTime, Utc};

use super::{Conn, Db, on};
use crate::error::Result;

impl Db {
    /// Product and version.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn version(&self) -> Result<String> {
        let (product, sql) = match self {
            Db::Postgres(_) => ("PostgreSQL", "SELECT current_setting('server_version')"),
            Db::Sqlite(_) => ("SQLite", "SELECT sqlite_version()"),
        };
        let mut conn = self.acquire().await?;
        let version: String =
            on!(Conn::from(&mut conn), c => sqlx::query_scalar(sql).fetch_one(c).await?);
        Ok(format!("{product} {version}"))
    }

    /// The time on the server's clock; `None` where that is ours.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn its_time(&self) -> Result<Option<DateTime<Utc>>> {
        let mut conn = self.acquire().await?;
        let Conn::Postgres(conn) = Conn::from(&mut conn) else { return Ok(None) };
        Ok(Some(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(conn).await?))
    }

    /// What this process may not do with its own tables: `DELETE on bgfiles_audit`.
    ///
    /// # Errors
    /// The database's; SQLite's when the file cannot be written.
    pub(crate) async fn forbidden(&self) -> Result<Vec<String>> {
        let sql = "SELECT p || ' on ' || c.relname FROM pg_class c \
            JOIN pg_namespace n ON n.oid = c.relnamespace \
            CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p \
            WHERE n.nspname = ANY (current_schemas(false)) AND c.relkind = 'r' \
            AND starts_with(c.relname, 'bgfiles_') AND NOT has_table_privilege(c.oid, p) ORDER BY 1";
        let mut conn = self.acquire().await?;
        if let Conn::Postgres(conn) = Conn::from(&mut conn) {
            return Ok(sqlx::query_scalar(sql).fetch_all(conn).await?);
        }
        drop(conn);
        // It begins as one that writes does, and is rolled back.
        drop(self.begin().await?);
        Ok(Vec::new())
    }
}
