//! Handlers as a host application would write them, one for each way to behave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bgfiles::{
    Criteria, Error, FileRequest, Handler, Job, Output, Registry, Result,
    export::{Column, TableWriter, Value},
    file_request::links::LinkPolicy,
    registry::Delivery,
};
use serde_json::{Map, json};

/// What the handlers of one registry did.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub writes: Arc<AtomicUsize>,
}

type Write = fn(Job, Output, Seen) -> futures::future::BoxFuture<'static, Result<()>>;

struct Simple {
    name: &'static str,
    seen: Seen,
    write: Write,
}

#[async_trait]
impl Handler for Simple {
    fn file_type(&self) -> &str {
        self.name
    }

    async fn write(&self, job: &Job, out: Output) -> Result<()> {
        self.seen.writes.fetch_add(1, SeqCst);
        (self.write)(job.clone(), out, self.seen.clone()).await
    }

    fn filename(&self, _: &Job) -> String {
        format!("{}.txt", self.name)
    }

    async fn evaluate(&self, job: &Job) -> Result<Delivery> {
        Ok(if job.criteria.get("small").is_some() { Delivery::Now } else { Delivery::Later })
    }

    fn parse_criteria(&self, criteria: &Criteria) -> Result<Criteria> {
        match criteria.get("bad") {
            Some(_) => Err(Error::invalid("criteria.bad", "is never good")),
            None => Ok(criteria.clone()),
        }
    }

    fn token_data(&self, request: &FileRequest) -> Map<String, serde_json::Value> {
        let data = json!({"kind": request.file_type.as_str()});
        data.as_object().cloned().unwrap()
    }

    fn content_as_attachment(&self) -> bool {
        self.name != "big"
    }

    fn link_policy(&self) -> LinkPolicy {
        let uses =
            |uses| LinkPolicy { max_uses: std::num::NonZeroU32::new(uses), ..Default::default() };
        match self.name {
            "once" => uses(1),
            "thrice" => uses(3),
            "safe" => LinkPolicy { scanner_safe: true, ..Default::default() },
            _ => LinkPolicy::default(),
        }
    }

    fn timeout(&self) -> Duration {
        if self.name == "hangs" { Duration::from_secs(1) } else { Duration::from_secs(600) }
    }
}

/// Rows through the table writer.
struct Rows;

#[async_trait]
impl Handler for Rows {
    fn file_type(&self) -> &str {
        "rows"
    }

    fn formats(&self) -> &[&'static str] {
        &["csv", "jsonl", "xlsx"]
    }

    async fn write(&self, job: &Job, out: Output) -> Result<()> {
        let rows: i64 = job.criteria.get("rows").unwrap_or("3").parse().unwrap_or(3);
        let columns = vec![Column::new("number"), Column::new("text")];
        let mut table = TableWriter::new(out, job, columns)?;
        for row in 0..rows {
            let text = Value::Text(format!("=row {row}"));
            table.row(vec![Value::Int(row), text]).await?;
        }
        table.finish().await
    }
}

/// All of them.
pub fn registry(seen: &Seen) -> Registry {
    let mut registry = Registry::new();
    registry.register(Rows).unwrap();
    let simple: [(&'static str, Write); 9] = [
        ("hello", |job, mut out, _| {
            Box::pin(async move {
                let name = job.criteria.get("name").unwrap_or("world").to_owned();
                out.write(format!("hello {name} in {} {}\n", job.language, job.timezone)).await
            })
        }),
        ("big", |job, out, _| {
            Box::pin(async move {
                let mib: usize = job.criteria.get("mib").unwrap_or("1").parse().unwrap_or(1);
                out.blocking(move |to| {
                    let block: Vec<u8> = (0..1024 * 1024).map(|i| (i % 251) as u8).collect();
                    for _ in 0..mib {
                        std::io::Write::write_all(to, &block).map_err(|_| Error::OutputClosed)?;
                    }
                    Ok(())
                })
                .await
            })
        }),
        ("slow", |job, mut out, _| {
            Box::pin(async move {
                let seconds: u64 = job.criteria.get("seconds").unwrap_or("5").parse().unwrap_or(5);
                for tick in 0..seconds * 20 {
                    if job.cancelled.is_cancelled() {
                        return Err(Error::Cancelled);
                    }
                    out.write(format!("{tick}\n")).await?;
                    job.progress.set_done(tick);
                    job.progress.set_total(seconds * 20);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Ok(())
            })
        }),
        ("stubborn", |job, mut out, _| {
            Box::pin(async move {
                // Burns CPU on a blocking thread and never looks at the cancellation.
                let seconds: u64 = job.criteria.get("seconds").unwrap_or("3").parse().unwrap_or(3);
                let burn = tokio::task::spawn_blocking(move || {
                    let end = std::time::Instant::now() + Duration::from_secs(seconds);
                    while std::time::Instant::now() < end {
                        std::hint::spin_loop();
                    }
                });
                burn.await.map_err(|e| Error::Internal(e.to_string()))?;
                out.write("done\n").await
            })
        }),
        ("panics", |_, _, _| Box::pin(async { panic!("as it was asked to") })),
        ("aborts", |_, _, _| Box::pin(async { std::process::abort() })),
        ("permanent", |_, mut out, _| {
            Box::pin(async move {
                out.write("half of").await?;
                Err(Error::permanent("no_such_year", "there is no data for that year"))
            })
        }),
        ("flaky", |job, mut out, _| {
            Box::pin(async move {
                let failures: i32 =
                    job.criteria.get("failures").unwrap_or("1").parse().unwrap_or(1);
                if job.request.attempts <= failures {
                    return Err(Error::temporary("busy", "the source is busy"));
                }
                out.write("at last\n").await
            })
        }),
        ("hangs", |_, _, _| Box::pin(std::future::pending())),
    ];
    let big = simple[1].1;
    let limited = [("once", big), ("thrice", big), ("safe", big)];
    for (name, write) in simple.into_iter().chain(limited) {
        registry.register(Simple { name, seen: seen.clone(), write }).unwrap();
    }
    registry
}
