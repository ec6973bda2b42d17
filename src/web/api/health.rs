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
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    toolbox::{self, Toolbox},
    web::{
        openapi::{Operation, PLAIN, Text},
        problem::Problem,
        routes::Routes,
        state::Shared,
    },
};

/// The tag of these routes.
pub(super) const MONITORING: &str = "monitoring";

/// What monitors ask.
pub(super) fn routes() -> Routes {
    Routes::default()
        .route(
            Operation::get(
                "/healthz",
                "healthz",
                MONITORING,
                "Says whether the process answers at all.",
            )
            .plainly(200, "It does.")
            .with::<Text>(PLAIN),
            healthz,
        )
        .route(
            Operation::get(
                "/readyz",
                "readyz",
                MONITORING,
                "Says whether the process can do its work.",
            )
            .answers::<Ready>(200, "It can.")
            .answers::<Ready>(503, "It cannot, or is about to end."),
            readyz,
        )
        .route(
            Operation::get(
                "/metrics",
                "metrics",
                MONITORING,
                "Shows numbers, in Prometheus's text format.",
            )
            .plainly(200, "The numbers; none where they are shown elsewhere.")
            .with::<Text>(PLAIN)
            .refuses(&[500, 503]),
            metrics,
        )
}

/// Whether the process can do its work.
#[derive(Serialize, ToSchema)]
#[schema(as = Readiness, examples(json!({
    "ready": true, "database": "ok", "storage": "ok", "disk": "ok", "ending": false, "warnings": [],
})))]
struct Ready {
    /// Whether all of it is well.
    ready: bool,
    /// Whether the database answers and has the right schema.
    database: Health,
    /// Whether the storage answers.
    storage: Health,
    /// Whether a disk was full in the last minute.
    disk: Disk,
    /// Whether the process is about to end.
    ending: bool,
    /// What works, if not as it should.
    warnings: Vec<&'static str>,
}

/// How something that the process needs is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Health {
    Ok,
    Failing,
}

/// How much room there was in the last minute.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Disk {
    Ok,
    Full,
}

/// Whether the process answers at all.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// How long it is remembered whether database and store answer: anybody may ask, as often as they
/// like, and a store may want to be paid for each answer.
const REMEMBERED: Duration = Duration::from_secs(1);

/// What was found out a moment ago, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<tokio::sync::Mutex<Option<(Instant, toolbox::Readiness)>>>);

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
pub(crate) async fn readyz(
    State(state): Shared,
    Extension(readiness): Extension<Readiness>,
) -> Response {
    let toolbox = &state.toolbox;
    let found = readiness.of(toolbox).await;
    let health = |ok: bool| if ok { Health::Ok } else { Health::Failing };
    let ending = state.shutdown.is_cancelled();
    let ready = found.database && found.storage && !ending;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Ready {
        ready,
        database: health(found.database),
        storage: health(found.storage),
        // What is there is still handed out: a full disk is no reason to send people elsewhere.
        disk: if toolbox.saw_full_disk() { Disk::Full } else { Disk::Ok },
        ending,
        warnings: toolbox.warnings(),
    };
    (status, Json(body)).into_response()
}

/// Prometheus's text format.
pub(crate) async fn metrics(State(state): Shared) -> Result<String, Problem> {
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
