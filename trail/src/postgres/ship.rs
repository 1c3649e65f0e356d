//! One transaction: the lock, the position, the real head, the rows linked to it, the position moved.

use host::clock::wall_now;
use signing_core::tree::{LogId, TreeHash};
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Transaction};

use super::connect::Session;
use super::names::quote;
use super::table::stored;
use super::{DatabaseError, Place};
use crate::event::{Event, Owner};
use crate::key::RowKey;
use crate::plan::Position;
use crate::row::{Head, Row, head_of, link};
use crate::shape::Field;

/// What to bring.
#[derive(Debug)]
pub struct Shipment {
    /// Which log.
    pub log: LogId,
    /// Whose.
    pub owner: Owner,
    /// The rows.
    pub events: Vec<Event>,
    /// Where the log is in the sink, as far as the trail knows.
    pub from: Position,
    /// Where it is once these rows are there.
    pub to: Position,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shipped {
    /// The rows are committed.
    Committed,
    /// The log is elsewhere in the sink: an earlier commit whose result was unknown happened, or the
    /// database was restored. Nothing was written.
    Elsewhere(Position),
}

impl Session {
    /// Where `log` is in this sink, without a lock.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn position(&self, log: LogId) -> Result<Position, DatabaseError> {
        self.place.position(&self.client, log).await
    }

    /// Moves the position without rows, in one statement. Dying in it: it has happened or not, and whoever comes next
    /// reads the position.
    ///
    /// # Errors
    /// [`DatabaseError`]; whether it moved is unknown then.
    pub async fn advance(
        &self,
        log: LogId,
        from: Position,
        to: Position,
    ) -> Result<Shipped, DatabaseError> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (origin, table) = (log.origin(), self.place.table.to_string());
        let (from_root, to_root) = (from.root.to_base64(), to.root.to_base64());
        let (shipped, covered, missing) =
            (number(from.shipped), number(from.covered), number(from.missing));
        let values: [&(dyn ToSql + Sync); 9] = [
            &origin,
            &table,
            &shipped,
            &from_root,
            &covered,
            &missing,
            &number(to.shipped),
            &to_root,
            &self.place.lock_key,
        ];
        let moved = self.place.within(self.client.execute(&self.advance, &values)).await?;
        if moved == 1 {
            Ok(Shipped::Committed)
        } else {
            Ok(Shipped::Elsewhere(self.position(log).await?))
        }
    }

    /// Brings rows in one transaction.
    ///
    /// Dying before COMMIT is sent: nothing is written, and the lock goes with the connection. Dying
    /// after it, before the answer: the rows and the position are there or neither is. Whoever comes
    /// next waits for the lock, and so for the end of this transaction, and reads the position then.
    ///
    /// # Errors
    /// [`DatabaseError`]; whether the rows are committed is unknown then.
    pub async fn ship(
        &mut self,
        shipment: Shipment,
        key: &RowKey,
        kid: &str,
    ) -> Result<Shipped, DatabaseError> {
        let place = self.place.clone();
        let transaction = place.within(self.client.transaction()).await?;
        let table = place.table.quoted();
        let lock = format!(
            "SELECT pg_advisory_xact_lock({}); LOCK TABLE {table} IN EXCLUSIVE MODE",
            place.lock_key
        );
        place.within(transaction.batch_execute(&lock)).await?;
        let found = place.position(&transaction, shipment.log).await?;
        if found != shipment.from {
            place.within(transaction.rollback()).await?;
            return Ok(Shipped::Elsewhere(found));
        }
        if !shipment.events.is_empty() {
            let head = place.head(&transaction, &self.shape).await?;
            let rows = link(shipment.events, head, wall_now(), key);
            place.insert(&transaction, &self.shape, &rows, kid).await?;
        }
        place.move_to(&transaction, shipment.log, shipment.owner, shipment.to).await?;
        place.within(transaction.commit()).await?;
        Ok(Shipped::Committed)
    }
}

impl Place {
    /// [`Session::advance`] as a statement. The lock is that of every writer of rows: none is at work meanwhile.
    pub(super) fn advance(&self) -> String {
        format!(
            "UPDATE {} SET shipped = $7, root = $8, written_at = now()
             FROM (SELECT pg_advisory_xact_lock($9)) AS lock
             WHERE log = $1 AND audit_table = $2 AND shipped = $3 AND root = $4 AND covered = $5 AND missing = $6",
            self.positions()
        )
    }

    pub(super) fn positions(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote("trail_positions"))
    }

    pub(crate) async fn position(
        &self,
        client: &impl GenericClient,
        log: LogId,
    ) -> Result<Position, DatabaseError> {
        let sql = format!(
            "SELECT shipped, root, covered, missing FROM {} WHERE log = $1 AND audit_table = $2",
            self.positions()
        );
        let (origin, table) = (log.origin(), self.table.to_string());
        let found = self.within(client.query_opt(&sql, &[&origin, &table])).await?;
        let Some(row) = found else { return Ok(Position::begin()) };
        let number = |index| -> Result<Option<u64>, tokio_postgres::Error> {
            Ok(u64::try_from(row.try_get::<_, i64>(index)?).ok())
        };
        let root: String = row.try_get(1)?;
        let root = TreeHash::parse_base64(&root);
        match (number(0)?, root, number(2)?, number(3)?) {
            (Some(shipped), Some(root), Some(covered), Some(missing)) => {
                Ok(Position { shipped, root, covered, missing })
            }
            _ => Err(DatabaseError::Position(origin)),
        }
    }

    async fn head(
        &self,
        transaction: &Transaction<'_>,
        shape: &crate::shape::Shape,
    ) -> Result<Head, DatabaseError> {
        let sql = format!(
            "SELECT {} FROM {} WHERE {time} IS NOT NULL ORDER BY {time} DESC LIMIT 1",
            self.selected(shape),
            self.table.quoted(),
            time = quote(&shape.time)
        );
        let Some(row) = self.within(transaction.query_opt(&sql, &[])).await? else {
            return Ok(Head::Empty);
        };
        let newest = stored(&row, shape)?;
        let wrong = |why: String| DatabaseError::Head { table: self.table.to_string(), why };
        let payload = newest.payload.ok_or_else(|| wrong("its payload is no JSON".to_owned()))?;
        let at = newest.at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        head_of(&payload, newest.prev_hash.as_deref(), newest.hash.as_deref(), at).map_err(wrong)
    }

    async fn insert(
        &self,
        transaction: &Transaction<'_>,
        shape: &crate::shape::Shape,
        rows: &[Row],
        kid: &str,
    ) -> Result<(), DatabaseError> {
        let written = &shape.written;
        let names: Vec<_> = written.iter().map(|column| quote(&column.name)).collect();
        let casts: Vec<_> = written
            .iter()
            .enumerate()
            .map(|(index, column)| format!("r.c{index}::{}", column.kind))
            .collect();
        let arrays: Vec<_> = (1..=written.len()).map(|index| format!("${index}::text[]")).collect();
        let columns: Vec<_> = (0..written.len()).map(|index| format!("c{index}")).collect();
        let sql = format!(
            "INSERT INTO {} ({}) SELECT {} FROM unnest({}) WITH ORDINALITY AS r({}, n) ORDER BY r.n",
            self.table.quoted(),
            names.join(", "),
            casts.join(", "),
            arrays.join(", "),
            columns.join(", ")
        );
        let first = shape.first_is_empty.then_some("");
        let value = |field: Field, row: &'_ Row| -> Option<String> {
            match field {
                Field::Id => Some(row.id.clone()),
                Field::Actor => Some(row.actor_id.to_owned()),
                Field::EventType => Some(row.event_type.clone()),
                Field::Payload => Some(row.payload.clone()),
                Field::PrevHash => row.prev_hash.clone().or_else(|| first.map(str::to_owned)),
                Field::Hash => Some(row.hash.clone()),
                Field::Signature => Some(row.signature.clone()),
                Field::Signer => Some(kid.to_owned()),
                Field::CreatedAt => Some(row.created_at.clone()),
            }
        };
        let values: Vec<Vec<Option<String>>> = written
            .iter()
            .map(|column| rows.iter().map(|row| value(column.field, row)).collect())
            .collect();
        let values: Vec<_> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let count = self.within(transaction.execute(&sql, &values)).await?;
        if count == rows.len() as u64 {
            return Ok(());
        }
        // A trigger or a rule of a shared table that leaves rows out: nothing of this is committed.
        let why = format!(
            "it took {count} of {} rows; remove the trigger or rule that leaves rows out",
            rows.len()
        );
        Err(DatabaseError::Table { table: self.table.to_string(), why: vec![why] })
    }

    async fn move_to(
        &self,
        transaction: &Transaction<'_>,
        log: LogId,
        owner: Owner,
        to: Position,
    ) -> Result<(), DatabaseError> {
        let sql = format!(
            "INSERT INTO {} (log, audit_table, journal, shipped, root, covered, missing, written_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, now())
             ON CONFLICT (log, audit_table) DO UPDATE SET shipped = $4, root = $5, covered = $6,
               missing = $7, written_at = now()",
            self.positions()
        );
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (shipped, covered, missing) =
            (number(to.shipped), number(to.covered), number(to.missing));
        let (origin, table, root) = (log.origin(), self.table.to_string(), to.root.to_base64());
        let values: [&(dyn ToSql + Sync); 7] =
            [&origin, &table, &owner.word(), &shipped, &root, &covered, &missing];
        self.within(transaction.execute(&sql, &values)).await?;
        Ok(())
    }
}
