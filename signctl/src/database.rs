//! The database that signing-trail writes to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::runtime::{Builder, Runtime};
use trail::postgres::{Place, TableName};

/// The longest that a step may take: a whole table is counted in one.
const TIMEOUT: Duration = Duration::from_secs(600);
const EVENTS: &str = "signing_proxy.audit_events";

/// A database.
#[derive(clap::Args)]
#[group(requires = "database_url")]
pub(crate) struct Database {
    /// The database that signing-trail writes to; a user who may read is enough.
    #[arg(
        long,
        value_name = "URL",
        env = "SIGNCTL_DATABASE_URL",
        hide_env_values = true,
        required = false
    )]
    database_url: String,
    /// The schema that is the trail's own, as postgres.schema of signing-trail names it.
    #[arg(long, value_name = "NAME", default_value = "signing_proxy")]
    schema: String,
    /// The authorities behind the database's certificate, in place of the platform's.
    #[arg(long, value_name = "FILE")]
    database_ca: Option<PathBuf>,
}

/// Where in it the rows are that signing-trail wrote.
#[derive(Clone, clap::Args)]
pub(crate) struct Table {
    /// The table, as postgres.table of signing-trail names it.
    #[arg(
        long,
        value_name = "SCHEMA.TABLE",
        default_value = EVENTS,
        requires = "database_url"
    )]
    table: String,
}

impl Default for Table {
    fn default() -> Self {
        Self { table: EVENTS.to_owned() }
    }
}

impl Database {
    pub(crate) fn place(&self, Table { table }: &Table) -> anyhow::Result<Place> {
        let table = TableName::parse(table)
            .ok_or_else(|| anyhow!("--table {table}: write schema.table"))?;
        Ok(Place {
            url: self.database_url.clone(),
            password_file: None,
            ca_file: self.database_ca.clone(),
            table,
            schema: self.schema.clone(),
            lock_key: 0,
            timeout: TIMEOUT,
        })
    }
}

pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("no runtime")
}
