//! What programs that call rely on: repeats, tags, digests, when to ask again, events to their end.

use std::{process::Stdio, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bgfiles::{auth_token::Role, config::Serve, request_token::NewRequestToken};
use chrono::TimeDelta;
use futures::StreamExt;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Caller, TestApp, app, both, live, patience};

async fn shop(app: &TestApp) -> Caller {
    let base = format!("http://{}", app.serve().await);
    Caller::new(app, &base, "shop", Role::Service).await
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

// POST that stays POST.

both!(a_post_that_is_repeated_at_the_download_gets_the_file);
async fn a_post_that_is_repeated_at_the_download_gets_the_file(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let row = app.finished("once", "mib=1").await;
    let file = app.dir.path().join("file");
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-sSf", "-X", "POST", "-L", "-o"]).arg(&file).arg(base.clone() + &app.link(&row));
    let output = curl.stdin(Stdio::null()).output().await.expect("curl is missing");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(Some(sha256(&bytes)), row.sha256);
    assert_eq!(app.row(row.id).await.downloads, 1);
    // As with GET: parts, conditions, whatever the body.
    let row = app.finished("once", "mib=1").await;
    let redeemed = app.http.post(base.clone() + &app.link(&row)).send().await.unwrap();
    let grant = base + &header(&redeemed, "location");
    let part = app.http.post(&grant).header("range", "bytes=5-9").form(&[("a", "b")]);
    let part = part.send().await.unwrap();
    assert_eq!((part.status(), header(&part, "content-range")), {
        (StatusCode::PARTIAL_CONTENT, "bytes 5-9/1048576".to_owned())
    });
    let known = app.http.post(&grant).header("if-none-match", header(&part, "etag"));
    assert_eq!(known.send().await.unwrap().status(), StatusCode::NOT_MODIFIED);
    let head = app.http.head(&grant).send().await.unwrap();
    assert_eq!(
        (head.status(), header(&head, "content-length")),
        (StatusCode::OK, "1048576".into())
    );
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

// Events.

/// The events of a stream: id, name and data of each.
async fn events(response: Response) -> Vec<[String; 3]> {
    let mut text = String::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) =
        tokio::time::timeout(patience(Duration::from_secs(30)), stream.next()).await.unwrap()
    {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let field = |event: &str, name: &str| {
        let line = event.lines().find_map(|line| line.strip_prefix(name));
        line.map(|line| line.trim_start_matches(": ").to_owned()).unwrap_or_default()
    };
    let all = text.split("\n\n").filter(|event| event.contains("event"));
    all.map(|event| ["id", "event", "data"].map(|name| field(event, name))).collect()
}

live!(events_have_an_end_and_whoever_knows_it_is_sent_away);
async fn events_have_an_end_and_whoever_knows_it_is_sent_away(app: TestApp) {
    let shop = shop(&app).await;
    let row = app.request("slow", "seconds=2").await;
    let path = format!("/api/requests/{}/events", row.id);
    let watched = shop.call("GET", &path).send().await.unwrap();
    assert_eq!(header(&watched, "cache-control"), "no-cache, no-transform");
    assert_eq!(header(&watched, "x-accel-buffering"), "no");
    let toolbox = app.toolbox.clone();
    tokio::spawn(async move { toolbox.dispatch(row.id, "w", &Default::default()).await });
    let seen = events(watched).await;
    let [id, name, data] = seen.last().unwrap();
    assert_eq!((name.as_str(), data.as_str()), ("end", "{}"));
    assert!(seen.iter().all(|[id, ..]| !id.is_empty()), "{seen:?}");
    assert!(seen[seen.len() - 2][2].contains(r#""status":"finished""#), "{seen:?}");
    let again = async |last: &str| {
        let call = shop.call("GET", &path).header("last-event-id", last);
        call.send().await.unwrap()
    };
    assert_eq!(again(id).await.status(), StatusCode::NO_CONTENT);
    // Whoever missed the end is told all of it.
    let [before, ..] = &seen[seen.len() - 2];
    for last in [before.as_str(), "1.end.0", "x"] {
        let missed = events(again(last).await).await;
        let names: Vec<&str> = missed.iter().map(|[_, name, _]| name.as_str()).collect();
        assert_eq!(names, ["status", "end"], "{last}");
        assert_eq!(missed[1][0], *id);
    }
    // What is begun anew is not over, and ends another time.
    let row = app.request("permanent", "").await;
    let path = format!("/api/requests/{}/events", row.id);
    app.dispatch(row.id).await;
    let first = events(shop.call("GET", &path).send().await.unwrap()).await;
    let retried = shop.post(&format!("/api/requests/{}/retry", row.id), json!({})).await;
    assert_eq!(retried.0, 202);
    let call = shop.call("GET", &path).header("last-event-id", &first.last().unwrap()[0]);
    let response = call.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    app.dispatch(row.id).await;
    assert_ne!(events(response).await.last().unwrap()[0], first.last().unwrap()[0]);
}

live!(events_of_what_is_deleted_end);
async fn events_of_what_is_deleted_end(app: TestApp) {
    let shop = shop(&app).await;
    let row = app.request("hello", "").await;
    let path = format!("/api/requests/{}/events", row.id);
    let watched = shop.call("GET", &path).send().await.unwrap();
    app.toolbox.delete(row.id).await.unwrap();
    let seen = events(watched).await;
    assert_eq!(seen.last().unwrap()[1], "end", "{seen:?}");
    assert_eq!(shop.get(&path).await.0, 404);
}

// Keys.

/// A call with a key: status, whether it says that it is a repeat, the answer.
async fn keyed(caller: &Caller, key: &str, body: &str) -> (u16, bool, Value) {
    let call = caller.call("POST", "/api/requests").header("idempotency-key", key);
    let call = call.header("content-type", "application/json").body(body.to_owned());
    let response = call.send().await.unwrap();
    let replayed = header(&response, "idempotency-replayed") == "true";
    let (status, json) = app::json(response).await;
    (status, replayed, json)
}

both!(a_key_stands_for_what_is_asked_however_it_is_written);
async fn a_key_stands_for_what_is_asked_however_it_is_written(app: TestApp) {
    let shop = shop(&app).await;
    let first = r#"{"file_type": "hello", "criteria": {"name": "a b", "n": 5, "x": ["1", "2"]},
        "requester": {"id": "42", "email": "amy@example.com"}, "description": "One"}"#;
    let (status, replayed, made) = keyed(&shop, "k", first).await;
    assert_eq!((status, replayed), (202, false));
    let same = [
        first,
        r#"{"description":"One","requester":{"email":"amy@example.com","id":"42"},
            "criteria":{"x":[1,2],"n":"5","name":"a b"},"file_type":"hello"}"#,
        r#"{"file_type": "hello", "criteria": "name=a+b&n=5&x=1&x=2", "notify": true,
            "requester": {"id": "42", "email": "amy@example.com"}, "description": "\u004fne",
            "deliver": "later", "language": null}"#,
    ];
    for body in same {
        let (status, replayed, again) = keyed(&shop, "k", body).await;
        assert_eq!((status, replayed, &again["id"]), (202, true, &made["id"]), "{body}");
    }
    let others = [
        first.replace("a b", "a c"),
        first.replace(r#"["1", "2"]"#, r#"["2", "1"]"#),
        first.replace("42", "43"),
        first.replace("One", "Two"),
        first.replace(r#""description""#, r#""requester_only": true, "description""#),
        first.replace(r#""description""#, r#""notify": false, "description""#),
        first.replace(r#""description""#, r#""timezone": "Europe/Paris", "description""#),
    ];
    for body in others {
        let (status, replayed, problem) = keyed(&shop, "k", &body).await;
        let code = json!("idempotency_key_reused");
        assert_eq!((status, replayed, &problem["code"]), (409, false, &code), "{body}");
    }
    // Without a key nothing is a repeat.
    let plain = shop.call("POST", "/api/requests").json(&json!({"file_type": "hello"}));
    assert_eq!(header(&plain.send().await.unwrap(), "idempotency-replayed"), "");
}

both!(a_key_of_an_earlier_release_stands_for_its_bytes);
async fn a_key_of_an_earlier_release_stands_for_its_bytes(app: TestApp) {
    let shop = shop(&app).await;
    let body = r#"{"file_type": "hello", "criteria": {"name": "a"}}"#;
    let (_, _, made) = keyed(&shop, "k", body).await;
    // The digest of its bytes, as it was stored before.
    let before = sha256(body.as_bytes());
    let sql = format!("UPDATE bgfiles_idempotency_keys SET fingerprint = '{before}'");
    app.sql(sql.leak()).await;
    let (status, replayed, again) = keyed(&shop, "k", body).await;
    assert_eq!((status, replayed, &again["id"]), (202, true, &made["id"]));
    assert_eq!(keyed(&shop, "k", &body.replace(": ", ":")).await.0, 409);
}

both!(a_key_keeps_to_what_failed_and_forgets_what_was_deleted);
async fn a_key_keeps_to_what_failed_and_forgets_what_was_deleted(app: TestApp) {
    let shop = shop(&app).await;
    let body = r#"{"file_type": "permanent"}"#;
    let (_, _, made) = keyed(&shop, "k", body).await;
    app.dispatch(made["id"].as_str().unwrap().parse().unwrap()).await;
    let (status, replayed, again) = keyed(&shop, "k", body).await;
    assert_eq!((status, replayed, &again["id"]), (202, true, &made["id"]));
    assert_eq!(again["status"], "failed");
    let path = format!("/api/requests/{}", made["id"].as_str().unwrap());
    assert_eq!(shop.call("DELETE", &path).send().await.unwrap().status(), 204);
    let (status, replayed, new) = keyed(&shop, "k", body).await;
    assert_eq!((status, replayed), (202, false));
    assert_ne!(new["id"], made["id"]);
}

both!(a_key_of_a_link_says_that_it_was_used);
async fn a_key_of_a_link_says_that_it_was_used(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let row = app.finished("once", "mib=1").await;
    let url = base + &app.link(&row);
    let redeem =
        async |key: &str| app.http.post(&url).header("idempotency-key", key).send().await.unwrap();
    let first = redeem("k").await;
    assert_eq!((first.status().as_u16(), header(&first, "idempotency-replayed")), (303, "".into()));
    let again = redeem("k").await;
    assert_eq!(header(&again, "location"), header(&first, "location"));
    assert_eq!(header(&again, "idempotency-replayed"), "true");
    assert_eq!(redeem("other").await.status(), 403);
}

// Tags.

both!(a_request_has_a_tag_that_changes_with_it);
async fn a_request_has_a_tag_that_changes_with_it(app: TestApp) {
    let shop = shop(&app).await;
    let made = shop.call("POST", "/api/requests").json(&json!({"file_type": "hello"}));
    let made = made.send().await.unwrap();
    let first = header(&made, "etag");
    let (_, row) = app::json(made).await;
    let path = format!("/api/requests/{}", row["id"].as_str().unwrap());
    let get = async |tag: &str| {
        let call = shop.call("GET", &path).header("if-none-match", tag).send().await.unwrap();
        (call.status().as_u16(), header(&call, "etag"))
    };
    assert!(first.starts_with('"') && first.len() == 34, "{first}");
    assert_eq!(get(&first).await, (304, first.clone()));
    assert_eq!(get(&format!("\"x\", W/{first}")).await.0, 304);
    assert_eq!(get("*").await.0, 304);
    let unknown = shop.call("GET", &path).header("if-none-match", &first).send().await.unwrap();
    assert_eq!(unknown.bytes().await.unwrap().len(), 0);
    app.dispatch(row["id"].as_str().unwrap().parse().unwrap()).await;
    let (status, second) = get(&first).await;
    assert_eq!(status, 200);
    assert_ne!(first, second);
    let patched = shop.call("PATCH", &path).json(&json!({"description": "x"}));
    let patched = patched.send().await.unwrap();
    assert_eq!(patched.status(), 200);
    let third = header(&patched, "etag");
    assert_ne!(second, third);
    assert_eq!(get(&third).await.0, 304);
    // The file's time is over: its link is gone from the answer.
    app.advance(86_400);
    assert_eq!(get(&third).await.0, 200);
}

both!(what_has_changed_is_not_changed);
async fn what_has_changed_is_not_changed(app: TestApp) {
    let shop = shop(&app).await;
    let row = app.finished("hello", "").await;
    let path = format!("/api/requests/{}", row.id);
    let call = async |method: &str, path: &str, tag: &str| {
        let mut call = shop.call(method, path).header("if-match", tag);
        if method == "PATCH" {
            call = call.json(&json!({"description": format!("by {tag}")}));
        }
        let response = call.send().await.unwrap();
        let tag = header(&response, "etag");
        let (status, body) = app::json(response).await;
        (status, body["code"].as_str().unwrap_or_default().to_owned(), tag)
    };
    let failed = (412, "precondition_failed".to_owned(), String::new());
    for method in ["PATCH", "DELETE", "GET"] {
        for tag in ["\"nope\"", "", "nope"] {
            assert_eq!(call(method, &path, tag).await, failed, "{method} {tag}");
        }
    }
    assert_eq!(app.row(row.id).await.description, row.description);
    let (status, _, first) = call("PATCH", &path, "*").await;
    assert_eq!(status, 200);
    // Strong comparison.
    assert_eq!(call("PATCH", &path, &format!("W/{first}")).await, failed);
    let (status, _, second) = call("PATCH", &path, &format!("\"x\", {first}")).await;
    assert_eq!(status, 200);
    assert_eq!(call("PATCH", &path, &first).await, failed);
    assert_eq!(call("DELETE", &path, &first).await, failed);
    assert_eq!(call("GET", &path, &second).await.0, 200);
    assert_eq!(call("DELETE", &path, &second).await.0, 204);
    // Cancelling and trying again.
    let row = app.request("hello", "").await;
    let cancel = format!("/api/requests/{}/cancel", row.id);
    let retry = format!("/api/requests/{}/retry", row.id);
    assert_eq!(call("POST", &cancel, "\"x\"").await, failed);
    let tag = app.toolbox.request_tag(&app.row(row.id).await);
    let (status, _, cancelled) = call("POST", &cancel, &tag).await;
    assert_eq!(status, 200);
    assert_eq!(call("POST", &retry, &tag).await, failed);
    assert_eq!(call("POST", &retry, &cancelled).await.0, 202);
}

both!(of_many_who_change_what_they_saw_one_does);
async fn of_many_who_change_what_they_saw_one_does(app: TestApp) {
    let shop = shop(&app).await;
    for round in 0..5 {
        let row = app.finished("hello", "").await;
        let path = format!("/api/requests/{}", row.id);
        let tag = app.toolbox.request_tag(&row);
        let all = (0..12).map(|i| {
            let call = match i % 6 {
                5 => shop.call("DELETE", &path),
                _ => {
                    shop.call("PATCH", &path).json(&json!({"description": format!("{round}.{i}")}))
                }
            };
            call.header("if-match", &tag).send()
        });
        let answers = futures::future::try_join_all(all).await.unwrap();
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
        let done = statuses.iter().filter(|status| **status < 300).count();
        assert_eq!(done, 1, "{statuses:?}");
        // Whoever comes once it is deleted finds nothing.
        assert!(statuses.iter().all(|s| [200, 204, 404, 412].contains(s)), "{statuses:?}");
    }
}

both!(what_takes_no_lock_counts_on_what_was_seen_too);
async fn what_takes_no_lock_counts_on_what_was_seen_too(app: TestApp) {
    let shop = shop(&app).await;
    for round in 0..10 {
        let row = app.request("hello", "").await;
        let path = format!("/api/requests/{}", row.id);
        let tag = app.toolbox.request_tag(&row);
        let all = (0..8).map(|i| {
            let edit = json!({"description": format!("{round}.{i}")});
            let call = match i % 2 {
                0 => shop.call("POST", &format!("{path}/cancel")),
                _ => shop.call("PATCH", &path).json(&edit),
            };
            call.header("if-match", &tag).send()
        });
        let answers = futures::future::try_join_all(all).await.unwrap();
        let mut statuses: Vec<u16> = answers.iter().map(|a| a.status().as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
    }
}

both!(a_link_stays_the_same_for_half_of_its_time);
async fn a_link_stays_the_same_for_half_of_its_time(app: TestApp) {
    let shop = shop(&app).await;
    let row = app.finished("hello", "").await;
    // So that the link outlives the file's first end.
    app.sql("UPDATE bgfiles_file_requests SET expires_at = '2026-03-09T12:00:00+00:00'").await;
    let (path, half) = (format!("/api/requests/{}", row.id), 43_200);
    let url = async || {
        let url = shop.get(&path).await.1["download_url"].as_str().unwrap().to_owned();
        url.replace("http://files.example.com", &shop.base)
    };
    let works = async |url: &str| app.http.get(url).send().await.unwrap().status() == 200;
    let first = url().await;
    app.advance(half - 1);
    assert_eq!(url().await, first);
    let tag = app.toolbox.request_tag(&app.row(row.id).await);
    app.advance(1);
    let second = url().await;
    assert_ne!(second, first);
    assert_ne!(app.toolbox.request_tag(&app.row(row.id).await), tag);
    // The first has half of its time left, and no more.
    app.advance(half);
    assert!(works(&first).await && works(&second).await);
    app.advance(1);
    assert!(!works(&first).await && works(&second).await);
    // One that is given at the last moment.
    app.advance(half - 2);
    let last = url().await;
    app.advance(half);
    assert!(works(&last).await);
    // Links that were signed before count for nothing; what is shown afterwards works at once.
    app.advance(100);
    let before = url().await;
    assert!(works(&before).await);
    app.sql("UPDATE bgfiles_file_requests SET links_from = '2026-03-04T06:00:00+00:00'").await;
    let since: chrono::DateTime<chrono::Utc> = "2026-03-04T06:00:00Z".parse().unwrap();
    app.advance((since - app.toolbox.clock().now()).max(TimeDelta::zero()).num_seconds());
    let after = url().await;
    assert!(!works(&before).await && works(&after).await);
}

// Digests.

fn digest(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(bytes)))
}

both!(downloads_carry_the_digest_of_the_whole_file);
async fn downloads_carry_the_digest_of_the_whole_file(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let row = app.finished("big", "mib=1").await;
    let url = base.clone() + &app.link(&row);
    let whole = app.http.get(&url).send().await.unwrap();
    let said = header(&whole, "repr-digest");
    assert_eq!(said, digest(&whole.bytes().await.unwrap()));
    let ask = async |method: &str, name: &str, value: &str| {
        let method = method.parse().unwrap();
        let answer = app.http.request(method, &url).header(name, value).send().await.unwrap();
        assert_eq!(header(&answer, "cache-control"), "private, no-store, no-transform");
        (answer.status().as_u16(), header(&answer, "repr-digest"))
    };
    assert_eq!(ask("HEAD", "accept", "*/*").await, (200, said.clone()));
    assert_eq!(ask("GET", "range", "bytes=0-9").await, (206, said.clone()));
    // These carry nothing of the file.
    assert_eq!(ask("GET", "if-none-match", "*").await, (304, String::new()));
    assert_eq!(ask("GET", "if-match", "\"x\"").await, (412, String::new()));
    assert_eq!(ask("GET", "range", "bytes=9999999-").await, (416, String::new()));
    // A small file out of memory, a grant, somebody else who sends the bytes.
    let small = app.finished("hello", "").await;
    for _ in 0..3 {
        let answer = app.http.get(base.clone() + &app.link(&small)).send().await.unwrap();
        assert_eq!(header(&answer, "repr-digest"), digest(b"hello world in en UTC\n"));
    }
    let limited = app.finished("once", "mib=1").await;
    let redeemed = app.http.post(base.clone() + &app.link(&limited)).send().await.unwrap();
    let granted = app.http.get(base + &header(&redeemed, "location")).send().await.unwrap();
    assert_eq!(header(&granted, "cache-control"), "private, no-store, no-transform");
    let said = header(&granted, "repr-digest");
    assert_eq!(said, digest(&granted.bytes().await.unwrap()));
    for serve in [Serve::XSendfile, Serve::XAccel("/files/".into())] {
        let base = format!("http://{}", app.serve_as(serve).await);
        let told = app.http.get(base + &app.link(&row)).send().await.unwrap();
        assert_eq!(header(&told, "repr-digest"), digest_of(&row));
    }
    // A row whose checksum is none has no digest, and is served all the same.
    app.sql("UPDATE bgfiles_file_requests SET sha256 = 'none' WHERE file_type = 'hello'").await;
    let base = format!("http://{}", app.serve().await);
    let odd = app.http.get(base + &app.link(&small)).send().await.unwrap();
    assert_eq!((odd.status().as_u16(), header(&odd, "repr-digest")), (200, String::new()));
}

fn digest_of(row: &bgfiles::FileRequest) -> String {
    let hex = row.sha256.as_deref().unwrap();
    let bytes: Vec<u8> =
        (0..32).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
    format!("sha-256=:{}:", STANDARD.encode(bytes))
}

// When to ask again.

both!(who_waits_is_told_when_to_ask_again);
async fn who_waits_is_told_when_to_ask_again(app: TestApp) {
    let shop = shop(&app).await;
    let made = shop.call("POST", "/api/requests").json(&json!({"file_type": "hello"}));
    let made = made.send().await.unwrap();
    assert_eq!(header(&made, "retry-after"), "1");
    let (_, row) = app::json(made).await;
    let id = row["id"].as_str().unwrap();
    let wait = async || {
        let answer = shop.call("GET", &format!("/api/requests/{id}")).send().await.unwrap();
        header(&answer, "retry-after")
    };
    assert_eq!(wait().await, "1");
    app.advance(40);
    assert_eq!(wait().await, "10");
    app.advance(10_000);
    assert_eq!(wait().await, "30");
    app.sql("UPDATE bgfiles_file_requests SET run_at = '2026-03-01T16:00:00+00:00'").await;
    assert_eq!(wait().await, (4 * 3600 - 10_040).to_string());
    app.advance(4 * 3600 - 10_040);
    app.dispatch(id.parse().unwrap()).await;
    assert_eq!(wait().await, "");
}

both!(a_list_links_to_its_next_page);
async fn a_list_links_to_its_next_page(app: TestApp) {
    let shop = shop(&app).await;
    let row = app.finished("hello", "").await;
    for _ in 0..3 {
        app.request("hello", "").await;
        let path = format!("/api/requests/{}/links", row.id);
        assert_eq!(shop.post(&path, json!({})).await.0, 201);
        assert_eq!(shop.post("/api/request-tokens", json!({"scope": "a b"})).await.0, 201);
        app.http.get(shop.base.clone() + &app.link(&row)).send().await.unwrap();
        app.advance(120);
    }
    let refused = json!({"token": "x", "scope": "a b"});
    assert_eq!(shop.post("/api/request-tokens/redeem", refused).await.0, 403);
    let id = row.id;
    for path in [
        "/api/requests?limit=1&file_type=hello".to_owned(),
        format!("/api/requests/{id}/links?limit=1"),
        format!("/api/requests/{id}/log?limit=1"),
        "/api/request-tokens?scope=a%20b&limit=1".to_owned(),
    ] {
        let (mut path, mut pages) = (path, 0);
        loop {
            let answer = shop.call("GET", &path).send().await.unwrap();
            let link = header(&answer, "link");
            let (status, page) = app::json(answer).await;
            assert_eq!((status, page["items"].as_array().unwrap().len()), (200, 1), "{path}");
            pages += 1;
            match page["next"].as_str() {
                None => break assert_eq!(link, ""),
                Some(_) => {
                    let url = link.strip_prefix("<http://files.example.com").unwrap();
                    path = url.strip_suffix(">; rel=\"next\"").unwrap().to_owned();
                }
            }
        }
        assert!(pages >= 3, "{path}: {pages}");
    }
}

// Criteria.

both!(criteria_are_taken_as_languages_and_databases_write_them);
async fn criteria_are_taken_as_languages_and_databases_write_them(app: TestApp) {
    let shop = shop(&app).await;
    // PHP's empty array.
    for none in ["[]", "[ ]", "{}", "null", "\"\""] {
        let body = format!(r#"{{"file_type": "hello", "criteria": {none}}}"#);
        let (status, _, made) = keyed(&shop, &format!("k{none}").replace('"', "q"), &body).await;
        assert_eq!((status, &made["criteria"]), (202, &json!("")), "{none}: {made}");
    }
    for odd in ["[1]", "[[]]", "[{}]"] {
        let body =
            json!({"file_type": "hello", "criteria": serde_json::from_str::<Value>(odd).unwrap()});
        let (status, problem) = shop.post("/api/requests", body).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("criteria")), "{odd}");
    }
    // JSON by SQL.
    app.sql(
        "INSERT INTO bgfiles_file_requests (file_type, criteria, requester) VALUES \
        ('hello', ' {\"name\": \"a&b\", \"n\": 5.10, \"x\": [1, true, null]}', 'amy')",
    )
    .await;
    let rows = shop.get("/api/requests?requester=amy").await.1;
    let row = &rows["items"][0];
    assert_eq!(row["criteria"], "name=a%26b&n=5.10&x=1&x=true");
    let id = row["id"].as_str().unwrap().parse().unwrap();
    app.advance(86_400 * 365 * 10);
    app.dispatch(id).await;
    let row = app.row(id).await;
    assert_eq!(row.status.as_str(), "finished");
    assert_eq!(row.size, Some("hello a&b in en UTC\n".len() as i64));
    // What is neither says what to write.
    app.sql(
        "INSERT INTO bgfiles_file_requests (file_type, criteria, requester) VALUES \
        ('hello', '{\"name\": \"a\"', 'bob')",
    )
    .await;
    let rows = shop.get("/api/requests?requester=bob").await.1;
    let id = rows["items"][0]["id"].as_str().unwrap().parse().unwrap();
    app.advance(86_400);
    app.dispatch(id).await;
    let row = app.row(id).await;
    assert_eq!(row.status.as_str(), "failed");
    let message = row.error_message.unwrap();
    assert!(message.contains("an object or urlencoded text"), "{message}");
}

// Uses that are concluded.

struct Redeemed {
    token: i64,
    used: i64,
}

async fn redeemed(app: &TestApp, shop: &Caller, log: bool) -> (i64, Value) {
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let new = NewRequestToken { max_uses: Some(1), ..NewRequestToken::new("foo") };
    let token = app.toolbox.create_request_token(&mut tx, new).await.unwrap();
    tx.commit().await.unwrap();
    let jwt = app.toolbox.jwt(&token).unwrap();
    let ask = json!({"token": jwt, "scope": "foo", "log": log});
    let (status, admitted) = shop.post("/api/request-tokens/redeem", ask).await;
    assert_eq!(status, 200, "{admitted}");
    (token.id, admitted["use"].clone())
}

async fn used(app: &TestApp, shop: &Caller) -> Redeemed {
    let (token, used) = redeemed(app, shop, true).await;
    Redeemed { token, used: used.as_i64().unwrap() }
}

async fn conclude(caller: &Caller, used: i64, status: i64) -> (u16, Value) {
    let path = format!("/api/request-tokens/uses/{used}/conclude");
    caller.post(&path, json!({"status": status})).await
}

both!(an_application_says_how_it_answered);
async fn an_application_says_how_it_answered(app: TestApp) {
    let shop = shop(&app).await;
    let other = Caller::new(&app, &shop.base, "other", Role::Service).await;
    let root = Caller::new(&app, &shop.base, "root", Role::Staff).await;
    let spent = async |token: i64| {
        shop.get(&format!("/api/request-tokens/{token}")).await.1["used_to_date"].as_i64().unwrap()
    };
    let Redeemed { token, used: id } = used(&app, &shop).await;
    for odd in [99, 600, -1] {
        let (status, problem) = conclude(&shop, id, odd).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("status")), "{odd}");
    }
    assert_eq!(conclude(&other, id, 500).await.0, 404);
    assert_eq!(conclude(&shop, id + 1000, 500).await.0, 404);
    assert_eq!(spent(token).await, 1);
    let (status, line) = conclude(&shop, id, 404).await;
    assert_eq!(
        (status, &line["status_code"], &line["outcome"]),
        (200, &json!(404), &json!("used"))
    );
    let log = shop.get(&format!("/api/request-tokens/{token}/log")).await.1;
    assert_eq!(log["items"], json!([line]));
    let (status, problem) = conclude(&shop, id, 500).await;
    assert_eq!((status, &problem["code"]), (409, &json!("already_concluded")));
    assert_eq!(spent(token).await, 1);
    // What failed is given back, for staff, too.
    for caller in [&shop, &root] {
        let Redeemed { token, used: id } = used(&app, &shop).await;
        let (status, line) = conclude(caller, id, 503).await;
        assert_eq!((status, &line["outcome"]), (200, &json!("given_back")));
        assert_eq!(spent(token).await, 0);
    }
    // A minute, and no longer.
    let Redeemed { token, used: early } = used(&app, &shop).await;
    let Redeemed { used: late, .. } = used(&app, &shop).await;
    app.advance(60);
    assert_eq!(conclude(&shop, early, 500).await.0, 200);
    assert_eq!(spent(token).await, 0);
    app.advance(1);
    let (status, problem) = conclude(&shop, late, 500).await;
    assert_eq!((status, &problem["code"]), (409, &json!("too_late")));
    // What is not logged cannot be concluded.
    assert_eq!(redeemed(&app, &shop, false).await.1, Value::Null);
}

both!(a_use_is_given_back_once);
async fn a_use_is_given_back_once(app: TestApp) {
    let shop = shop(&app).await;
    for _ in 0..5 {
        let Redeemed { token, used: id } = used(&app, &shop).await;
        // One more than there are uses to give back would show.
        let all = (0..10).map(|_| conclude(&shop, id, 500));
        let answers = futures::future::join_all(all).await;
        assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 1);
        assert!(answers.iter().all(|(status, _)| [200, 409].contains(status)));
        let row = shop.get(&format!("/api/request-tokens/{token}")).await.1;
        assert_eq!(row["used_to_date"], 0);
    }
}

both!(what_is_sent_as_it_is_made_has_no_digest);
async fn what_is_sent_as_it_is_made_has_no_digest(app: TestApp) {
    let shop = shop(&app).await;
    // Under way nobody knows it beforehand.
    let body = json!({"file_type": "hello", "deliver": "now"});
    let answer = shop.call("POST", "/api/requests").json(&body).send().await.unwrap();
    assert_eq!(header(&answer, "repr-digest"), "");
    assert_eq!(header(&answer, "cache-control"), "private, no-store, no-transform");
    assert_eq!(answer.text().await.unwrap(), "hello world in en UTC\n");
}
