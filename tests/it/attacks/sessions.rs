//! Sessions and pages: fixation, forms of other sites, enumeration, and the headers of every answer.

use bgfiles::{
    RequestId,
    auth_token::{Role, SessionSecret},
    web::routes,
};
use http::{HeaderMap, Method};
use serde_json::json;

use crate::support::{Caller, TestApp, both};

const PASSWORD: &str = "seven green teapots";

/// The token of a page's forms.
fn csrf(page: &str) -> String {
    let rest = page.split("name=\"csrf\" value=\"").nth(1).unwrap_or_else(|| panic!("{page}"));
    rest.split('"').next().unwrap().to_owned()
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get_all("set-cookie").iter().find_map(|line| {
        let (found, rest) = line.to_str().unwrap().split_once('=')?;
        (found == name).then(|| rest.split(';').next().unwrap().to_owned())
    })
}

both!(a_login_begins_a_session_of_its_own);
async fn a_login_begins_a_session_of_its_own(app: TestApp) {
    app.add_user("amy", Role::User, Some(PASSWORD)).await;
    app.add_user("mallory", Role::User, None).await;
    let base = format!("http://{}", app.serve().await);
    let get = async |path: &str, cookies: &str| {
        let request = app.http.get(format!("{base}{path}")).header("accept", "text/html");
        request.header("cookie", cookies.to_owned()).send().await.unwrap()
    };
    // Planted in her browser: one that nobody has yet, and one of somebody else's own.
    let invented = SessionSecret::random().expose().to_owned();
    let theirs = app.toolbox.begin_session("mallory", None).await.unwrap().expose().to_owned();
    for planted in [&invented, &theirs] {
        let mut cookies = format!("bgfiles_session={planted}");
        let page = get("/login", &cookies).await;
        if page.status() == 303 {
            // Logged in as somebody else, she logs out first, as the page says who she is.
            assert_eq!(planted, &theirs);
            continue;
        }
        if let Some(form) = cookie(page.headers(), "bgfiles_form") {
            cookies = format!("{cookies}; bgfiles_form={form}");
        }
        let csrf = csrf(&page.text().await.unwrap());
        let form = [("csrf", csrf.as_str()), ("username", "amy"), ("password", PASSWORD)];
        let login = app
            .http
            .post(format!("{base}/login"))
            .header("cookie", &cookies)
            .form(&form)
            .send()
            .await
            .unwrap();
        assert_eq!(login.status(), 303);
        let fresh = cookie(login.headers(), "bgfiles_session").unwrap();
        assert_ne!(&fresh, planted);
        assert_eq!(get("/files", &format!("bgfiles_session={fresh}")).await.status(), 200);
        assert_eq!(
            get("/files", &format!("bgfiles_session={planted}")).await.status(),
            303,
            "the planted one is nobody's"
        );
    }
    // Somebody else's session is over once another login takes its place.
    let page = get("/login", "").await;
    let form = cookie(page.headers(), "bgfiles_form").unwrap();
    let token = csrf(&page.text().await.unwrap());
    let fields = [("csrf", token.as_str()), ("username", "amy"), ("password", PASSWORD)];
    let before = app.count("SELECT count(*) FROM bgfiles_sessions").await;
    let request =
        app.http.post(format!("{base}/login")).header("cookie", format!("bgfiles_form={form}"));
    let login = request.form(&fields).send().await.unwrap();
    assert_eq!(login.status(), 303);
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_sessions").await, before + 1);
    // Each login has its own; nothing in an address makes one.
    for path in [
        format!("/files?bgfiles_session={theirs}"),
        format!("/files;bgfiles_session={theirs}"),
        format!("/files?session={theirs}"),
    ] {
        assert_ne!(get(&path, "").await.status(), 200, "{path}");
    }
    let line = login.headers()["set-cookie"].to_str().unwrap();
    assert!(
        line.contains("HttpOnly") && line.contains("SameSite=Lax") && !line.contains("Domain"),
        "{line}"
    );
}

/// An address for a route, with something that is there where that is easy, and plausible words
/// elsewhere.
pub(super) fn address(path: &str, id: &str) -> String {
    let ids = path.replace("{id}", id).replace("{jti}", id).replace("{file_type}", "hello");
    let ids = ids.replace("{app}", "bgfiles").replace("{model}", "file_request");
    ids.replace("{token}", &"0".repeat(32))
        .replace("{use}", "1")
        .replace("{grant}", &"0".repeat(43))
        .replace("{name}", "one")
}

/// Rows of every table that pages change.
async fn everything(app: &TestApp) -> Vec<i64> {
    vec![
        app.count("SELECT count(*) FROM bgfiles_file_requests WHERE status = 'pending'").await,
        app.count("SELECT count(*) FROM bgfiles_file_requests").await,
        app.count("SELECT count(*) FROM bgfiles_users WHERE is_active").await,
        app.count("SELECT count(*) FROM bgfiles_auth_tokens").await,
        app.count("SELECT count(*) FROM bgfiles_sessions").await,
        app.count("SELECT count(*) FROM bgfiles_links").await,
        app.count("SELECT count(*) FROM bgfiles_locks WHERE held").await,
        app.count("SELECT count(*) FROM bgfiles_audit").await,
    ]
}

both!(no_form_and_no_call_of_another_site_does_anything);
async fn no_form_and_no_call_of_another_site_does_anything(app: TestApp) {
    app.add_user("root", Role::Staff, None).await;
    let base = format!("http://{}", app.serve().await);
    let mut new = TestApp::new_request("hello", "");
    new.requester.id = Some("root".into());
    let row = app.add(new).await;
    let session = app.toolbox.begin_session("root", None).await.unwrap();
    let cookies = format!("bgfiles_session={}", session.expose());
    let page =
        app.http.get(format!("{base}/account")).header("cookie", &cookies).send().await.unwrap();
    let good = csrf(&page.text().await.unwrap());
    let before = everything(&app).await;
    let (mut forms, mut calls) = (0, 0);
    for (method, route) in routes() {
        // POST of a download is its GET.
        if method == Method::GET || route.starts_with("/d/") || route.starts_with("/g/") {
            continue;
        }
        let is_page = !["/api/", "/lock_tokens/"].iter().any(|prefix| route.starts_with(prefix));
        let url = format!("{base}{}", address(&route, &row.id.to_string()));
        let send = async |csrf: &str, headers: &[(&str, &str)]| {
            let request = app.http.request(method.clone(), &url).header("cookie", &cookies);
            let request = headers
                .iter()
                .fold(request, |request, (name, value)| request.header(*name, *value));
            // What a form of another site can send: three kinds of bodies, and no headers.
            let request = if is_page {
                request.form(&[("csrf", csrf)])
            } else {
                request.header("content-type", "text/plain").body("{\"file_type\":\"hello\"}")
            };
            request.send().await.unwrap().status().as_u16()
        };
        let elsewhere: [&[(&str, &str)]; 4] = [
            &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[("sec-fetch-site", "same-site"), ("origin", "http://sub.files.example.com")],
        ];
        for headers in elsewhere {
            let status = send(&good, headers).await;
            // The login has no session to abuse, and answers by its own token.
            let open = route == "/login" || route == "/api/auth/login";
            // A body of a kind that is not taken is refused before anything else.
            assert!(
                status == 403
                    || (!is_page && status == 415)
                    || (open && (400..500).contains(&status)),
                "{method} {route} {headers:?}: {status}"
            );
        }
        if is_page {
            for token in ["", "0", &good[1..], &good.to_uppercase()] {
                let status = send(token, &[]).await;
                assert_eq!(status, 403, "{method} {route} with {token:?}");
            }
            forms += 1;
        } else {
            calls += 1;
        }
    }
    assert!(forms > 18 && calls > 18, "{forms} forms, {calls} calls");
    assert_eq!(everything(&app).await, before);
    // And no GET changes anything.
    for (method, route) in routes() {
        if method == Method::GET && !route.contains("events") {
            let url = format!("{base}{}", address(&route, &row.id.to_string()));
            app.http.get(url).header("cookie", &cookies).send().await.unwrap();
        }
    }
    assert_eq!(everything(&app).await[..6], before[..6]);
}

both!(nobody_learns_what_there_is);
async fn nobody_learns_what_there_is(app: TestApp) {
    app.add_user("amy", Role::User, Some(PASSWORD)).await;
    app.add_user("nopass", Role::User, None).await;
    app.add_user("gone", Role::User, Some(PASSWORD)).await;
    app.sql("UPDATE bgfiles_users SET is_active = false WHERE username = 'gone'").await;
    let base = format!("http://{}", app.serve().await);
    let bob = Caller::new(&app, &base, "bob", Role::User).await;
    app.client("web", bgfiles::limits::TokenTtl::DAY, "", bgfiles::auth_token::TokenPolicy::One)
        .await;
    let plain = async |request: reqwest::RequestBuilder| {
        let response = request.send().await.unwrap();
        let (status, mut headers) = (response.status().as_u16(), response.headers().clone());
        for name in ["x-request-id", "date"] {
            headers.remove(name);
        }
        (status, format!("{headers:?}"), response.text().await.unwrap())
    };
    // A wrong password, an unknown name, a user without a password, one who is out.
    let login = |name: &str, password: &str| {
        let body = json!({"username": name, "password": password, "client": "web"});
        app.http.post(format!("{base}/api/auth/login")).json(&body)
    };
    let wrong = plain(login("amy", "not the password")).await;
    assert_eq!(wrong.0, 400);
    for (name, password) in [
        ("nobody", "not the password"),
        ("nopass", "not the password"),
        ("nopass", ""),
        ("gone", "not the password"),
    ] {
        let found = plain(login(name, password)).await;
        assert!(
            found == wrong || password.is_empty() && found.0 == 400,
            "{name}: {found:?} {wrong:?}"
        );
    }
    assert_eq!(
        plain(login("gone", PASSWORD)).await,
        wrong,
        "the right password of somebody who is out says nothing"
    );
    // Clients are asked for only after a password was right.
    let body = json!({"username": "amy", "password": "wrong", "client": "no such client"});
    assert_eq!(plain(app.http.post(format!("{base}/api/auth/login")).json(&body)).await, wrong);
    // Somebody else's request, and one that there is not.
    let row = app.finished("hello", "").await;
    let none = RequestId::random();
    let addresses = |id: RequestId| {
        ["", "/cancel", "/retry", "/events", "/links", "/log"]
            .map(|suffix| (suffix, format!("/api/requests/{id}{suffix}")))
    };
    for ((suffix, theirs), (_, missing)) in addresses(row.id).into_iter().zip(addresses(none)) {
        for method in ["GET", "POST", "DELETE", "PATCH"] {
            let body = json!({"description": "x"});
            let theirs = plain(bob.call(method, &theirs).json(&body)).await;
            let missing = plain(bob.call(method, &missing).json(&body)).await;
            assert_eq!(theirs, missing, "{method} {suffix}");
        }
    }
    for path in
        ["/files/", "/lock_tokens/bgfiles/file_request/", "/api/locks/bgfiles/file_request/"]
    {
        let theirs = plain(bob.call("GET", &format!("{path}{}", row.id))).await;
        let missing = plain(bob.call("GET", &format!("{path}{none}"))).await;
        assert_eq!(theirs, missing, "{path}");
    }
}

both!(every_answer_is_locked_down);
async fn every_answer_is_locked_down(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let root = Caller::new(&app, &base, "root", Role::Staff).await;
    let row = app.finished("hello", "").await;
    let mut routes = routes();
    routes.extend(
        ["/nowhere", "/api/nowhere", "/d/x/y", "/%ff", "/static/none"]
            .map(|path| (Method::GET, path.to_owned())),
    );
    for (method, route) in routes {
        if route.contains("events") {
            continue;
        }
        let path = address(&route, &row.id.to_string());
        for accept in ["text/html", "application/json"] {
            for known in [true, false] {
                let request = app
                    .http
                    .request(method.clone(), format!("{base}{path}"))
                    .header("accept", accept);
                let request = if known {
                    request.header("authorization", format!("Token {}", root.secret))
                } else {
                    request
                };
                let response = request.send().await.unwrap();
                let headers = response.headers();
                let text =
                    |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap());
                let what = format!("{method} {route} {accept} {known}: {}", response.status());
                assert_eq!(text("x-content-type-options"), "nosniff", "{what}");
                // Tokens in addresses go nowhere.
                let bearer = ["/d/", "/g/", "/api/"].iter().any(|prefix| route.starts_with(prefix));
                let nowhere = text("referrer-policy") == "no-referrer";
                assert!(nowhere || (!bearer && text("referrer-policy") == "same-origin"), "{what}");
                let policy = text("content-security-policy");
                assert!(
                    policy.contains("default-src 'none'") && !policy.contains("unsafe"),
                    "{what}"
                );
                assert!(
                    policy.contains("frame-ancestors 'none'") || policy.contains("sandbox"),
                    "{what}"
                );
                assert!(
                    [
                        "no-store",
                        "private, no-store, no-transform",
                        "no-cache, no-transform",
                        "no-cache",
                        "private, no-cache"
                    ]
                    .contains(&text("cache-control")),
                    "{what}: {:?}",
                    text("cache-control")
                );
                assert_eq!(text("access-control-allow-origin"), "", "{what}");
                assert!(text("server").is_empty() && text("x-powered-by").is_empty(), "{what}");
                let kind = text("content-type").to_owned();
                let body = response.text().await.unwrap();
                assert!(body.is_empty() || !kind.is_empty(), "{what}");
                // A body that begins like a page is called one, or is not looked at as one.
                assert!(
                    !body.trim_start().to_lowercase().starts_with("<!doctype")
                        || kind.starts_with("text/html"),
                    "{what}"
                );
            }
        }
    }
}

both!(what_pretends_to_be_something_else_stays_what_it_is);
async fn what_pretends_to_be_something_else_stays_what_it_is(app: TestApp) {
    // A file that looks like a page, under a name that is one: never run as one of ours.
    let base = format!("http://{}", app.serve().await);
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    for name in ["x.html", "x.svg", "x.xhtml", "x.js", "x.pdf", "x.txt.html", "x.htm\u{0301}l", "x"]
    {
        let body = json!({"file_type": "hello", "filename": name, "criteria": {"name": "<!doctype html><script>alert(1)</script>"}});
        let (status, row) = shop.post("/api/requests", body).await;
        assert_eq!(status, 202);
        let id: RequestId = row["id"].as_str().unwrap().parse().unwrap();
        app.dispatch(id).await;
        let answer =
            app.http.get(format!("{base}{}", app.link(&app.row(id).await))).send().await.unwrap();
        let headers = answer.headers();
        assert!(
            headers["content-disposition"].to_str().unwrap().starts_with("attachment"),
            "{name}"
        );
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["content-security-policy"], "default-src 'none'; sandbox");
    }
}

#[test]
fn addresses_have_no_places_left() {
    for (_, route) in routes() {
        assert!(!address(&route, "1").contains('{'), "{route}");
    }
}
