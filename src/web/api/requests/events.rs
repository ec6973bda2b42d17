//! `GET /api/requests/{id}/events`: how a request gets on, as server-sent events.
//!
//! `status` carries the whole request, `progress` only `{done, total, estimated}`, and `end` says that
//! there is no more. Each has an id; who comes back with that of an end is told so by 204, upon which
//! an `EventSource` stays away.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use axum::{
    extract::{Path, State},
    http::{HeaderName, StatusCode, header, request::Parts},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::request_id;
use crate::{
    auth_token::Caller,
    error::Result,
    file_request::FileRequest,
    toolbox::{Toolbox, Watched},
    web::{Problem, identity::caller, state::Shared},
};

/// For so long who a caller is counts, where no more than progress is told.
pub(crate) const PROVEN_FOR: Duration = Duration::from_secs(5);

pub(super) async fn events(
    State(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Response, Problem> {
    let row = state.toolbox.requests().by(&caller).find(request_id(&id)?).await?;
    let last = parts.headers.get("last-event-id").map(|id| id.as_bytes());
    if row.status.is_terminal() && last == Some(end_of(&row).as_bytes()) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let (toolbox, shutdown) = (state.toolbox.clone(), state.shutdown.clone());
    let watched = toolbox.requests().by(&caller).watch(std::slice::from_ref(&row))?;
    let watch =
        Watch { toolbox, caller, parts, current: row, sent: None, watched, proven: Instant::now() };
    Ok(stream(watch, Watch::next, shutdown))
}

/// The id of the event that ends the stream of a request; another one when it ends once more.
fn end_of(row: &FileRequest) -> String {
    let at = row.finished_at.map_or(0, |at| at.timestamp_micros());
    format!("{}.end.{at}", row.generation)
}

/// What `next` finds, one after the other, until it finds an end or the process ends. Sent on as it
/// comes, by proxies too: neither gathered (nginx) nor compressed (Caddy).
pub(crate) fn stream<W, F>(watch: W, next: fn(W) -> F, shutdown: CancellationToken) -> Response
where
    W: Send + 'static,
    F: Future<Output = Option<(Event, Option<W>)>> + Send + 'static,
{
    let stream = futures::stream::unfold(Some(watch), move |watch| {
        let shutdown = shutdown.clone();
        async move {
            tokio::select! {
                next = async { next(watch?).await } => {
                    next.map(|(event, watch)| (Ok::<_, Infallible>(event), watch))
                }
                () = shutdown.cancelled() => None,
            }
        }
    });
    let headers = [
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let stream = Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)));
    (headers, stream).into_response()
}

struct Watch {
    toolbox: Toolbox,
    caller: Caller,
    /// Proves again and again who that is.
    parts: Parts,
    current: FileRequest,
    sent: Option<FileRequest>,
    watched: Watched,
    proven: Instant,
}

impl Watch {
    /// Waits for something new. `None` when that cannot be told any more.
    async fn next(mut self) -> Option<(Event, Option<Watch>)> {
        loop {
            if self.sent.as_ref().is_some_and(|sent| sent.status.is_terminal()) {
                return Some((end(end_of(&self.current)), None));
            }
            if let Some(event) = self.event() {
                let is_status = self.sent.as_ref().is_none_or(|s| s.status != self.current.status);
                // The end of a request comes with a link. Progress tells little, and often.
                if is_status || self.proven.elapsed() > PROVEN_FOR {
                    if !caller::is_still(&self.toolbox, &self.parts, &self.caller).await {
                        return None;
                    }
                    self.proven = Instant::now();
                }
                self.sent = Some(self.current.clone());
                return Some((event, Some(self)));
            }
            let (mut fresh, _) = self.watched.changed().await?;
            match fresh.pop() {
                Some(row) => self.current = row,
                // It was deleted; whoever asks again is told so by 404.
                None => return Some((end(format!("{}.end.gone", self.current.generation)), None)),
            }
        }
    }

    fn event(&self) -> Option<Event> {
        let row = &self.current;
        let changed =
            |f: fn(&FileRequest) -> i64| self.sent.as_ref().is_none_or(|s| f(s) != f(row));
        if self.sent.as_ref().is_none_or(|sent| sent.status != row.status) {
            let shown = json!(self.toolbox.shown(row, self.caller.role));
            let id = format!("{}.{}", row.generation, row.status.as_str());
            return Some(Event::default().id(id).event("status").data(shown.to_string()));
        }
        let total = |r: &FileRequest| r.progress_total.unwrap_or(-1);
        if changed(|r| r.progress_done)
            || changed(total)
            || changed(|r| r.progress_estimated.into())
        {
            let id = format!("{}.{}.{}", row.generation, row.status.as_str(), row.progress_done);
            let progress = json!(row.progress());
            return Some(Event::default().id(id).event("progress").data(progress.to_string()));
        }
        None
    }
}

/// The data is what makes it an event that `EventSource` hands out.
fn end(id: String) -> Event {
    Event::default().id(id).event("end").data("{}")
}
