//! What monitors ask: alive, ready, numbers.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{Problem, Shared};
use crate::{
    file_request::{Status, store},
    queue,
};

/// Whether the process answers at all.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether it can do its work: database, schema and storage answer, and it is not ending.
pub(super) async fn readyz(State(state): Shared) -> Response {
    let toolbox = &state.toolbox;
    // At the same time: one that takes its time is not to make the other late.
    let (schema, storage) = tokio::join!(toolbox.db.require_current(), toolbox.storage.ping());
    for (name, result) in [("database", &schema), ("storage", &storage)] {
        if let Err(error) = result {
            tracing::warn!(%error, "{name} is not ready");
        }
    }
    let word = |ok: bool| if ok { "ok" } else { "failing" };
    let ending = state.shutdown.is_cancelled();
    let ready = schema.is_ok() && storage.is_ok() && !ending;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": ready,
        "database": word(schema.is_ok()),
        "storage": word(storage.is_ok()),
        "ending": ending,
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
    let depth = queue::depth(tx.conn()).await?;
    metrics::gauge!("bgfiles_queue_depth").set(depth as f64);
    handle.run_upkeep();
    Ok(handle.render())
}
