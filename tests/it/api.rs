//! The HTTP API: callers, requests, paging, events, links.

use bgfiles::auth_token::Role;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::support::{Caller, TestApp, app, both, eventually};

async fn base(app: &TestApp) -> String {
    format!("http://{}", app.serve().await)
}

both!(asking_watching_downloading);
async fn asking_watching_downloading(app: TestApp) {
    let base = base(&app).await;
    let service = Caller::new(&app, &base, "shop", Role::Service).await;
    let body = json!({
        "file_type": "rows", "format": "jsonl", "criteria": {"rows": 5, "x": ["1", "2"]},
        "requester": {"id": "42", "email": "amy@example.com"}, "filename": "mine/../x.jsonl",
        "description": "Some rows", "language": "nl", "timezone": "Europe/Amsterdam",
    });
    let response = service.call("POST", "/api/requests").json(&body).send().await.unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let (status, made) = app::json(response).await;
    assert_eq!(status, 202);
    let id = made["id"].as_str().unwrap();
    assert_eq!(location, format!("http://files.example.com/api/requests/{id}"));
    let keys: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "id",
            "file_type",
            "status",
            "criteria",
            "format",
            "filename",
            "description",
            "content_type",
            "size",
            "sha256",
            "rows",
            "requester",
            "requester_email",
            "language",
            "timezone",
            "requested_at",
            "started_at",
            "finished_at",
            "expires_at",
            "attempts",
            "progress",
            "error",
            "downloads",
            "download_url",
        ]
    );
    assert_eq!(made["criteria"], "rows=5&x=1&x=2");
    assert_eq!(made["requested_at"], "2026-03-01T12:00:00Z");
    assert_eq!((&made["status"], &made["download_url"]), (&json!("pending"), &Value::Null));
    app.dispatch(id.parse().unwrap()).await;
    let (_, done) = service.get(&format!("/api/requests/{id}")).await;
    assert_eq!((&done["status"], &done["rows"]), (&json!("finished"), &json!(5)));
    assert_eq!(done["filename"], "mine .. x.jsonl");
    assert_eq!(done["expires_at"], "2026-03-02T12:00:00Z");
    let link = done["download_url"].as_str().unwrap().replace("http://files.example.com", &base);
    let text = app.http.get(link).send().await.unwrap().text().await.unwrap();
    assert_eq!(text.lines().next().unwrap(), r#"{"number":0,"text":"=row 0"}"#);
    assert_eq!(text.lines().count(), 5);
}

both!(who_may_ask_for_whom_and_see_what);
async fn who_may_ask_for_whom_and_see_what(app: TestApp) {
    let base = base(&app).await;
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    let bob = Caller::new(&app, &base, "bob", Role::User).await;
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let staff = Caller::new(&app, &base, "root", Role::Staff).await;
    let (status, mine) = amy.post("/api/requests", json!({"file_type": "hello"})).await;
    assert_eq!((status, &mine["requester"]), (202, &json!("amy")));
    assert_eq!(mine["requester_email"], "amy@example.com");
    for requester in [json!({"id": "bob"}), json!({"email": "other@example.com"})] {
        let body = json!({"file_type": "hello", "requester": requester});
        assert_eq!(amy.post("/api/requests", body).await.0, 403);
    }
    let path = format!("/api/requests/{}", mine["id"].as_str().unwrap());
    assert_eq!(bob.get(&path).await.0, 404);
    for other in [&amy, &shop, &staff] {
        assert_eq!(other.get(&path).await.0, 200);
    }
    for (method, suffix) in [
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("DELETE", ""),
        ("GET", "/events"),
        ("GET", "/links"),
        ("POST", "/links"),
    ] {
        let answer = bob.call(method, &format!("{path}{suffix}")).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{method} {suffix}");
    }
    assert_eq!(bob.get("/api/requests?requester=amy").await.1["items"], json!([]));
    assert_eq!(
        shop.get("/api/requests?requester=amy").await.1["items"].as_array().unwrap().len(),
        1
    );
    let nobody = Caller { secret: "x".into(), ..amy };
    for (header, words) in [
        ("", "Authentication credentials were not provided."),
        ("Basic abc", "Authentication credentials were not provided."),
        ("Token", "Invalid token header. No credentials provided."),
        ("token a b", "Invalid token header. Token string should not contain spaces."),
        ("Token bgf_nonsense", "Invalid token."),
    ] {
        let request = nobody.http.get(format!("{base}/api/requests"));
        let request =
            if header.is_empty() { request } else { request.header("authorization", header) };
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Token realm=\"bgfiles\"");
        let (status, body) = app::json(response).await;
        assert_eq!((status, &body["detail"]), (401, &json!(words)));
    }
}

both!(bad_input_names_the_field);
async fn bad_input_names_the_field(app: TestApp) {
    let base = base(&app).await;
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let fields = async |body: Value| {
        let (status, problem) = shop.post("/api/requests", body).await;
        assert_eq!(status, 422, "{problem}");
        problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["field"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(fields(json!({"file_type": "nothing"})).await, ["file_type"]);
    assert_eq!(fields(json!({"file_type": "../etc"})).await, ["file_type"]);
    assert_eq!(fields(json!({"file_type": "hello", "deliver": "soon"})).await, ["deliver"]);
    assert_eq!(
        fields(json!({"file_type": "hello", "criteria": {"a": {}, "b": [[]]}})).await,
        ["criteria.a", "criteria.b"]
    );
    assert_eq!(
        fields(json!({"file_type": "hello", "criteria": {"bad": 1}})).await,
        ["criteria.bad"]
    );
    assert_eq!(fields(json!({"file_type": "hello", "format": "pdf"})).await, ["format"]);
    assert_eq!(
        fields(json!({"file_type": "hello", "timezone": "x", "language": "!"})).await,
        ["language", "timezone"].map(String::from).into_iter().rev().collect::<Vec<_>>()
    );
    assert_eq!(fields(json!({"file_type": 7})).await, ["file_type"]);
    assert_eq!(
        fields(json!({"file_type": "hello", "requester": {"mail": "x"}})).await,
        ["requester.mail"]
    );
    let unknown = shop.post("/api/requests", json!({"file_type": "hello", "nope": 1})).await.1;
    assert!(unknown["detail"].as_str().unwrap().contains("nope"));
    let send = async |body: &str, content_type: &str| {
        let request = shop.call("POST", "/api/requests").header("content-type", content_type);
        request.body(body.to_owned()).send().await.unwrap().status().as_u16()
    };
    assert_eq!(send("{", "application/json").await, 400);
    assert_eq!(send("{} {}", "application/json").await, 400);
    assert_eq!(send("a=b", "application/x-www-form-urlencoded").await, 415);
    assert_eq!(send(&format!("\"{}\"", "x".repeat(2 << 20)), "application/json").await, 413);
    assert_eq!(send(r#"{"file_type":"hello"}"#, "application/json; charset=utf-8").await, 202);
    let (status, problem) = shop.get("/api/requests?status=odd").await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("status")));
    assert_eq!(shop.get("/api/requests?cursor=!").await.0, 422);
    // `-6000000000000000000:00000000-0000-4000-8000-000000000000`: PostgreSQL has no such time.
    let far = "LTYwMDAwMDAwMDAwMDAwMDAwMDA6MDAwMDAwMDAtMDAwMC00MDAwLTgwMDAtMDAwMDAwMDAwMDAw";
    assert_eq!(shop.get(&format!("/api/requests?cursor={far}")).await.0, 422);
    assert_eq!(shop.get("/api/requests?limit=1000").await.0, 422);
    assert_eq!(shop.get("/api/requests/not-an-id").await.0, 404);
    assert_eq!(app::json(shop.call("PUT", "/api/requests").send().await.unwrap()).await.0, 405);
}

both!(pages_and_filters);
async fn pages_and_filters(app: TestApp) {
    let base = base(&app).await;
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let mut ids = Vec::new();
    for i in 0..7 {
        ids.push(app.request("hello", "").await.id.to_string());
        // Some at the same time: the id decides then.
        app.advance(i % 2);
    }
    app.request("rows", "").await;
    let mut seen = Vec::new();
    let mut path = "/api/requests?limit=3&file_type=hello".to_owned();
    loop {
        let (status, page) = shop.get(&path).await;
        assert_eq!(status, 200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/api/requests?limit=3&file_type=hello&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 7);
    seen.sort();
    ids.sort();
    assert_eq!(seen, ids);
    assert_eq!(shop.get("/api/requests?status=finished").await.1["items"], json!([]));
}

both!(idempotency_keys);
async fn idempotency_keys(app: TestApp) {
    let base = base(&app).await;
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let other = Caller::new(&app, &base, "other", Role::Service).await;
    let ask = async |caller: &Caller, key: &str, name: &str| {
        let body = json!({"file_type": "hello", "criteria": {"name": name}});
        let request = caller.call("POST", "/api/requests").header("idempotency-key", key);
        app::json(request.json(&body).send().await.unwrap()).await
    };
    let (status, first) = ask(&shop, "k", "a").await;
    assert_eq!(status, 202);
    let (status, again) = ask(&shop, "k", "a").await;
    assert_eq!((status, &again["id"]), (202, &first["id"]));
    let (status, problem) = ask(&shop, "k", "b").await;
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency_key_reused")));
    assert_ne!(ask(&other, "k", "a").await.1["id"], first["id"]);
    assert_eq!(ask(&shop, &"k".repeat(201), "a").await.0, 422);
}

both!(now_in_the_response_and_errors_before_the_first_byte);
async fn now_in_the_response_and_errors_before_the_first_byte(app: TestApp) {
    let base = base(&app).await;
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let body = json!({"file_type": "hello", "deliver": "now"});
    let response = shop.call("POST", "/api/requests").json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-disposition"], "attachment; filename=\"hello.txt\"");
    assert_eq!(response.text().await.unwrap(), "hello world in en UTC\n");
    let (status, problem) =
        shop.post("/api/requests", json!({"file_type": "hangs", "deliver": "now"})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("timeout")));
    let (status, problem) =
        shop.post("/api/requests", json!({"file_type": "panics", "deliver": "now"})).await;
    assert_eq!((status, &problem["code"]), (503, &json!("handler_panicked")));
    // After the first byte an answer can only break, visibly.
    let body = json!({"file_type": "permanent", "deliver": "now"});
    let whole =
        async { shop.call("POST", "/api/requests").json(&body).send().await?.bytes().await };
    assert!(whole.await.is_err());
}

both!(browsers_get_the_delayed_page);
async fn browsers_get_the_delayed_page(app: TestApp) {
    let base = base(&app).await;
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let body = json!({"file_type": "hello", "description": "<b>it</b>", "requester": {"email": "amy@example.com"}});
    let request = shop.call("POST", "/api/requests").header("accept", "text/html");
    let response = request.json(&body).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let page = response.text().await.unwrap();
    assert!(
        page.contains("amy@example.com") && page.contains("&lt;b&gt;it") && !page.contains("<b>it")
    );
}

both!(cancel_retry_delete);
async fn cancel_retry_delete(app: TestApp) {
    let base = base(&app).await;
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let id = shop.post("/api/requests", json!({"file_type": "hello"})).await.1["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/api/requests/{id}");
    assert_eq!(shop.post(&format!("{path}/retry"), json!({})).await.0, 409);
    let (status, row) = shop.post(&format!("{path}/cancel"), json!({})).await;
    assert_eq!((status, &row["status"]), (200, &json!("cancelled")));
    assert_eq!(shop.post(&format!("{path}/cancel"), json!({})).await.1["code"], "wrong_status");
    let (status, row) = shop.post(&format!("{path}/retry"), json!({})).await;
    assert_eq!((status, &row["status"]), (202, &json!("pending")));
    app.dispatch(id.parse().unwrap()).await;
    assert_eq!(app.objects().len(), 1);
    assert_eq!(shop.call("DELETE", &path).send().await.unwrap().status(), 204);
    assert!(app.objects().is_empty());
    assert_eq!(shop.get(&path).await.0, 404);
    assert_eq!(shop.call("DELETE", &path).send().await.unwrap().status(), 404);
}

both!(links_are_made_listed_and_revoked);
async fn links_are_made_listed_and_revoked(app: TestApp) {
    let base = base(&app).await;
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let row = app.finished("hello", "").await;
    let path = format!("/api/requests/{}/links", row.id);
    let (status, link) = shop.post(&path, json!({"max_age": 60, "data": {"to": "bob"}})).await;
    assert_eq!((status, &link["created_by"]), (201, &json!("shop")));
    assert_eq!(link["expires_at"], "2026-03-01T12:01:00Z");
    let url = link["url"].as_str().unwrap().replace("http://files.example.com", &base);
    let code = async || app::json(app.http.get(&url).send().await.unwrap()).await;
    assert_eq!(code().await.0, 200);
    let (_, list) = shop.get(&path).await;
    assert_eq!(list["items"][0]["jti"], link["jti"]);
    assert_eq!(list["items"][0]["data"], json!({"to": "bob"}));
    assert!(list["items"][0].get("url").is_none(), "the URL is shown once");
    app.advance(60);
    assert_eq!(code().await.1["code"], "link_expired");
    let (_, link) = shop.post(&path, json!({})).await;
    let url = link["url"].as_str().unwrap().replace("http://files.example.com", &base);
    let one = format!("{path}/{}", link["jti"].as_str().unwrap());
    assert_eq!(shop.call("DELETE", &one).send().await.unwrap().status(), 204);
    let (status, problem) = app::json(app.http.get(&url).send().await.unwrap()).await;
    assert_eq!((status, &problem["code"]), (403, &json!("link_revoked")));
    assert_eq!(shop.call("DELETE", &format!("{path}/x")).send().await.unwrap().status(), 404);
    for wrong in [
        json!({"max_age": 0}),
        json!({"max_uses": 0}),
        json!({"not_before": "2036-01-01T00:00:00Z"}),
        json!({"odd": 1}),
    ] {
        assert_eq!(shop.post(&path, wrong.clone()).await.0, 422, "{wrong}");
    }
    let pending = app.request("hello", "").await;
    let (status, problem) =
        shop.post(&format!("/api/requests/{}/links", pending.id), json!({})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("file_not_ready")));
}

both!(events_tell_progress_and_end);
async fn events_tell_progress_and_end(app: TestApp) {
    let base = base(&app).await;
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let row = app.request("slow", "seconds=3").await;
    let response =
        shop.call("GET", &format!("/api/requests/{}/events", row.id)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let toolbox = app.toolbox.clone();
    tokio::spawn(async move { toolbox.dispatch(row.id, "w", &Default::default()).await });
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    while let Some(chunk) = stream.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let events: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("event: ")).collect();
    assert_eq!((events[0], &events[events.len() - 2..]), ("status", &["status", "end"][..]));
    assert!(events.iter().filter(|e| **e == "progress").count() >= 2, "{text}");
    assert!(text.contains(r#""total":60"#) && text.contains(r#""status":"finished""#));
}

both!(health_metrics_and_file_types);
async fn health_metrics_and_file_types(app: TestApp) {
    let base = base(&app).await;
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let get = async |path: &str| {
        app::json(app.http.get(format!("{base}{path}")).send().await.unwrap()).await
    };
    assert_eq!(get("/healthz").await, (200, json!("ok\n")));
    assert_eq!(get("/readyz").await.1["ready"], true);
    assert_eq!(get("/metrics").await.0, 200);
    let (_, types) = shop.get("/api/file-types").await;
    let rows = types["items"].as_array().unwrap().iter().find(|t| t["name"] == "rows").unwrap();
    assert_eq!(rows["formats"], json!(["csv", "jsonl", "xlsx"]));
    assert_eq!(get("/api/file-types").await.0, 401);
    let response = app
        .http
        .get(format!("{base}/healthz"))
        .header("x-request-id", "abc-1")
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["x-request-id"], "abc-1");
    app.sql("DELETE FROM _bgfiles_migrations").await;
    // What was found is remembered for a second.
    let body = eventually("it is not ready", 10, async || {
        let (status, body) = get("/readyz").await;
        (status == 503).then_some(body)
    })
    .await;
    assert_eq!(body["database"], "failing");
    app.stop.cancel();
    eventually("the server ends", 10, async || {
        app.http.get(format!("{base}/healthz")).send().await.is_err().then_some(())
    })
    .await;
}

both!(expired_and_inactive_tokens_are_refused);
async fn expired_and_inactive_tokens_are_refused(app: TestApp) {
    let base = base(&app).await;
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    assert_eq!(amy.get("/api/requests").await.0, 200);
    app.sql("UPDATE bgfiles_users SET is_active = false").await;
    assert_eq!(amy.get("/api/requests").await.0, 401);
    app.sql("UPDATE bgfiles_users SET is_active = true").await;
    app.sql("UPDATE bgfiles_auth_tokens SET expires_at = '2026-03-01T12:00:10+00:00'").await;
    assert_eq!(amy.get("/api/requests").await.0, 200);
    app.advance(10);
    assert_eq!(amy.get("/api/requests").await.0, 401);
    let stored =
        app.count("SELECT count(*) FROM bgfiles_auth_secrets WHERE hash LIKE 'bgf_%'").await;
    assert_eq!(stored, 0, "secrets are not stored");
}

both!(a_body_that_is_too_large_does_not_lose_its_answer);
async fn a_body_that_is_too_large_does_not_lose_its_answer(app: TestApp) {
    let address = app.serve().await;
    let send = move || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let body = vec![b'x'; 8 << 20];
        let head = format!(
            "POST /api/auth/login/ HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
            content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for _ in 0..10 {
        let answer = tokio::task::spawn_blocking(send).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        // A client that keeps it would lose its next request.
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
}
