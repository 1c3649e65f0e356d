//! One transaction: the lock, the position, the real head, the rows linked to it, the position moved.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use host::clock::wall_now;
use signing_core::tree::{LogId, TreeHash};
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

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
    /// The process that writes this log: the proxy or the emergency signer.
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

    /// Brings rows in one transaction. Three times it waits for an answer: until it has the lock and knows what is
    /// there, until the rows are in, and until they are committed.
    ///
    /// Dying before COMMIT is sent: nothing is written, and the lock goes with the connection. Dying
    /// after it, before the answer: the rows and the position are there or neither is. Whoever comes
    /// next waits for the lock, and so for the end of this transaction, and reads the position then.
    ///
    /// # Errors
    /// [`DatabaseError`]; whether the rows are committed is unknown then, and a transaction may be open: the session is
    /// of no more use.
    pub async fn ship(
        &self,
        shipment: Shipment,
        key: &Arc<RowKey>,
        kid: &str,
    ) -> Result<Shipped, DatabaseError> {
        let Shipment { log, owner, events, from, to } = shipment;
        let Self { client, place, shape, statements } = self;
        // What follows sees all that was committed before the lock was had, whatever the database's default is.
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({}); \
             LOCK TABLE {} IN EXCLUSIVE MODE",
            place.lock_key,
            place.table.quoted()
        );
        // Sent at once in this order, which is the order in which the database does them.
        let (began, found, head) = tokio::join!(
            biased;
            place.within(client.batch_execute(&begin)),
            place.position_by(client, &statements.position, log),
            async {
                if events.is_empty() {
                    Ok(Head::Empty)
                } else {
                    place.head(client, (shape, &statements.head)).await
                }
            },
        );
        began?;
        let found = found?;
        if found != from {
            place.within(client.batch_execute("ROLLBACK")).await?;
            return Ok(Shipped::Elsewhere(found));
        }
        let writer = RowWriter { place, shape, client, insert: &statements.insert, kid };
        let moving = place.move_to(client, &statements.move_to, (log, owner, to));
        writer.all(events, head?, key, moving).await?;
        place.within(client.batch_execute("COMMIT")).await?;
        Ok(Shipped::Committed)
    }
}

/// Brings rows into the table, in an open transaction.
struct RowWriter<'s> {
    place: &'s Place,
    shape: &'s Shape,
    client: &'s Client,
    insert: &'s Statement,
    kid: &'s str,
}

impl RowWriter<'_> {
    /// Piece by piece: while the database takes one, the next is linked, signed and sent behind it. `last` is sent behind
    /// all of them.
    async fn all(
        &self,
        events: Vec<Event>,
        head: Head,
        key: &Arc<RowKey>,
        last: impl Future<Output = Result<(), DatabaseError>>,
    ) -> Result<(), DatabaseError> {
        let at = wall_now();
        let mut waiting = pieces(events).into_iter();
        let first = waiting.next().unwrap_or_default();
        let (mut rows, mut head) = link(first, head, at, key);
        let mut earlier = None;
        for next in waiting {
            let (key, before) = (Arc::clone(key), head);
            let linking = tokio::task::spawn_blocking(move || link(next, before, at, &key));
            let mut inserting = Box::pin(self.rows(rows));
            // It is sent by the first look at it.
            let mut inserted = None;
            poll_fn(|context| {
                if let Poll::Ready(done) = inserting.as_mut().poll(context) {
                    inserted = Some(done);
                }
                Poll::Ready(())
            })
            .await;
            if let Some(earlier) = earlier.replace(inserting) {
                earlier.await?;
            }
            if let Some(done) = inserted {
                done?;
                earlier = None;
            }
            // It panics only where it would have panicked here: nothing of this is committed.
            (rows, head) = linking.await.map_err(|_| DatabaseError::Stopped)?;
        }
        let earlier = async {
            match earlier {
                Some(earlier) => earlier.await,
                None => Ok(()),
            }
        };
        // The order is that in which they are sent, and what comes last may not hide why one before it failed.
        let (earlier, inserted, last) = tokio::join!(biased; earlier, self.rows(rows), last);
        earlier.and(inserted).and(last)
    }

    async fn rows(&self, rows: Vec<Row>) -> Result<(), DatabaseError> {
        if rows.is_empty() {
            return Ok(());
        }
        let Self { place, shape, client, insert, kid } = self;
        let first = shape.first_is_empty.then_some("");
        let values: Vec<Vec<Option<&str>>> = shape
            .written
            .iter()
            .map(|column| {
                let value = |row| value(column.field, row, (first, kid));
                rows.iter().map(value).collect()
            })
            .collect();
        let values: Vec<_> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let count = place.within(client.execute(*insert, &values)).await?;
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

/// What a column of `row` holds. `first` is the hash before a first row.
fn value<'r>(
    field: Field,
    row: &'r Row,
    (first, kid): (Option<&'r str>, &'r str),
) -> Option<&'r str> {
    match field {
        Field::Id => Some(&row.id),
        Field::Actor => Some(row.actor_id),
        Field::EventType => Some(&row.event_type),
        Field::Payload => Some(&row.payload),
        Field::PrevHash => row.prev_hash.as_deref().or(first),
        Field::Hash => Some(&row.hash),
        Field::Signature => Some(&row.signature),
        Field::Signer => Some(kid),
        Field::CreatedAt => Some(&row.created_at),
    }
}

/// Rows that are linked while those before them are inserted. Two pieces at most are with the database.
const PIECE_ROWS: usize = 125;
/// The rows of the first piece, for which the database waits: each has twice as many as the one before, at most.
const FIRST_ROWS: usize = 16;

/// `events` in their order, in pieces.
fn pieces(events: Vec<Event>) -> Vec<Vec<Event>> {
    let mut events = events.into_iter().peekable();
    let (mut pieces, mut rows) = (Vec::new(), FIRST_ROWS);
    while events.peek().is_some() {
        pieces.push(events.by_ref().take(rows).collect());
        rows = PIECE_ROWS.min(2 * rows);
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
        client: &Client,
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
        client: &Client,
        (shape, statement): (&Shape, &Statement),
    ) -> Result<Head, DatabaseError> {
        let Some(row) = self.within(client.query_opt(statement, &[])).await? else {
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
        client: &Client,
        statement: &Statement,
        (log, owner, to): (LogId, Owner, Position),
    ) -> Result<(), DatabaseError> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (shipped, covered, missing) =
            (number(to.shipped), number(to.covered), number(to.missing));
        let (origin, table, root) = (log.origin(), self.table.to_string(), to.root.to_base64());
        let values: [&(dyn ToSql + Sync); 7] =
            [&origin, &table, &owner.word(), &shipped, &root, &covered, &missing];
        self.within(client.execute(statement, &values)).await?;
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
