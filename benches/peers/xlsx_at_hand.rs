//! Our XLSX from rows that are at hand: `login_events` is read first; what is printed is the CPU
//! seconds of writing alone, of all threads, and the size in MB.
//!
//! ```sh
//! cargo run --release --example xlsx_at_hand -- postgres://… OUT
//! ```

use std::{fs, io::Write};

use bgfiles::{
    Job, NewFileRequest, Output,
    clock::Clock,
    export::{Column, TableWriter, Value},
};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::{Connection, PgConnection, Row};

const COLUMNS: [&str; 10] = [
    "id",
    "user_id",
    "username",
    "ip",
    "user_agent",
    "succeeded",
    "country",
    "amount",
    "score",
    "created_at",
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, out] = arguments.as_slice() else { return Err("URL OUT".into()) };
    let mut conn = PgConnection::connect(url).await?;
    let sql = "SELECT id, user_id, username, ip, user_agent, succeeded, country, \
               amount::text AS amount, score, created_at FROM login_events ORDER BY id";
    let mut found = sqlx::query(sql).fetch(&mut conn);
    let mut rows = Vec::new();
    while let Some(row) = found.try_next().await? {
        let text = |at: usize| Value::Text(row.get(at));
        rows.push(vec![
            Value::Int(row.get(0)),
            row.get::<Option<i64>, _>(1).map_or(Value::Null, Value::Int),
            text(2),
            text(3),
            text(4),
            Value::Bool(row.get(5)),
            text(6),
            Value::Decimal(row.get(7)),
            Value::Float(row.get(8)),
            Value::DateTime(row.get::<DateTime<Utc>, _>(9)),
        ]);
    }
    let mut new = NewFileRequest::new("at-hand".parse()?);
    new.format = Some("xlsx".into());
    let job = Job::new(new.into_row(Clock::system().now()))?;
    let mut file = fs::File::create(out)?;
    let before = cpu_seconds()?;
    let (output, mut bytes) = Output::channel();
    let mut table = TableWriter::new(output, &job, COLUMNS.map(Column::new).into())?;
    let write = async {
        for row in rows {
            table.row(row).await?;
        }
        table.finish().await
    };
    let store = async {
        while let Some(chunk) = bytes.recv().await {
            file.write_all(&chunk)?;
        }
        std::io::Result::Ok(())
    };
    let (written, stored) = tokio::join!(write, store);
    written?;
    stored?;
    let used = cpu_seconds()? - before;
    writeln!(std::io::stdout(), "{used} {}", fs::metadata(out)?.len() as f64 / 1e6)?;
    Ok(())
}

/// Of all threads, those that have ended as well; to a hundredth.
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    // utime and stime (proc(5)), of which the first two fields are cut off.
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}
