//! The demo's data: departures from New York in 2013.

use std::io::Read;

use sqlx::{QueryBuilder, Sqlite};

use crate::{
    cli::output::note,
    db::{Db, Tx},
    error::{Error, Result},
};

const FLIGHTS: &[u8] = include_bytes!("../../../examples/flights.csv.zst");

/// Rows of one INSERT: ten columns each, below SQLite's limit on parameters.
const ROWS: usize = 500;

/// Creates and fills the table `flights`, unless it is there.
pub(super) async fn load(db: &Db) -> Result<()> {
    let mut tx = db.begin().await?;
    let Tx::Sqlite(sqlite) = &mut tx else {
        return Err(Error::Config("the demo runs on SQLite; leave out --database-url".into()));
    };
    let known: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE name = 'flights'")
            .fetch_one(&mut **sqlite)
            .await?;
    if known > 0 {
        return Ok(());
    }
    note("Loading 336,776 flights into SQLite …");
    sqlx::query(
        "CREATE TABLE flights (scheduled_at datetime NOT NULL, carrier text NOT NULL, \
         flight integer NOT NULL, tailnum text, origin text NOT NULL, dest text NOT NULL, \
         dep_delay integer, arr_delay integer, air_time integer, distance integer NOT NULL)",
    )
    .execute(&mut **sqlite)
    .await?;
    let internal = |e: &dyn std::fmt::Display| Error::Internal(format!("the built-in data: {e}"));
    let unpacked = zstd::stream::read::Decoder::new(FLIGHTS).map_err(|e| internal(&e))?;
    let mut csv = csv::Reader::from_reader(std::io::BufReader::with_capacity(
        1 << 20,
        Box::new(unpacked) as Box<dyn Read + Send>,
    ));
    let mut records = csv.records();
    loop {
        let mut batch = Vec::with_capacity(ROWS);
        for record in records.by_ref().take(ROWS) {
            batch.push(record.map_err(|e| internal(&e))?);
        }
        if batch.is_empty() {
            break;
        }
        insert(&batch).build().execute(&mut **sqlite).await?;
    }
    sqlx::query("CREATE INDEX flights_scheduled_at ON flights (scheduled_at)")
        .execute(&mut **sqlite)
        .await?;
    tx.commit().await
}

fn insert(batch: &[csv::StringRecord]) -> QueryBuilder<Sqlite> {
    let mut insert = QueryBuilder::new(
        "INSERT INTO flights (scheduled_at, carrier, flight, tailnum, origin, dest, dep_delay, \
         arr_delay, air_time, distance) ",
    );
    insert.push_values(batch, |mut row, record| {
        for (column, field) in record.iter().enumerate() {
            match column {
                // As sqlx writes times, so that they compare as text.
                0 => row.push_bind(field.replace('Z', "+00:00")),
                2 | 6..=9 => row.push_bind(field.parse::<i64>().ok()),
                _ => row.push_bind((!field.is_empty()).then(|| field.to_owned())),
            };
        }
    });
    insert
}
