//! The verdicts of the policy service, by the id of the row that they are about. The table is made only where
//! a policy service is configured: where it is, each emergency record has to have one.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::names::quote;
use super::{DatabaseError, Place};
use crate::canonical::shippable;

/// A verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// The id of the row.
    pub row_id: String,
    /// The origin of its log.
    pub log: String,
    /// Its record.
    pub seq: u64,
    /// What was asked about.
    pub action: String,
    /// The service's word.
    pub decision: String,
    /// Whether that allows it.
    pub allowed: bool,
    /// All that it answered.
    pub verdict: Value,
}

impl Place {
    fn annotations(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote("annotations"))
    }

    pub(crate) async fn make_annotations(&self, client: &Client) -> Result<(), DatabaseError> {
        let table = self.annotations();
        if self.is_there(client, &table).await? {
            return Ok(());
        }
        let schema = quote(&self.schema);
        let all = format!(
            "BEGIN; SELECT pg_advisory_xact_lock({});
             CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE IF NOT EXISTS {table} (
               row_id text PRIMARY KEY, log text NOT NULL, seq bigint NOT NULL, action text NOT NULL,
               decision text NOT NULL, allowed boolean NOT NULL, verdict jsonb NOT NULL,
               answered_at timestamptz NOT NULL);
             COMMIT",
            self.lock_key
        );
        self.within(client.batch_execute(&all)).await
    }

    pub(crate) async fn is_annotated(
        &self,
        client: &Client,
        row_id: &str,
    ) -> Result<bool, DatabaseError> {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE row_id = $1)", self.annotations());
        Ok(self.within(client.query_one(&sql, &[&row_id])).await?.try_get(0)?)
    }

    /// Keeps a verdict. The first one about a row stands.
    pub(crate) async fn annotate(
        &self,
        client: &Client,
        annotation: &Annotation,
    ) -> Result<(), DatabaseError> {
        let sql = format!(
            "INSERT INTO {} (row_id, log, seq, action, decision, allowed, verdict, answered_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, now()) ON CONFLICT (row_id) DO NOTHING",
            self.annotations()
        );
        let Annotation { row_id, log, seq, action, decision, allowed, verdict } = annotation;
        let seq = i64::try_from(*seq).unwrap_or(i64::MAX);
        // A database takes no NUL.
        let (decision, verdict) = (decision.replace('\0', ""), shippable(verdict).to_string());
        let values: [&(dyn ToSql + Sync); 7] =
            [row_id, log, &seq, action, &decision, allowed, &verdict];
        self.within(client.execute(&sql, &values)).await?;
        Ok(())
    }
}

/// The ids of the rows of `log`, up to that of record `last`, that have a verdict; none: no policy service was ever
/// configured.
///
/// # Errors
/// [`DatabaseError`].
pub async fn annotated(
    place: &Place,
    log: &str,
    last: u64,
) -> Result<Option<BTreeSet<String>>, DatabaseError> {
    let client = place.connect().await?;
    let table = place.annotations();
    if !place.is_there(&client, &table).await? {
        return Ok(None);
    }
    let sql = format!("SELECT row_id FROM {table} WHERE log = $1 AND seq <= $2");
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    let rows = place.within(client.query(&sql, &[&log, &last])).await?;
    let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(Some(ids))
}
