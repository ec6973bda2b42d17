//! What monitors ask: alive, ready, numbers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{Problem, Shared};
use crate::{
    auth_token::limit_store,
    file_request::{Status, store},
    queue,
    toolbox::Toolbox,
};

/// Whether the process answers at all.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// How long it is remembered whether database and store answer: anybody may ask, as often as they
/// like, and a store may want to be paid for each answer.
const REMEMBERED: Duration = Duration::from_secs(1);

/// What is said of a full disk.
const FULL: &str =
    "a disk was full less than a minute ago: what writes is refused until there is space";

/// What was found out a moment ago, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Readiness(Arc<tokio::sync::Mutex<Option<(Instant, Found)>>>);

#[derive(Clone, Copy, Debug)]
struct Found {
    schema: bool,
    storage: bool,
}

impl Readiness {
    /// Many ask at once, and one finds out.
    async fn of(&self, toolbox: &Toolbox) -> Found {
        let mut last = self.0.lock().await;
        if let Some((at, found)) = *last
            && at.elapsed() < REMEMBERED
        {
            return found;
        }
        // At the same time: one that takes its time is not to make the other late.
        let (schema, storage) = tokio::join!(toolbox.db.require_current(), toolbox.storage.ping());
        for (name, result) in [("database", &schema), ("storage", &storage)] {
            if let Err(error) = result {
                tracing::warn!(%error, "{name} is not ready");
            }
        }
        let found = Found { schema: schema.is_ok(), storage: storage.is_ok() };
        *last = Some((Instant::now(), found));
        found
    }
}

/// Whether it can do its work: database, schema and storage answer, and it is not ending.
pub(super) async fn readyz(
    State(state): Shared,
    Extension(readiness): Extension<Readiness>,
) -> Response {
    let Found { schema, storage } = readiness.of(&state.toolbox).await;
    let word = |ok: bool| if ok { "ok" } else { "failing" };
    let ending = state.shutdown.is_cancelled();
    let ready = schema && storage && !ending;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let full = state.toolbox.saw_full_disk();
    let watch = state.toolbox.memory().watch.warning();
    let body = json!({
        "ready": ready,
        "database": word(schema),
        "storage": word(storage),
        // What is there is still handed out: a full disk is no reason to send people elsewhere.
        "disk": if full { "full" } else { "ok" },
        "ending": ending,
        // It works, if not as it should.
        "warnings": watch.into_iter().chain(full.then_some(FULL)).collect::<Vec<_>>(),
    });
    (status, Json(body)).into_response()
}

/// Prometheus's text format.
pub(super) async fn metrics(State(state): Shared) -> Result<String, Problem> {
    let Some(handle) = &state.metrics else { return Ok(String::new()) };
    let toolbox = &state.toolbox;
    let mut tx = toolbox.db.read().await?;
    let counts = store::counts(&mut tx).await?;
    for status in Status::ALL {
        let count = counts.iter().find(|(name, _)| name == status.as_str()).map_or(0, |c| c.1);
        metrics::gauge!("bgfiles_requests", "status" => status.as_str()).set(count as f64);
    }
    let oldest = store::oldest_due(&mut tx, toolbox.clock.now()).await?;
    let waiting = oldest.and_then(|delta| delta.to_std().ok()).unwrap_or_default();
    metrics::gauge!("bgfiles_oldest_due_seconds").set(waiting.as_secs_f64());
    let targets = limit_store::targets(&mut tx, toolbox.clock.now().timestamp_millis()).await?;
    metrics::gauge!("bgfiles_login_targets").set(targets as f64);
    let depth = queue::depth(tx.conn()).await?;
    metrics::gauge!("bgfiles_queue_depth").set(depth as f64);
    handle.run_upkeep();
    Ok(handle.render())
}
