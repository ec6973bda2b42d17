//! Bringing a database's schema up to date, and refusing to run on an older one.
//!
//! The books are kept in a table of our own name, as the host application may keep sqlx's default
//! one.

use sqlx::migrate::Migrator;

use super::{Conn, Db, on};
use crate::error::{Error, Result};

static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");
static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");

const BOOKS: &str = "_bgfiles_migrations";

impl Db {
    fn migrator(&self) -> Migrator {
        let source = match self {
            Db::Postgres(_) => &POSTGRES,
            Db::Sqlite(_) => &SQLITE,
        };
        let mut migrator = Migrator { migrations: source.migrations.clone(), ..Migrator::DEFAULT };
        migrator.dangerous_set_table_name(BOOKS);
        migrator.set_ignore_missing(true);
        migrator
    }

    /// Brings our tables up to date ([`crate::Toolbox::migrate`] does the queue's too). Safe to
    /// repeat, and to run while others do.
    ///
    /// # Errors
    /// When a migration fails; what was applied before it stays.
    pub async fn migrate(&self) -> Result<()> {
        let mut conn = self.acquire().await?;
        on!(Conn::from(&mut conn), c => self.migrator().run(c).await?);
        Ok(())
    }

    /// Whether every migration this program knows has been applied.
    ///
    /// # Errors
    /// [`Error::Schema`] that says what to do when one is missing; a database error when the
    /// database does not answer.
    pub async fn require_current(&self) -> Result<()> {
        let behind = |detail: String| {
            Error::Schema(format!("the database schema is {detail}: run `bgfiles migrate` first"))
        };
        let mut tx = self.read().await?;
        let books = match &tx {
            super::Tx::Postgres(_) => {
                "SELECT count(*) FROM information_schema.tables WHERE table_name = '_bgfiles_migrations' AND table_schema = ANY (current_schemas(false))"
            }
            super::Tx::Sqlite(_) => {
                "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '_bgfiles_migrations'"
            }
        };
        let known: i64 =
            on!(Conn::from(&mut tx), c => sqlx::query_scalar(books).fetch_one(c).await?);
        if known == 0 {
            return Err(behind("empty".into()));
        }
        let sql = "SELECT version FROM _bgfiles_migrations WHERE success ORDER BY version";
        let applied: Vec<i64> =
            on!(Conn::from(&mut tx), c => sqlx::query_scalar(sql).fetch_all(c).await?);
        for migration in self.migrator().iter() {
            if !applied.contains(&migration.version) {
                return Err(behind(format!(
                    "older than this program (migration {} is missing)",
                    migration.version
                )));
            }
        }
        Ok(())
    }
}
