//! The table `fleet_members`: how each member is, as its agent said last.

use serde_json::Value;
use signing_core::FreezeId;
use tokio_postgres::Client;

use crate::postgres::{DatabaseError, Place};

/// Members that are read. Whoever has more of them has many databases.
const MEMBERS_MAX: usize = 10_000;

/// A row.
#[derive(Clone, Debug)]
pub struct MemberRow {
    /// The log of its journal: no other member has it.
    pub instance: String,
    /// The program's version.
    pub version: String,
    /// What it said of itself.
    pub status: Value,
    /// How long ago, in seconds, by the database's clock.
    pub seen_s_ago: f64,
}

/// A part of a status, such as `/fleet/held`; null if it is not there.
#[must_use]
pub fn part<'v>(status: &'v Value, pointer: &str) -> &'v Value {
    status.pointer(pointer).unwrap_or(&Value::Null)
}

impl MemberRow {
    /// The freezes that it said it holds.
    pub fn held(&self) -> impl Iterator<Item = FreezeId> {
        let held = part(&self.status, "/fleet/held").as_array().into_iter().flatten();
        held.filter_map(|held| FreezeId::parse(part(held, "/id").as_str()?).ok())
    }
}

impl Place {
    /// Says how a member is.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn write_member(
        &self,
        client: &Client,
        instance: &str,
        version: &str,
        status: &Value,
    ) -> Result<(), DatabaseError> {
        let sql = format!(
            "INSERT INTO {} (instance, version, status, seen_at) VALUES ($1, $2, $3::text::jsonb, now())
             ON CONFLICT (instance) DO UPDATE SET version = $2, status = $3::text::jsonb, seen_at = now()",
            self.of_fleet("fleet_members")
        );
        self.within(client.execute(&sql, &[&instance, &version, &status.to_string()])).await?;
        Ok(())
    }

    /// Every member that ever said how it is; none where no agent has ever been.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn members(&self, client: &Client) -> Result<Vec<MemberRow>, DatabaseError> {
        let table = self.of_fleet("fleet_members");
        if !self.is_there(client, &table).await? {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT instance, version, status::text, extract(epoch FROM now() - seen_at)::float8
             FROM {table} ORDER BY status->>'deployment', instance LIMIT {MEMBERS_MAX}"
        );
        let mut members = Vec::new();
        for row in self.within(client.query(&sql, &[])).await? {
            let status: String = row.try_get(2)?;
            members.push(MemberRow {
                instance: row.try_get(0)?,
                version: row.try_get(1)?,
                status: signing_core::json::from_str(&status).unwrap_or(Value::Null),
                seen_s_ago: row.try_get(3)?,
            });
        }
        Ok(members)
    }

    /// Forgets a member that is gone; whether it was there. One that is not gone says again that it is.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn forget_member(
        &self,
        client: &Client,
        instance: &str,
    ) -> Result<bool, DatabaseError> {
        let sql = format!("DELETE FROM {} WHERE instance = $1", self.of_fleet("fleet_members"));
        Ok(self.within(client.execute(&sql, &[&instance])).await? > 0)
    }
}
