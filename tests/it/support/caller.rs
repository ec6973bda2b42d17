//! Who calls the API.

use bgfiles::auth_token::Role;
use serde_json::Value;

use super::{TestApp, app};

/// Somebody who calls.
pub struct Caller {
    pub http: reqwest::Client,
    pub base: String,
    pub secret: String,
}

impl Caller {
    pub async fn new(app: &TestApp, base: &str, name: &str, role: Role) -> Caller {
        let secret = app.user(name, role).await;
        Caller { http: app.http.clone(), base: base.to_owned(), secret }
    }

    pub fn call(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.base);
        let request = self.http.request(method.parse().unwrap(), url);
        request.header("authorization", format!("Token {}", self.secret))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        app::json(self.call("GET", path).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        app::json(self.call("POST", path).json(&body).send().await.unwrap()).await
    }
}
