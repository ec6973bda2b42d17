//! The routes of locks, and what the document says of each.

use serde_json::{Value, json};

use super::{
    WAIT, acquire, break_lock, list, release, renew, script, script_types, show, state,
    types::{
        HeldLock, LateFence, Lock, LockConflict, LockRenewal, LockRenewalForm, LockState, NewLock,
        NewLockForm,
    },
};
use crate::web::{
    api::drf,
    openapi::{Facts, Items, Operation, PLAIN, Text, VISIBLE, text},
    routes::Routes,
};

/// The tag of `/api/locks`.
pub(in crate::web) const LOCKS: &str = "locks";
/// The tag of `/lock_tokens`.
pub(in crate::web) const LOCK_TOKENS: &str = "lock tokens";

/// Who holds what.
pub(in crate::web) fn routes() -> Routes {
    const ONE: &str = "/api/locks/{app}/{model}/{id}";
    let filter = || json!({ "type": "string", "pattern": VISIBLE });
    let seconds =
        json!({ "type": "integer", "minimum": 0, "maximum": WAIT, "description": "Seconds." });
    Routes::default()
        .route(
            Operation::get("/api/locks", "listLocks", LOCKS, "Lists locks, the newest first.")
                .about("A `user` sees its own. Leases of workers on requests are among them.")
                .query("resource", "Only on this kind of thing: `app/model`.", filter())
                .query("owner", "Only of this owner.", filter())
                .limit()
                .answers::<Items<Lock>>(200, "The locks.")
                .guarded(),
            list,
        )
        .route(
            Operation::get(ONE, "showLock", LOCKS, "Shows who holds something.")
                .resource()
                .query(
                    "wait",
                    "Answers as soon as nobody holds it, after so many seconds at the latest.",
                    seconds,
                )
                .answers::<LockState>(200, "Who holds it, if anybody.")
                .guarded()
                .refuses(&[422]),
            state,
        )
        .route(
            Operation::delete(ONE, "breakLock", LOCKS, "Ends somebody's lock.")
                .about("For its owner and staff.")
                .resource()
                .plainly(204, "It is free.")
                .guarded()
                .refuses(&[423]),
            break_lock,
        )
}

/// Taking and keeping locks. Each also answers without the slash at the end.
pub(in crate::web) fn token_routes() -> Routes {
    const ONE: &str = "/lock_tokens/{app}/{model}/{id}/";
    const HELD: &str = "/lock_tokens/{app}/{model}/{id}/{token}/";
    let tag = "The fence, in quotes.";
    Routes::default()
        .route(
            asset(
                "/lock_tokens/lock_tokens.js",
                "lockClient",
                "The client for browsers: an ES module.",
                "text/javascript",
            ),
            script,
        )
        .route(
            asset(
                "/lock_tokens/lock_tokens.d.ts",
                "lockClientTypes",
                "The types of the client.",
                PLAIN,
            ),
            script_types,
        )
        .route_also(
            Operation::post(ONE, "acquireLock", LOCK_TOKENS, "Takes a lock.")
                .resource()
                .lock_session()
                .fields::<NewLock, NewLockForm>(false)
                .answers::<HeldLock>(201, "A token, and the lock that it holds.")
                .carrying("ETag", tag)
                .django()
                .when_configured(|operation, facts| conflicting(operation, facts).admitting(facts)),
            ONE.trim_end_matches('/'),
            acquire,
        )
        .route_also(
            Operation::get(HELD, "checkLock", LOCK_TOKENS, "Shows the lock that a token holds.")
                .about("An expired token holds its lock until somebody else takes it.")
                .held()
                .fenced()
                .answers::<HeldLock>(200, "The lock.")
                .carrying("ETag", tag)
                .django()
                .when_configured(Operation::admitting),
            HELD.trim_end_matches('/'),
            show,
        )
        .route_also(
            Operation::patch(HELD, "renewLock", LOCK_TOKENS, "Makes a token last again.")
                .held()
                .fenced()
                .fields::<LockRenewal, LockRenewalForm>(false)
                .answers::<HeldLock>(200, "The lock.")
                .carrying("ETag", tag)
                .django()
                .when_configured(Operation::admitting),
            HELD.trim_end_matches('/'),
            renew,
        )
        .route_also(
            Operation::delete(HELD, "releaseLock", LOCK_TOKENS, "Lets go of a token.")
                .about("The lock is free when its last token is gone.")
                .held()
                .fenced()
                .plainly(204, "It holds nothing any more.")
                .django()
                .when_configured(Operation::admitting),
            HELD.trim_end_matches('/'),
            release,
        )
        .map(|router| router.method_not_allowed_fallback(drf::no_method))
}

fn asset(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    media_type: &'static str,
) -> Operation {
    Operation::get(path, id, LOCK_TOKENS, summary)
        .header("If-None-Match", "Entity tags: 304 when the file has one of them.", text())
        .plainly(200, "The file.")
        .with::<Text>(media_type)
        .carrying("ETag", "Changes with the file.")
        .plainly(304, "The file is the one that the caller has.")
        .carrying("ETag", "Changes with the file.")
}

/// The name of an application or a kind of thing.
fn name() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,100}$" })
}

/// How it is refused to take what somebody else has.
fn conflicting(operation: Operation, facts: &Facts) -> Operation {
    match facts.conflict_status {
        // Whoever may not is refused with 403, too.
        403 => {
            operation.answers::<LockConflict>(403, "Somebody else has it; or the caller may not.")
        }
        _ => operation.answers::<Lock>(409, "Somebody else has it."),
    }
}

impl Operation {
    fn resource(self) -> Self {
        let id = json!({
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "pattern": "^[^\\x00-\\x1F\\x7F-\\x9F]+$",
        });
        self.part("app", "The application.", name(), json!("cms"))
            .part("model", "The kind of thing.", name(), json!("page"))
            .part("id", "Which one.", id, json!("home"))
    }

    fn held(self) -> Self {
        let schema = json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" });
        let example = json!("0f8fad5bd9cb469fa16570867728950e");
        self.resource().part("token", "The lock's token.", schema, example)
    }

    fn fenced(self) -> Self {
        self.header(
            "If-Match",
            "Fences, as `ETag` has them: 412 when the lock is of none of them.",
            text(),
        )
        .answers::<LateFence>(412, "Somebody had the lock since.")
    }

    /// Open to anybody, where locking is; else somebody must call.
    fn admitting(self, facts: &Facts) -> Self {
        if facts.open_locks { self.open().guarded() } else { self.guarded() }
    }
}
