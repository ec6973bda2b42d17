//! What signing and verifying cost: download links, and the JWTs of request tokens.
//!
//! `cargo bench --bench tokens`

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use std::hint::black_box;

use bgfiles::{clock::Clock, request_token::jwt::Keys, signer::Signer};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;

const SECRET: &str = "a-secret-for-benchmarks-0123456789";

fn tokens(bench: &mut Criterion) {
    let signer = Signer::new([SECRET], "bgfiles", None).unwrap();
    let now = Clock::system().now();
    let data = json!({"id": "0f0e7b54-0c4f-4c0b-9f0b-2f8f1f0f6a10"});
    let link = signer.sign(&data, now);
    bench.bench_function("bgfiles sign", |b| b.iter(|| signer.sign(black_box(&data), now)));
    bench.bench_function("bgfiles verify", |b| {
        b.iter(|| signer.verify(black_box(&link), now).unwrap());
    });
    let keys = Keys::new([SECRET]).unwrap();
    let claims =
        json!({"jti": 42, "sub": "report", "max": 5, "mod": "s", "exp": now.timestamp() + 3_600});
    let jwt = keys.sign(claims.as_object().unwrap()).unwrap();
    bench.bench_function("bgfiles JWT verify", |b| {
        b.iter(|| keys.verify(black_box(&jwt), now).unwrap());
    });
}

criterion_group!(benches, tokens);
criterion_main!(benches);
