//! What encoding costs: rows of ten columns as each format, into memory.
//!
//! `cargo bench --bench encoders`

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use bgfiles::{
    Job, NewFileRequest, Output,
    clock::Clock,
    export::{Column, Format, Kind, TableWriter, Value},
};
use chrono::{DateTime, TimeDelta};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: u64 = 20_000;

fn row(i: i64) -> Vec<Value> {
    let agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/";
    vec![
        Value::Int(i),
        if i % 20 == 0 { Value::Null } else { Value::Int(i * 7_919 % 50_000) },
        Value::Text(format!("user.{}", i * 31 % 9_999)),
        Value::Text(format!("10.{}.{}.{}", i % 223, i % 251, i % 199)),
        Value::Text(format!("{agent}{}", i % 40 + 110)),
        Value::Bool(i % 10 > 0),
        Value::Text(["NL", "DE", "FR"][usize::try_from(i % 3).unwrap()].into()),
        Value::Decimal(format!("{}.{:02}", i * 13 % 99_999, i % 100)),
        Value::Float(i as f64 / 7.0),
        Value::DateTime(DateTime::UNIX_EPOCH + TimeDelta::milliseconds(i * 37_001)),
    ]
}

async fn write(format: Format, rows: Vec<Vec<Value>>) -> usize {
    let mut new = NewFileRequest::new("bench".parse().unwrap());
    new.format = Some(format.name().into());
    let job = Job::new(new.into_row(Clock::system().now())).unwrap();
    let kinds = [
        Kind::Integer,
        Kind::Integer,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Bool,
        Kind::Text,
        Kind::Decimal,
        Kind::Float,
        Kind::DateTime,
    ];
    let columns = kinds
        .iter()
        .enumerate()
        .map(|(at, kind)| Column { kind: Some(*kind), ..Column::new(format!("column{at}")) });
    let (out, mut bytes) = Output::channel();
    let mut table = TableWriter::new(out, &job, columns.collect()).unwrap();
    let write = async {
        for row in rows {
            table.row(row).await.unwrap();
        }
        table.finish().await.unwrap();
    };
    let read = async {
        let mut size = 0;
        while let Some(chunk) = bytes.recv().await {
            size += chunk.len();
        }
        size
    };
    tokio::join!(write, read).1
}

fn encoders(bench: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let rows: Vec<_> = (0..ROWS.cast_signed()).map(row).collect();
    let mut group = bench.benchmark_group("rows");
    group.throughput(Throughput::Elements(ROWS)).sample_size(20);
    for format in Format::ALL {
        group.bench_function(format.name(), |b| {
            b.to_async(&runtime).iter_batched(
                || rows.clone(),
                |rows| write(format, rows),
                criterion::BatchSize::LargeInput,
            );
        });
    }
}

criterion_group!(benches, encoders);
criterion_main!(benches);
