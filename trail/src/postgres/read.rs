//! Reading a table whole, in one snapshot, in pages: memory does not grow with it.

use signing_core::tree::TreeHash;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel};

use super::names::quote;
use super::table::{Stored, stored};
use super::{DatabaseError, Place};
use crate::plan::Position;
use crate::shape::Shape;

/// Rows that are fetched at once.
const PAGE: i32 = 1_000;

/// What is known of a table beside its rows.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What it takes.
    pub shape: Shape,
    /// How many rows it has.
    pub rows: u64,
    /// How far the trail brought each log; empty: it has no positions.
    pub positions: Vec<(String, Position)>,
    /// What of it, or of its positions, a crash of the database empties.
    pub unlogged: Option<String>,
}

/// Reads the table, or its newest `limit` rows, oldest first, and gives each row to `take` until that
/// says no. Nothing is changed.
///
/// # Errors
/// [`DatabaseError`].
pub async fn read(
    place: &Place,
    limit: Option<u64>,
    mut begin: impl FnMut(&Reading),
    mut take: impl FnMut(&Stored) -> bool,
) -> Result<Reading, DatabaseError> {
    let mut client = place.connect().await?;
    let shape = place.shape(&client).await?;
    let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    let transaction = place.within(snapshot.read_only(true).start()).await?;
    let table = place.table.quoted();
    let counted = format!("SELECT count(*) FROM {table}");
    let rows: i64 = place.within(transaction.query_one(&counted, &[])).await?.try_get(0)?;
    let positions = place.all_positions(transaction.client()).await?;
    let unlogged = place.first_unlogged(transaction.client()).await?;
    let reading = Reading { shape, rows: u64::try_from(rows).unwrap_or(0), positions, unlogged };
    begin(&reading);
    let (selected, time) = (place.selected(&reading.shape), quote(&reading.shape.time));
    let newest = limit.map_or(String::new(), |limit| format!(" LIMIT {limit}"));
    let sql = format!(
        "SELECT {selected} FROM (SELECT * FROM {table} ORDER BY {time} DESC{newest}) AS newest
         ORDER BY {time}"
    );
    let none: [&(dyn ToSql + Sync); 0] = [];
    let portal = place.within(transaction.bind(&sql, &none)).await?;
    loop {
        let page = place.within(transaction.query_portal(&portal, PAGE)).await?;
        for row in &page {
            if !take(&stored(row, &reading.shape)?) {
                return Ok(reading);
            }
        }
        if page.is_empty() {
            return Ok(reading);
        }
    }
}

/// How far the trail brought each log.
///
/// # Errors
/// [`DatabaseError`].
pub async fn positions(place: &Place) -> Result<Vec<(String, Position)>, DatabaseError> {
    let client = place.connect().await?;
    place.all_positions(&client).await
}

impl Place {
    async fn all_positions(
        &self,
        client: &Client,
    ) -> Result<Vec<(String, Position)>, DatabaseError> {
        let positions = self.positions();
        let there = "SELECT to_regclass($1) IS NOT NULL";
        let is_there: bool =
            self.within(client.query_one(there, &[&positions])).await?.try_get(0)?;
        if !is_there {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT log, shipped, root, covered, missing FROM {positions} WHERE audit_table = $1 ORDER BY log"
        );
        let mut found = Vec::new();
        for row in self.within(client.query(&sql, &[&self.table.to_string()])).await? {
            let log: String = row.try_get(0)?;
            let number = |index| -> Result<u64, tokio_postgres::Error> {
                Ok(u64::try_from(row.try_get::<_, i64>(index)?).unwrap_or(0))
            };
            let root: String = row.try_get(2)?;
            let root = TreeHash::parse_base64(&root)
                .ok_or_else(|| DatabaseError::Position(log.clone()))?;
            let position =
                Position { shipped: number(1)?, root, covered: number(3)?, missing: number(4)? };
            found.push((log, position));
        }
        Ok(found)
    }
}
