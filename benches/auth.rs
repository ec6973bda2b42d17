//! What knowing the caller costs: `GET /api/requests/{id}` a second with the token's lookup kept in
//! memory, with a lookup each time, with a rate, and without any authentication; and how long a
//! login takes that is refused.
//!
//! `cargo bench --bench auth` (SQLite), `cargo bench --bench auth -- postgres://…` (an empty
//! database). Each round measures the routes in turn; medians and ratios over the rounds.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark")]

mod common;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::{Extension, Router};
use bgfiles::{
    Db, Handler, Job, NewFileRequest, Output, Registry, Toolbox,
    auth_token::{Caller, Person, Proof, Role, Settings, TokenPolicy},
    limits::TokenTtl,
    mail::Mailer,
    storage::Storage,
    toolbox::{NewUser, Tools},
    visitor::Visitor,
    web::{WebState, router, server},
};
use common::{CONNECTIONS, EACH, ROUNDS, database, median, requests_a_second};
use tokio_util::sync::CancellationToken;

struct Nothing;

#[async_trait]
impl Handler for Nothing {
    fn file_type(&self) -> &str {
        "nothing"
    }

    async fn write(&self, _: &Job, _: Output) -> bgfiles::Result<()> {
        Ok(())
    }
}

fn toolbox(db: &Db, token_cache: Duration) -> Toolbox {
    let mut registry = Registry::new();
    registry.register(Nothing).unwrap();
    let tools = Tools::new(
        db.clone(),
        Storage::open("memory:", &[]).unwrap(),
        Mailer::open("memory:", "bench@example.com").unwrap(),
        registry,
        ["a-secret-for-benchmarks-0123456789"],
        "http://127.0.0.1".parse().unwrap(),
    );
    let auth = Settings { token_cache, ..Settings::default() };
    Toolbox::new(Tools { auth, ..tools.unwrap() })
}

async fn serve(router: Router) -> String {
    let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, router, Default::default(), CancellationToken::new()));
    base
}

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&database(dir.path())).unwrap();
    Toolbox::migrate(&db).await.unwrap();
    let cached = toolbox(&db, Duration::from_secs(60));
    let uncached = toolbox(&db, Duration::ZERO);
    for (username, password) in [("amy", Some("tiger-lamp-orbit-9")), ("robot", None)] {
        let new = NewUser {
            username: username.into(),
            email: String::new(),
            role: Role::Service,
            password: password.map(str::to_owned),
        };
        cached.create_user(new).await.unwrap();
    }
    let mut secrets = Vec::new();
    for (client, rate) in [("free", ""), ("rated", "4000000000/d")] {
        cached.create_client(client, Some(TokenTtl::DAY), rate, TokenPolicy::One).await.unwrap();
        let (person, client) = cached.person_and_client("amy", client).await.unwrap();
        let login = cached.issue_secret(&person, &client).await.unwrap();
        secrets.push(login.secret.expose().to_owned());
    }
    let mut tx = db.begin().await.unwrap();
    let new = NewFileRequest::new("nothing".parse().unwrap());
    let row = cached.add_request(&mut tx, new).await.unwrap();
    tx.commit().await.unwrap();

    // Whom a host application let in already: the same route, and nothing is looked up.
    let somebody =
        Person { id: "amy".into(), email: String::new(), role: Role::Service, is_active: true };
    let somebody = Extension(Caller::new(Some(somebody), Proof::Host).unwrap());
    let plain = serve(router(WebState::new(cached.clone())).layer(somebody)).await;
    let kept = serve(router(WebState::new(cached.clone()))).await;
    let looked_up = serve(router(WebState::new(uncached))).await;
    let urls = |base: &str| vec![format!("{base}/api/requests/{}", row.id); CONNECTIONS];
    let (free, rated) = (Some(secrets[0].as_str()), Some(secrets[1].as_str()));
    let routes = [
        ("without authentication", urls(&plain), None),
        ("token kept in memory", urls(&kept), free),
        ("token looked up each time", urls(&looked_up), free),
        ("kept in memory, with a rate", urls(&kept), rated),
    ];
    let mut results: Vec<Vec<f64>> = vec![Vec::new(); routes.len()];
    for _ in 0..ROUNDS {
        for ((_, urls, token), results) in routes.iter().zip(&mut results) {
            results.push(requests_a_second(urls, *token, 200).await);
        }
    }
    println!("{} · {CONNECTIONS} connections · {ROUNDS} rounds of {EACH:?}", db.kind());
    let off = median(&results[0]);
    for (route, results) in routes.iter().zip(&results) {
        let median = median(results);
        let share = 100.0 * median / off;
        println!("{:32} {median:9.0} requests/s   {share:5.1} % of none", route.0);
    }
    println!("a refused login, ms (median of 41)");
    let mut waits = [const { Vec::new() }; 3];
    let cases = [("amy", "wrong password"), ("nobody", "unknown name"), ("robot", "no password")];
    for _ in 0..41 {
        for ((name, _), waits) in cases.iter().zip(&mut waits) {
            let began = Instant::now();
            let who =
                cached.users().authenticate(&db, name, "not the password", false).await.unwrap();
            assert!(who.is_none());
            waits.push(began.elapsed().as_secs_f64() * 1000.0);
        }
    }
    for ((_, what), waits) in cases.iter().zip(&waits) {
        println!("  {what:30} {:9.2}", median(waits));
    }
    let mut waits = Vec::new();
    for _ in 0..41 {
        let (person, client) = cached.person_and_client("amy", "free").await.unwrap();
        let secret = cached.issue_secret(&person, &client).await.unwrap().secret;
        cached.authenticate(&secret, &Visitor::default()).await.unwrap();
        let began = Instant::now();
        cached.revoke_all("amy").await.unwrap();
        waits.push(began.elapsed().as_secs_f64() * 1000.0);
        assert!(cached.authenticate(&secret, &Visitor::default()).await.is_err());
    }
    println!("revoking, two web processes listening, ms (median of 41) {:9.2}", median(&waits));
}
