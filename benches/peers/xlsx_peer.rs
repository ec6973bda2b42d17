//! What a Rust program gets without us: `login_events` as XLSX by `rust_xlsxwriter` in its
//! constant-memory mode.
//!
//! ```sh
//! cargo run --release --example xlsx_peer -- postgres://… OUT LEVEL
//! ```

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use rust_xlsxwriter::{Format, Workbook};
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, out, level] = arguments.as_slice() else { return Err("URL OUT LEVEL".into()) };
    let mut book = Workbook::new();
    book.set_zip_compression_level(level.parse()?);
    let moment = Format::new().set_num_format("yyyy-mm-dd hh:mm:ss");
    let sheet = book.add_worksheet_with_constant_memory()?;
    for (at, name) in (0..).zip(COLUMNS) {
        sheet.write_string(0, at, name)?;
    }
    let mut conn = PgConnection::connect(url).await?;
    let sql = "SELECT id, user_id, username, ip, user_agent, succeeded, country, \
               amount::float8 AS amount, score, created_at FROM login_events ORDER BY id";
    let mut rows = sqlx::query(sql).fetch(&mut conn);
    let mut at = 0;
    while let Some(row) = rows.try_next().await? {
        at += 1;
        sheet.write_number(at, 0, row.get::<i64, _>(0) as f64)?;
        if let Some(user) = row.get::<Option<i64>, _>(1) {
            sheet.write_number(at, 1, user as f64)?;
        }
        for text in [2, 3, 4, 6] {
            sheet.write_string(at, text, row.get::<&str, _>(usize::from(text)))?;
        }
        sheet.write_boolean(at, 5, row.get(5))?;
        sheet.write_number(at, 7, row.get::<f64, _>(7))?;
        sheet.write_number(at, 8, row.get::<f64, _>(8))?;
        let created: DateTime<Utc> = row.get(9);
        sheet.write_datetime_with_format(at, 9, created.naive_utc(), &moment)?;
    }
    drop(rows);
    book.save(out)?;
    Ok(())
}
