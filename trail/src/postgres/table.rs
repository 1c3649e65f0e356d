//! The tables: ours are made if they are not there, any is described, and its rows are read.

use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::{Client, Row};

use super::names::quote;
use super::{DatabaseError, Place};
use crate::shape::{Column, Shape};

/// The schema that is ours; a table elsewhere belongs to others and is never made.
const OUR_TABLE: &str = "audit_events";

/// A row as a reader sees it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// `id`, as text; none where the table has no such column.
    pub id: Option<String>,
    /// The service that the row is about.
    pub actor_id: Option<String>,
    /// The kind of event, such as `signing.checkpoint`.
    pub event_type: Option<String>,
    /// The payload; none: it is no JSON.
    pub payload: Option<Value>,
    /// The hash before it.
    pub prev_hash: Option<String>,
    /// Its hash.
    pub hash: Option<String>,
    /// Its signature.
    pub signature: Option<String>,
    /// Who signed, by each column that says so.
    pub signers: Vec<Option<String>>,
    /// When; none: the column is NULL.
    pub at: Option<OffsetDateTime>,
    /// Every other time column of ours, which says the same.
    pub other_at: Option<OffsetDateTime>,
}

impl Place {
    pub(super) async fn make_tables(&self, client: &Client) -> Result<(), DatabaseError> {
        let schema = quote(&self.schema);
        let positions = format!("{schema}.{}", quote("trail_positions"));
        let is_ours = self.table.schema == self.schema && self.table.table == OUR_TABLE;
        let mut made = String::new();
        if !self.is_there(client, &positions).await? {
            made.push_str(&format!(
                "CREATE SCHEMA IF NOT EXISTS {schema};
                 CREATE TABLE IF NOT EXISTS {positions} (
                   log text NOT NULL, audit_table text NOT NULL, journal text NOT NULL,
                   shipped bigint NOT NULL, root text NOT NULL, covered bigint NOT NULL,
                   missing bigint NOT NULL, written_at timestamptz NOT NULL,
                   PRIMARY KEY (log, audit_table));"
            ));
        }
        let table = self.table.quoted();
        if is_ours && !self.is_there(client, &table).await? {
            made.push_str(&format!(
                "CREATE TABLE IF NOT EXISTS {table} (
                   id uuid PRIMARY KEY, actor_id text NOT NULL, event_type text NOT NULL,
                   payload jsonb NOT NULL, prev_hash text, hash text NOT NULL,
                   signature text NOT NULL, signer_kid text NOT NULL, signer_id text NOT NULL,
                   created_at timestamptz NOT NULL UNIQUE, ts timestamptz NOT NULL);
                 CREATE INDEX IF NOT EXISTS audit_events_event_type ON {table} (event_type, created_at);"
            ));
        }
        if made.is_empty() {
            return Ok(());
        }
        // Two trails that start at once make them once.
        let all = format!("BEGIN; SELECT pg_advisory_xact_lock({}); {made} COMMIT", self.lock_key);
        self.within(client.batch_execute(&all)).await
    }

    pub(crate) async fn is_there(
        &self,
        client: &Client,
        quoted: &str,
    ) -> Result<bool, DatabaseError> {
        let sql = "SELECT to_regclass($1) IS NOT NULL";
        Ok(self.within(client.query_one(sql, &[&quoted])).await?.try_get(0)?)
    }

    /// What the table takes.
    ///
    /// # Errors
    /// [`DatabaseError::Table`].
    pub async fn shape(&self, client: &Client) -> Result<Shape, DatabaseError> {
        let sql = "SELECT a.attname::text, format_type(a.atttypid, NULL)::text,
                          a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
                   FROM pg_attribute a
                   WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
                   ORDER BY a.attnum";
        let found = self.within(client.query(sql, &[&self.table.quoted()])).await?;
        let refused = |why| DatabaseError::Table { table: self.table.to_string(), why };
        if found.is_empty() {
            return Err(refused(vec![
                "it is not there; name it in postgres.table as schema.table".into(),
            ]));
        }
        let column = |row: &Row| -> Result<Column, tokio_postgres::Error> {
            Ok(Column { name: row.try_get(0)?, kind: row.try_get(1)?, is_needed: row.try_get(2)? })
        };
        let columns: Vec<_> = found.iter().map(column).collect::<Result<_, _>>()?;
        Shape::of(&columns).map_err(refused)
    }

    /// The columns that a reader needs, as text, in the order of [`stored`].
    pub(super) fn selected(&self, shape: &Shape) -> String {
        let has = |name: &str| shape.written.iter().any(|written| written.name == name);
        let text = |name: &str, is_there: bool| {
            if is_there { format!("{}::text", quote(name)) } else { "NULL::text".to_owned() }
        };
        let micros = |name: &str, is_there: bool| {
            // A text would not be a number: it is cast first.
            let name = quote(name);
            if is_there {
                format!("(extract(epoch FROM {name}::timestamptz) * 1000000)::bigint")
            } else {
                "NULL::bigint".to_owned()
            }
        };
        [
            text("id", shape.has_id),
            text("actor_id", has("actor_id")),
            text("event_type", true),
            text("payload", true),
            text("prev_hash", true),
            text("hash", shape.has_hash),
            text("signature", true),
            text("signer_kid", has("signer_kid")),
            text("signer_id", has("signer_id")),
            micros(&shape.time, true),
            micros("ts", has("ts") && shape.time != "ts"),
        ]
        .join(", ")
    }
}

/// What a row of [`Place::selected`] says.
pub(super) fn stored(row: &Row, shape: &Shape) -> Result<Stored, tokio_postgres::Error> {
    let payload: Option<String> = row.try_get(3)?;
    let at = |micros: Option<i64>| {
        let nanos = i128::from(micros?) * 1_000;
        OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()
    };
    let has = |name: &str| shape.written.iter().any(|written| written.name == name);
    let mut signers = Vec::new();
    for (name, index) in [("signer_kid", 7), ("signer_id", 8)] {
        if has(name) {
            signers.push(row.try_get(index)?);
        }
    }
    Ok(Stored {
        id: row.try_get(0)?,
        actor_id: row.try_get(1)?,
        event_type: row.try_get(2)?,
        payload: payload.and_then(|text| signing_core::json::from_slice(text.as_bytes()).ok()),
        prev_hash: row.try_get(4)?,
        hash: row.try_get(5)?,
        signature: row.try_get(6)?,
        signers,
        at: at(row.try_get(9)?),
        other_at: at(row.try_get(10)?),
    })
}
