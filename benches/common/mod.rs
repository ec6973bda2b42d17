//! What the benchmarks of routes share.

use std::time::{Duration, Instant};

pub(crate) const CONNECTIONS: usize = 16;
pub(crate) const ROUNDS: usize = 7;
pub(crate) const EACH: Duration = Duration::from_secs(2);

/// The URL given on the command line, else a SQLite file in the folder.
pub(crate) fn database(dir: &std::path::Path) -> String {
    let given = std::env::args().skip(1).find(|arg| arg.starts_with("postgres"));
    given.unwrap_or_else(|| format!("sqlite:{}", dir.join("x.db").display()))
}

/// Each connection asks for one URL again and again; together, so many a second.
pub(crate) async fn requests_a_second(urls: &[String], token: Option<&str>, expected: u16) -> f64 {
    let began = Instant::now();
    let client = async |url: &String| {
        let http = reqwest::Client::new();
        let mut done = 0u32;
        while began.elapsed() < EACH {
            let mut request = http.get(url);
            if let Some(token) = token {
                request = request.header("authorization", format!("Token {token}"));
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status().as_u16(), expected);
            response.bytes().await.unwrap();
            done += 1;
        }
        done
    };
    let clients = urls.iter().map(client);
    let done: u32 = futures::future::join_all(clients).await.into_iter().sum();
    f64::from(done) / began.elapsed().as_secs_f64()
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
