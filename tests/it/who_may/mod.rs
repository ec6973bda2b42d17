//! Who may: files for their requester alone, one policy for every door to a link, names to the byte.

mod floors;
mod links;
mod names;

use std::{num::NonZeroU32, time::Duration};

use async_trait::async_trait;
use bgfiles::{
    FileRequest, Handler, Job, Output, Registry, RequestId, Result,
    auth_token::Role,
    file_request::{
        links::{LinkPolicy, RequesterOnly},
        store,
    },
};
use serde_json::{Value, json};

use crate::support::{Caller, Kind, TestApp, app, app::Parts};

/// A file type with a policy.
struct Kept(&'static str, LinkPolicy);

#[async_trait]
impl Handler for Kept {
    fn file_type(&self) -> &str {
        self.0
    }

    async fn write(&self, _: &Job, mut out: Output) -> Result<()> {
        out.write("what nobody else may read\n").await
    }

    fn may_ask(&self, role: Role) -> bool {
        self.0 != "ledger" || role == Role::Staff
    }

    fn link_policy(&self) -> LinkPolicy {
        self.1
    }
}

pub fn narrow() -> LinkPolicy {
    LinkPolicy {
        max_uses: NonZeroU32::new(2),
        scanner_safe: true,
        max_age: Some(Duration::from_secs(3600)),
        requester_only: RequesterOnly::Yes,
    }
}

/// `before`: as an earlier release of the same application had them, without policies.
pub fn registry(before: bool) -> Registry {
    let mut registry = Registry::new();
    let only = |requester_only| LinkPolicy { requester_only, ..LinkPolicy::default() };
    for (name, policy) in [
        ("open", LinkPolicy::default()),
        ("closed", only(RequesterOnly::Yes)),
        ("sealed", only(RequesterOnly::Always)),
        ("narrow", narrow()),
        ("ledger", LinkPolicy::default()),
    ] {
        let policy = if before { LinkPolicy::default() } else { policy };
        registry.register(Kept(name, policy)).unwrap();
    }
    registry
}

/// A house with everybody in it.
pub struct House {
    pub app: TestApp,
    pub base: String,
    pub amy: Caller,
    pub bob: Caller,
    pub shop: Caller,
    pub root: Caller,
}

impl House {
    pub async fn new(kind: Kind) -> House {
        let parts = Parts { registry: Some(registry(false)), ..Parts::default() };
        let app = TestApp::with(kind, parts).await;
        let base = format!("http://{}", app.serve().await);
        let amy = Caller::new(&app, &base, "amy", Role::User).await;
        let bob = Caller::new(&app, &base, "bob", Role::User).await;
        let shop = Caller::new(&app, &base, "shop", Role::Service).await;
        let root = Caller::new(&app, &base, "root", Role::Staff).await;
        House { app, base, amy, bob, shop, root }
    }

    /// Status and code of a GET, and of the POST that redeems where a link waits for one.
    pub async fn download(&self, url: &str, who: Option<&Caller>) -> (u16, String) {
        let url = url.replace("http://files.example.com", &self.base);
        let mut answer = (0, Value::Null);
        for method in ["GET", "POST"] {
            let mut request = self.app.http.request(method.parse().unwrap(), &url);
            if let Some(who) = who {
                request = request.header("authorization", format!("Token {}", who.secret));
            }
            answer = app::json(request.send().await.unwrap()).await;
            if answer.0 != 405 {
                break;
            }
        }
        (answer.0, answer.1["code"].as_str().unwrap_or_default().to_owned())
    }

    /// That a link is for amy, who asked, and for nobody else.
    pub async fn is_amys_alone(&self, url: &str, what: &str) {
        for who in [None, Some(&self.bob), Some(&self.shop), Some(&self.root)] {
            let answer = self.download(url, who).await;
            assert_eq!(answer, (403, "not_requester".into()), "{what}");
        }
        let (status, code) = self.download(url, Some(&self.amy)).await;
        assert!([200, 303].contains(&status), "{what}: {status} {code}");
    }

    /// A form of a page, by somebody's token.
    pub async fn form(&self, who: &Caller, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        app::json(who.call("POST", path).form(form).send().await.unwrap()).await
    }

    pub async fn patch(&self, who: &Caller, path: &str, body: Value) -> (u16, Value) {
        app::json(who.call("PATCH", path).json(&body).send().await.unwrap()).await
    }

    /// Amy's file, made.
    pub async fn finished(&self, file_type: &str) -> FileRequest {
        self.app.finished(file_type, "").await
    }

    /// The links of a request.
    pub async fn urls(&self, row: &FileRequest) -> Vec<String> {
        let mut conn = self.app.toolbox.db().acquire().await.unwrap();
        let links =
            bgfiles::file_request::links::store::list(&mut conn, row.id, None, 200).await.unwrap();
        links.iter().map(|link| self.app.toolbox.link_url(row, link)).collect()
    }

    /// The request that waits, made.
    pub async fn made(&self) -> FileRequest {
        let types = ["open", "closed", "sealed", "narrow", "ledger"].map(str::to_owned);
        let mut conn = self.app.toolbox.db().acquire().await.unwrap();
        let now = self.app.toolbox.clock().now();
        let due = store::to_handle(&mut conn, &types, now, 10).await.unwrap();
        drop(conn);
        let [row] = due.as_slice() else { panic!("{} are due", due.len()) };
        self.app.dispatch(row.id).await;
        self.app.row(row.id).await
    }
}

pub fn id(body: &Value) -> RequestId {
    body["id"].as_str().unwrap_or_else(|| panic!("{body}")).parse().unwrap()
}

pub fn links(row: &FileRequest) -> String {
    format!("/api/requests/{}/links", row.id)
}

pub fn refused(answer: &(u16, Value)) -> bool {
    (answer.0, &answer.1["code"]) == (403, &json!("link_policy"))
}
