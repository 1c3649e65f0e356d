//! What a session does again and again, prepared once: each saves a round trip.

use tokio_postgres::Statement;

#[derive(Debug)]
pub(super) struct Statements {
    /// Moves a position without rows.
    pub(super) advance: Statement,
    /// Says where a log is.
    pub(super) position: Statement,
    /// Reads the newest row.
    pub(super) head: Statement,
    /// Inserts rows.
    pub(super) insert: Statement,
    /// Moves a position, in the transaction of rows.
    pub(super) move_to: Statement,
}
