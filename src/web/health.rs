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
use crate::toolbox::{self, Toolbox};

/// Whether the process answers at all.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// How long it is remembered whether database and store answer: anybody may ask, as often as they
/// like, and a store may want to be paid for each answer.
const REMEMBERED: Duration = Duration::from_secs(1);

/// What was found out a moment ago, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Readiness(Arc<tokio::sync::Mutex<Option<(Instant, toolbox::Readiness)>>>);

impl Readiness {
    /// Many ask at once, and one finds out.
    async fn of(&self, toolbox: &Toolbox) -> toolbox::Readiness {
        let mut last = self.0.lock().await;
        if let Some((at, found)) = *last
            && at.elapsed() < REMEMBERED
        {
            return found;
        }
        let found = toolbox.readiness().await;
        *last = Some((Instant::now(), found));
        found
    }
}

/// Whether it can do its work: database, schema and storage answer, and it is not ending.
pub(super) async fn readyz(
    State(state): Shared,
    Extension(readiness): Extension<Readiness>,
) -> Response {
    let toolbox = &state.toolbox;
    let found = readiness.of(toolbox).await;
    let word = |ok: bool| if ok { "ok" } else { "failing" };
    let ending = state.shutdown.is_cancelled();
    let ready = found.database && found.storage && !ending;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": ready,
        "database": word(found.database),
        "storage": word(found.storage),
        // What is there is still handed out: a full disk is no reason to send people elsewhere.
        "disk": if toolbox.saw_full_disk() { "full" } else { "ok" },
        "ending": ending,
        "warnings": toolbox.warnings(),
    });
    (status, Json(body)).into_response()
}

/// Prometheus's text format.
pub(super) async fn metrics(State(state): Shared) -> Result<String, Problem> {
    let Some(handle) = &state.metrics else { return Ok(String::new()) };
    let gauges = state.toolbox.gauges().await?;
    for (status, count) in gauges.requests {
        metrics::gauge!("bgfiles_requests", "status" => status.as_str()).set(count as f64);
    }
    metrics::gauge!("bgfiles_oldest_due_seconds").set(gauges.oldest_due.as_secs_f64());
    metrics::gauge!("bgfiles_login_targets").set(gauges.login_targets as f64);
    metrics::gauge!("bgfiles_queue_depth").set(gauges.queue_depth as f64);
    handle.run_upkeep();
    Ok(handle.render())
}
