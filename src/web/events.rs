//! `GET /api/requests/{id}/events`: how a request gets on, as server-sent events.
//!
//! `status` carries the whole request, `progress` only `{done, total, estimated}`. The stream ends with the
//! request.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use axum::{
    extract::{Path, State},
    http::request::Parts,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::Stream;
use tokio_util::sync::CancellationToken;

use super::{Problem, Shared, caller, requests};
use crate::{
    auth_token::Caller,
    error::Result,
    file_request::FileRequest,
    toolbox::{Toolbox, Watched},
};

/// For so long who a caller is counts, where no more than progress is told.
pub(super) const PROVEN_FOR: Duration = Duration::from_secs(5);

pub(super) async fn events(
    State(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let row = requests::visible(&state.toolbox, &caller, &id).await?;
    let (toolbox, shutdown) = (state.toolbox.clone(), state.shutdown.clone());
    let watched = toolbox.watch(&caller.username, std::slice::from_ref(&row))?;
    let watch =
        Watch { toolbox, caller, parts, current: row, sent: None, watched, proven: Instant::now() };
    Ok(stream(watch, Watch::next, shutdown))
}

/// What `next` finds, one after the other, until it finds an end or the process ends.
pub(super) fn stream<W, F>(
    watch: W,
    next: fn(W) -> F,
    shutdown: CancellationToken,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>>
where
    W: Send + 'static,
    F: Future<Output = Option<(Event, Option<W>)>> + Send + 'static,
{
    let stream = futures::stream::unfold(Some(watch), move |watch| {
        let shutdown = shutdown.clone();
        async move {
            tokio::select! {
                next = async { next(watch?).await } => next.map(|(event, watch)| (Ok(event), watch)),
                () = shutdown.cancelled() => None,
            }
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
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
    /// Waits for something new. `None` once the request is gone.
    async fn next(mut self) -> Option<(Event, Option<Watch>)> {
        loop {
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
                let over = self.current.status.is_terminal();
                return Some((event, (!over).then_some(self)));
            }
            // None once it is gone.
            self.current = self.watched.changed().await?.0.pop()?;
        }
    }

    fn event(&self) -> Option<Event> {
        let row = &self.current;
        let changed =
            |f: fn(&FileRequest) -> i64| self.sent.as_ref().is_none_or(|s| f(s) != f(row));
        if self.sent.as_ref().is_none_or(|sent| sent.status != row.status) {
            let json = requests::to_json(&self.toolbox, row);
            return Some(Event::default().event("status").data(json.to_string()));
        }
        let total = |r: &FileRequest| r.progress_total.unwrap_or(-1);
        if changed(|r| r.progress_done)
            || changed(total)
            || changed(|r| r.progress_estimated.into())
        {
            return Some(Event::default().event("progress").data(row.progress().to_string()));
        }
        None
    }
}
