//! One entry for every route.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use utoipa::openapi::{
    ContentBuilder, Ref, Required, ResponseBuilder, SecurityRequirement,
    path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    request_body::{RequestBody, RequestBodyBuilder},
};

use super::{Examples, Facts, Family, schemas, text_header};
use crate::toolbox::IdempotencyKey;

pub(super) const REQUESTS: &str = "requests";
pub(super) const LINKS: &str = "links";
pub(super) const DOWNLOADS: &str = "downloads";
pub(super) const FILE_TYPES: &str = "file types";
pub(super) const REQUEST_TOKENS: &str = "request tokens";
pub(super) const AUTH: &str = "logins";
pub(super) const LOCKS: &str = "locks";
pub(super) const LOCK_TOKENS: &str = "lock tokens";
pub(super) const MONITORING: &str = "monitoring";
pub(super) const DOCUMENT: &str = "document";

/// The security scheme of `Authorization`.
pub(super) const TOKEN: &str = "token";
/// The security scheme of the cookie.
pub(super) const SESSION: &str = "session";

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data";
const HTML: &str = "text/html";
const PLAIN: &str = "text/plain";
/// Whatever the file is.
const FILE: &str = "*/*";

/// A visible text: what `Idempotency-Key` takes.
const KEY: &str = "^[!-~]([ -~]*[!-~])?$";

/// The tag of a request, when to ask again, the digest of a file, and the next page of a list.
const TAG: &str = "Changes whenever the request does.";
const AGAIN: &str = "While the request waits or is made: seconds until it is worth asking again.";
const DIGEST: &str = "`sha-256=:…:`, the digest of the whole file (RFC 9530), where it is known.";
const NEXT: &str = "`<…>; rel=\"next\"` (RFC 8288), unless this is the last page.";

/// A link's token, and what redeeming it gives.
const LINK: &str = "eyJpZCI6IjliMmYzYTUyIn0:1vMOX2:3q2-7wB1nPzT";
const GRANT: &str = "mV3kQ9xZb7Tn5YwR2mVc8LpD4sHf6JgK1aXe0uIoNqA";

/// An operation in the making.
pub(super) struct Op {
    pub(super) method: Method,
    pub(super) path: &'static str,
    operation: OperationBuilder,
    family: Family,
    /// Statuses of shared refusals.
    refusals: BTreeSet<u16>,
    answers: Vec<Answer>,
    body: Option<Body>,
    security: Vec<SecurityRequirement>,
}

/// An answer that is the operation's own.
struct Answer {
    status: u16,
    about: &'static str,
    /// Media types, with the component schema of each, if there is one.
    contents: Vec<(&'static str, Option<&'static str>)>,
    headers: Vec<(&'static str, &'static str)>,
}

struct Body {
    needed: bool,
    contents: Vec<(&'static str, &'static str)>,
}

impl Op {
    fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        let operation =
            OperationBuilder::new().operation_id(Some(id)).tag(tag).summary(Some(summary));
        Op {
            method,
            path,
            operation,
            family: Family::Problem,
            refusals: BTreeSet::new(),
            answers: Vec::new(),
            body: None,
            security: Vec::new(),
        }
    }

    fn get(path: &'static str, id: &'static str, tag: &'static str, summary: &'static str) -> Self {
        Self::new(Method::GET, path, id, tag, summary)
    }

    fn post(
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::POST, path, id, tag, summary)
    }

    fn patch(
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::PATCH, path, id, tag, summary)
    }

    fn delete(
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::DELETE, path, id, tag, summary)
    }

    fn about(mut self, text: &'static str) -> Self {
        self.operation = self.operation.description(Some(text));
        self
    }

    /// Somebody must call.
    fn guarded(mut self) -> Self {
        self.security.push(SecurityRequirement::new(TOKEN, Vec::<String>::new()));
        self.security.push(SecurityRequirement::new(SESSION, Vec::<String>::new()));
        self.refuses(&[401, 403, 429, 500, 503])
    }

    /// Anybody may call; who calls may matter.
    fn open(mut self) -> Self {
        self.security.push(SecurityRequirement::default());
        self
    }

    /// Errors are as Django REST framework has them.
    fn django(mut self) -> Self {
        self.family = Family::Django;
        self
    }

    fn refuses(mut self, statuses: &[u16]) -> Self {
        self.refusals.extend(statuses);
        self
    }

    fn parameter(mut self, parameter: ParameterBuilder) -> Self {
        self.operation = self.operation.parameter(parameter);
        self
    }

    /// A part of the path; what is no text is refused.
    fn part(self, name: &'static str, about: &'static str, schema: Value, example: Value) -> Self {
        let parameter = parameter(ParameterIn::Path, name, about, schema).example(Some(example));
        self.parameter(parameter).refuses(&[400, 404])
    }

    /// A member of the query; one that comes twice is refused.
    fn query(self, name: &'static str, about: &'static str, schema: Value) -> Self {
        self.parameter(parameter(ParameterIn::Query, name, about, schema)).refuses(&[400])
    }

    fn header(self, name: &'static str, about: &'static str, schema: Value) -> Self {
        self.parameter(parameter(ParameterIn::Header, name, about, schema))
    }

    /// A JSON body.
    fn json(mut self, needed: bool, schema: &'static str) -> Self {
        self.body = Some(Body { needed, contents: vec![(JSON, schema)] });
        self.refuses(&[400, 408, 413, 415, 422])
    }

    /// A body as Django REST framework takes it: JSON, or a form of either kind.
    fn fields(mut self, needed: bool, schema: &'static str, form: &'static str) -> Self {
        let contents = vec![(JSON, schema), (FORM, form), (MULTIPART, form)];
        self.body = Some(Body { needed, contents });
        self.refuses(&[400, 413, 415])
    }

    /// An answer with a JSON body.
    fn answers(self, status: u16, about: &'static str, schema: &'static str) -> Self {
        self.plainly(status, about).with(JSON, Some(schema))
    }

    /// An answer without a body.
    fn plainly(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push(Answer { status, about, contents: Vec::new(), headers: Vec::new() });
        self
    }

    /// A media type of the last answer.
    fn with(mut self, media_type: &'static str, schema: Option<&'static str>) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.contents.push((media_type, schema));
        }
        self
    }

    /// A header of the last answer.
    fn carrying(mut self, name: &'static str, about: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push((name, about));
        }
        self
    }

    /// As the library has it.
    pub(super) fn build(self, examples: &Examples) -> Operation {
        let mut operation = self.operation.securities(Some(self.security));
        if let Some(body) = self.body {
            operation = operation.request_body(Some(body.build(examples)));
        }
        for status in self.refusals {
            let name = self.family.name(status);
            operation = operation.response(status.to_string(), Ref::from_response_name(name));
        }
        for answer in self.answers {
            operation = operation.response(answer.status.to_string(), answer.build(examples));
        }
        operation.build()
    }
}

impl Answer {
    fn build(self, examples: &Examples) -> ResponseBuilder {
        let mut response = ResponseBuilder::new().description(self.about);
        for (media_type, schema) in self.contents {
            response = response.content(media_type, content(schema, examples));
        }
        for (name, about) in self.headers {
            response = response.header(name, text_header(about));
        }
        response
    }
}

impl Body {
    fn build(self, examples: &Examples) -> RequestBody {
        let needed = if self.needed { Required::True } else { Required::False };
        let mut body = RequestBodyBuilder::new().required(Some(needed));
        for (media_type, schema) in self.contents {
            body = body.content(media_type, content(Some(schema), examples));
        }
        body.build()
    }
}

fn content(schema: Option<&'static str>, examples: &Examples) -> ContentBuilder {
    let content = ContentBuilder::new().schema(schema.map(Ref::from_schema_name));
    content.example(schema.and_then(|name| examples.get(name).cloned()))
}

fn parameter(
    place: ParameterIn,
    name: &'static str,
    about: &'static str,
    schema: Value,
) -> ParameterBuilder {
    let needed = if place == ParameterIn::Path { Required::True } else { Required::False };
    Parameter::builder()
        .name(name)
        .parameter_in(place)
        .required(needed)
        .description(Some(about))
        .schema(Some(schemas::parse(schema)))
}

// Parameters that several have.

fn text() -> Value {
    json!({ "type": "string" })
}

fn name() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,100}$" })
}

impl Op {
    fn request(self) -> Self {
        let schema = json!({ "type": "string", "format": "uuid" });
        let example = json!("9b2f3a52-7d0c-4e0e-9d1c-5a8f0f6f2c11");
        self.part("id", "The request's id.", schema, example)
    }

    fn link(self) -> Self {
        let schema = json!({ "type": "string", "format": "uuid" });
        let example = json!("4f0c1f6e-0a53-4b1d-8f5e-6f7f8c0d9a20");
        self.request().part("jti", "The link's number.", schema, example)
    }

    fn request_token(self) -> Self {
        let schema = json!({ "type": "integer", "format": "int64", "minimum": 1 });
        self.part("id", "The token's number.", schema, json!(17))
    }

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

    fn limit(self) -> Self {
        let mut schema = schemas::between(1, 200, "Most items.");
        schema["default"] = json!(50);
        self.query("limit", "Most items of an answer.", schema).refuses(&[422])
    }

    /// A page of what is numbered.
    fn paged(self) -> Self {
        let cursor = json!({ "type": "string", "pattern": "^[0-9]{0,18}$" });
        self.limit().query("cursor", "What `next` of the page before said.", cursor)
    }

    /// An edit, which counts on a lock.
    fn editing(self) -> Self {
        self.header(
            "Lock-Token",
            "The token of a lock on the request that the caller holds; without one it is taken for \
             a moment.",
            text(),
        )
        .lock_session()
        .refuses(&[404, 423])
    }

    fn lock_session(self) -> Self {
        self.header(
            "Lock-Session",
            "16 to 100 visible characters of the caller's own: calls with the same ones share a \
             lock. Anything else is as if left out.",
            text(),
        )
    }

    fn fenced(self) -> Self {
        self.header(
            "If-Match",
            "Fences, as `ETag` has them: 412 when the lock is of none of them.",
            text(),
        )
        .answers(412, "Somebody had the lock since.", "LateFence")
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

    fn keyed(self, about: &'static str) -> Self {
        let longest = IdempotencyKey::LONGEST;
        let schema =
            json!({ "type": "string", "minLength": 1, "maxLength": longest, "pattern": KEY });
        self.header("Idempotency-Key", about, schema).refuses(&[422])
    }

    /// Validators and ranges of RFC 9110, and the answers to them.
    fn ranged(self) -> Self {
        self.header("Range", "One range of bytes; anything else is ignored.", text())
            .header("If-Range", "The range only if the file still has this tag or date.", text())
            .header("If-Match", "Entity tags: 412 when the file has none of them.", text())
            .header("If-None-Match", "Entity tags: 304 when the file has one of them.", text())
            .header("If-Modified-Since", "A date: 304 when the file is no newer.", text())
            .header("If-Unmodified-Since", "A date: 412 when the file is newer.", text())
            .plainly(206, "The part that `Range` names.")
            .with(FILE, None)
            .carrying("Content-Range", "Which part, of how many bytes.")
            .carrying("ETag", "The SHA-256 of the file, in quotes.")
            .carrying("Repr-Digest", DIGEST)
            .plainly(302, "Where the object store has the file, in presigned mode.")
            .carrying("Location", "An address that works for five minutes.")
            .plainly(304, "The file is the one that the caller has.")
            .carrying("ETag", "The SHA-256 of the file, in quotes.")
            .plainly(412, "The file is not the one that the caller expects.")
            .plainly(416, "The file has no such part.")
            .carrying("Content-Range", "How many bytes the file has.")
    }

    /// Whoever calls, if anybody: for links that are bound to a requester.
    fn for_whom_it_may_concern(self) -> Self {
        let mut open = self.open().refuses(&[400, 401, 403, 404, 410, 500, 503]);
        open.security.push(SecurityRequirement::new(TOKEN, Vec::<String>::new()));
        open.security.push(SecurityRequirement::new(SESSION, Vec::<String>::new()));
        open
    }
}

/// Every operation.
pub(super) fn all(facts: &Facts) -> Vec<Op> {
    let mut all = requests();
    all.extend(links());
    all.extend(request_tokens());
    all.extend(auth());
    all.extend(locks());
    all.extend(lock_tokens(facts));
    all.extend(downloads());
    all.extend(others());
    all
}

fn requests() -> Vec<Op> {
    let states = ["pending", "running", "finished", "failed", "cancelled", "expired"];
    vec![
        Op::post("/api/requests", "createRequest", REQUESTS, "Asks for a file.")
            .about(
                "A worker makes it, unless `deliver` says otherwise. A `user` asks for itself, at \
                 its own address; a `service` for anybody.",
            )
            .keyed(
                "Makes a repeat harmless for a day: the same caller with the same key who asks for \
                 the same, however it is written, gets the first request again.",
            )
            .json(true, "NewFileRequest")
            .answers(202, "It is recorded; a worker makes it.", "FileRequest")
            .with(HTML, Some("Page"))
            .carrying("Location", "The request's address.")
            .carrying("ETag", TAG)
            .carrying("Retry-After", AGAIN)
            .carrying("Idempotency-Replayed", "`true` when an earlier call made the request.")
            .plainly(200, "The file, made at once (`deliver`).")
            .with(FILE, None)
            .carrying("Content-Disposition", "The file's name.")
            .carrying("Repr-Digest", DIGEST)
            .guarded()
            .refuses(&[404, 409]),
        Op::get("/api/requests", "listRequests", REQUESTS, "Lists requests, the newest first.")
            .about("A `user` sees its own.")
            .query("status", "Only these.", json!({ "type": "string", "enum": states }))
            .query("file_type", "Only of this file type.", text())
            .query("requester", "Only of this requester.", text())
            .limit()
            .query("cursor", "What `next` of the page before said.", text())
            .answers(200, "A page of requests.", "FileRequestPage")
            .carrying("Link", NEXT)
            .guarded(),
        Op::get("/api/requests/{id}", "showRequest", REQUESTS, "Shows a request.")
            .request()
            .header("If-None-Match", "Entity tags: 304 when the request has one of them.", text())
            .matched()
            .answers(200, "The request.", "FileRequest")
            .carrying("ETag", TAG)
            .carrying("Retry-After", AGAIN)
            .plainly(304, "The request is as the caller knows it.")
            .carrying("ETag", TAG)
            .carrying("Retry-After", AGAIN)
            .guarded(),
        Op::patch("/api/requests/{id}", "editRequest", REQUESTS, "Edits a request.")
            .request()
            .editing()
            .matched()
            .json(true, "FileRequestEdit")
            .answers(200, "The request as it is now.", "FileRequest")
            .carrying("ETag", TAG)
            .guarded(),
        Op::delete("/api/requests/{id}", "deleteRequest", REQUESTS, "Removes a request.")
            .about("Its file and its lock go with it.")
            .request()
            .editing()
            .matched()
            .plainly(204, "It is gone.")
            .guarded()
            .refuses(&[409]),
        Op::post("/api/requests/{id}/cancel", "cancelRequest", REQUESTS, "Cancels a request.")
            .request()
            .matched()
            .answers(200, "It is cancelled.", "FileRequest")
            .carrying("ETag", TAG)
            .answers(202, "A worker is at it, and stops within a second or so.", "FileRequest")
            .carrying("ETag", TAG)
            .carrying("Retry-After", AGAIN)
            .guarded()
            .refuses(&[409]),
        Op::post("/api/requests/{id}/retry", "retryRequest", REQUESTS, "Starts a request anew.")
            .about("Only one that failed or was cancelled.")
            .request()
            .matched()
            .answers(202, "A worker will take it.", "FileRequest")
            .carrying("ETag", TAG)
            .carrying("Retry-After", AGAIN)
            .guarded()
            .refuses(&[409]),
        Op::get("/api/requests/{id}/events", "watchRequest", REQUESTS, "Watches a request.")
            .about(
                "Server-sent events: `status` with the request whenever that changes, `progress` \
                 with `{\"done\", \"total\"}`, `end` when there is no more. Close an `EventSource` \
                 then; it can send no `Authorization`, so that it needs a session.",
            )
            .request()
            .header("Last-Event-ID", "The id of the last event that the caller has seen.", text())
            .plainly(200, "The events.")
            .with("text/event-stream", Some("Events"))
            .plainly(204, "The caller has seen the end.")
            .guarded(),
        Op::get("/api/file-types", "listFileTypes", FILE_TYPES, "Lists what can be asked for.")
            .header("Accept-Language", "The language of the titles: its first is taken.", text())
            .answers(200, "The file types.", "FileTypeList")
            .guarded(),
    ]
}

fn links() -> Vec<Op> {
    vec![
        Op::post("/api/requests/{id}/links", "createLink", LINKS, "Makes a link to a file.")
            .about(
                "It ends with the file at the latest. What is left out is as the file type says; \
                 links of a `user` are never wider than that (403, `link_policy`). A request has \
                 at most 100 that are not over (409). Its URL is shown this once.",
            )
            .request()
            .json(false, "NewLink")
            .answers(201, "The link.", "MadeLink")
            .guarded()
            .refuses(&[409, 410]),
        Op::get(
            "/api/requests/{id}/links",
            "listLinks",
            LINKS,
            "Lists the links of a request, the newest first.",
        )
        .request()
        .paged()
        .answers(200, "A page of links.", "LinkPage")
        .carrying("Link", NEXT)
        .guarded(),
        Op::patch("/api/requests/{id}/links/{jti}", "editLink", LINKS, "Edits a link.")
            .about(
                "Links of a `user` are never wider than the file type says (403, `link_policy`).",
            )
            .link()
            .editing()
            .json(false, "LinkEdit")
            .answers(200, "The link as it is now.", "Link")
            .guarded()
            .refuses(&[409]),
        Op::delete("/api/requests/{id}/links/{jti}", "revokeLink", LINKS, "Revokes a link.")
            .about("Whatever it was redeemed for ends, too.")
            .link()
            .plainly(204, "It no longer works.")
            .guarded(),
        Op::post("/api/requests/{id}/links/{jti}/send", "sendLink", LINKS, "Mails a link.")
            .about("To whoever is told about the request.")
            .link()
            .answers(202, "The mail is on its way.", "SentLink")
            .guarded()
            .refuses(&[409, 410]),
        Op::get(
            "/api/requests/{id}/links/{jti}/log",
            "listLinkHits",
            LINKS,
            "Lists what happened to a link, the newest first.",
        )
        .link()
        .paged()
        .answers(200, "A page of the log.", "HitPage")
        .carrying("Link", NEXT)
        .guarded(),
        Op::get(
            "/api/requests/{id}/log",
            "listRequestHits",
            LINKS,
            "Lists what happened to all links of a request, the newest first.",
        )
        .request()
        .paged()
        .answers(200, "A page of the log.", "HitPage")
        .carrying("Link", NEXT)
        .guarded(),
    ]
}

fn request_tokens() -> Vec<Op> {
    vec![
        Op::post(
            "/api/request-tokens",
            "createRequestToken",
            REQUEST_TOKENS,
            "Issues a request token.",
        )
        .json(true, "NewRequestToken")
        .answers(201, "The token, with its JWT.", "IssuedRequestToken")
        .carrying("Location", "The token's address.")
        .guarded(),
        Op::get(
            "/api/request-tokens",
            "listRequestTokens",
            REQUEST_TOKENS,
            "Lists request tokens, the newest first.",
        )
        .query("scope", "Only of this scope.", text())
        .query("user", "Only for this user.", text())
        .query("jwt", "Only the token of this JWT; nothing else counts then.", text())
        .paged()
        .answers(200, "A page of tokens.", "RequestTokenPage")
        .carrying("Link", NEXT)
        .guarded(),
        Op::post(
            "/api/request-tokens/redeem",
            "redeemRequestToken",
            REQUEST_TOKENS,
            "Counts one use of a request token, for an application's own visitor.",
        )
        .json(true, "Redeem")
        .answers(200, "It admits; one use is counted.", "Admission")
        .guarded(),
        Op::post(
            "/api/request-tokens/uses/{use}/conclude",
            "concludeRequestTokenUse",
            REQUEST_TOKENS,
            "Says how an application answered its visitor.",
        )
        .about(
            "Once, within a minute, by who redeemed the token, or staff. The log then has the \
             status; 5xx gives the use back.",
        )
        .part(
            "use",
            "The use's number, as redeeming answered it.",
            json!({ "type": "integer", "format": "int64", "minimum": 1 }),
            json!(81),
        )
        .json(true, "Conclusion")
        .answers(200, "The line of the log.", "RequestTokenUse")
        .guarded()
        .refuses(&[409]),
        Op::get(
            "/api/request-tokens/{id}",
            "showRequestToken",
            REQUEST_TOKENS,
            "Shows a request token.",
        )
        .request_token()
        .answers(200, "The token.", "RequestToken")
        .guarded(),
        Op::patch(
            "/api/request-tokens/{id}",
            "editRequestToken",
            REQUEST_TOKENS,
            "Edits a request token.",
        )
        .about("JWTs that are about follow at once.")
        .request_token()
        .json(false, "RequestTokenEdit")
        .answers(200, "The token as it is now.", "RequestToken")
        .guarded(),
        Op::post(
            "/api/request-tokens/{id}/expire",
            "expireRequestToken",
            REQUEST_TOKENS,
            "Ends a request token and its JWTs.",
        )
        .request_token()
        .answers(200, "The token as it is now.", "RequestToken")
        .guarded(),
        Op::get(
            "/api/request-tokens/{id}/log",
            "listRequestTokenUses",
            REQUEST_TOKENS,
            "Lists the uses and denials of a request token, the newest first.",
        )
        .request_token()
        .paged()
        .answers(200, "A page of the log.", "RequestTokenUsePage")
        .carrying("Link", NEXT)
        .guarded(),
    ]
}

/// Each also answers with a slash at the end.
fn auth() -> Vec<Op> {
    let all = vec![
        Op::post("/api/auth/login", "logIn", AUTH, "Logs a user in.")
            .about("Wrong guesses make the next ones wait.")
            .fields(true, "Login", "Login")
            .answers(200, "A secret.", "LoggedIn")
            .refuses(&[429, 500, 503]),
        Op::post("/api/auth/refresh", "refresh", AUTH, "Makes the caller's secret last again.")
            .answers(200, "Its new end.", "Refreshed")
            .guarded(),
        Op::post("/api/auth/logout", "logOut", AUTH, "Ends the token that the caller uses.")
            .plainly(204, "No process honours it any more.")
            .carrying("Set-Cookie", "Takes the cookie of a session away.")
            .guarded(),
        Op::post(
            "/api/auth/logoutall",
            "logOutEverywhere",
            AUTH,
            "Ends all tokens and sessions of the caller.",
        )
        .plainly(204, "No process honours any of them any more.")
        .guarded(),
        Op::get("/api/auth/sessions", "listSessions", AUTH, "Lists the caller's tokens.")
            .answers(200, "The tokens that are good now.", "SessionList")
            .guarded(),
        Op::delete("/api/auth/sessions/{id}", "endSession", AUTH, "Ends a token of the caller.")
            .about("Not the one that this very call is made with.")
            .part(
                "id",
                "The token's number.",
                json!({ "type": "string", "format": "uuid" }),
                json!("4f0c1f6e-0a53-4b1d-8f5e-6f7f8c0d9a20"),
            )
            .plainly(204, "No process honours it any more.")
            .guarded(),
        Op::get("/api/auth/apiaccess", "showApiAccess", AUTH, "Shows the caller's API token.")
            .answers(200, "The token, without its secret.", "ApiAccess")
            .guarded()
            .refuses(&[404]),
        Op::post(
            "/api/auth/apiaccess",
            "issueApiAccess",
            AUTH,
            "Issues the caller's API token; there can be one.",
        )
        .answers(201, "The token, with its secret.", "IssuedApiAccess")
        .guarded()
        .refuses(&[400, 404]),
        Op::delete("/api/auth/apiaccess", "endApiAccess", AUTH, "Ends the caller's API token.")
            .plainly(204, "No process honours it any more.")
            .guarded()
            .refuses(&[404]),
    ];
    all.into_iter().map(Op::django).collect()
}

fn locks() -> Vec<Op> {
    let filter = || json!({ "type": "string", "pattern": "^[^\\x00-\\x1F\\x7F-\\x9F]*$" });
    vec![
        Op::get("/api/locks", "listLocks", LOCKS, "Lists locks, the newest first.")
            .about("A `user` sees its own. Leases of workers on requests are among them.")
            .query("resource", "Only on this kind of thing: `app/model`.", filter())
            .query("owner", "Only of this owner.", filter())
            .limit()
            .answers(200, "The locks.", "LockList")
            .guarded(),
        Op::get("/api/locks/{app}/{model}/{id}", "showLock", LOCKS, "Shows who holds something.")
            .resource()
            .query(
                "wait",
                "Answers as soon as nobody holds it, after so many seconds at the latest.",
                schemas::between(0, 60, "Seconds."),
            )
            .answers(200, "Who holds it, if anybody.", "LockState")
            .guarded()
            .refuses(&[422]),
        Op::delete("/api/locks/{app}/{model}/{id}", "breakLock", LOCKS, "Ends somebody's lock.")
            .about("For its owner and staff.")
            .resource()
            .plainly(204, "It is free.")
            .guarded()
            .refuses(&[423]),
    ]
}

/// Each also answers without the slash at the end.
fn lock_tokens(facts: &Facts) -> Vec<Op> {
    const ONE: &str = "/lock_tokens/{app}/{model}/{id}/";
    const HELD: &str = "/lock_tokens/{app}/{model}/{id}/{token}/";
    // Whoever may not is refused with 403, too.
    let (conflict, about, schema) = match facts.conflict_status {
        403 => (403, "Somebody else has it; or the caller may not.", "LockConflict"),
        _ => (409, "Somebody else has it.", "Lock"),
    };
    let tag = "The fence, in quotes.";
    let all = vec![
        Op::post(ONE, "acquireLock", LOCK_TOKENS, "Takes a lock.")
            .resource()
            .lock_session()
            .fields(false, "NewLock", "NewLockForm")
            .answers(201, "A token, and the lock that it holds.", "HeldLock")
            .carrying("ETag", tag)
            .answers(conflict, about, schema),
        Op::get(HELD, "checkLock", LOCK_TOKENS, "Shows the lock that a token holds.")
            .about("An expired token holds its lock until somebody else takes it.")
            .held()
            .fenced()
            .answers(200, "The lock.", "HeldLock")
            .carrying("ETag", tag),
        Op::patch(HELD, "renewLock", LOCK_TOKENS, "Makes a token last again.")
            .held()
            .fenced()
            .fields(false, "LockRenewal", "LockRenewalForm")
            .answers(200, "The lock.", "HeldLock")
            .carrying("ETag", tag),
        Op::delete(HELD, "releaseLock", LOCK_TOKENS, "Lets go of a token.")
            .about("The lock is free when its last token is gone.")
            .held()
            .fenced()
            .plainly(204, "It holds nothing any more."),
    ];
    let guard = |op: Op| match facts.open_locks {
        true => op.open().guarded().django(),
        false => op.guarded().django(),
    };
    let mut all: Vec<Op> = all.into_iter().map(guard).collect();
    let assets = [
        (
            "/lock_tokens/lock_tokens.js",
            "lockClient",
            "The client for browsers: an ES module.",
            "text/javascript",
        ),
        ("/lock_tokens/lock_tokens.d.ts", "lockClientTypes", "The types of the client.", PLAIN),
    ];
    for (path, id, summary, media_type) in assets {
        let asset = Op::get(path, id, LOCK_TOKENS, summary)
            .header("If-None-Match", "Entity tags: 304 when the file has one of them.", text())
            .plainly(200, "The file.")
            .with(media_type, Some("Text"))
            .carrying("ETag", "Changes with the file.")
            .plainly(304, "The file is the one that the caller has.")
            .carrying("ETag", "Changes with the file.");
        all.push(asset);
    }
    all
}

fn downloads() -> Vec<Op> {
    vec![
        Op::get("/d/{token}", "download", DOWNLOADS, "Downloads a file.")
            .about(
                "A limited or scanner-safe link is not used up by this: browsers get a page with a \
                 button, programs 405.",
            )
            .part("token", "The signed token of the link.", text(), json!(LINK))
            .ranged()
            .plainly(200, "The file; or the page of a link that waits for a confirmation.")
            .with(FILE, None)
            .carrying("Content-Disposition", "The file's name.")
            .carrying("ETag", "The SHA-256 of the file, in quotes.")
            .carrying("Repr-Digest", DIGEST)
            .for_whom_it_may_concern()
            .refuses(&[405]),
        Op::post("/d/{token}", "redeemLink", DOWNLOADS, "Redeems a link.")
            .about(
                "One use of a limited link. A second click on the same page, a browser that comes \
                 back and a repeated `Idempotency-Key` are not a second use.",
            )
            .part("token", "The signed token of the link.", text(), json!(LINK))
            .keyed("Makes a repeat harmless.")
            .form("RedeemForm")
            .plainly(303, "Where the download is.")
            .carrying("Idempotency-Replayed", "`true` when the key was used before.")
            .carrying("Location", "The download's own address: `/g/{grant}/{name}`.")
            .carrying("Set-Cookie", "By which a browser finds its download again.")
            .for_whom_it_may_concern(),
        Op::get("/g/{grant}/{name}", "resumeDownload", DOWNLOADS, "Downloads a redeemed file.")
            .about("In one piece or in many, as long as the grant lasts.")
            .part("grant", "What redeeming the link gave.", text(), json!(GRANT))
            .part("name", "The file's name; anything will do.", text(), json!("flights.xlsx"))
            .ranged()
            .plainly(200, "The file.")
            .with(FILE, None)
            .carrying("Content-Disposition", "The file's name.")
            .carrying("ETag", "The SHA-256 of the file, in quotes.")
            .carrying("Repr-Digest", DIGEST)
            .for_whom_it_may_concern(),
        Op::post(
            "/g/{grant}/{name}",
            "resumeDownloadByPost",
            DOWNLOADS,
            "Downloads a redeemed file, as GET does.",
        )
        .about("For programs that repeat their POST at the address that redeeming gave.")
        .part("grant", "What redeeming the link gave.", text(), json!(GRANT))
        .part("name", "The file's name; anything will do.", text(), json!("flights.xlsx"))
        .ranged()
        .plainly(200, "The file.")
        .with(FILE, None)
        .carrying("Content-Disposition", "The file's name.")
        .carrying("ETag", "The SHA-256 of the file, in quotes.")
        .carrying("Repr-Digest", DIGEST)
        .for_whom_it_may_concern(),
    ]
}

impl Op {
    /// A body of which a form is read, and anything else is ignored.
    fn form(mut self, schema: &'static str) -> Self {
        self.body = Some(Body { needed: false, contents: vec![(FORM, schema)] });
        self.refuses(&[400, 413])
    }
}

fn others() -> Vec<Op> {
    vec![
        Op::get("/healthz", "healthz", MONITORING, "Says whether the process answers at all.")
            .plainly(200, "It does.")
            .with(PLAIN, Some("Text")),
        Op::get("/readyz", "readyz", MONITORING, "Says whether the process can do its work.")
            .answers(200, "It can.", "Readiness")
            .answers(503, "It cannot, or is about to end.", "Readiness"),
        Op::get("/metrics", "metrics", MONITORING, "Shows numbers, in Prometheus's text format.")
            .plainly(200, "The numbers; none where they are shown elsewhere.")
            .with(PLAIN, Some("Text"))
            .refuses(&[500, 503]),
        Op::get("/openapi.json", "openapi", DOCUMENT, "Shows this document.").answers(
            200,
            "The document.",
            "Document",
        ),
    ]
}
