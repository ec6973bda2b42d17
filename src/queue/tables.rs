//! apalis's tables: made, emptied, counted.

use apalis_postgres::PostgresStorage;
use apalis_sqlite::SqliteStorage;
use chrono::{DateTime, Utc};

use crate::{
    db::{Conn, Db, on},
    error::Result,
};

/// The books of apalis's migrations on SQLite; sqlx's default name may be the host application's.
const BOOKS: &str = "_apalis_migrations";

/// Makes apalis's tables.
///
/// # Errors
/// When a migration fails.
pub async fn migrate(db: &Db) -> Result<()> {
    match db {
        Db::Postgres(_) => migrate_postgres(db).await?,
        // Not apalis's `setup`, which also turns `synchronous` off for the connection.
        Db::Sqlite(pool) => {
            let mut migrator = SqliteStorage::<()>::migrations();
            migrator.dangerous_set_table_name(BOOKS);
            migrator.set_ignore_missing(true).run(pool).await?;
            // Measured: with these, the cost of an acknowledgement grows with the backlog
            // (about 200 jobs/s at 20,000 waiting, against 15,000 and more without).
            for index in ["LIdx", "idx_jobs_status_run_at", "idx_jobs_claimable"] {
                let sql = match index {
                    "LIdx" => "DROP INDEX IF EXISTS LIdx",
                    "idx_jobs_status_run_at" => "DROP INDEX IF EXISTS idx_jobs_status_run_at",
                    _ => "DROP INDEX IF EXISTS idx_jobs_claimable",
                };
                sqlx::query(sql).execute(pool).await?;
            }
            // Without any index on `lock_by`, the rescue of orphans reads all jobs once for each
            // silent worker. This one holds only the few that are being worked on.
            let sql = "CREATE INDEX IF NOT EXISTS bgfiles_jobs_taken ON Jobs (lock_by) \
                WHERE status = 'Running' OR status = 'Queued'";
            sqlx::query(sql).execute(pool).await?;
        }
    }
    Ok(())
}

async fn migrate_postgres(db: &Db) -> Result<()> {
    // Its books are in a schema of apalis's own: a host application may use apalis too.
    let mut migrator = PostgresStorage::<()>::migrations();
    if let Conn::Postgres(c) = Conn::from(&mut db.acquire().await?) {
        migrator.set_ignore_missing(true).run(c).await?;
    }
    // Jobs to purge; one at a time, as two that make it at once get in each other's way.
    let mut tx = db.begin().await?;
    if let Conn::Postgres(c) = tx.conn() {
        let sql = "SELECT pg_advisory_xact_lock(hashtext('bgfiles_jobs_done'))";
        sqlx::query(sql).execute(&mut *c).await?;
        let sql = "CREATE INDEX IF NOT EXISTS bgfiles_jobs_done ON apalis.jobs (done_at) \
            WHERE job_type IN ('bgfiles::requests', 'bgfiles::notices') \
            AND status IN ('Done', 'Failed', 'Killed')";
        sqlx::query(sql).execute(c).await?;
    }
    tx.commit().await
}

/// Removes jobs that ended before `before`, jobs that nobody fetched in some 23 hours before that (where
/// only `bgfiles process` runs; the sweeper wakes anew what is left to do), and then workers that
/// are silent since (jobs refer to them). At most `limit` of each; answers how many jobs.
///
/// # Errors
/// The database's.
pub async fn purge(conn: Conn<'_>, before: DateTime<Utc>, limit: i64) -> Result<u64> {
    let seconds = before.timestamp();
    match conn {
        Conn::Postgres(c) => {
            let sql = "DELETE FROM apalis.jobs WHERE id IN (SELECT id FROM apalis.jobs \
                WHERE job_type IN ('bgfiles::requests', 'bgfiles::notices') \
                AND status IN ('Done', 'Failed', 'Killed') \
                AND done_at < to_timestamp($1) LIMIT $2)";
            let ended = sqlx::query(sql).bind(seconds as f64).bind(limit).execute(&mut *c).await?;
            // With their priority, which all of ours have, by apalis's index; without, all that wait
            // are looked at.
            let sql = "DELETE FROM apalis.jobs WHERE id IN (SELECT id FROM apalis.jobs \
                WHERE job_type IN ('bgfiles::requests', 'bgfiles::notices') \
                AND status = 'Pending' AND priority = 0 \
                AND run_at < to_timestamp($1 - 86400) LIMIT $2)";
            let left = sqlx::query(sql).bind(seconds as f64).bind(limit).execute(&mut *c).await?;
            let sql = "DELETE FROM apalis.workers w WHERE w.id IN (SELECT id FROM apalis.workers \
                WHERE worker_type IN ('bgfiles::requests', 'bgfiles::notices') \
                AND last_seen < to_timestamp($1) LIMIT $2) \
                AND NOT EXISTS (SELECT 1 FROM apalis.jobs j WHERE j.lock_by = w.id)";
            sqlx::query(sql).bind(seconds as f64).bind(limit).execute(c).await?;
            Ok(ended.rows_affected() + left.rows_affected())
        }
        Conn::Sqlite(c) => {
            // The plus keeps SQLite from the index that begins with the type and knows no done_at.
            let sql = "DELETE FROM Jobs WHERE id IN (SELECT id FROM Jobs \
                WHERE +job_type IN ('bgfiles::requests', 'bgfiles::notices') \
                AND status IN ('Done', 'Failed', 'Killed') AND done_at < $1 LIMIT $2)";
            let ended = sqlx::query(sql).bind(seconds).bind(limit).execute(&mut *c).await?;
            let sql = "DELETE FROM Jobs WHERE id IN (SELECT id FROM Jobs \
                WHERE job_type IN ('bgfiles::requests', 'bgfiles::notices') \
                AND status = 'Pending' AND run_at < $1 - 86400 LIMIT $2)";
            let left = sqlx::query(sql).bind(seconds).bind(limit).execute(&mut *c).await?;
            let sql = "DELETE FROM Workers WHERE id IN (SELECT id FROM Workers \
                WHERE worker_type IN ('bgfiles::requests', 'bgfiles::notices') \
                AND last_seen < $1 LIMIT $2) \
                AND NOT EXISTS (SELECT 1 FROM Jobs WHERE Jobs.lock_by = Workers.id)";
            sqlx::query(sql).bind(seconds).bind(limit).execute(c).await?;
            Ok(ended.rows_affected() + left.rows_affected())
        }
    }
}

/// Jobs that wait, in both queues.
///
/// # Errors
/// The database's.
pub async fn depth(conn: Conn<'_>) -> Result<i64> {
    let sql = match &conn {
        Conn::Postgres(_) => {
            "SELECT count(*) FROM apalis.jobs WHERE job_type LIKE 'bgfiles::%' AND status = 'Pending'"
        }
        Conn::Sqlite(_) => {
            "SELECT count(*) FROM Jobs WHERE job_type LIKE 'bgfiles::%' AND status = 'Pending'"
        }
    };
    on!(conn, c => Ok(sqlx::query_scalar(sql).fetch_one(c).await?))
}
