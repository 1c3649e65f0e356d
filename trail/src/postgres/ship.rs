//! One transaction: the lock, the position, the real head, the rows linked to it, the position moved.

use std::sync::Arc;

use host::clock::wall_now;
use signing_core::tree::{LogId, TreeHash};
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, GenericClient, Statement, Transaction};

use super::connect::Session;
use super::names::quote;
use super::statements::Statements;
use super::table::stored;
use super::{DatabaseError, Place};
use crate::event::{Event, Owner};
use crate::key::RowKey;
use crate::plan::Position;
use crate::row::{Head, Row, head_of, link};
use crate::shape::{Field, Shape};

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
        self.place.position_by(&self.client, &self.statements.position, log).await
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
        let moved =
            self.place.within(self.client.execute(&self.statements.advance, &values)).await?;
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
        key: &Arc<RowKey>,
        kid: &str,
    ) -> Result<Shipped, DatabaseError> {
        let Shipment { log, owner, events, from, to } = shipment;
        let Self { client, place, shape, statements } = self;
        let transaction = place.within(client.transaction()).await?;
        let lock = format!(
            "SELECT pg_advisory_xact_lock({}); LOCK TABLE {} IN EXCLUSIVE MODE",
            place.lock_key,
            place.table.quoted()
        );
        place.within(transaction.batch_execute(&lock)).await?;
        let found = place.position_by(&transaction, &statements.position, log).await?;
        if found != from {
            place.within(transaction.rollback()).await?;
            return Ok(Shipped::Elsewhere(found));
        }
        if !events.is_empty() {
            let head = place.head(&transaction, (shape, &statements.head)).await?;
            let brings = Brings { place, shape, insert: &statements.insert, kid };
            brings.all(&transaction, events, head, key).await?;
        }
        place.move_to(&transaction, &statements.move_to, (log, owner, to)).await?;
        place.within(transaction.commit()).await?;
        Ok(Shipped::Committed)
    }
}

/// Brings rows into the table, in an open transaction.
struct Brings<'s> {
    place: &'s Place,
    shape: &'s Shape,
    insert: &'s Statement,
    kid: &'s str,
}

impl Brings<'_> {
    /// Piece by piece: while the database takes one, the next is linked and signed.
    async fn all(
        &self,
        transaction: &Transaction<'_>,
        events: Vec<Event>,
        head: Head,
        key: &Arc<RowKey>,
    ) -> Result<(), DatabaseError> {
        let at = wall_now();
        let mut waiting = pieces(events).into_iter();
        let first = waiting.next().unwrap_or_default();
        let (mut rows, mut head) = link(first, head, at, key);
        for next in waiting {
            let (key, before) = (Arc::clone(key), head);
            let linking = tokio::task::spawn_blocking(move || link(next, before, at, &key));
            let (inserted, linked) = tokio::join!(self.rows(transaction, &rows), linking);
            inserted?;
            // It panics only where it would have panicked here: nothing of this is committed.
            (rows, head) = linked.map_err(|_| DatabaseError::Stopped)?;
        }
        self.rows(transaction, &rows).await
    }

    async fn rows(&self, transaction: &Transaction<'_>, rows: &[Row]) -> Result<(), DatabaseError> {
        let Self { place, shape, insert, kid } = self;
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
                Field::Signer => Some((*kid).to_owned()),
                Field::CreatedAt => Some(row.created_at.clone()),
            }
        };
        let values: Vec<Vec<Option<String>>> = shape
            .written
            .iter()
            .map(|column| rows.iter().map(|row| value(column.field, row)).collect())
            .collect();
        let values: Vec<_> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let count = place.within(transaction.execute(*insert, &values)).await?;
        if count == rows.len() as u64 {
            return Ok(());
        }
        // A trigger or a rule of a shared table that leaves rows out: nothing of this is committed.
        let why = format!(
            "it took {count} of {} rows; remove the trigger or rule that leaves rows out",
            rows.len()
        );
        Err(DatabaseError::Table { table: place.table.to_string(), why: vec![why] })
    }
}

/// Rows that are linked while those before them are inserted.
const PIECE_ROWS: usize = 250;

/// `events` in their order, in pieces.
fn pieces(events: Vec<Event>) -> Vec<Vec<Event>> {
    let mut events = events.into_iter().peekable();
    let mut pieces = Vec::new();
    while events.peek().is_some() {
        pieces.push(events.by_ref().take(PIECE_ROWS).collect());
    }
    pieces
}

impl Place {
    /// [`Session::advance`] as a statement. The lock is that of every writer of rows: none is at work meanwhile.
    fn advance(&self) -> String {
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

    /// Where a log is in this sink.
    fn position_of(&self) -> String {
        format!(
            "SELECT shipped, root, covered, missing FROM {} WHERE log = $1 AND audit_table = $2",
            self.positions()
        )
    }

    /// Where `log` is in this sink, asked once.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(crate) async fn position(
        &self,
        client: &Client,
        log: LogId,
    ) -> Result<Position, DatabaseError> {
        let statement = self.within(client.prepare(&self.position_of())).await?;
        self.position_by(client, &statement, log).await
    }

    async fn position_by(
        &self,
        client: &impl GenericClient,
        statement: &Statement,
        log: LogId,
    ) -> Result<Position, DatabaseError> {
        let (origin, table) = (log.origin(), self.table.to_string());
        let found = self.within(client.query_opt(statement, &[&origin, &table])).await?;
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

    /// The newest row by time.
    fn newest_row(&self, shape: &Shape) -> String {
        format!(
            "SELECT {} FROM {} WHERE {time} IS NOT NULL ORDER BY {time} DESC LIMIT 1",
            self.selected(shape),
            self.table.quoted(),
            time = quote(&shape.time)
        )
    }

    async fn head(
        &self,
        transaction: &Transaction<'_>,
        (shape, statement): (&Shape, &Statement),
    ) -> Result<Head, DatabaseError> {
        let Some(row) = self.within(transaction.query_opt(statement, &[])).await? else {
            return Ok(Head::Empty);
        };
        let newest = stored(&row, shape)?;
        let wrong = |why: String| DatabaseError::Head { table: self.table.to_string(), why };
        let payload = newest.payload.ok_or_else(|| wrong("its payload is no JSON".to_owned()))?;
        let at = newest.at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        head_of(&payload, newest.prev_hash.as_deref(), newest.hash.as_deref(), at).map_err(wrong)
    }

    fn insert(&self, shape: &Shape) -> String {
        let written = &shape.written;
        let names: Vec<_> = written.iter().map(|column| quote(&column.name)).collect();
        let casts: Vec<_> = written
            .iter()
            .enumerate()
            .map(|(index, column)| format!("r.c{index}::{}", column.kind))
            .collect();
        let arrays: Vec<_> = (1..=written.len()).map(|index| format!("${index}::text[]")).collect();
        let columns: Vec<_> = (0..written.len()).map(|index| format!("c{index}")).collect();
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM unnest({}) WITH ORDINALITY AS r({}, n) ORDER BY r.n",
            self.table.quoted(),
            names.join(", "),
            casts.join(", "),
            arrays.join(", "),
            columns.join(", ")
        )
    }

    fn move_position(&self) -> String {
        format!(
            "INSERT INTO {} (log, audit_table, journal, shipped, root, covered, missing, written_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, now())
             ON CONFLICT (log, audit_table) DO UPDATE SET shipped = $4, root = $5, covered = $6,
               missing = $7, written_at = now()",
            self.positions()
        )
    }

    async fn move_to(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement,
        (log, owner, to): (LogId, Owner, Position),
    ) -> Result<(), DatabaseError> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (shipped, covered, missing) =
            (number(to.shipped), number(to.covered), number(to.missing));
        let (origin, table, root) = (log.origin(), self.table.to_string(), to.root.to_base64());
        let values: [&(dyn ToSql + Sync); 7] =
            [&origin, &table, &owner.word(), &shipped, &root, &covered, &missing];
        self.within(transaction.execute(statement, &values)).await?;
        Ok(())
    }

    /// Prepares what a session does again and again: each saves a round trip.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(super) async fn prepare(
        &self,
        client: &Client,
        shape: &Shape,
    ) -> Result<Statements, DatabaseError> {
        let prepared = async |sql: String| self.within(client.prepare(&sql)).await;
        Ok(Statements {
            advance: prepared(self.advance()).await?,
            position: prepared(self.position_of()).await?,
            head: prepared(self.newest_row(shape)).await?,
            insert: prepared(self.insert(shape)).await?,
            move_to: prepared(self.move_position()).await?,
        })
    }
}
