//! PostgreSQL as a sink. A batch is one transaction, and the position moves in it: so whoever comes
//! back after a COMMIT with an unknown result finds in the position whether it happened.

mod annotations;
mod connect;
mod events;
mod names;
mod read;
mod ship;
mod statements;
mod table;

pub use annotations::{Annotation, annotated};
pub use connect::{Place, Session};
pub(crate) use events::PageStart;
pub use names::TableName;
pub(crate) use names::quote;
pub use read::{Reading, positions, read};
pub use ship::{Shipment, Shipped};
pub use table::Stored;
pub use tokio_postgres::Client;

/// Why the database did not do something.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It cannot be reached, or refuses.
    #[error("{}", words(.0))]
    Database(#[from] tokio_postgres::Error),
    /// It did not answer in time.
    #[error("the database did not answer within {0} ms")]
    Late(u128),
    /// It would forget what it committed.
    #[error(
        "the database has {name} = {value}: it would lose rows that it said are committed; set {name} = on"
    )]
    Forgets {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The table cannot hold our rows.
    #[error("the table {table} cannot be used: {}", .why.join("; "))]
    Table {
        /// The table of the rows, as the configuration names it.
        table: String,
        /// Every reason.
        why: Vec<String>,
    },
    /// The newest row cannot be linked to.
    #[error("the newest row of {table} cannot be linked to: {why}")]
    Head {
        /// Which table.
        table: String,
        /// What is wrong, as a sentence for a person.
        why: String,
    },
    /// A position is not what the trail writes.
    #[error("the position of {0} in the database is not in a form that the trail writes")]
    Position(String),
    /// The URL or its files are wrong.
    #[error("{0}")]
    Place(String),
    /// The process stops.
    #[error("the process stops")]
    Stopped,
}

impl DatabaseError {
    /// Whether waiting does not help: somebody has to change the database or the configuration.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Forgets { .. } | Self::Table { .. } | Self::Place(_))
    }

    /// What happened, for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Database(_) | Self::Stopped => "database",
            Self::Late(_) => "late",
            Self::Forgets { .. } => "settings",
            Self::Table { .. } | Self::Head { .. } | Self::Position(_) => "table",
            Self::Place(_) => "configuration",
        }
    }
}

/// The error with its cause, which the library's own words leave out.
fn words(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => format!("the database says: {}", db.message()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
