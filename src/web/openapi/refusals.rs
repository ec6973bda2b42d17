//! The refusals that operations share: each status with what it means, once for problems (RFC 9457),
//! once as Django REST framework has them.

use serde_json::json;
use utoipa::openapi::{ContentBuilder, Ref, Response, ResponseBuilder};

use super::schema::text_header;

/// How errors look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) enum Family {
    /// RFC 9457.
    Problem,
    /// As Django REST framework has them.
    Django,
}

/// An answer that many operations share.
pub(in crate::web) struct Refusal {
    pub(in crate::web) status: u16,
    about: &'static str,
    title: &'static str,
    code: &'static str,
    detail: &'static str,
}

/// Every status with which operations refuse.
pub(in crate::web) const REFUSALS: &[Refusal] = &[
    Refusal {
        status: 400,
        about: "The request cannot be read: the body is not valid JSON (`malformed_json`), the path is no \
            text or the query names something twice (`refused`), the link is none of ours \
            (`bad_token`).",
        title: "Bad request",
        code: "malformed_json",
        detail: "the body is not valid JSON: expected value at line 1 column 1",
    },
    Refusal {
        status: 401,
        about: "No or wrong credentials.",
        title: "Authentication required",
        code: "unauthenticated",
        detail: "Authentication credentials were not provided.",
    },
    Refusal {
        status: 403,
        about: "The caller may not do this; `code` says why: `forbidden`, `wrong_lock_token`, \
            `link_policy`, `not_requester`, `link_expired` and its like, `token_expired` and its like.",
        title: "Forbidden",
        code: "forbidden",
        detail: "this client may not use the API",
    },
    Refusal {
        status: 404,
        about: "There is no such thing, or not for this caller (`not_found`); the file is not \
            ready (`file_not_ready`); nobody holds the lock (`not_locked`).",
        title: "Not found",
        code: "not_found",
        detail: "request not found",
    },
    Refusal {
        status: 405,
        about: "The link waits for a confirmation: POST redeems it.",
        title: "Confirmation required",
        code: "confirmation_needed",
        detail: "this link is redeemed by POST; GET and HEAD show what it is and leave it unused",
    },
    Refusal {
        status: 408,
        about: "The body did not arrive whole.",
        title: "Incomplete body",
        code: "body_incomplete",
        detail: "the body did not arrive whole",
    },
    Refusal {
        status: 409,
        about: "What is asked contradicts the state things are in; `code` says how: \
            `wrong_status`, `idempotency_key_reused`, `link_revoked`, `link_over`, `no_recipient`, \
            `already_concluded`, `too_late`.",
        title: "Conflict",
        code: "wrong_status",
        detail: "the request is finished and cannot be cancelled",
    },
    Refusal {
        status: 410,
        about: "The file's time is over (`file_expired`), it was made anew (`file_changed`), or it is no longer what was made (`file_lost`).",
        title: "File expired",
        code: "file_expired",
        detail: "the file has expired",
    },
    Refusal {
        status: 412,
        about: "The request is not as the caller expects it (`If-Match`).",
        title: "Precondition failed",
        code: "precondition_failed",
        detail: "the request has changed since; get it again and decide anew",
    },
    Refusal {
        status: 413,
        about: "The body is too large.",
        title: "Body too large",
        code: "body_too_large",
        detail: "the body is too large",
    },
    Refusal {
        status: 415,
        about: "The body is of a type that is not read here.",
        title: "Unsupported media type",
        code: "unsupported_media_type",
        detail: "send JSON with Content-Type: application/json",
    },
    Refusal {
        status: 422,
        about: "Something given is not acceptable; `errors` names each field.",
        title: "Invalid input",
        code: "invalid",
        detail: "criteria.upto: is required",
    },
    Refusal {
        status: 423,
        about: "Locked by someone else, or by the worker that makes the file.",
        title: "Locked",
        code: "locked",
        detail: "bgfiles/file_request/9b2f3a52-7d0c-4e0e-9d1c-5a8f0f6f2c11 is locked by bob since \
            2026-11-21 09:30 UTC",
    },
    Refusal {
        status: 429,
        about: "The caller is too fast.",
        title: "Too many requests",
        code: "throttled",
        detail: "Request was throttled. Expected available in 12 seconds.",
    },
    Refusal {
        status: 500,
        about: "Something went wrong on our side; the log says what.",
        title: "Internal error",
        code: "internal",
        detail: "something went wrong on our side",
    },
    Refusal {
        status: 503,
        about: "Not possible at the moment: the database or the store is in trouble (`database`, `storage`), a \
            disk is full (`disk_full`), the process ends (`shutting_down`).",
        title: "Temporarily unavailable",
        code: "database",
        detail: "something went wrong on our side",
    },
];

impl Family {
    /// Whether its operations refuse with this status.
    pub(in crate::web) fn has(self, status: u16) -> bool {
        self == Family::Problem || !matches!(status, 405 | 408 | 409 | 410 | 412 | 422 | 423)
    }

    /// The name of the shared answer.
    pub(in crate::web) fn name(self, status: u16) -> String {
        format!("{self:?}{status}")
    }

    pub(in crate::web) fn response(self, refusal: &Refusal) -> Response {
        let Refusal { status, about, title, code, detail } = *refusal;
        let mut response = ResponseBuilder::new().description(about);
        if self == Family::Django {
            let (schema, example) = match status {
                400 => ("Refusal", json!({ "non_field_errors": ["JSON parse error"] })),
                404 => ("Detail", json!({ "detail": "Not found." })),
                _ => ("Detail", json!({ "detail": detail })),
            };
            let schema = Ref::from_schema_name(schema);
            let content = ContentBuilder::new().schema(Some(schema)).example(Some(example));
            response = response.content("application/json", content.build());
        }
        // What is refused before a route is asked (a path that is no text, say) is a problem
        // everywhere.
        if self == Family::Problem || matches!(status, 400 | 404 | 500) {
            let mut example = json!({
                "type": "about:blank",
                "title": title,
                "status": status,
                "code": code,
                "detail": detail,
            });
            if status == 422 {
                let error = json!({ "field": "criteria.upto", "message": "is required" });
                example["errors"] = json!([error]);
            }
            let problem = Ref::from_schema_name("Problem");
            let problem = ContentBuilder::new().schema(Some(problem)).example(Some(example));
            let page = ContentBuilder::new().schema(Some(Ref::from_schema_name("Page")));
            response = response
                .content("application/problem+json", problem.build())
                .content("text/html", page.build());
        }
        let header = match status {
            401 => Some(("WWW-Authenticate", "The schemes of `Authorization`, a header each.")),
            405 => Some(("Allow", "The methods that work here.")),
            429 | 503 => Some(("Retry-After", "Seconds to wait.")),
            _ => None,
        };
        if let Some((name, about)) = header {
            response = response.header(name, text_header(about));
        }
        if status == 429 {
            for (name, about) in [
                (
                    "RateLimit-Policy",
                    "The caller's rate: `\"calls\";q=100;w=60`, q calls in w seconds.",
                ),
                (
                    "RateLimit",
                    "What is left of it: `\"calls\";r=0;t=12`, r calls, all again in t seconds.",
                ),
            ] {
                response = response.header(name, text_header(about));
            }
        }
        response.build()
    }
}
