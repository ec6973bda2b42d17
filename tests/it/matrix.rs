//! Who may do what: every route, by everybody, with what is theirs and what is not.
//!
//! One table holds the expected answers. A route that is not in it fails the test, and so does a
//! line of the table without a route.

use bgfiles::{
    auth_token::{Role, Settings, TokenPolicy},
    limits::TokenTtl,
    lock_token::{Ask, Resource},
    request_token::NewRequestToken,
    toolbox::{LinkOptions, Presented, UserChanges},
    visitor::Visitor,
    web::routes,
};
use serde_json::{Value, json};

use crate::support::{TestApp, app, app::Parts, both};

/// Who calls, in the order of the table's columns.
const CALLERS: [&str; 7] = ["anonymous", "amy", "bob", "shop", "root", "gone", "wrong"];

/// Status with what is the caller's own, then with what is somebody else's; `+` and `-`: whether
/// the answer shows it. `anonymous` has nothing of their own: theirs is somebody else's, too.
const EXPECTED: &str = "
                                               anonymous user other service staff inactive wrong-client
POST   /api/requests                       own 401  202  202  202  202  401  403
POST   /api/requests                   foreign 401  403  403  202  202  401  403
GET    /api/requests                       own 401  200+ 200+ 200+ 200+ 401  403
GET    /api/requests                   foreign 401  200- 200- 200+ 200+ 401  403
GET    /api/requests/{id}                  own 401  200+ 200+ 200+ 200+ 401  403
GET    /api/requests/{id}              foreign 401  404  404  200+ 200+ 401  403
PATCH  /api/requests/{id}                  own 401  200  200  200  200  401  403
PATCH  /api/requests/{id}              foreign 401  404  404  200  200  401  403
DELETE /api/requests/{id}                  own 401  204  204  204  204  401  403
DELETE /api/requests/{id}              foreign 401  404  404  204  204  401  403
POST   /api/requests/{id}/cancel           own 401  409  409  409  409  401  403
POST   /api/requests/{id}/cancel       foreign 401  404  404  409  409  401  403
POST   /api/requests/{id}/retry            own 401  409  409  409  409  401  403
POST   /api/requests/{id}/retry        foreign 401  404  404  409  409  401  403
GET    /api/requests/{id}/events           own 401  200+ 200+ 200+ 200+ 401  403
GET    /api/requests/{id}/events       foreign 401  404  404  200+ 200+ 401  403
POST   /api/requests/{id}/links            own 401  201  201  201  201  401  403
POST   /api/requests/{id}/links        foreign 401  404  404  201  201  401  403
GET    /api/requests/{id}/links            own 401  200  200  200  200  401  403
GET    /api/requests/{id}/links        foreign 401  404  404  200  200  401  403
PATCH  /api/requests/{id}/links/{jti}      own 401  200  200  200  200  401  403
PATCH  /api/requests/{id}/links/{jti}  foreign 401  404  404  200  200  401  403
DELETE /api/requests/{id}/links/{jti}      own 401  204  204  204  204  401  403
DELETE /api/requests/{id}/links/{jti}  foreign 401  404  404  204  204  401  403
POST   /api/requests/{id}/links/{jti}/send own 401  202  202  202  202  401  403
POST   /api/requests/{id}/links/{jti}/send foreign 401  404  404  202  202  401  403
GET    /api/requests/{id}/links/{jti}/log  own 401  200  200  200  200  401  403
GET    /api/requests/{id}/links/{jti}/log foreign 401  404  404  200  200  401  403
GET    /api/requests/{id}/log              own 401  200  200  200  200  401  403
GET    /api/requests/{id}/log          foreign 401  404  404  200  200  401  403
GET    /api/file-types                     own 401  200  200  200  200  401  403
GET    /api/file-types                 foreign 401  200  200  200  200  401  403
POST   /api/request-tokens                 own 401  403  403  201  201  401  403
POST   /api/request-tokens             foreign 401  403  403  201  201  401  403
GET    /api/request-tokens                 own 401  403  403  200  200  401  403
GET    /api/request-tokens             foreign 401  403  403  200  200  401  403
POST   /api/request-tokens/redeem          own 401  403  403  200  200  401  403
POST   /api/request-tokens/redeem      foreign 401  403  403  200  200  401  403
POST   /api/request-tokens/uses/{use}/conclude     own 401 403 403 200 200 401 403
POST   /api/request-tokens/uses/{use}/conclude foreign 401 403 403 404 200 401 403
GET    /api/request-tokens/{id}            own 401  403  403  200  200  401  403
GET    /api/request-tokens/{id}        foreign 401  403  403  200  200  401  403
PATCH  /api/request-tokens/{id}            own 401  403  403  200  200  401  403
PATCH  /api/request-tokens/{id}        foreign 401  403  403  200  200  401  403
POST   /api/request-tokens/{id}/expire     own 401  403  403  200  200  401  403
POST   /api/request-tokens/{id}/expire foreign 401  403  403  200  200  401  403
GET    /api/request-tokens/{id}/log        own 401  403  403  200  200  401  403
GET    /api/request-tokens/{id}/log    foreign 401  403  403  200  200  401  403
POST   /api/auth/login                     own 400  400  400  400  400  400  400
POST   /api/auth/login                 foreign 400  400  400  400  400  400  400
POST   /api/auth/refresh                   own 401  200  200  200  200  401  200
POST   /api/auth/refresh               foreign 401  200  200  200  200  401  200
POST   /api/auth/logout                    own 401  204  204  204  204  401  204
POST   /api/auth/logout                foreign 401  204  204  204  204  401  204
POST   /api/auth/logoutall                 own 401  204  204  204  204  401  204
POST   /api/auth/logoutall             foreign 401  204  204  204  204  401  204
GET    /api/auth/sessions                  own 401  200+ 200+ 200+ 200+ 401  200+
GET    /api/auth/sessions              foreign 401  200- 200- 200- 200- 401  200-
DELETE /api/auth/sessions/{id}             own 401  204  204  204  204  401  204
DELETE /api/auth/sessions/{id}         foreign 401  404  404  404  404  401  404
GET    /api/auth/apiaccess                 own 401  200  200  200  200  401  200
GET    /api/auth/apiaccess             foreign 401  404  404  404  404  401  404
POST   /api/auth/apiaccess                 own 401  400  400  400  400  401  403
POST   /api/auth/apiaccess             foreign 401  201  201  201  201  401  403
DELETE /api/auth/apiaccess                 own 401  204  204  204  204  401  204
DELETE /api/auth/apiaccess             foreign 401  404  404  404  404  401  404
GET    /api/locks                          own 401  200+ 200+ 200+ 200+ 401  403
GET    /api/locks                      foreign 401  200- 200- 200+ 200+ 401  403
GET    /api/locks/{app}/{model}/{id}       own 401  200  200  200  200  401  403
GET    /api/locks/{app}/{model}/{id}   foreign 401  404  404  200  200  401  403
DELETE /api/locks/{app}/{model}/{id}       own 401  204  204  204  204  401  403
DELETE /api/locks/{app}/{model}/{id}   foreign 401  404  404  403  204  401  403
GET    /lock_tokens/lock_tokens.js         own 200  200  200  200  200  200  200
GET    /lock_tokens/lock_tokens.js     foreign 200  200  200  200  200  200  200
GET    /lock_tokens/lock_tokens.d.ts       own 200  200  200  200  200  200  200
GET    /lock_tokens/lock_tokens.d.ts   foreign 200  200  200  200  200  200  200
POST   /lock_tokens/{app}/{model}/{id}/    own 401  201  201  201  201  401  403
POST   /lock_tokens/{app}/{model}/{id}/ foreign 401 404  404  201  201  401  403
GET    /lock_tokens/{app}/{model}/{id}/{token}/    own 401 200 200 200 200 401 403
GET    /lock_tokens/{app}/{model}/{id}/{token}/ foreign 401 404 404 200 200 401 403
PATCH  /lock_tokens/{app}/{model}/{id}/{token}/    own 401 200 200 200 200 401 403
PATCH  /lock_tokens/{app}/{model}/{id}/{token}/ foreign 401 404 404 200 200 401 403
DELETE /lock_tokens/{app}/{model}/{id}/{token}/    own 401 204 204 204 204 401 403
DELETE /lock_tokens/{app}/{model}/{id}/{token}/ foreign 401 404 404 204 204 401 403
GET    /d/{token}                          own 403  200  200  200  200  401  200
GET    /d/{token}                      foreign 403  403  403  403  403  401  403
POST   /d/{token}                          own 403  303  303  303  303  401  303
POST   /d/{token}                      foreign 403  403  403  403  403  401  403
GET    /g/{grant}/{name}                   own 403  200  200  200  200  401  200
GET    /g/{grant}/{name}               foreign 403  403  403  403  403  401  403
POST   /g/{grant}/{name}                   own 403  200  200  200  200  401  200
POST   /g/{grant}/{name}               foreign 403  403  403  403  403  401  403
GET    /healthz                            own 200  200  200  200  200  200  200
GET    /healthz                        foreign 200  200  200  200  200  200  200
GET    /readyz                             own 200  200  200  200  200  200  200
GET    /readyz                         foreign 200  200  200  200  200  200  200
GET    /metrics                            own 200  200  200  200  200  200  200
GET    /metrics                        foreign 200  200  200  200  200  200  200
GET    /openapi.json                            own 200 200 200 200 200 200 200
GET    /openapi.json                        foreign 200 200 200 200 200 200 200
GET    /                                        own 303 303 303 303 303 303 303
GET    /                                    foreign 303 303 303 303 303 303 303
GET    /login                                   own 200 303 303 303 303 200 303
GET    /login                               foreign 200 303 303 303 303 200 303
POST   /login                                   own 403 403 403 403 403 403 403
POST   /login                               foreign 403 403 403 403 403 403 403
POST   /logout                                  own 401  303 303 303 303 401 403
POST   /logout                              foreign 401  303 303 303 303 401 403
POST   /preferences                             own 401  303 303 303 303 401 403
POST   /preferences                         foreign 401  303 303 303 303 401 403
GET    /files                                   own 401  200  200  200  200  401 403
GET    /files                               foreign 401  200- 200- 200- 200- 401 403
GET    /files/events                            own 401  200+ 200+ 200+ 200+ 401 403
GET    /files/events                        foreign 401  404 404 200+ 200+ 401 403
GET    /files/{id}                              own 401  200+ 200+ 200+ 200+ 401 403
GET    /files/{id}                          foreign 401  404 404 200+ 200+ 401 403
POST   /files/{id}/cancel                       own 401  409 409 409 409 401 403
POST   /files/{id}/cancel                   foreign 401  404 404 409 409 401 403
POST   /files/{id}/retry                        own 401  409 409 409 409 401 403
POST   /files/{id}/retry                    foreign 401  404 404 409 409 401 403
POST   /files/{id}/again                        own 401  303 303 303 303 401 403
POST   /files/{id}/again                    foreign 401  404 404 303 303 401 403
POST   /files/{id}/delete                       own 401  303 303 303 303 401 403
POST   /files/{id}/delete                   foreign 401  404 404 303 303 401 403
GET    /files/{id}/edit                         own 401  200 200 200 200 401 403
GET    /files/{id}/edit                     foreign 401  404 404 200 200 401 403
POST   /files/{id}/edit                         own 401  303 303 303 303 401 403
POST   /files/{id}/edit                     foreign 401  404 404 303 303 401 403
POST   /files/{id}/links                        own 401  303 303 303 303 401 403
POST   /files/{id}/links                    foreign 401  404 404 303 303 401 403
POST   /files/{id}/links/{jti}/revoke           own 401  303 303 303 303 401 403
POST   /files/{id}/links/{jti}/revoke       foreign 401  404 404 303 303 401 403
POST   /files/{id}/expire                       own 401  403 403 403 303 401 403
POST   /files/{id}/expire                   foreign 401  403 403 403 303 401 403
POST   /files/{id}/mail                         own 401  403 403 403 303 401 403
POST   /files/{id}/mail                     foreign 401  403 403 403 303 401 403
GET    /new                                     own 401  200 200 200 200 401 403
GET    /new                                 foreign 401  200 200 200 200 401 403
GET    /new/{file_type}                         own 401  200 200 200 200 401 403
GET    /new/{file_type}                     foreign 401  200 200 200 200 401 403
POST   /new/{file_type}                         own 401  303 303 303 303 401 403
POST   /new/{file_type}                     foreign 401  303 303 303 303 401 403
GET    /account                                 own 401  200 200 200 200 401 403
GET    /account                             foreign 401  200 200 200 200 401 403
POST   /account/key                             own 401  303 303 303 303 401 403
POST   /account/key                         foreign 401  200 200 200 200 401 403
POST   /account/key/revoke                      own 401  303 303 303 303 401 403
POST   /account/key/revoke                  foreign 401  404 404 404 404 401 403
POST   /account/sessions/{id}/end               own 401  303 303 303 303 401 403
POST   /account/sessions/{id}/end           foreign 401  404 404 404 404 401 403
POST   /account/log-out-everywhere              own 401  303 303 303 303 401 403
POST   /account/log-out-everywhere          foreign 401  303 303 303 303 401 403
GET    /operate                                 own 401  403 403 403 200 401 403
GET    /operate                             foreign 401  403 403 403 200 401 403
GET    /operate/requests                        own 401  403 403 403 200 401 403
GET    /operate/requests                    foreign 401  403 403 403 200 401 403
GET    /operate/file-types                      own 401  403 403 403 200 401 403
GET    /operate/file-types                  foreign 401  403 403 403 200 401 403
GET    /operate/accounts                        own 401  403 403 403 200 401 403
GET    /operate/accounts                    foreign 401  403 403 403 200 401 403
GET    /operate/request-tokens                  own 401  403 403 403 200 401 403
GET    /operate/request-tokens              foreign 401  403 403 403 200 401 403
GET    /operate/locks                           own 401  403 403 403 200 401 403
GET    /operate/locks                       foreign 401  403 403 403 200 401 403
GET    /operate/audit                           own 401  403 403 403 200 401 403
GET    /operate/audit                       foreign 401  403 403 403 200 401 403
POST   /operate/requests                        own 401  403 403 403 303 401 403
POST   /operate/requests                    foreign 401  403 403 403 303 401 403
GET    /operate/users/{id}                      own 401  403 403 403 200 401 403
GET    /operate/users/{id}                  foreign 401  403 403 403 200 401 403
POST   /operate/users/{id}                      own 401  403 403 403 303 401 403
POST   /operate/users/{id}                  foreign 401  403 403 403 303 401 403
POST   /operate/users/{id}/log-out              own 401  403 403 403 303 401 403
POST   /operate/users/{id}/log-out          foreign 401  403 403 403 303 401 403
GET    /operate/clients/{id}                    own 401  403 403 403 200 401 403
GET    /operate/clients/{id}                foreign 401  403 403 403 200 401 403
POST   /operate/clients/{id}                    own 401  403 403 403 303 401 403
POST   /operate/clients/{id}                foreign 401  403 403 403 303 401 403
POST   /operate/request-tokens/{id}/expire      own 401  403 403 403 303 401 403
POST   /operate/request-tokens/{id}/expire  foreign 401  403 403 403 303 401 403
POST   /operate/locks/break                     own 401  403 403 403 303 401 403
POST   /operate/locks/break                 foreign 401  403 403 403 303 401 403
GET    /dev/mail                                own 401  404 404 404 404 401 403
GET    /dev/mail                            foreign 401  404 404 404 404 401 403
GET    /dev/mail/{name}                         own 401  404 404 404 404 401 403
GET    /dev/mail/{name}                     foreign 401  404 404 404 404 401 403
GET    /dev/mail/{name}/html                    own 401  404 404 404 404 401 403
GET    /dev/mail/{name}/html                foreign 401  404 404 404 404 401 403
GET    /docs                                    own 200 200 200 200 200 200 200
GET    /docs                                foreign 200 200 200 200 200 200 200
GET    /static/{name}                           own 200 200 200 200 200 200 200
GET    /static/{name}                       foreign 200 200 200 200 200 200 200
";

#[derive(Debug, PartialEq, Eq)]
struct Line {
    route: (String, String),
    own: bool,
    expected: Vec<String>,
}

fn table() -> Vec<Line> {
    let lines = EXPECTED.lines().filter(|line| line.contains('/'));
    lines
        .map(|line| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let [method, path, whose, expected @ ..] = words.as_slice() else { panic!("{line}") };
            assert!(["own", "foreign"].contains(&whose.as_str()), "{line}");
            assert_eq!(expected.len(), CALLERS.len(), "{line}");
            Line {
                route: (method.clone(), path.clone()),
                own: whose == "own",
                expected: expected.to_vec(),
            }
        })
        .collect()
}

#[test]
fn every_route_has_its_lines() {
    let lines = table();
    let mut known: Vec<_> = routes().into_iter().map(|(m, path)| (m.to_string(), path)).collect();
    known.sort();
    for own in [true, false] {
        let mut listed: Vec<_> =
            lines.iter().filter(|line| line.own == own).map(|line| line.route.clone()).collect();
        listed.sort();
        assert_eq!(known, listed, "own: {own}");
    }
}

/// A house with everybody in it.
struct House<'a> {
    app: &'a TestApp,
    base: String,
}

/// Something for one call.
#[derive(Default)]
struct Thing {
    path: String,
    body: Option<Value>,
    /// A form of a page.
    form: Option<Vec<(&'static str, String)>>,
    /// What the answer may show.
    mark: String,
}

impl House<'_> {
    /// What a call to the route is about when it is `owner`'s.
    async fn thing(&self, method: &str, path: &str, owner: &str, caller: &str) -> Thing {
        let toolbox = &self.app.toolbox;
        let mut thing = Thing { path: path.to_owned(), ..Thing::default() };
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["", "api", "requests"] if method == "POST" => {
                let names_somebody =
                    !(owner == caller && ["amy", "bob", "wrong"].contains(&caller));
                let requester = if names_somebody { json!({"id": owner}) } else { json!({}) };
                thing.body = Some(json!({"file_type": "hello", "requester": requester}));
            }
            ["", "api", "locks", ..] | ["", "lock_tokens", ..] => {
                let mut new = TestApp::new_request("hello", "");
                new.requester.id = Some(owner.to_owned());
                let row = self.app.add(new).await;
                thing.mark = row.id.to_string();
                let mut token = String::new();
                if parts.len() != 6 || parts[1] == "api" {
                    let ask = Ask { owner: Some(owner.to_owned()), ..Ask::default() };
                    let held = toolbox.lock(&Resource::request(row.id), ask).await.unwrap();
                    token = held.held().unwrap().token;
                }
                let path = path.replace("{app}/{model}", "bgfiles/file_request");
                thing.path = path.replace("{id}", &thing.mark).replace("{token}", &token);
            }
            ["", "files", ..] => {
                let mut new = TestApp::new_request("hello", "");
                new.requester.id = Some(owner.to_owned());
                let row = self.app.add(new).await;
                self.app.dispatch(row.id).await;
                let row = self.app.row(row.id).await;
                thing.mark = row.id.to_string();
                let mut tx = toolbox.db().begin().await.unwrap();
                let (link, _) =
                    toolbox.create_link(&mut tx, &row, LinkOptions::default()).await.unwrap();
                tx.commit().await.unwrap();
                let path = path.replace("{id}", &thing.mark);
                thing.path = path.replace("{jti}", &link.jti.to_string());
                if path == "/files/events" {
                    thing.path = format!("{path}?id={}", thing.mark);
                }
                if method == "POST" {
                    let mut form = vec![("max_uses", "1".to_owned()), ("days", "1".to_owned())];
                    if path.ends_with("/edit") {
                        form.push(("lock", self.lock(Resource::request(row.id)).await));
                    }
                    thing.form = Some(form);
                }
            }
            ["", "new", ..] => {
                thing.path = path.replace("{file_type}", "hello");
                thing.form = Some(vec![("deliver", "later".to_owned())]);
            }
            ["", "operate", "requests"] if method == "POST" => {
                let mut new = TestApp::new_request("hello", "");
                new.requester.id = Some(owner.to_owned());
                let id = self.app.add(new).await.id.to_string();
                thing.form = Some(vec![("id", id), ("action", "cancel".to_owned())]);
            }
            ["", "operate", "users", ..] => {
                let users = toolbox.own_users(None, 100).await.unwrap();
                let dave = users.iter().find(|user| user.username == "dave").unwrap();
                thing.path = path.replace("{id}", &dave.id.to_string());
                let lock = Resource::new("bgfiles", "user", dave.id).unwrap();
                if method == "POST" {
                    let form = [("role", "user".to_owned()), ("active", "true".to_owned())];
                    let token = self.lock(lock).await;
                    thing.form = Some(form.into_iter().chain([("lock", token)]).collect());
                }
            }
            ["", "operate", "clients", ..] => {
                let clients = toolbox.clients().await.unwrap();
                let other = clients.iter().find(|client| client.name == "other").unwrap();
                thing.path = path.replace("{id}", &other.id.to_string());
                let lock = Resource::new("bgfiles", "client", other.id).unwrap();
                if method == "POST" {
                    thing.form =
                        Some(vec![("ttl", "1d".to_owned()), ("lock", self.lock(lock).await)]);
                }
            }
            ["", "operate", "request-tokens", "{id}", ..] => {
                let mut tx = toolbox.db().begin().await.unwrap();
                let new = NewRequestToken::new("foo");
                let token = toolbox.create_request_token(&mut tx, new).await.unwrap();
                tx.commit().await.unwrap();
                thing.path = path.replace("{id}", &token.id.to_string());
            }
            ["", "operate", "locks", "break"] => {
                let row = self.app.add(TestApp::new_request("hello", "")).await;
                self.lock(Resource::request(row.id)).await;
                let names = [("app", "bgfiles"), ("model", "file_request")];
                let mut form: Vec<_> = names.map(|(n, v)| (n, v.to_owned())).into();
                form.push(("id", row.id.to_string()));
                thing.form = Some(form);
            }
            ["", "static", _] => thing.path = "/static/bgfiles.css".into(),
            ["", "dev", ..] => thing.path = path.replace("{name}", "one"),
            ["", "account", "sessions", ..] => {
                self.app.token(owner, "other").await;
                let tokens = toolbox.tokens_of(owner).await.unwrap();
                let token = tokens.iter().find(|token| token.client == "other").unwrap();
                thing.path = path.replace("{id}", &token.id.to_string());
            }
            ["", "api", "requests", ..] | ["", "d" | "g", ..] => {
                let mut new = TestApp::new_request("hello", "");
                new.requester.id = Some(owner.to_owned());
                let row = self.app.add(new).await;
                self.app.dispatch(row.id).await;
                let row = self.app.row(row.id).await;
                thing.mark = row.id.to_string();
                if parts.len() == 3 && parts[1] == "api" {
                    thing.path = format!("{path}?requester={owner}");
                    return thing;
                }
                let options = LinkOptions {
                    requester_only: Some(true),
                    scanner_safe: Some(method == "POST" || parts[1] == "g"),
                    created_by: owner.to_owned(),
                    ..LinkOptions::default()
                };
                let mut tx = toolbox.db().begin().await.unwrap();
                let (link, url) = toolbox.create_link(&mut tx, &row, options).await.unwrap();
                tx.commit().await.unwrap();
                let url = url.strip_prefix("http://files.example.com").unwrap().to_owned();
                thing.path = match parts[1] {
                    "d" => url,
                    "g" => self.granted(&url, owner).await,
                    _ => path.replace("{id}", &thing.mark).replace("{jti}", &link.jti.to_string()),
                };
                if ["POST", "PATCH"].contains(&method) && parts[1] == "api" {
                    let body = match (method, parts.len()) {
                        ("PATCH", 4) => json!({"description": "another"}),
                        ("PATCH", _) => json!({"max_age": 60}),
                        _ => json!({}),
                    };
                    thing.body = Some(body);
                }
            }
            ["", "api", "request-tokens", ..] => {
                let new =
                    NewRequestToken { created_by: owner.to_owned(), ..NewRequestToken::new("foo") };
                let mut tx = toolbox.db().begin().await.unwrap();
                let token = toolbox.create_request_token(&mut tx, new).await.unwrap();
                tx.commit().await.unwrap();
                thing.path = path.replace("{id}", &token.id.to_string());
                if path.ends_with("/conclude") {
                    let visitor = Visitor::new(None, "");
                    let jwt = toolbox.jwt(&token).unwrap();
                    let presented = Presented {
                        jwt: &jwt,
                        scope: "foo",
                        user: None,
                        visitor: &visitor,
                        log: true,
                    };
                    let admission = toolbox.admit(&presented).await.unwrap();
                    let used = toolbox.redeemed_for(&admission, owner).await.unwrap().unwrap();
                    thing.path = path.replace("{use}", &used.to_string());
                }
                thing.body = match (method, parts.last().copied()) {
                    ("POST", Some("conclude")) => Some(json!({"status": 200})),
                    ("POST", Some("redeem")) => {
                        Some(json!({"token": toolbox.jwt(&token).unwrap(), "scope": "foo"}))
                    }
                    ("POST", Some("request-tokens")) => Some(json!({"scope": "foo"})),
                    ("PATCH", _) => Some(json!({"max_uses": 7})),
                    _ => None,
                };
            }
            ["", "api", "auth", "sessions", ..] => {
                self.app.token(owner, "other").await;
                let tokens = toolbox.tokens_of(owner).await.unwrap();
                let token = tokens.iter().find(|token| token.client == "other").unwrap();
                thing.mark = token.id.to_string();
                thing.path = path.replace("{id}", &thing.mark);
            }
            ["", "api", "auth", "apiaccess"] | ["", "account", "key", ..] => {
                for user in [owner, caller] {
                    if CALLERS[1..].contains(&user) || user == "carol" {
                        let (person, client) =
                            toolbox.person_and_client(user, "keys").await.unwrap();
                        for token in toolbox.tokens_of(user).await.unwrap() {
                            if token.client == "keys" {
                                toolbox.revoke_token(token.id).await.unwrap();
                            }
                        }
                        if user == owner {
                            toolbox.issue_secret(&person, &client).await.unwrap();
                        }
                    }
                }
            }
            ["", "api", "auth", "login"] => thing.body = Some(json!({})),
            _ => {}
        }
        thing
    }

    /// A token of the lock on a thing.
    async fn lock(&self, resource: Resource) -> String {
        let toolbox = &self.app.toolbox;
        // Whoever looked at the page before has it.
        let before = toolbox.lock_on(&resource).await.unwrap();
        let ask = Ask {
            owner: Some("root".into()),
            instead_of: before.map(|lock| lock.fence),
            ..Ask::default()
        };
        toolbox.lock(&resource, ask).await.unwrap().held().unwrap().token
    }

    /// The address of a grant that `owner` got.
    async fn granted(&self, link: &str, owner: &str) -> String {
        // Somebody inactive got it before.
        let active = |is_active| UserChanges { is_active: Some(is_active), ..Default::default() };
        self.app.toolbox.update_user(owner, active(true)).await.unwrap();
        let secret = self.secret(owner).await;
        let request = self.app.http.post(format!("{}{link}", self.base));
        let request = request.header("authorization", format!("Token {secret}"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 303);
        if owner == "gone" {
            self.app.toolbox.update_user(owner, active(false)).await.unwrap();
        }
        let location = response.headers()["location"].to_str().unwrap();
        location.strip_prefix("http://files.example.com").unwrap_or(location).to_owned()
    }

    async fn secret(&self, user: &str) -> String {
        self.app.token(user, if user == "wrong" { "wrong" } else { "right" }).await
    }

    async fn answer(&self, line: &Line, caller: &str) -> String {
        let (method, path) = &line.route;
        let owner = if line.own && caller != "anonymous" { caller } else { "carol" };
        let thing = self.thing(method, path, owner, caller).await;
        let url = format!("{}{}", self.base, thing.path);
        let mut request = self.app.http.request(method.parse().unwrap(), url);
        if caller != "anonymous" {
            request =
                request.header("authorization", format!("Token {}", self.secret(caller).await));
        }
        if let Some(body) = &thing.body {
            request = request.json(body);
        }
        if let Some(form) = thing.form.as_ref().filter(|_| method == "POST") {
            request = request.form(form);
        }
        let (status, body) = app::json(request.send().await.unwrap()).await;
        let shown = !thing.mark.is_empty() && body.to_string().contains(&thing.mark);
        format!("{status}{}", if shown { "+" } else { "-" })
    }
}

both!(everybody_at_every_door);
async fn everybody_at_every_door(app: TestApp) {
    let auth = Settings {
        api_access_client: "keys".into(),
        disallowed_clients: ["wrong".to_owned()].into(),
        ..Settings::default()
    };
    let app = TestApp::with(app.kind, Parts { auth, ..Parts::default() }).await;
    for (name, role) in [
        ("amy", Role::User),
        ("bob", Role::User),
        ("shop", Role::Service),
        ("root", Role::Staff),
        ("gone", Role::Staff),
        ("wrong", Role::User),
        ("carol", Role::User),
        ("dave", Role::User),
    ] {
        app.add_user(name, role, None).await;
    }
    for client in ["right", "wrong", "other", "keys"] {
        app.client(client, TokenTtl::DAY, "", TokenPolicy::One).await;
    }
    let inactive = UserChanges { is_active: Some(false), ..Default::default() };
    app.toolbox.update_user("gone", inactive).await.unwrap();
    let house = House { app: &app, base: format!("http://{}", app.serve().await) };
    let mut wrong = Vec::new();
    for line in table() {
        for (caller, expected) in CALLERS.into_iter().zip(&line.expected) {
            let answer = house.answer(&line, caller).await;
            let fits = match expected.ends_with(['+', '-']) {
                true => answer == *expected,
                false => answer.trim_end_matches(['+', '-']) == *expected,
            };
            if !fits {
                let (method, path) = &line.route;
                let whose = if line.own { "own" } else { "foreign" };
                wrong.push(format!(
                    "{method} {path} {whose}: {caller} got {answer}, not {expected}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Doors at which a file is asked for or handed on, of a type that only staff may ask for: for who
/// asked as staff and is a user since, for who may, and by a client that may not use the API.
const DEMOTED: &str = "
                                          demoted staff wrong-client
POST /api/requests                        403 202 403
POST /new/ledger                          403 303 403
POST /api/requests/{waiting}/retry        403 202 403
POST /files/{waiting}/retry               403 303 403
POST /files/{finished}/again              403 303 403
POST /api/requests/{finished}/links       201 201 403
POST /files/{finished}/links              303 303 403
POST /api/auth/apiaccess                  201 201 403
POST /account/key                         200 200 403
";

both!(who_may_ask_no_more_has_nothing_made);
async fn who_may_ask_no_more_has_nothing_made(app: TestApp) {
    let auth = Settings {
        api_access_client: "keys".into(),
        disallowed_clients: ["wrong".to_owned()].into(),
        ..Settings::default()
    };
    let registry = Some(crate::who_may::registry(false));
    let app = TestApp::with(app.kind, Parts { auth, registry, ..Parts::default() }).await;
    for client in ["right", "wrong", "keys"] {
        app.client(client, TokenTtl::DAY, "", TokenPolicy::One).await;
    }
    for name in ["carl", "root", "vera"] {
        app.add_user(name, Role::Staff, None).await;
    }
    let base = format!("http://{}", app.serve().await);
    let mut wrong = Vec::new();
    for line in DEMOTED.lines().filter(|line| line.starts_with("POST")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for (column, (name, client)) in
            [("carl", "right"), ("root", "right"), ("vera", "wrong")].into_iter().enumerate()
        {
            app.toolbox
                .update_user("carl", UserChanges { role: Some(Role::Staff), ..Default::default() })
                .await
                .unwrap();
            let mut new = TestApp::new_request("ledger", "");
            new.requester.id = Some(name.into());
            let (waiting, finished) = (app.add(new.clone()).await, app.add(new).await);
            app.dispatch(finished.id).await;
            let mut tx = app.toolbox.db().begin().await.unwrap();
            app.toolbox.cancel(&mut tx, waiting.id).await.unwrap();
            tx.commit().await.unwrap();
            app.toolbox
                .update_user("carl", UserChanges { role: Some(Role::User), ..Default::default() })
                .await
                .unwrap();
            app.sql("DELETE FROM bgfiles_auth_tokens WHERE client_id IN (SELECT id FROM bgfiles_clients WHERE name = 'keys')").await;
            let path = words[1]
                .replace("{waiting}", &waiting.id.to_string())
                .replace("{finished}", &finished.id.to_string());
            let request = app.http.post(format!("{base}{path}"));
            let request =
                request.header("authorization", format!("Token {}", app.token(name, client).await));
            let request = match path.as_str() {
                "/api/requests" => request.json(&json!({"file_type": "ledger"})),
                api if api.starts_with("/api") => request.json(&json!({})),
                _ => request.form(&[("max_uses", "1"), ("deliver", "later")]),
            };
            let (status, body) = app::json(request.send().await.unwrap()).await;
            if status.to_string() != words[2 + column] {
                wrong.push(format!("{path}: {name} got {status}, not {}", words[2 + column]));
            }
            // With the words of asking for it.
            if (status, column) == (403, 0) {
                assert_eq!(body["detail"], "your role may not ask for this file type", "{path}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Operators have what somebody else asked for made anew, whether or not they may ask for it.
    let page = app.http.get(format!("{base}/files")).header("accept", "text/html");
    let carls = page.header("authorization", format!("Token {}", app.token("carl", "right").await));
    assert!(!carls.send().await.unwrap().text().await.unwrap().contains("/retry"));
}
