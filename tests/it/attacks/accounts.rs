//! Rights that somebody keeps, lends or enlarges: tokens of other databases, keys, names that are given
//! out again, accounts that are closed.

use axum::Router;
use bgfiles::{
    auth_token::{Role, Settings, TokenPolicy},
    file_request::Status,
    limits::TokenTtl,
    request_token::{LoginMode, NewRequestToken, store},
    toolbox::LinkOptions,
    web::{WebState, request_tokens, require_caller, router, server},
};
use http::Method;
use serde_json::{Value, json};

use crate::{
    cli::{on, run},
    support::{
        Caller, TestApp,
        app::{self, Parts, SECRET},
        both,
    },
};

/// A token for this user's session, and its JWT.
async fn issue(app: &TestApp, user: &str) -> (i64, String) {
    let new = NewRequestToken {
        user_id: Some(user.into()),
        login_mode: LoginMode::Session,
        max_uses: Some(100),
        ..NewRequestToken::new("report")
    };
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let token = app.toolbox.create_request_token(&mut tx, new).await.unwrap();
    tx.commit().await.unwrap();
    (token.id, app.toolbox.jwt(&token).unwrap())
}

async fn uses(app: &TestApp, id: i64) -> usize {
    let mut tx = app.toolbox.db().read().await.unwrap();
    store::uses(&mut tx, id, None, 100).await.unwrap().len()
}

both!(a_request_token_admits_where_it_was_issued);
async fn a_request_token_admits_where_it_was_issued(app: TestApp) {
    let other = TestApp::new(app.kind).await;
    for app in [&app, &other] {
        for name in ["amy", "olga"] {
            app.add_user(name, Role::User, None).await;
        }
    }
    let base = format!("http://{}", other.serve().await);
    let shop = Caller::new(&other, &base, "shop", Role::Service).await;
    let redeem = async |jwt: &str| {
        let (status, body) =
            shop.post("/api/request-tokens/redeem", json!({"token": jwt, "scope": "report"})).await;
        (status, body["user"].as_str().or(body["code"].as_str()).unwrap_or_default().to_owned())
    };
    let unknown = (403, "token_unknown".to_owned());
    let (first, amys) = issue(&app, "amy").await;
    let (second, olgas) = issue(&other, "olga").await;
    assert_eq!(first, second, "numbers begin at 1 in both");
    assert_eq!(redeem(&olgas).await, (200, "olga".into()));
    assert_eq!(redeem(&amys).await, unknown);
    let shown = shop.get(&format!("/api/request-tokens?jwt={amys}")).await.1;
    assert_eq!(shown["items"], json!([]));
    // Of the same user, and later than the other: a number that was given out again.
    app.advance(1);
    let (_, again) = issue(&app, "olga").await;
    other.sql("DELETE FROM bgfiles_request_tokens").await;
    other
        .sql(match other.kind {
            crate::support::Kind::Sqlite => {
                "DELETE FROM sqlite_sequence WHERE name = 'bgfiles_request_tokens'"
            }
            crate::support::Kind::Postgres => {
                "ALTER SEQUENCE bgfiles_request_tokens_id_seq RESTART"
            }
        })
        .await;
    other.advance(7);
    let (third, _) = issue(&other, "olga").await;
    assert_eq!(third, second);
    assert_eq!(redeem(&olgas).await, unknown);
    assert_eq!(redeem(&again).await, unknown);
    // Too late is no reason to write into somebody else's log either.
    other.advance(86_400);
    assert_eq!(redeem(&olgas).await.0, 403);
    assert_eq!((uses(&app, first).await, uses(&other, third).await), (0, 0));
    // An edit is followed by what is about; django-request-token's, which name no key, go by number.
    let (id, jwt) = issue(&other, "amy").await;
    let edit = json!({"scope": "ledger", "max_uses": 3});
    assert_eq!(
        shop.call("PATCH", &format!("/api/request-tokens/{id}"))
            .json(&edit)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let ledger = json!({"token": jwt, "scope": "ledger"});
    assert_eq!(shop.post("/api/request-tokens/redeem", ledger).await.0, 200);
    let claims = json!({"jti": id.to_string(), "sub": "x", "mod": "s", "aud": "17"});
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let django = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let ledger = json!({"token": django, "scope": "ledger"});
    assert_eq!(shop.post("/api/request-tokens/redeem", ledger).await.0, 200);
}

both!(nobody_makes_a_token_for_a_role_above_theirs);
async fn nobody_makes_a_token_for_a_role_above_theirs(app: TestApp) {
    app.add_user("olga", Role::Staff, None).await;
    let base = format!("http://{}", app.serve().await);
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let root = Caller::new(&app, &base, "root", Role::Staff).await;
    let ask = |user: &str| json!({"scope": "report", "login_mode": "session", "user": user});
    let audited = async || {
        app.count("SELECT count(*) FROM bgfiles_audit WHERE action LIKE 'request_token.%'").await
    };
    for user in ["olga", "root"] {
        let (status, body) = shop.post("/api/request-tokens", ask(user)).await;
        assert_eq!((status, &body["code"]), (403, &json!("forbidden")), "{body}");
    }
    assert_eq!(audited().await, 0);
    // Whoever is called that is none of ours.
    let (_, stranger) = shop.post("/api/request-tokens", ask("OLGA")).await;
    let redeem = json!({"token": stranger["jwt"], "scope": "report"});
    let (status, body) = shop.post("/api/request-tokens/redeem", redeem).await;
    assert_eq!((status, &body["code"]), (403, &json!("token_inactive_user")), "{body}");
    assert_eq!(shop.post("/api/request-tokens", ask("shop")).await.0, 201);
    let (status, made) = root.post("/api/request-tokens", ask("olga")).await;
    assert_eq!(status, 201, "{made}");
    let path = format!("/api/request-tokens/{}", made["id"]);
    let edit = async |caller: &Caller| {
        caller
            .call("PATCH", &path)
            .json(&json!({"max_uses": 1000}))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!((edit(&shop).await, edit(&root).await), (403, 200));
    // Ending one takes nothing from nobody.
    assert_eq!(shop.call("POST", &format!("{path}/expire")).send().await.unwrap().status(), 200);
    assert_eq!(audited().await, 5);
}

both!(a_hosts_layer_hands_on_how_a_caller_proved_it);
async fn a_hosts_layer_hands_on_how_a_caller_proved_it(app: TestApp) {
    let settings =
        Settings { disallowed_clients: ["kiosk".to_owned()].into(), ..Settings::default() };
    let app = TestApp::with(app.kind, Parts { auth: settings, ..Parts::default() }).await;
    app.add_user("amy", Role::User, None).await;
    app.client("kiosk", TokenTtl::Never, "", TokenPolicy::One).await;
    app.client("slow", TokenTtl::Never, "1/h", TokenPolicy::One).await;
    let (kiosk, slow) = (app.token("amy", "kiosk").await, app.token("amy", "slow").await);
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    let ours = router(WebState::new(app.toolbox.clone()));
    let who = axum::routing::any(async || "in").layer(require_caller(&app.toolbox));
    let host =
        Router::new().route("/who", who).nest("/files", ours).layer(request_tokens(&app.toolbox));
    let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, host, Default::default(), app.stop.clone()));
    let mut new = TestApp::new_request("hello", "");
    new.requester.id = Some("amy".into());
    let row = app.add(new).await;
    let call = async |method: Method, path: &str, headers: &[(&str, String)]| {
        let request = app.http.request(method, format!("{base}{path}"));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        request.send().await.unwrap().status().as_u16()
    };
    let cancel = format!("/files/api/requests/{}/cancel", row.id);
    let cookie = ("cookie", format!("bgfiles_session={}", session.expose()));
    let elsewhere = ("sec-fetch-site", "cross-site".to_owned());
    for path in [cancel.as_str(), "/who"] {
        assert_eq!(
            call(Method::POST, path, &[cookie.clone(), elsewhere.clone()]).await,
            403,
            "{path}"
        );
    }
    assert_eq!(app.row(row.id).await.status, Status::Pending);
    assert_eq!(
        call(Method::GET, "/files/api/requests", &[("authorization", format!("Token {kiosk}"))])
            .await,
        403
    );
    let with_slow = ("authorization", format!("Token {slow}"));
    assert_eq!(
        call(Method::GET, "/files/api/requests", std::slice::from_ref(&with_slow)).await,
        200
    );
    assert_eq!(call(Method::GET, "/files/api/requests", &[with_slow]).await, 429);
    assert_eq!(call(Method::POST, &cancel, &[cookie]).await, 200, "from here it is done");
}

both!(a_key_lasts_no_longer_than_what_made_it);
async fn a_key_lasts_no_longer_than_what_made_it(app: TestApp) {
    let settings = Settings {
        api_access_client: "api".into(),
        disallowed_clients: ["refused".to_owned()].into(),
        ..Settings::default()
    };
    let app = TestApp::with(app.kind, Parts { auth: settings, ..Parts::default() }).await;
    app.add_user("amy", Role::User, None).await;
    let minute: TokenTtl = "90s".parse().unwrap();
    for (name, ttl) in [("api", TokenTtl::Never), ("kiosk", minute), ("refused", minute)] {
        app.client(name, ttl, "", TokenPolicy::One).await;
    }
    let base = format!("http://{}", app.serve().await);
    let call = async |method: Method, path: &str, header: (&str, String)| {
        let request =
            app.http.request(method, format!("{base}/api/{path}")).header(header.0, header.1);
        app::json(request.send().await.unwrap()).await
    };
    let by = |secret: &str| ("authorization", format!("Token {secret}"));
    let refused = app.token("amy", "refused").await;
    assert_eq!(call(Method::POST, "auth/apiaccess", by(&refused)).await.0, 403);
    let kiosk = app.token("amy", "kiosk").await;
    let (status, made) = call(Method::POST, "auth/apiaccess", by(&kiosk)).await;
    assert_eq!(
        (status, &made["expiry"], &made["made_by"]),
        (201, &json!("2026-03-01T12:01:30Z"), &json!("kiosk"))
    );
    let key = made["token"].as_str().unwrap().to_owned();
    // Nor by being refreshed, nor by making another one.
    app.advance(60);
    let (status, refreshed) = call(Method::POST, "auth/refresh", by(&key)).await;
    assert_eq!((status, &refreshed["expiry"]), (200, &json!("2026-03-01T12:01:30Z")));
    assert_eq!(call(Method::DELETE, "auth/apiaccess", by(&key)).await.0, 204);
    let (status, made) = call(Method::POST, "auth/apiaccess", by(&kiosk)).await;
    assert_eq!((status, &made["expiry"]), (201, &json!("2026-03-01T12:01:30Z")));
    let key = made["token"].as_str().unwrap().to_owned();
    let listed = call(Method::GET, "auth/sessions", by(&key)).await.1;
    let listed: Vec<&Value> =
        listed.as_array().unwrap().iter().filter(|one| one["client"] == "api").collect();
    assert_eq!(listed[0]["made_by"], "kiosk");
    app.advance(31);
    assert_eq!(call(Method::GET, "requests", by(&key)).await.0, 401);
    // It ends when that does, too.
    let kiosk = app.token("amy", "kiosk").await;
    let (_, made) = call(Method::POST, "auth/apiaccess", by(&kiosk)).await;
    let key = made["token"].as_str().unwrap().to_owned();
    assert_eq!(call(Method::GET, "requests", by(&key)).await.0, 200);
    assert_eq!(call(Method::POST, "auth/logout", by(&kiosk)).await.0, 204);
    assert_eq!(call(Method::GET, "requests", by(&key)).await.0, 401);
    // A person in front of a browser may have one for ever.
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    let cookie = ("cookie", format!("bgfiles_session={}", session.expose()));
    let (status, made) = call(Method::POST, "auth/apiaccess", cookie).await;
    assert_eq!((status, &made["expiry"], &made["made_by"]), (201, &Value::Null, &json!("session")));
}

both!(a_session_is_of_a_user_and_not_of_a_name);
async fn a_session_is_of_a_user_and_not_of_a_name(app: TestApp) {
    app.add_user("zoe", Role::User, None).await;
    let session = app.toolbox.begin_session("zoe", None).await.unwrap();
    let other = app.toolbox.begin_session("zoe", None).await.unwrap();
    let is_in = async |session| app.toolbox.session_user(session).await.unwrap().is_some();
    app.sql("UPDATE bgfiles_users SET username = 'zoé', username_key = 'zoé'").await;
    assert_eq!(
        app.toolbox.session_user(&session).await.unwrap().unwrap().id,
        "zoé",
        "it goes with them"
    );
    app.sql("UPDATE bgfiles_users SET username = 'zoe', username_key = 'zoe'").await;
    app.sql("DELETE FROM bgfiles_users").await;
    assert!(!is_in(&session).await);
    app.add_user("zoe", Role::Staff, None).await;
    assert!(
        !is_in(&session).await && !is_in(&other).await,
        "whoever is given the name is somebody else"
    );
    let theirs = app.toolbox.begin_session("zoe", None).await.unwrap();
    assert!(is_in(&theirs).await);
    // Nor does the name alone count where a session is somebody else's.
    app.add_user("ida", Role::User, None).await;
    app.sql(
        "UPDATE bgfiles_sessions SET own_user_id = (SELECT id FROM bgfiles_users WHERE username = 'ida')",
    )
    .await;
    assert!(!is_in(&theirs).await);
}

both!(a_closed_account_leaves_no_links);
async fn a_closed_account_leaves_no_links(app: TestApp) {
    for (name, role) in [("amy", Role::User), ("carl", Role::Staff), ("bob", Role::User)] {
        app.add_user(name, role, None).await;
    }
    let base = format!("http://{}", app.serve().await);
    let of = async |name: &str| {
        let mut new = TestApp::new_request("hello", "");
        new.requester.id = Some(name.into());
        let row = app.add(new).await;
        app.dispatch(row.id).await;
        app.row(row.id).await
    };
    let (amys, bobs) = (of("amy").await, of("bob").await);
    let made_by = async |row, name: &str| {
        let options = LinkOptions { created_by: name.into(), ..LinkOptions::default() };
        let mut tx = app.toolbox.db().begin().await.unwrap();
        let (_, url) = app.toolbox.create_link(&mut tx, row, options).await.unwrap();
        tx.commit().await.unwrap();
        url
    };
    let links = [
        app.toolbox.download_url(&amys),
        made_by(&amys, "amy").await,
        made_by(&amys, "carl").await,
        made_by(&bobs, "amy").await,
        made_by(&bobs, "bob").await,
        app.toolbox.download_url(&bobs),
    ];
    let statuses = async || {
        let mut all = Vec::new();
        for link in &links {
            let path = link.split("/d/").nth(1).unwrap();
            all.push(
                app.http.get(format!("{base}/d/{path}")).send().await.unwrap().status().as_u16(),
            );
        }
        all
    };
    assert_eq!(statuses().await, [200; 6]);
    // The child has the machine's clock, which is ahead of the test's.
    let kept = run(on(&app).args(["set-user", "amy", "--active", "false", "--keep-links"]));
    assert!(kept.0 == 0 && kept.2.contains("--revoke-links ends them"), "{kept:?}");
    assert_eq!(statuses().await, [200; 6]);
    // What is being made would be mailed with a link.
    let waiting = app.request("hello", "").await;
    let ended = run(on(&app).args(["set-user", "amy", "--active", "false"]));
    assert!(ended.0 == 0 && ended.2.contains("have ended"), "{ended:?}");
    assert_eq!(statuses().await, [403, 403, 403, 403, 200, 200]);
    assert_eq!(app.row(waiting.id).await.status, bgfiles::Status::Cancelled);
}
