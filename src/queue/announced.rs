//! New work as PostgreSQL announces it.

use std::time::Duration;

use serde::Deserialize;
use sqlx::PgPool;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{Kind, heard::Heard};
use crate::db::ear::Ear;

/// Where a trigger announces requests, whoever inserts them (see the migration); whoever else listens
/// to apalis's channel expects jobs there.
const CHANNEL: &str = "bgfiles";
/// How long the listener hears nothing before it asks whether its connection works.
const QUIET: Duration = Duration::from_secs(15);
/// How long that may take.
const WORD: Duration = Duration::from_secs(5);
/// How long a pooler that shares sessions is left alone; whoever the session is lent to would hear.
const SHARED: Duration = Duration::from_secs(30);

/// Passes PostgreSQL's announcements on until it is stopped.
pub(super) async fn listen(
    pool: PgPool,
    inserts: broadcast::Sender<Heard>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let heard = tokio::select! {
            heard = hear(&pool, &inserts) => heard,
            () = stop.cancelled() => return,
        };
        let pause = match heard {
            Ok(true) => continue,
            Ok(false) => SHARED,
            Err(error) => {
                tracing::debug!(%error, "listening for new jobs; the tick goes on meanwhile");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Until the connection is lost; `false` where there is nothing to hear.
async fn hear(pool: &PgPool, inserts: &broadcast::Sender<Heard>) -> Result<bool, sqlx::Error> {
    #[derive(Deserialize)]
    struct Insert {
        job_type: String,
    }
    let Some(ear) = Ear::open(pool, pool).await? else { return Ok(false) };
    let mut listener = ear.into_listener();
    listener.listen_all(["apalis::job::insert", CHANNEL]).await?;
    loop {
        let Ok(heard) = tokio::time::timeout(QUIET, listener.try_recv()).await else {
            // A connection that is silently gone announces nothing, and says nothing of it.
            let word = sqlx::query("SELECT 1").execute(&mut listener);
            let word = tokio::time::timeout(WORD, word).await;
            word.map_err(|_| sqlx::Error::PoolTimedOut)??;
            continue;
        };
        let Some(notification) = heard? else { return Ok(true) };
        let is_job = notification.channel() != CHANNEL;
        let insert = is_job.then(|| serde_json::from_str::<Insert>(notification.payload()));
        let name = match &insert {
            Some(Ok(insert)) => insert.job_type.as_str(),
            Some(Err(_)) => continue,
            None => notification.payload(),
        };
        let kind = [Kind::Requests, Kind::Notices].into_iter().find(|kind| kind.name() == name);
        // Nobody may be working at the moment.
        let _ = kind.map(|kind| inserts.send(Heard { kind, is_job }));
    }
}
