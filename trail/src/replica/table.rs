//! The table `trail_replicas`: who ever had a journal, and `trail_replica_events`: what was answered.

use signing_core::replica::{Known, ReplicaName};
use tokio_postgres::{Client, Transaction};

use crate::event::Owner;
use crate::postgres::{DatabaseError, Place, quote};

/// What is in the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VolumeContent {
    /// A journal, and its log if that can be read.
    Journal(Option<String>),
    /// No journal.
    Nothing,
}

/// What the sink has of a replica, after whoever asks was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The nonce of the volume that it knows.
    pub(super) nonce: String,
    /// The log that a journal of the replica had, or that there was one.
    pub(super) log: Option<String>,
    /// When it was first heard of.
    pub(super) since: String,
}

/// What is known of all replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counted {
    /// Volumes that were found empty, and are still refused.
    pub(super) refused: i64,
    /// When the newest replica was registered, in seconds; none: no replica was registered.
    pub(super) newest: Option<f64>,
}

impl Row {
    /// For a sentence that says what is known.
    pub(super) fn of_log(&self) -> String {
        self.log.as_ref().map_or(String::new(), |log| format!(", with the journal {log}"))
    }
}

/// Whether the volume is the one that the sink knows. A volume with the nonce and no journal yet is one
/// whose first start was cut short.
pub(super) fn judge(here: &VolumeContent, row: &Row, nonce: &str) -> Known {
    match here {
        VolumeContent::Journal(_) => Known::Present,
        VolumeContent::Nothing if row.nonce == nonce && row.log.is_none() => Known::New,
        VolumeContent::Nothing => Known::Known,
    }
}

/// The log of a journal that is there and cannot be read.
const UNREAD: &str = "a journal that could not be read";

impl Place {
    fn of_replicas(&self, table: &str) -> String {
        format!("{}.{}", quote(&self.schema), quote(table))
    }

    /// Makes the tables, if they are not there.
    pub(super) async fn make_replicas(&self, client: &Client) -> Result<(), DatabaseError> {
        let (replicas, events) =
            (self.of_replicas("trail_replicas"), self.of_replicas("trail_replica_events"));
        if self.is_there(client, &replicas).await? && self.is_there(client, &events).await? {
            // Whoever may not make tables has them made by others.
            return Ok(());
        }
        let sql = format!(
            "BEGIN; SELECT pg_advisory_xact_lock({}); CREATE SCHEMA IF NOT EXISTS {};
             CREATE TABLE IF NOT EXISTS {replicas} (
               replica text NOT NULL, journal text NOT NULL, nonce text NOT NULL, log text,
               registered_at timestamptz NOT NULL DEFAULT now(), refused_at timestamptz,
               PRIMARY KEY (replica, journal));
             CREATE TABLE IF NOT EXISTS {events} (
               at timestamptz NOT NULL DEFAULT now(), replica text NOT NULL, journal text NOT NULL,
               answer text NOT NULL, log text);
             COMMIT",
            self.lock_key,
            quote(&self.schema)
        );
        self.within(client.batch_execute(&sql)).await
    }

    /// Notes who asks, in one transaction with what is answered: two volumes that ask at once are not both
    /// new. Dying before the commit notes nothing; dying behind it, the same volume gets the same answer.
    pub(super) async fn register(
        &self,
        client: &mut Client,
        replica: &ReplicaName,
        owner: Owner,
        nonce: &str,
        here: &VolumeContent,
    ) -> Result<Row, DatabaseError> {
        let transaction = self.within(client.transaction()).await?;
        let (name, journal) = (replica.as_str(), owner.word());
        let sql = format!(
            "INSERT INTO {} (replica, journal, nonce) VALUES ($1, $2, $3)
             ON CONFLICT (replica, journal) DO NOTHING",
            self.of_replicas("trail_replicas")
        );
        self.within(transaction.execute(&sql, &[&name, &journal, &nonce])).await?;
        let row = self.row(&transaction, name, journal).await?;
        let judged = judge(here, &row, nonce);
        let (log, is_refused) = match here {
            VolumeContent::Journal(log) => (Some(log.as_deref().unwrap_or(UNREAD)), false),
            VolumeContent::Nothing => (None, judged == Known::Known),
        };
        let sql = format!(
            "UPDATE {} SET log = CASE WHEN $3::text IS NULL OR ($3 = '{UNREAD}' AND log IS NOT NULL)
                                      THEN log ELSE $3 END,
                           refused_at = CASE WHEN $4 THEN coalesce(refused_at, now()) END
             WHERE replica = $1 AND journal = $2",
            self.of_replicas("trail_replicas")
        );
        self.within(transaction.execute(&sql, &[&name, &journal, &log, &is_refused])).await?;
        let answer = match judged {
            Known::New => Some("new"),
            Known::Known => Some("refused"),
            // Every start of a pod with its journal: nothing that anybody looks for.
            Known::Present if row.log.as_deref() == log || log == Some(UNREAD) => None,
            Known::Present => Some("journal"),
            Known::Unknown => None,
        };
        if let Some(answer) = answer {
            self.note(&transaction, (name, journal), answer, log.or(row.log.as_deref())).await?;
        }
        self.within(transaction.commit()).await?;
        Ok(row)
    }

    async fn row(
        &self,
        transaction: &Transaction<'_>,
        name: &str,
        journal: &str,
    ) -> Result<Row, DatabaseError> {
        let sql = format!(
            "SELECT nonce, log, to_char(registered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
             FROM {} WHERE replica = $1 AND journal = $2 FOR UPDATE",
            self.of_replicas("trail_replicas")
        );
        let row = self.within(transaction.query_one(&sql, &[&name, &journal])).await?;
        Ok(Row { nonce: row.try_get(0)?, log: row.try_get(1)?, since: row.try_get(2)? })
    }

    async fn note(
        &self,
        transaction: &Transaction<'_>,
        (name, journal): (&str, &str),
        answer: &str,
        log: Option<&str>,
    ) -> Result<(), DatabaseError> {
        let sql = format!(
            "INSERT INTO {} (replica, journal, answer, log) VALUES ($1, $2, $3, $4)",
            self.of_replicas("trail_replica_events")
        );
        self.within(transaction.execute(&sql, &[&name, &journal, &answer, &log])).await?;
        Ok(())
    }

    /// What is known of all replicas of this database.
    pub(super) async fn count_replicas(&self, client: &Client) -> Result<Counted, DatabaseError> {
        let sql = format!(
            "SELECT count(*) FILTER (WHERE refused_at IS NOT NULL),
                    extract(epoch FROM max(registered_at))::float8 FROM {}",
            self.of_replicas("trail_replicas")
        );
        let row = self.within(client.query_one(&sql, &[])).await?;
        Ok(Counted { refused: row.try_get(0)?, newest: row.try_get(1)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_volume_is_new_only_under_the_nonce_that_never_had_a_journal() {
        let row = |log: Option<&str>| Row {
            nonce: "n".to_owned(),
            log: log.map(str::to_owned),
            since: String::new(),
        };
        for (here, log, nonce, expected) in [
            (VolumeContent::Nothing, None, "n", Known::New),
            (VolumeContent::Nothing, None, "other", Known::Known),
            (VolumeContent::Nothing, Some("l"), "n", Known::Known),
            (VolumeContent::Nothing, Some(UNREAD), "n", Known::Known),
            (VolumeContent::Nothing, Some("l"), "other", Known::Known),
            (VolumeContent::Journal(None), None, "n", Known::Present),
            (VolumeContent::Journal(Some("l".into())), Some("other"), "other", Known::Present),
        ] {
            assert_eq!(judge(&here, &row(log), nonce), expected, "{here:?} {log:?} {nonce}");
        }
    }
}
