//! The component schemas: what goes in and what comes out, as JSON Schema 2020-12.
//!
//! They are written as JSON and read into the library's types, which keep a subset: no `const`,
//! no `not`, nothing beside `oneOf` and `anyOf`. A test holds each against that.

use chrono_tz::TZ_VARIANTS;
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};

use super::Facts;
use crate::file_request::model::LONGEST_DESCRIPTION;

/// Text without NUL, which no database keeps.
const NO_NUL: &str = "^[^\\x00]*$";
/// Text without control characters.
const VISIBLE: &str = "^[^\\x00-\\x1F\\x7F-\\x9F]*$";
/// BCP 47, or nothing.
const LANGUAGE: &str = "^([A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*)?$";
/// Names of file types.
const FILE_TYPE: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$";

const ID: &str = "9b2f3a52-7d0c-4e0e-9d1c-5a8f0f6f2c11";
const JTI: &str = "4f0c1f6e-0a53-4b1d-8f5e-6f7f8c0d9a20";
const NOW: &str = "2026-11-21T09:30:00Z";
const LATER: &str = "2026-11-22T09:30:00Z";
const LINK_URL: &str = "https://files.example.com/d/eyJpZCI6IjliMmYzYTUyIn0:1vMOX2:3q2-7wB1nPzT";
const JWT: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiIxNyIsInN1YiI6InJlcG9ydCIsIm1vZCI6Im4ifQ.c2lnbmF0dXJl";
const LOCK_TOKEN: &str = "0f8fad5bd9cb469fa16570867728950e";

/// A schema as the library has it.
pub(super) fn parse(schema: Value) -> RefOr<Schema> {
    serde_json::from_value(schema).unwrap_or_default()
}

/// Every component schema, by name.
pub(super) fn all(facts: &Facts) -> Vec<(&'static str, Value)> {
    let mut all = requests(facts);
    all.extend(links());
    all.extend(registry());
    all.extend(request_tokens());
    all.extend(locks(facts));
    all.extend(auth(facts));
    all.extend(common());
    all
}

// Building blocks.

fn with(mut schema: Value, more: Value) -> Value {
    if let (Value::Object(schema), Value::Object(more)) = (&mut schema, more) {
        schema.extend(more);
    }
    schema
}

fn or_null(mut schema: Value) -> Value {
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.push(Value::Null);
    }
    let kind = schema["type"].take();
    with(schema, json!({ "type": [kind, "null"] }))
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

fn one_of(values: &[&str], about: &str) -> Value {
    with(text(about), json!({ "enum": values }))
}

fn time(about: &str) -> Value {
    with(text(about), json!({ "format": "date-time" }))
}

fn uuid(about: &str) -> Value {
    with(text(about), json!({ "format": "uuid" }))
}

fn uri(about: &str) -> Value {
    with(text(about), json!({ "format": "uri" }))
}

fn count(about: &str) -> Value {
    json!({ "type": "integer", "format": "int64", "minimum": 0, "description": about })
}

/// A whole number between bounds.
pub(super) fn between(least: u64, most: u64, about: &str) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most, "description": about })
}

fn flag(about: &str) -> Value {
    json!({ "type": "boolean", "description": about })
}

/// Any JSON. The library reads this `null` as "says nothing", and leaves it out.
fn anything(about: &str) -> Value {
    json!({ "type": null, "description": about })
}

fn map(about: &str) -> Value {
    json!({ "type": "object", "additionalProperties": true, "description": about })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn list(items: Value, about: &str) -> Value {
    json!({ "type": "array", "items": items, "description": about })
}

type Properties = Vec<(&'static str, Value)>;

fn object(about: &str, required: &[&str], properties: Properties, example: Value) -> Value {
    let properties: Map<String, Value> =
        properties.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    let mut schema = json!({
        "type": "object",
        "description": about,
        "properties": properties,
        "examples": [example],
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// What we answer: every property is there.
fn answer(about: &str, properties: Properties, example: Value) -> Value {
    let names: Vec<&str> = properties.iter().map(|(name, _)| *name).collect();
    object(about, &names, properties, example)
}

/// What we are given: nothing beside what is named.
fn given(about: &str, required: &[&str], properties: Properties, example: Value) -> Value {
    let schema = object(about, required, properties, example);
    with(schema, json!({ "additionalProperties": false }))
}

/// Items, and where the next ones begin.
fn page(item: &str, example: Value) -> Value {
    answer(
        "One page of a list, the newest first.",
        vec![
            ("items", list(reference(item), "The items.")),
            (
                "next",
                or_null(text("The `cursor` of the next page; null when this is the last one.")),
            ),
        ],
        json!({ "items": [example], "next": null }),
    )
}

/// All items at once.
fn items(item: &str, example: Value) -> Value {
    let items = list(reference(item), "The items.");
    answer("A whole list.", vec![("items", items)], json!({ "items": [example] }))
}

// Requests.

fn request_example() -> Value {
    json!({
        "id": ID,
        "file_type": "flights",
        "status": "finished",
        "criteria": "origin=JFK",
        "format": "xlsx",
        "filename": "flights-JFK.xlsx",
        "description": "Flights from JFK",
        "content_type": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "size": 7_340_032,
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "rows": 111_279,
        "requester": "amy",
        "requester_email": "amy@example.com",
        "language": "nl",
        "timezone": "Europe/Amsterdam",
        "requested_at": NOW,
        "started_at": "2026-11-21T09:30:01Z",
        "finished_at": "2026-11-21T09:30:09Z",
        "expires_at": LATER,
        "attempts": 1,
        "progress": { "done": 111_279, "total": 111_279, "estimated": false },
        "error": null,
        "downloads": { "count": 0, "limit": null, "last_at": null },
        "download_url": LINK_URL,
    })
}

fn new_request_example(facts: &Facts) -> Value {
    let asker = json!({ "id": "amy", "email": "amy@example.com" });
    let known = facts.file_types.iter().any(|name| name == "flights");
    if known || facts.file_types.is_empty() {
        return json!({
            "file_type": "flights",
            "format": "xlsx",
            "criteria": { "origin": "JFK" },
            "requester": asker,
            "language": "nl",
            "timezone": "Europe/Amsterdam",
        });
    }
    json!({ "file_type": facts.file_types[0], "requester": asker })
}

fn file_type(facts: &Facts) -> Value {
    let about = "Which kind of file: a `name` of `GET /api/file-types`.";
    match facts.file_types.as_slice() {
        [] => with(text(about), json!({ "pattern": FILE_TYPE })),
        names => with(text(about), json!({ "enum": names })),
    }
}

fn format(facts: &Facts) -> Value {
    let about = "One of the file type's `formats`; its first when empty, null or left out.";
    let mut names = facts.formats.clone();
    names.push(String::new());
    or_null(with(text(about), json!({ "enum": names })))
}

fn criteria() -> Value {
    let plain = json!({
        "type": ["string", "number", "boolean", "null"],
        "pattern": NO_NUL,
        "description": "Text, a number, true or false; null is as empty text, and takes no default.",
    });
    json!({
        "description": "What to put in the file, as the file type's `criteria` say.",
        "anyOf": [
            {
                "type": "object",
                "description": "By name; several values as a list. 16 KiB at most, urlencoded.",
                "additionalProperties": {
                    "anyOf": [
                        plain.clone(),
                        list(plain.clone(), "Several values."),
                    ],
                },
            },
            with(text("The same, urlencoded: `origin=JFK&carrier=AA`."), json!({
                "maxLength": 16_384,
                "pattern": NO_NUL,
            })),
            with(
                list(plain.clone(), "None: how PHP writes an empty object."),
                json!({ "maxItems": 0 }),
            ),
            { "type": "null", "description": "None." },
        ],
    })
}

fn email() -> Value {
    let address = json!({ "format": "email", "maxLength": 254 });
    json!({
        "description": "Where the notice goes; nowhere when empty. Users are mailed at their own \
            address only.",
        "anyOf": [
            or_null(with(text("An address."), address)),
            one_of(&[""], "Nowhere."),
        ],
    })
}

fn limited(most: usize, about: &str) -> Value {
    or_null(with(text(about), json!({ "maxLength": most, "pattern": NO_NUL })))
}

fn requests(facts: &Facts) -> Vec<(&'static str, Value)> {
    let request = request_example();
    vec![
        ("FileRequest", file_request(request.clone())),
        ("FileRequestPage", page("FileRequest", request)),
        ("Progress", progress()),
        ("RequestError", request_error()),
        ("Downloads", downloads()),
        ("NewFileRequest", new_file_request(facts)),
        (
            "Requester",
            given(
                "Who wants the file. Users ask for themselves, applications for anybody, staff for \
                 themselves unless they name somebody.",
                &[],
                vec![
                    (
                        "id",
                        or_null(with(
                            text("Their id in the application; null when there is none."),
                            json!({ "minLength": 1, "maxLength": 200, "pattern": NO_NUL }),
                        )),
                    ),
                    ("email", email()),
                ],
                json!({ "id": "amy", "email": "amy@example.com" }),
            ),
        ),
        (
            "FileRequestEdit",
            given(
                "What an edit changes.",
                &["description"],
                vec![(
                    "description",
                    with(
                        text("For people: up to 2,000 characters."),
                        json!({ "maxLength": LONGEST_DESCRIPTION, "pattern": NO_NUL }),
                    ),
                )],
                json!({ "description": "Flights from JFK, for the board" }),
            ),
        ),
        ("TimeZone", time_zone()),
        (
            "Events",
            with(
                text(
                    "Server-sent events: `status` carries a FileRequest, `progress` a Progress; `end` \
                     is the last one. Each has an `id`.",
                ),
                json!({ "examples": [
                    "id: 1.running\nevent: status\ndata: {\"id\": \"9b2f3a52-…\", \"status\": \"running\", …}\n\n\
                     id: 1.running.5000\nevent: progress\n\
                     data: {\"done\": 5000, \"total\": 111279, \"estimated\": true}\n\n\
                     id: 1.end.1795512000000000\nevent: end\ndata: {}\n\n"
                ] }),
            ),
        ),
    ]
}

fn time_zone() -> Value {
    let mut names: Vec<&str> = TZ_VARIANTS.iter().map(|zone| zone.name()).collect();
    names.push("");
    or_null(one_of(&names, "A name of the IANA time zone database; UTC when empty or null."))
}

fn progress() -> Value {
    answer(
        "How far the worker is.",
        vec![
            ("done", count("Units done: rows, or what the file type counts.")),
            ("total", or_null(count("Units in all; null when that is not known."))),
            (
                "estimated",
                flag("Whether `total` is an estimate: from the last file, or the database's plan."),
            ),
        ],
        json!({ "done": 5000, "total": 111_279, "estimated": true }),
    )
}

fn request_error() -> Value {
    object(
        "What went wrong.",
        &["code", "message"],
        vec![
            ("code", text("Its stable name.")),
            ("message", or_null(text("For people."))),
            (
                "cause",
                or_null(text(
                    "What it came of, e.g. the database's words with DETAIL and HINT; null where \
                     `message` says it. For staff: others get no such field.",
                )),
            ),
        ],
        json!({ "code": "too_many_rows", "message": "more than 1048575 rows do not fit" }),
    )
}

fn downloads() -> Value {
    answer(
        "How often a file was downloaded.",
        vec![
            ("count", count("How often so far; of limited links, how often they were redeemed.")),
            ("limit", or_null(count("How often it can be; null without a limit."))),
            ("last_at", or_null(time("When it last was; null when never."))),
        ],
        json!({ "count": 0, "limit": null, "last_at": null }),
    )
}

fn file_request(example: Value) -> Value {
    let states = ["pending", "running", "finished", "failed", "cancelled", "expired"];
    answer(
        "A file request. Times are RFC 3339 in UTC.",
        vec![
            ("id", uuid("Its number, random.")),
            ("file_type", text("Which kind of file.")),
            ("status", one_of(&states, "Where it stands.")),
            ("criteria", text("What goes into the file: urlencoded, normalised.")),
            ("format", or_null(text("Its format; null when the file type has none."))),
            ("filename", or_null(text("As offered for download; null until known."))),
            ("description", text("For people.")),
            ("content_type", or_null(text("Its media type; null until known."))),
            ("size", or_null(count("Bytes; null until the file is there."))),
            (
                "sha256",
                or_null(text("SHA-256 of the file, lower-case hex; null until it is there.")),
            ),
            ("rows", or_null(count("Data rows; null when the file type counts none."))),
            ("requester", or_null(text("Who wants it; null when nobody in particular does."))),
            ("requester_email", or_null(text("Where notices go; null for nowhere."))),
            ("language", or_null(text("BCP 47; null for the default."))),
            ("timezone", or_null(text("IANA name; null for UTC."))),
            ("requested_at", time("When it was asked for.")),
            ("started_at", or_null(time("When a worker first took it; null before."))),
            ("finished_at", or_null(time("When it ended, well or not; null before."))),
            ("expires_at", or_null(time("When the file goes; null until that is known."))),
            ("attempts", count("How often workers took it.")),
            ("progress", reference("Progress")),
            (
                "error",
                json!({
                    "description": "Of the last attempt that failed; null when none did.",
                    "anyOf": [reference("RequestError"), { "type": "null" }],
                }),
            ),
            ("downloads", reference("Downloads")),
            (
                "download_url",
                or_null(uri("A link to the file; null unless there is a file to download.")),
            ),
        ],
        example,
    )
}

fn new_file_request(facts: &Facts) -> Value {
    given(
        "What to ask for.",
        &["file_type"],
        vec![
            ("file_type", file_type(facts)),
            ("criteria", criteria()),
            ("format", format(facts)),
            (
                "requester",
                json!({
                    "description": "For whom; the caller when null or left out.",
                    "anyOf": [reference("Requester"), { "type": "null" }],
                }),
            ),
            (
                "filename",
                limited(
                    200,
                    "Overrides the file type's name for the file. It gets the extension of the \
                     format, and at most 200 bytes stay.",
                ),
            ),
            (
                "description",
                limited(LONGEST_DESCRIPTION, "For people; the file type's own when empty."),
            ),
            (
                "language",
                or_null(with(
                    text("BCP 47, like `nl` or `pt-BR`."),
                    json!({ "maxLength": 35, "pattern": LANGUAGE }),
                )),
            ),
            ("timezone", reference("TimeZone")),
            (
                "requester_only",
                or_null(flag(
                    "Whether the requester alone may download; as the file type says when null. \
                     `false` where the file type says otherwise is for `service` and `staff`, and \
                     for nobody where it says `always`.",
                )),
            ),
            ("notify", or_null(flag("Whether to mail about the end; yes when null."))),
            (
                "deliver",
                or_null(one_of(
                    &["later", "auto", "now"],
                    "`later` (the default): a worker makes it. `now`: the file is the answer. \
                     `auto`: the file is the answer when it is small, and made within seconds; \
                     else a worker makes it.",
                )),
            ),
        ],
        new_request_example(facts),
    )
}

// Links.

fn link_properties() -> Properties {
    vec![
        ("jti", uuid("Its number; stands in the token.")),
        ("request_id", uuid("To which file.")),
        ("requester_only", flag("Whether only the requester may use it.")),
        ("data", map("Signed along in the token.")),
        ("created_by", text("Who made it.")),
        ("created_at", time("When.")),
        ("expires_at", time("Until when it works.")),
        ("revoked_at", or_null(time("Since when it no longer works; null while it does."))),
        ("not_before", or_null(time("From when it works; null for at once."))),
        ("max_uses", or_null(count("How often it can be redeemed; null without a limit."))),
        ("uses", count("How often it was.")),
        ("last_used_at", or_null(time("When it was last redeemed; null when never."))),
        ("scanner_safe", flag("Whether opening it shows a page, and only its button downloads.")),
    ]
}

fn link_example() -> Value {
    json!({
        "jti": JTI,
        "request_id": ID,
        "requester_only": false,
        "data": {},
        "created_by": "amy",
        "created_at": NOW,
        "expires_at": LATER,
        "revoked_at": null,
        "not_before": null,
        "max_uses": 3,
        "uses": 1,
        "last_used_at": "2026-11-21T10:02:11Z",
        "scanner_safe": true,
    })
}

/// Seconds that a link lasts.
fn age(about: &str) -> Value {
    or_null(between(1, u32::MAX.into(), about))
}

fn uses(about: &str) -> Value {
    or_null(between(1, i32::MAX as u64, about))
}

fn links() -> Vec<(&'static str, Value)> {
    let mut made = link_properties();
    made.push(("url", uri("The link itself. It is shown this once.")));
    let hit = json!({
        "id": 412,
        "jti": JTI,
        "event": "complete",
        "reason": null,
        "first_byte": 0,
        "bytes": 7_340_032,
        "client_ip": "203.0.113.7",
        "user_agent": "Mozilla/5.0",
        "user": null,
        "timestamp": "2026-11-21T10:02:15Z",
        "count": 1,
    });
    vec![
        ("Link", answer("A link with a row of its own.", link_properties(), link_example())),
        ("LinkPage", page("Link", link_example())),
        (
            "MadeLink",
            answer(
                "A link that was just made.",
                made,
                with(link_example(), json!({ "uses": 0, "last_used_at": null, "url": LINK_URL })),
            ),
        ),
        ("NewLink", new_link()),
        ("LinkEdit", link_edit()),
        (
            "SentLink",
            answer(
                "The notice that will carry the link.",
                vec![("message_id", text("The `Message-ID` of the mail, without angle brackets."))],
                json!({ "message_id": "9b2f3a52.link.7f8c0d9a@files.example.com" }),
            ),
        ),
        ("Hit", self::hit(hit.clone())),
        ("HitPage", page("Hit", hit)),
        (
            "RedeemForm",
            object(
                "What the button of the page sends.",
                &[],
                vec![("nonce", text("The page's own: a second click is not a second use."))],
                json!({ "nonce": "q83vASNFZ4mrze8BI0VniQ" }),
            ),
        ),
    ]
}

fn new_link() -> Value {
    given(
        "How the link is to be.",
        &[],
        vec![
            (
                "requester_only",
                or_null(flag(
                    "Whether the requester alone may use it; as the request says when null. \
                     `false` where that says otherwise is for `service` and `staff`, and for \
                     nobody where the file type says `always`.",
                )),
            ),
            (
                "max_age",
                age("Seconds that it works; as the file type says, and as long as the file stays \
                     at most, when null."),
            ),
            ("not_before", or_null(time("From when it works; at once when null."))),
            (
                "max_uses",
                uses(
                    "How often it can be redeemed; without a limit when null, as the file type \
                      says when left out.",
                ),
            ),
            (
                "scanner_safe",
                or_null(flag(
                    "Whether opening it shows a page first, which limited links do; as the file \
                     type says when null.",
                )),
            ),
            ("data", map("Signed along in the token; 2048 bytes of JSON at most.")),
        ],
        json!({ "max_age": 86_400, "max_uses": 3, "scanner_safe": true }),
    )
}

fn link_edit() -> Value {
    given(
        "What changes; what is left out stays.",
        &[],
        vec![
            ("max_age", age("Seconds that it works from now on; stays when null.")),
            ("not_before", or_null(time("From when it works; at once when null."))),
            ("max_uses", uses("How often in all; without a limit when null.")),
            (
                "scanner_safe",
                or_null(flag("Whether opening it shows a page first; stays when null.")),
            ),
        ],
        json!({ "max_age": 86_400, "max_uses": null }),
    )
}

fn hit(example: Value) -> Value {
    let events = ["page", "redeemed", "range", "complete", "handed_over", "denied"];
    answer(
        "What happened to a link: what was alike within a minute, together.",
        vec![
            ("id", count("Its number; grows.")),
            ("jti", or_null(uuid("Which link; null of one without a row."))),
            ("event", one_of(&events, "What happened.")),
            ("reason", or_null(text("Why it was denied: a code; else null."))),
            (
                "first_byte",
                or_null(count(
                    "The first byte sent, counted from 0; null for none, and for several.",
                )),
            ),
            ("bytes", or_null(count("How many bytes were sent in all; null for none."))),
            ("client_ip", or_null(text("From where; null when not known."))),
            ("user_agent", text("By which program, as it says.")),
            ("user", or_null(text("Who was logged in; null for nobody."))),
            ("timestamp", time("When the first of them was; the others are of the same minute.")),
            ("count", count("How many there were that are alike.")),
        ],
        example,
    )
}

// The registry.

fn registry() -> Vec<(&'static str, Value)> {
    let example = json!({
        "name": "flights",
        "title": "Flights",
        "formats": ["xlsx", "csv"],
        "requester_only": false,
        "link": {
            "max_uses": null,
            "scanner_safe": false,
            "max_age": null,
            "requester_only": false,
        },
        "criteria": {
            "type": "object",
            "properties": { "origin": { "type": "string" } },
            "required": ["origin"],
        },
    });
    let file_type = answer(
        "A kind of file that can be asked for.",
        vec![
            ("name", text("Its name, for `file_type`.")),
            ("title", text("For people, in the language of `Accept-Language`.")),
            ("formats", list(text("A format."), "Its formats, the default first.")),
            (
                "requester_only",
                flag("Whether links are for the requester alone, unless a request is loosened."),
            ),
            (
                "link",
                map("What links may be: `max_uses`, `scanner_safe`, `max_age` (seconds), \
                 `requester_only` (true, false or `always`)."),
            ),
            ("criteria", map("A JSON Schema of its criteria.")),
        ],
        example.clone(),
    );
    vec![("FileType", file_type), ("FileTypeList", items("FileType", example))]
}

// Request tokens.

const LOGIN_MODES: [&str; 3] = ["none", "request", "session"];

fn token_properties() -> Properties {
    let denials = ["token_not_yet_valid", "token_expired", "token_used_up"];
    vec![
        ("id", count("Its number; the claim `jti`.")),
        ("scope", text("What it admits to; the claim `sub`.")),
        ("login_mode", one_of(&LOGIN_MODES, "What it does for whoever is not logged in.")),
        ("user", or_null(text("The one it is for; null for anybody."))),
        ("issued_at", or_null(time("When it was made; null when not known."))),
        ("not_before_time", or_null(time("From when it admits; null for at once."))),
        ("expiration_time", or_null(time("Until when it admits; null for ever."))),
        ("max_uses", count("How often it admits.")),
        ("used_to_date", count("How often it has.")),
        ("data", anything("Whatever its maker wants to find again. Not in the JWT.")),
        ("created_by", text("Who made it.")),
        ("is_valid", flag("Whether it admits now.")),
        ("denial", or_null(one_of(&denials, "Why it does not; null when it does."))),
        ("claims", map("The claims of its JWT.")),
    ]
}

fn token_example() -> Value {
    json!({
        "id": 17,
        "scope": "report",
        "login_mode": "none",
        "user": null,
        "issued_at": NOW,
        "not_before_time": null,
        "expiration_time": LATER,
        "max_uses": 10,
        "used_to_date": 0,
        "data": { "order": 4711 },
        "created_by": "shop",
        "is_valid": true,
        "denial": null,
        "claims": {
            "max": 10, "sub": "report", "mod": "n", "jti": "17",
            "exp": 1_795_339_800, "iat": 1_795_253_400,
        },
    })
}

fn scope(about: &str) -> Value {
    with(text(about), json!({ "minLength": 1, "maxLength": 100, "pattern": VISIBLE }))
}

fn request_tokens() -> Vec<(&'static str, Value)> {
    let used = json!({
        "id": 81,
        "outcome": "used",
        "user": "amy",
        "user_agent": "Mozilla/5.0",
        "client_ip": "203.0.113.7",
        "status_code": 200,
        "timestamp": "2026-11-21T10:02:15Z",
    });
    let mut properties = token_properties();
    properties.push(("jwt", text("The token as it travels.")));
    let names: Vec<&str> = properties.iter().map(|(name, _)| *name).collect();
    properties.push(("url", text("The URL that was given, with the token in it.")));
    let issued = object(
        "A request token that was just made.",
        &names,
        properties,
        with(
            token_example(),
            json!({ "jwt": JWT, "url": format!("https://app.example.com/report?rt={JWT}") }),
        ),
    );
    vec![
        ("RequestToken", answer("A request token.", token_properties(), token_example())),
        ("RequestTokenPage", page("RequestToken", token_example())),
        ("IssuedRequestToken", issued),
        ("NewRequestToken", new_request_token()),
        ("RequestTokenEdit", request_token_edit()),
        ("RequestTokenUse", request_token_use(used.clone())),
        ("RequestTokenUsePage", page("RequestTokenUse", used)),
        ("Redeem", redeem()),
        (
            "Conclusion",
            given(
                "How an application answered its visitor.",
                &["status"],
                vec![("status", between(100, 599, "The HTTP status."))],
                json!({ "status": 200 }),
            ),
        ),
        (
            "Admission",
            answer(
                "A use that was counted.",
                vec![
                    ("use", or_null(count("Its number in the log; null when it is not logged."))),
                    ("token", reference("RequestToken")),
                    ("user", or_null(text("Who acts; null for nobody in particular."))),
                    ("begins_session", flag("Whether to log that user in.")),
                ],
                json!({
                    "use": 81,
                    "token": with(token_example(), json!({ "used_to_date": 1 })),
                    "user": "amy",
                    "begins_session": false,
                }),
            ),
        ),
    ]
}

fn new_request_token() -> Value {
    given(
        "How the token is to be. The modes `request` and `session` need `user`; give either \
         `expiration_time` or `expires_in`; it ends after it begins.",
        &["scope"],
        vec![
            ("scope", scope("What it admits to: 1 to 100 visible characters.")),
            (
                "login_mode",
                or_null(one_of(
                    &LOGIN_MODES,
                    "What it does for whoever is not logged in; `none` when null.",
                )),
            ),
            (
                "user",
                or_null(with(
                    text("The one it is for; anybody when null."),
                    json!({ "minLength": 1, "maxLength": 200 }),
                )),
            ),
            ("expiration_time", or_null(time("Until when it admits; for ever when null."))),
            ("expires_in", or_null(between(0, u32::MAX.into(), "Seconds from now, instead."))),
            ("not_before_time", or_null(time("From when it admits; at once when null."))),
            ("max_uses", uses("How often it admits; the configured number when null.")),
            ("data", anything("Any JSON, to be found again.")),
            ("url", or_null(text("To be answered with the token in it."))),
        ],
        json!({
            "scope": "report",
            "max_uses": 10,
            "expires_in": 86_400,
            "data": { "order": 4711 },
            "url": "https://app.example.com/report",
        }),
    )
}

fn request_token_edit() -> Value {
    given(
        "What changes; what is left out stays.",
        &[],
        vec![
            ("scope", or_null(scope("What it admits to; stays when null."))),
            ("max_uses", uses("How often it admits; stays when null.")),
            ("expiration_time", or_null(time("Until when; for ever when null."))),
            ("not_before_time", or_null(time("From when; at once when null."))),
            ("data", anything("Any JSON; stays when null.")),
        ],
        json!({ "max_uses": 20, "expiration_time": null }),
    )
}

fn request_token_use(example: Value) -> Value {
    answer(
        "A use of a request token, or a denial.",
        vec![
            ("id", count("Its number; grows.")),
            (
                "outcome",
                text(
                    "`used`, `given_back` when the application failed, or the code of the denial, \
                     like `token_expired`.",
                ),
            ),
            ("user", or_null(text("Who asked; null when not known."))),
            ("user_agent", text("By which program; `unknown` when it did not say.")),
            ("client_ip", or_null(text("From where; null when not known."))),
            ("status_code", or_null(count("What was answered; null while that is not known."))),
            ("timestamp", time("When.")),
        ],
        example,
    )
}

fn redeem() -> Value {
    let address = json!({
        "description": "From where the visitor comes; null when not known.",
        "anyOf": [
            with(text("An address."), json!({ "format": "ipv4" })),
            with(text("An address."), json!({ "format": "ipv6" })),
            { "type": "null" },
        ],
    });
    given(
        "What an application learnt from its own visitor.",
        &["token", "scope"],
        vec![
            ("token", text("The JWT.")),
            ("scope", text("What it is to admit to.")),
            ("user", or_null(text("Who is logged in there; null for nobody."))),
            ("client_ip", address),
            ("user_agent", text("The visitor's program.")),
            ("log", or_null(flag("Whether to log the use; yes when null."))),
        ],
        json!({
            "token": JWT,
            "scope": "report",
            "user": "amy",
            "client_ip": "203.0.113.7",
            "user_agent": "Mozilla/5.0",
        }),
    )
}

// Locks.

fn lock_properties() -> Properties {
    vec![
        ("resource", text("What kind of thing: `app/model`.")),
        ("id", text("Which one.")),
        ("owner", or_null(text("Who has it; null when nobody knows."))),
        ("reason", text("Why, in their words.")),
        ("since", time("When they took it.")),
        ("until", time("When others may take it.")),
        ("fence", count("Number of this acquisition; those before have lower ones.")),
    ]
}

fn lock_example() -> Value {
    json!({
        "resource": "cms/page",
        "id": "home",
        "owner": "amy",
        "reason": "new headline",
        "since": NOW,
        "until": "2026-11-21T10:30:00Z",
        "fence": 12,
    })
}

/// The fields of a lock; with `force`, as the body writes true and false, those of a new one.
fn lock_fields(facts: &Facts, force: Option<Value>) -> Properties {
    let most = facts.longest_lock.max(5);
    let mut fields = vec![(
        "ttl",
        or_null(between(5, most, "Seconds that it lasts; the configured time when null.")),
    )];
    if let Some(force) = force {
        fields.push((
            "reason",
            or_null(with(
                text("For others to see: up to 200 characters, in one line."),
                json!({ "maxLength": 200, "pattern": VISIBLE }),
            )),
        ));
        fields.push(("force", force));
    }
    fields
}

fn locks(facts: &Facts) -> Vec<(&'static str, Value)> {
    let about_force = "Whether to take it from whoever has it: for its owner and staff.";
    let asked = json!({ "ttl": 600, "reason": "new headline" });
    let renewed = json!({ "ttl": 600 });
    let lock = answer("Who holds something.", lock_properties(), lock_example());
    let state = json!({
        "description": "Who holds it; null when nobody does.",
        "anyOf": [reference("Lock"), { "type": "null" }],
    });
    vec![
        ("Lock", lock),
        ("LockList", items("Lock", lock_example())),
        (
            "LockState",
            answer(
                "Whether somebody holds something.",
                vec![("lock", state)],
                json!({ "lock": lock_example() }),
            ),
        ),
        ("HeldLock", held_lock()),
        (
            "NewLock",
            object(
                "How to lock. What is not named here is ignored.",
                &[],
                lock_fields(facts, Some(or_null(flag(about_force)))),
                asked.clone(),
            ),
        ),
        (
            "NewLockForm",
            object(
                "How to lock, as a form.",
                &[],
                lock_fields(facts, Some(one_of(&["true", "false"], about_force)))
                    .into_iter()
                    .map(|(name, schema)| (name, not_null(schema)))
                    .collect(),
                asked,
            ),
        ),
        (
            "LockRenewal",
            object("How long to hold on.", &[], lock_fields(facts, None), renewed.clone()),
        ),
        (
            "LockRenewalForm",
            object(
                "How long to hold on, as a form.",
                &[],
                lock_fields(facts, None)
                    .into_iter()
                    .map(|(name, schema)| (name, not_null(schema)))
                    .collect(),
                renewed,
            ),
        ),
        (
            "LateFence",
            answer(
                "Somebody had the lock since.",
                vec![
                    ("detail", text("For people.")),
                    ("fence", count("The number of the acquisition that counts now.")),
                ],
                json!({ "detail": "The lock was taken anew since.", "fence": 13 }),
            ),
        ),
        (
            "LockConflict",
            json!({
                "description": "Who has the lock, or why the caller may not.",
                "anyOf": [reference("Lock"), reference("Detail")],
                "examples": [lock_example()],
            }),
        ),
    ]
}

/// Forms know no null.
fn not_null(mut schema: Value) -> Value {
    if let Some(Value::Array(kinds)) = schema.get("type") {
        let kind = kinds.first().cloned().unwrap_or_default();
        schema["type"] = kind;
    }
    schema
}

fn held_lock() -> Value {
    let mut properties = vec![
        ("token", text("Renews and releases the lock: 32 hex digits.")),
        ("expires", text("When the token expires, in the configured form.")),
        (
            "expires_in",
            json!({ "type": "number", "minimum": 0, "description": "Seconds until then." }),
        ),
        ("ttl", count("Seconds that a renewal adds.")),
    ];
    properties.extend(lock_properties());
    let example = json!({
        "token": LOCK_TOKEN,
        "expires": "2026-11-21 10:30:00 UTC",
        "expires_in": 3600.0,
        "ttl": 3600,
    });
    answer("A token and the lock that it holds.", properties, with(example, lock_example()))
}

// Logins.

fn token_common() -> Properties {
    vec![
        ("client", text("The client it is of.")),
        ("created", time("When it was made.")),
        ("expiry", or_null(time("Until when it is good; null for ever."))),
        ("has_expired", flag("Whether its time is over.")),
        ("expires_in_str", text("Its whole lifetime in words: `a day`, `10 hours`, `never`.")),
        ("prefix", or_null(text("The beginning of its newest secret, to tell tokens apart."))),
        ("last_used", or_null(time("When it was last used; null when never."))),
        ("last_ip", or_null(text("From where; null when not known."))),
        ("last_user_agent", text("By which program.")),
        (MADE_BY, text("Of an API key: with what it was made, a client's name or `session`.")),
    ]
}

/// The one property that not every token has.
const MADE_BY: &str = "made_by";

fn token_answer(about: &str, properties: Properties, example: Value) -> Value {
    let names = properties.iter().map(|(name, _)| *name).filter(|name| *name != MADE_BY);
    let required: Vec<&str> = names.collect();
    object(about, &required, properties, example)
}

fn token_common_example() -> Value {
    json!({
        "client": "web",
        "created": NOW,
        "expiry": LATER,
        "has_expired": false,
        "expires_in_str": "a day",
        "prefix": "bgf_3kQ9xZ",
        "last_used": "2026-11-21T09:31:10Z",
        "last_ip": "203.0.113.7",
        "last_user_agent": "Mozilla/5.0",
    })
}

fn auth(facts: &Facts) -> Vec<(&'static str, Value)> {
    let about_expiry = "Until when the secret is good; null for ever.";
    let expiry = || match facts.plain_expiry {
        true => or_null(time(about_expiry)),
        false => or_null(text(about_expiry)),
    };
    let mut session = vec![
        ("id", uuid("Its number.")),
        ("is_current", flag("Whether this very call is made with it.")),
    ];
    session.extend(token_common());
    let session_example = with(json!({ "id": JTI, "is_current": true }), token_common_example());
    let mut issued = token_common();
    issued.push(("token", text("The secret. It is shown this once.")));
    let secret = "bgf_3kQ9xZb7Tn5YwR2mVc8LpD4sHf6JgK1aXe0uIoNqBtMzWy1CvErS";
    vec![
        ("Login", login()),
        (
            "LoggedIn",
            object(
                "A secret.",
                &["expiry", "token"],
                vec![
                    ("expiry", expiry()),
                    ("token", text("The secret, for `Authorization`. It is shown this once.")),
                    ("user", anything("Who it is, where the settings say so.")),
                ],
                json!({ "expiry": LATER, "token": secret }),
            ),
        ),
        (
            "Refreshed",
            answer("The secret's new end.", vec![("expiry", expiry())], json!({ "expiry": LATER })),
        ),
        ("Session", token_answer("A token of the caller.", session, session_example.clone())),
        (
            "SessionList",
            with(
                list(reference("Session"), "The caller's tokens."),
                json!({ "examples": [[session_example]] }),
            ),
        ),
        (
            "ApiAccess",
            token_answer("The caller's own API token.", token_common(), token_common_example()),
        ),
        (
            "IssuedApiAccess",
            token_answer(
                "The caller's own API token, just made.",
                issued,
                with(token_common_example(), json!({ "token": secret })),
            ),
        ),
    ]
}

fn login() -> Value {
    let needed = |about: &str| with(text(about), json!({ "minLength": 1, "pattern": NO_NUL }));
    object(
        "Who logs in, with which client.",
        &["username", "password", "client"],
        vec![
            ("username", needed("The user's name.")),
            ("password", needed("Their password.")),
            ("client", needed("The client's name.")),
        ],
        json!({ "username": "amy", "password": "correct horse battery staple", "client": "web" }),
    )
}

// Shared.

fn common() -> Vec<(&'static str, Value)> {
    let error = answer(
        "One thing that is wrong.",
        vec![
            ("field", text("Where: `criteria.origin`, `requester.email`.")),
            ("message", text("What, and what to do.")),
        ],
        json!({ "field": "criteria.upto", "message": "is required" }),
    );
    let problem = object(
        "An error as RFC 9457 has it.",
        &["type", "title", "status", "code", "detail"],
        vec![
            ("type", one_of(&["about:blank"], "Always the same; `code` tells errors apart.")),
            ("title", text("What it is, for people.")),
            ("status", between(400, 599, "The status of the answer.")),
            ("code", text("Its stable name, for programs.")),
            ("detail", text("What exactly, for people.")),
            ("errors", list(reference("FieldError"), "Each field that is wrong.")),
        ],
        json!({
            "type": "about:blank",
            "title": "Not found",
            "status": 404,
            "code": "not_found",
            "detail": "request not found",
        }),
    );
    let detail = answer(
        "An error as Django REST framework has it.",
        vec![("detail", text("For people."))],
        json!({ "detail": "Not found." }),
    );
    let by_field = json!({
        "type": "object",
        "description": "Texts by field; `non_field_errors` is about the whole.",
        "additionalProperties": {
            "anyOf": [
                text("A text."),
                list(text("A text."), "Texts."),
            ],
        },
    });
    let refusal = json!({
        "description": "What is wrong with a body, as Django REST framework has it.",
        "anyOf": [by_field, list(text("A text."), "Texts about the whole.")],
        "examples": [
            { "non_field_errors": ["Unable to log in with provided credentials."] },
            { "detail": "No client specified." },
            ["An API token was already issued to you."],
        ],
    });
    let word = |about: &str| one_of(&["ok", "failing"], about);
    let readiness = answer(
        "Whether the process can do its work.",
        vec![
            ("ready", flag("Whether all of it is well.")),
            ("database", word("Whether the database answers and has the right schema.")),
            ("storage", word("Whether the storage answers.")),
            ("disk", one_of(&["ok", "full"], "Whether a disk was full in the last minute.")),
            ("ending", flag("Whether the process is about to end.")),
            ("warnings", list(text("A text."), "What works, if not as it should.")),
        ],
        json!({
            "ready": true, "database": "ok", "storage": "ok", "disk": "ok", "ending": false,
            "warnings": [],
        }),
    );
    vec![
        ("Problem", problem),
        ("FieldError", error),
        ("Detail", detail),
        ("Refusal", refusal),
        ("Readiness", readiness),
        ("Page", text("An HTML page.")),
        ("Text", text("Text.")),
        ("Document", map("An OpenAPI document.")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without what says nothing.
    fn plain(value: Value) -> Value {
        match value {
            Value::Object(members) => {
                let says = |(name, value): &(String, Value)| name != "type" || !value.is_null();
                let members = members.into_iter().filter(says);
                Value::Object(members.map(|(name, value)| (name, plain(value))).collect())
            }
            Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
            other => other,
        }
    }

    #[test]
    fn every_schema_is_kept_whole() {
        let facts = Facts { file_types: vec!["flights".into()], ..Facts::default() };
        for (name, schema) in all(&facts).into_iter().chain(all(&Facts::default())) {
            let kept = serde_json::to_value(parse(schema.clone())).unwrap();
            assert_eq!(kept, plain(schema), "{name}");
        }
    }
}
