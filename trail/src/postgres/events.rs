//! Rows that become objects of their own: those of the emergency signer's records, in the order of the chain.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::names::quote;
use super::table::{Stored, stored};
use super::{DatabaseError, Place};
use crate::event::{CHECKPOINT, GAP, Owner};
use crate::shape::Shape;

/// From where, and in which direction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PageStart {
    /// Rows that were made after that time, in microseconds since 1970, the oldest first; none: from the first on.
    After(Option<i64>),
    /// Rows that were made before that time, the newest first; none: from the newest on.
    Before(Option<i64>),
}

impl Place {
    /// At most `limit` rows that were made there.
    pub(crate) async fn own_rows(
        &self,
        client: &Client,
        shape: &Shape,
        from: PageStart,
        limit: i64,
    ) -> Result<Vec<Stored>, DatabaseError> {
        let (sign, order, at) = match from {
            PageStart::After(at) => (">", "ASC", at.unwrap_or(i64::MIN)),
            PageStart::Before(at) => ("<", "DESC", at.unwrap_or(i64::MAX)),
        };
        let time = format!("{}::timestamptz", quote(&shape.time));
        let sql = format!(
            "SELECT {selected} FROM {table}
             WHERE payload->>'actor_id' = $1 AND event_type <> ALL($2)
               AND ($3 OR {time} {sign} 'epoch'::timestamptz + $4 * interval '1 microsecond')
             ORDER BY {time} {order} LIMIT $5",
            selected = self.selected(shape),
            table = self.table.quoted(),
        );
        let is_open = at == i64::MIN || at == i64::MAX;
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds of this age are exact in a double"
        )]
        let micros = if is_open { 0.0 } else { at as f64 };
        let (actor, others) = (Owner::Signer.actor(), vec![CHECKPOINT, GAP]);
        let values: [&(dyn ToSql + Sync); 5] = [&actor, &others, &is_open, &micros, &limit];
        let rows = self.within(client.query(&sql, &values)).await?;
        Ok(rows.iter().map(|row| stored(row, shape)).collect::<Result<_, _>>()?)
    }
}
