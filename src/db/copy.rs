//! Many rows into a table of PostgreSQL at once: [`COPY … FROM STDIN (FORMAT binary)`][copy], which
//! spares the server a plan and an execution for each.
//!
//! [copy]: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;

const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// 2000-01-01 in microseconds since 1970: the server's times count from there.
const EPOCH: i64 = 946_684_800_000_000;

/// Rows of columns that are all given, in the order of the statement.
pub(crate) struct CopyRows {
    bytes: Vec<u8>,
    columns: i16,
}

impl CopyRows {
    /// None so far.
    pub(crate) fn new(columns: i16) -> Self {
        CopyRows { bytes: HEAD.to_vec(), columns }
    }

    /// Begins a row.
    pub(crate) fn row(&mut self) -> &mut Self {
        self.bytes.extend(self.columns.to_be_bytes());
        self
    }

    /// The next column.
    pub(crate) fn uuid(&mut self, value: Option<Uuid>) -> &mut Self {
        self.column(value.as_ref().map(|uuid| uuid.as_bytes().as_slice()))
    }

    /// The next column.
    pub(crate) fn text(&mut self, value: Option<&str>) -> &mut Self {
        self.column(value.map(str::as_bytes))
    }

    /// The next column.
    pub(crate) fn bigint(&mut self, value: Option<i64>) -> &mut Self {
        self.column(value.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice))
    }

    /// The next column.
    pub(crate) fn moment(&mut self, value: DateTime<Utc>) -> &mut Self {
        self.bigint(Some(value.timestamp_micros() - EPOCH))
    }

    fn column(&mut self, value: Option<&[u8]>) -> &mut Self {
        // Whoever has a column of more than 2 GiB is refused by the server.
        let length = value.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self
    }

    /// Sends them: `statement` is the `COPY`.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn send(mut self, conn: &mut PgConnection, statement: &str) -> Result<()> {
        self.bytes.extend((-1_i16).to_be_bytes());
        let mut copy = conn.copy_in_raw(statement).await?;
        copy.send(self.bytes).await?;
        copy.finish().await?;
        Ok(())
    }
}
