//! The routes of requests, and what the document says of them.

use serde_json::json;

use super::{
    cancel, create, events, list, remove, retry, show,
    types::{Ask, FileRequestEdit, example},
    update,
};
use crate::{
    file_request::{Shown, Status},
    web::{
        openapi::{DIGEST, Events, HTML, HtmlPage, NEXT, Operation, Page, text},
        routes::Routes,
    },
};

/// The tag of these routes.
pub(in crate::web) const REQUESTS: &str = "requests";

/// The tag of a request, and when to ask again.
const TAG: &str = "Changes whenever the request does.";
const AGAIN: &str = "While the request waits or is made: seconds until it is worth asking again.";

/// Asking for files, and what becomes of the requests.
pub(in crate::web) fn routes() -> Routes {
    let states = Status::ALL.map(Status::as_str);
    Routes::default()
        .route(
            Operation::post("/api/requests", "createRequest", REQUESTS, "Asks for a file.")
                .about(
                    "A worker makes it, unless `deliver` says otherwise. A `user` asks for itself, \
                     at its own address; a `service` for anybody.",
                )
                .keyed(
                    "Makes a repeat harmless for a day: the same caller with the same key who asks \
                     for the same, however it is written, gets the first request again.",
                )
                .json::<Ask>(true)
                .when_configured(|operation, facts| operation.body_example(&example(facts)))
                .answers::<Shown>(202, "It is recorded; a worker makes it.")
                .with::<HtmlPage>(HTML)
                .carrying("Location", "The request's address.")
                .carrying("ETag", TAG)
                .carrying("Retry-After", AGAIN)
                .carrying("Idempotency-Replayed", "`true` when an earlier call made the request.")
                .plainly(200, "The file, made at once (`deliver`).")
                .file()
                .carrying("Content-Disposition", "The file's name.")
                .carrying("Repr-Digest", DIGEST)
                .guarded()
                .refuses(&[404, 409]),
            create,
        )
        .route(
            Operation::get(
                "/api/requests",
                "listRequests",
                REQUESTS,
                "Lists requests, the newest first.",
            )
            .about("A `user` sees its own.")
            .query("status", "Only these.", json!({ "type": "string", "enum": states }))
            .query("file_type", "Only of this file type.", text())
            .query("requester", "Only of this requester.", text())
            .limit()
            .query("cursor", "What `next` of the page before said.", text())
            .answers::<Page<Shown>>(200, "A page of requests.")
            .carrying("Link", NEXT)
            .guarded(),
            list,
        )
        .route(
            Operation::get("/api/requests/{id}", "showRequest", REQUESTS, "Shows a request.")
                .request()
                .header(
                    "If-None-Match",
                    "Entity tags: 304 when the request has one of them.",
                    text(),
                )
                .matched()
                .answers::<Shown>(200, "The request.")
                .carrying("ETag", TAG)
                .carrying("Retry-After", AGAIN)
                .plainly(304, "The request is as the caller knows it.")
                .carrying("ETag", TAG)
                .carrying("Retry-After", AGAIN)
                .guarded(),
            show,
        )
        .route(
            Operation::patch("/api/requests/{id}", "editRequest", REQUESTS, "Edits a request.")
                .request()
                .editing()
                .matched()
                .json::<FileRequestEdit>(true)
                .answers::<Shown>(200, "The request as it is now.")
                .carrying("ETag", TAG)
                .guarded(),
            update,
        )
        .route(
            Operation::delete(
                "/api/requests/{id}",
                "deleteRequest",
                REQUESTS,
                "Removes a request.",
            )
            .about("Its file and its lock go with it.")
            .request()
            .editing()
            .matched()
            .plainly(204, "It is gone.")
            .guarded()
            .refuses(&[409]),
            remove,
        )
        .route(
            Operation::post(
                "/api/requests/{id}/cancel",
                "cancelRequest",
                REQUESTS,
                "Cancels a request.",
            )
            .request()
            .matched()
            .answers::<Shown>(200, "It is cancelled.")
            .carrying("ETag", TAG)
            .answers::<Shown>(202, "A worker is making it and stops within about a second.")
            .carrying("ETag", TAG)
            .carrying("Retry-After", AGAIN)
            .guarded()
            .refuses(&[409]),
            cancel,
        )
        .route(
            Operation::post(
                "/api/requests/{id}/retry",
                "retryRequest",
                REQUESTS,
                "Starts a request anew.",
            )
            .about("Only one that failed or was cancelled.")
            .request()
            .matched()
            .answers::<Shown>(202, "A worker will take it.")
            .carrying("ETag", TAG)
            .carrying("Retry-After", AGAIN)
            .guarded()
            .refuses(&[409]),
            retry,
        )
        .route(
            Operation::get(
                "/api/requests/{id}/events",
                "watchRequest",
                REQUESTS,
                "Watches a request.",
            )
            .about(
                "Server-sent events: `status` with the request whenever that changes, `progress` \
                 with `{\"done\", \"total\"}`, `end` when there is no more. Close an `EventSource` \
                 then; it can send no `Authorization`, so that it needs a session.",
            )
            .request()
            .header("Last-Event-ID", "The id of the last event that the caller has seen.", text())
            .plainly(200, "The events.")
            .with::<Events>("text/event-stream")
            .plainly(204, "The caller has seen the end.")
            .guarded(),
            events::events,
        )
}

impl Operation {
    /// An edit, which counts on a lock.
    pub(in crate::web::api) fn editing(self) -> Self {
        self.header(
            "Lock-Token",
            "The token of a lock on the request that the caller holds; without one it is taken for \
             a moment.",
            text(),
        )
        .lock_session()
        .refuses(&[404, 423])
    }

    /// What counts on the request being as the caller knows it.
    fn matched(self) -> Self {
        self.header(
            "If-Match",
            "Entity tags: 412 when the request has none of them; it is then not changed.",
            text(),
        )
        .refuses(&[412])
    }
}
