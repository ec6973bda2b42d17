//! `GET /files/events?id=…`: how files get on, as server-sent events with the cards to show.

use std::{collections::HashMap, time::Instant};

use axum::{
    http::request::Parts,
    response::{Response, sse::Event},
};
use minijinja::context;
use serde_json::json;

use super::{Person, file, local};
use crate::{
    error::{Error, Result},
    file_request::FileRequest,
    toolbox::Watched,
    web::{
        Problem,
        api::requests::events::{PROVEN_FOR, stream},
        api::requests::request_id,
        identity::caller,
    },
};

/// Files that one page watches, at most.
const MOST: usize = 50;

pub(super) async fn events(mut person: Person, parts: Parts) -> Result<Response, Problem> {
    let (mut rows, mut missing) = (Vec::new(), false);
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    for (name, value) in url::form_urlencoded::parse(query) {
        match name.as_ref() {
            "id" if rows.len() < MOST => {
                let found = match request_id(&value) {
                    Ok(id) => person.requests().find(id).await,
                    Err(error) => Err(error),
                };
                match found {
                    Ok(row) => rows.push(row),
                    // One that was deleted meanwhile is no reason to show nothing of the others.
                    Err(Error::NotFound(_)) => missing = true,
                    Err(error) => return Err(error.into()),
                }
            }
            // What the page's forms come back to.
            "path" => {
                if let Some(path) = local(Some(value.as_ref())) {
                    person.view = person.view.clone().at(path);
                }
            }
            _ => {}
        }
    }
    if missing && rows.is_empty() {
        return Err(Error::NotFound("request").into());
    }
    let shutdown = person.state.shutdown.clone();
    let watched = person.requests().watch(&rows)?;
    let watch =
        Watch { person, parts, rows, shown: HashMap::new(), watched, proven: Instant::now() };
    Ok(stream(watch, Watch::next, shutdown))
}

struct Watch {
    person: Person,
    /// Proves again and again who they are.
    parts: Parts,
    rows: Vec<FileRequest>,
    /// What the page shows of each.
    shown: HashMap<String, String>,
    watched: Watched,
    proven: Instant,
}

impl Watch {
    /// Waits for something new. After the last end there is an `end`.
    async fn next(mut self) -> Option<(Event, Option<Watch>)> {
        loop {
            for row in &self.rows {
                let id = row.id.to_string();
                let state = format!(
                    "{:?} {} {:?} {} {} {:?}",
                    row.status,
                    row.progress_done,
                    row.progress_total,
                    row.progress_estimated,
                    row.cancel_requested,
                    row.error_code
                );
                if self.shown.get(&id) != Some(&state) {
                    // A card of what has ended may hold a link. Progress tells little, and often.
                    if row.status.is_terminal() || self.proven.elapsed() > PROVEN_FOR {
                        let person = &self.person;
                        if !caller::is_still(person.toolbox(), &self.parts, &person.caller).await {
                            return None;
                        }
                        self.proven = Instant::now();
                    }
                    let event = self.event(row);
                    self.shown.insert(id, state);
                    return Some((event, Some(self)));
                }
            }
            for row in self.rows.iter().filter(|row| row.status.is_terminal()) {
                self.watched.leave(row.id);
            }
            self.rows.retain(|row| !row.status.is_terminal());
            if self.rows.is_empty() {
                return Some((Event::default().event("end").data(""), None));
            }
            // What is gone was deleted elsewhere.
            let (fresh, gone) = self.watched.changed().await?;
            self.rows.retain(|row| !gone.contains(&row.id));
            for now in fresh {
                if let Some(row) = self.rows.iter_mut().find(|row| row.id == now.id) {
                    *row = now;
                }
            }
        }
    }

    fn event(&self, row: &FileRequest) -> Event {
        let person = &self.person;
        let own = context! { f => file::card(person, row) };
        let html =
            person.view.render(person.toolbox(), person.state.site(), "page/file_card.html", own);
        let html = html.unwrap_or_else(|error| {
            tracing::error!(%error, "a card could not be rendered");
            String::new()
        });
        let over = row.status.is_terminal();
        let data = json!({ "id": row.id, "html": html, "over": over });
        Event::default().event("file").data(data.to_string())
    }
}
