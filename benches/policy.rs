//! What protection costs: requests a second of a small route, plain and behind `require_token`,
//! and what verifying alone costs.
//!
//! `cargo bench --bench policy` (SQLite), `cargo bench --bench policy -- postgres://…` (an empty
//! database). Each round measures the routes in turn; medians and ratios over the rounds.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark")]

mod common;

use std::time::Instant;

use axum::{Router, routing::get};
use bgfiles::{
    Db, Registry, Toolbox,
    mail::Mailer,
    request_token::NewRequestToken,
    signer::Signer,
    storage::Storage,
    toolbox::Tools,
    web::{require_token, server},
};
use common::{CONNECTIONS, EACH, ROUNDS, database, median, requests_a_second};
use tokio_util::sync::CancellationToken;

const SECRET: &str = "a-secret-for-benchmarks-0123456789";

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&database(dir.path())).unwrap();
    Toolbox::migrate(&db).await.unwrap();
    let tools = Tools::new(
        db,
        Storage::open("memory:", &[]).unwrap(),
        Mailer::open("memory:", "bench@example.com").unwrap(),
        Registry::new(),
        [SECRET],
        "http://127.0.0.1".parse().unwrap(),
    );
    let toolbox = Toolbox::new(tools.unwrap());
    let mut jwts = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut tx = toolbox.db().begin().await.unwrap();
        let new = NewRequestToken { max_uses: Some(i32::MAX), ..NewRequestToken::new("small") };
        let token = toolbox.create_request_token(&mut tx, new).await.unwrap();
        tx.commit().await.unwrap();
        jwts.push(toolbox.jwt(&token).unwrap());
    }
    let jwt = jwts[0].clone();

    let small = || get(async || "ok");
    let protected = require_token(&toolbox, "small").unwrap();
    let router = Router::new()
        .route("/plain", small())
        .route("/protected", small().layer(protected.clone()))
        .route("/unlogged", small().layer(protected.without_log()));
    let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, router, Default::default(), CancellationToken::new()));

    let with = |path: &str| jwts.iter().map(|jwt| format!("{base}{path}?rt={jwt}")).collect();
    let one = |url: String| vec![url; CONNECTIONS];
    let routes: [(&str, Vec<String>, u16); 6] = [
        ("plain", one(format!("{base}/plain")), 200),
        ("counted and logged, many tokens", with("/protected"), 200),
        ("counted, many tokens", with("/unlogged"), 200),
        ("counted and logged, one token", one(format!("{base}/protected?rt={jwt}")), 200),
        ("counted, one token", one(format!("{base}/unlogged?rt={jwt}")), 200),
        ("refused: forged token", one(format!("{base}/protected?rt={jwt}x")), 403),
    ];
    let mut results: Vec<Vec<f64>> = vec![Vec::new(); routes.len()];
    for _ in 0..ROUNDS {
        for (route, results) in routes.iter().zip(&mut results) {
            results.push(requests_a_second(&route.1, None, route.2).await);
        }
    }
    println!("{} · {CONNECTIONS} connections · {ROUNDS} rounds of {EACH:?}", toolbox.db().kind());
    let plain = median(&results[0]);
    for (route, results) in routes.iter().zip(&results) {
        let median = median(results);
        println!(
            "{:32} {median:9.0} requests/s   {:5.1} % of plain",
            route.0,
            100.0 * median / plain
        );
    }
    let now = toolbox.clock().now();
    let keys = &toolbox.request_token_settings().keys;
    println!(
        "verifying a JWT                  {:9.2} µs",
        micros(|| assert!(keys.verify(&jwt, now).is_ok()))
    );
    let signer = Signer::new([SECRET], "bgfiles", None).unwrap();
    let link = signer.sign(&serde_json::json!({"id": "0f0e7b54-0c4f-4c0b-9f0b-2f8f1f0f6a10"}), now);
    println!(
        "verifying a download token       {:9.2} µs",
        micros(|| assert!(signer.verify(&link, now).is_ok()))
    );
}

fn micros(mut work: impl FnMut()) -> f64 {
    const TIMES: u32 = 100_000;
    let began = Instant::now();
    (0..TIMES).for_each(|_| work());
    began.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES)
}
