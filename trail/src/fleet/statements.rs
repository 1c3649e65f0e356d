//! The table `fleet_statements`: what is said to all members. Whoever writes it is nobody in particular:
//! no row is believed by a member, which obeys a freeze from anybody and verifies what ends one.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use signing_core::FreezeId;
use signing_core::admin::HeldFreeze;
use tokio_postgres::Client;

use crate::postgres::{DatabaseError, Place, quote};

/// What a change of the statements is notified on.
pub(super) const CHANNEL: &str = "signing_proxy_fleet";
/// Freezes that are read, the newest first. A member holds 16.
const FREEZES_MAX: i64 = 1_000;
/// Statements that are read, the newest first. Each costs a member a verification, so that a flood of
/// them would delay a freeze.
const STATEMENTS_MAX: i64 = 64;
/// Longest id of a row, and longest text of it that is read.
const ID_MAX_CHARS: usize = 64;
const TEXT_MAX_CHARS: usize = 8 * 1024;
/// The label of a deployment, which has a column of its own.
const DEPLOYMENT: &str = "deployment=";

/// Everything that is said to the fleet.
#[derive(Clone, Debug, Default)]
pub struct FleetRows {
    /// Freezes, the newest first.
    pub freezes: Vec<FreezeRow>,
    /// What ends freezes, the newest first.
    pub statements: Vec<StatementRow>,
    /// Ids of freezes that nobody can obey: they are not 32 hex digits.
    pub unreadable: Vec<String>,
}

/// A freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeRow {
    /// Its id.
    pub id: FreezeId,
    /// Only members that have all of these labels: `region=eu-1`.
    pub labels: Vec<String>,
    /// The reason that its author gave.
    pub reason: String,
    /// Who ordered it.
    pub by: String,
}

/// What ends some freezes, if a person of the right role signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementRow {
    /// The id of the row, not of a freeze.
    pub id: String,
    /// The statement's bytes.
    pub statement: String,
    /// Its signature, armored.
    pub signature: String,
}

impl FreezeRow {
    /// Whether it concerns a member with these labels.
    #[must_use]
    pub fn is_for(&self, labels: &BTreeSet<String>) -> bool {
        self.labels.iter().all(|label| labels.contains(label))
    }

    /// A freeze holds whatever else its row says: only words for people, and what limits it, are missing
    /// then.
    fn read(id: FreezeId, deployment: Option<&str>, body: &str) -> Self {
        let body: Value = signing_core::json::from_str(body).unwrap_or(Value::Null);
        let text = |name: &str, otherwise: &str| {
            let text = body.get(name).and_then(Value::as_str).unwrap_or(otherwise);
            text.to_owned()
        };
        let labels = body.get("labels").and_then(Value::as_array).into_iter().flatten();
        let labels = labels.filter_map(|label| label.as_str().map(str::to_owned));
        let of_deployment = deployment.map(|name| format!("{DEPLOYMENT}{name}"));
        // Both say the deployment where this program wrote the row.
        let labels: BTreeSet<_> = labels.chain(of_deployment).collect();
        Self {
            id,
            labels: labels.into_iter().collect(),
            reason: text("reason", "no reason is given"),
            by: text("by", "somebody who can write the database"),
        }
    }
}

impl Place {
    pub(super) fn of_fleet(&self, table: &str) -> String {
        format!("{}.{}", quote(&self.schema), quote(table))
    }

    /// Makes the tables, if they are not there.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn make_fleet(&self, client: &Client) -> Result<(), DatabaseError> {
        let tables = (self.of_fleet("fleet_statements"), self.of_fleet("fleet_members"));
        let (statements, members) = &tables;
        if self.is_there(client, statements).await? && self.is_there(client, members).await? {
            // Whoever may not make tables has them made by others.
            return Ok(());
        }
        let sql = format!(
            "BEGIN; SELECT pg_advisory_xact_lock({}); CREATE SCHEMA IF NOT EXISTS {};
             CREATE TABLE IF NOT EXISTS {statements} (
               id text PRIMARY KEY, deployment text, kind text NOT NULL CHECK (kind IN ('freeze', 'unfreeze')),
               body text NOT NULL, ends text[] NOT NULL DEFAULT '{{}}', signature text,
               at timestamptz NOT NULL DEFAULT now());
             CREATE TABLE IF NOT EXISTS {members} (
               instance text PRIMARY KEY, version text NOT NULL, status jsonb NOT NULL,
               seen_at timestamptz NOT NULL DEFAULT now());
             COMMIT",
            self.lock_key,
            quote(&self.schema)
        );
        self.within(client.batch_execute(&sql)).await
    }

    /// Everything that is said to the fleet.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn fleet_words(&self, client: &Client) -> Result<FleetRows, DatabaseError> {
        let (table, mut words) = (self.of_fleet("fleet_statements"), FleetRows::default());
        let sql = format!(
            "SELECT left(id, {ID_MAX_CHARS}), left(deployment, {TEXT_MAX_CHARS}), left(body, {TEXT_MAX_CHARS})
             FROM {table} WHERE kind = 'freeze' ORDER BY at DESC LIMIT {FREEZES_MAX}"
        );
        for row in self.within(client.query(&sql, &[])).await? {
            let (id, deployment): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
            let body: String = row.try_get(2)?;
            match FreezeId::parse(&id) {
                Ok(id) => words.freezes.push(FreezeRow::read(id, deployment.as_deref(), &body)),
                Err(_) => words.unreadable.push(id),
            }
        }
        let sql = format!(
            "SELECT id, body, signature FROM {table}
             WHERE kind = 'unfreeze' AND signature IS NOT NULL AND length(id) <= {ID_MAX_CHARS}
               AND length(body) <= {TEXT_MAX_CHARS} AND length(signature) <= {TEXT_MAX_CHARS}
             ORDER BY at DESC LIMIT {STATEMENTS_MAX}"
        );
        for row in self.within(client.query(&sql, &[])).await? {
            let (id, statement) = (row.try_get(0)?, row.try_get(1)?);
            words.statements.push(StatementRow { id, statement, signature: row.try_get(2)? });
        }
        Ok(words)
    }

    /// Posts a freeze, once.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn post_freeze(
        &self,
        client: &Client,
        freeze: &HeldFreeze,
        labels: &[String],
    ) -> Result<(), DatabaseError> {
        let deployment = labels.iter().find_map(|label| label.strip_prefix(DEPLOYMENT));
        let body = json!({"reason": freeze.reason, "by": freeze.by, "labels": labels}).to_string();
        let sql = format!(
            "INSERT INTO {} (id, deployment, kind, body) VALUES ($1, $2, 'freeze', $3)
             ON CONFLICT (id) DO NOTHING",
            self.of_fleet("fleet_statements")
        );
        self.within(client.execute(&sql, &[&freeze.id, &deployment, &body])).await?;
        self.notify(client).await
    }

    /// Posts a statement. `id` is of the row.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn post_statement(
        &self,
        client: &Client,
        row: &StatementRow,
        ends: &BTreeSet<FreezeId>,
    ) -> Result<(), DatabaseError> {
        let ends: Vec<String> = ends.iter().map(FreezeId::to_string).collect();
        let sql = format!(
            "INSERT INTO {} (id, kind, body, ends, signature) VALUES ($1, 'unfreeze', $2, $3, $4)",
            self.of_fleet("fleet_statements")
        );
        let StatementRow { id, statement, signature } = row;
        self.within(client.execute(&sql, &[id, statement, &ends, signature])).await?;
        self.notify(client).await
    }

    /// Removes freezes that people ended and nobody holds.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn remove_freezes(
        &self,
        client: &Client,
        ended: &[FreezeId],
    ) -> Result<(), DatabaseError> {
        let ids: Vec<String> = ended.iter().map(FreezeId::to_string).collect();
        let sql = format!(
            "DELETE FROM {} WHERE kind = 'freeze' AND id = ANY($1)",
            self.of_fleet("fleet_statements")
        );
        self.within(client.execute(&sql, &[&ids])).await?;
        Ok(())
    }

    /// Removes statements that count no more: one counts for a day at most.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn remove_old_statements(&self, client: &Client) -> Result<(), DatabaseError> {
        let sql = format!(
            "DELETE FROM {} WHERE kind = 'unfreeze' AND at < now() - interval '2 days'",
            self.of_fleet("fleet_statements")
        );
        self.within(client.execute(&sql, &[])).await?;
        Ok(())
    }

    async fn notify(&self, client: &Client) -> Result<(), DatabaseError> {
        self.within(client.batch_execute(&format!("NOTIFY {CHANNEL}"))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(deployment: Option<&str>, body: &str) -> FreezeRow {
        FreezeRow::read(FreezeId::new([1; 16]), deployment, body)
    }

    fn labels(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_freeze_whose_row_says_nonsense_is_a_freeze_of_all() {
        for body in ["", "null", "[]", "{\"labels\": 1}", "{\"labels\": [1]}", "{\"reason\": {}}"] {
            let row = read(None, body);
            assert_eq!(row.reason, "no reason is given", "{body}");
            assert!(row.is_for(&labels(&[])), "{body}");
        }
    }

    #[test]
    fn a_freeze_with_labels_concerns_members_that_have_all_of_them() {
        let row =
            read(Some("payments"), r#"{"reason": "why", "by": "me", "labels": ["region=eu-1"]}"#);
        assert_eq!(row.labels, ["deployment=payments", "region=eu-1"]);
        assert_eq!((row.reason.as_str(), row.by.as_str()), ("why", "me"));
        for (member, is_for) in [
            (labels(&["region=eu-1", "deployment=payments", "more=x"]), true),
            (labels(&["region=eu-2", "deployment=payments"]), false),
            (labels(&["region=eu-1", "deployment=payouts"]), false),
            (labels(&[]), false),
        ] {
            assert_eq!(row.is_for(&member), is_for, "{member:?}");
        }
    }
}
