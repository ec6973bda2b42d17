//! The service, held against its own description by schemathesis.

use std::process::Stdio;

use bgfiles::{Clock, Registry, auth_token::Role};

use crate::{
    pages::Report,
    support::{TestApp, app::Parts, both},
};

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
