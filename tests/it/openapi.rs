//! The service, held against its own description by schemathesis.

use std::process::Stdio;

use bgfiles::{Clock, Registry, auth_token::Role};
use serde_json::Value;

use crate::{
    pages::Report,
    support::{TestApp, app::Parts, both},
};

/// Every reference of a document.
fn references<'a>(json: &'a Value, found: &mut Vec<&'a str>) {
    match json {
        Value::Object(members) => {
            if let Some(Value::String(to)) = members.get("$ref") {
                found.push(to);
            }
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

both!(the_description_is_whole);
async fn the_description_is_whole(app: TestApp) {
    let address = app.serve().await;
    let tokens =
        [None, Some(app.user("amy", Role::User).await), Some(app.user("root", Role::Staff).await)];
    for token in tokens {
        let client = reqwest::Client::new().get(format!("http://{address}/openapi.json"));
        let client = token
            .iter()
            .fold(client, |client, token| client.header("authorization", format!("Token {token}")));
        let document: Value = client.send().await.unwrap().json().await.unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 300, "{}", found.len());
        for to in found {
            assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to} leads nowhere");
        }
        // A schema that the library could not read again would be an empty object.
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas.len() >= 50, "{}", schemas.len());
        for (name, schema) in schemas {
            let says =
                ["properties", "additionalProperties", "enum", "oneOf", "anyOf", "allOf", "items"];
            let is_text = schema["type"] == "string";
            assert!(
                is_text || says.iter().any(|key| schema.get(key).is_some()),
                "{name}: {schema}"
            );
        }
    }
}

both!(the_service_keeps_to_its_description);
async fn the_service_keeps_to_its_description(app: TestApp) {
    // On the machine's clock: what is asked for becomes a file.
    let mut registry = Registry::new();
    registry.register(Report).unwrap();
    let clock = Clock::system();
    let parts = Parts { registry: Some(registry), clock, ..Parts::default() };
    let app = TestApp::with(app.kind, parts).await;
    let address = app.serve().await;
    let (stop, worker) = app.work(2);
    let token = app.user("root", Role::Staff).await;
    let python = std::env::var("BGFILES_TEST_PYTHON").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-venv/bin/python").into()
    });
    let output = tokio::process::Command::new(python)
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/schemathesis.toml"))
        .args(["run", &format!("http://{address}/openapi.json")])
        .args(["--url", &format!("http://{address}")])
        .args(["--header", &format!("Authorization: Token {token}")])
        .args(["--max-examples", "8", "--no-color", "--warnings", "off"])
        .current_dir(app.dir.path())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("python is missing: run the tests by scripts/test");
    stop.cancel();
    worker.await.unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    // It did look: at everything but the two that end the token.
    let tested = report.lines().find_map(|line| line.trim().strip_prefix("Tested: "));
    assert!(tested.is_some_and(|n| n.parse::<u32>().unwrap() >= 45), "{report}");
}
