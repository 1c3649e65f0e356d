//! A session with the database: reached over TLS or a unix socket, with a deadline on each step, and
//! checked to keep what it commits.

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::files;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};

use super::statements::Statements;
use super::{DatabaseError, TableName};
use crate::shape::Shape;
use crate::tls::Tls;

/// Where the rows go.
#[derive(Clone, Debug)]
pub struct Place {
    /// `postgres://user@host/database`.
    pub url: String,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// The authorities of the server's certificate; none: the platform's.
    pub ca_file: Option<PathBuf>,
    /// The rows.
    pub table: TableName,
    /// Where positions are kept.
    pub schema: String,
    /// The advisory lock that writers of the table take.
    pub lock_key: i64,
    /// The longest that a step may take.
    pub timeout: Duration,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    pub(super) client: Client,
    pub(super) place: Place,
    pub(super) shape: Shape,
    pub(super) statements: Statements,
}

impl Place {
    /// The URL as the library reads it, with the password. A server elsewhere is spoken to under TLS
    /// only: what the library does by default, TLS if it happens to be offered, is never done.
    ///
    /// # Errors
    /// [`DatabaseError::Place`].
    pub fn config(&self) -> Result<Config, DatabaseError> {
        // The URL may hold a password: no error repeats it.
        let bad = |what: &str| DatabaseError::Place(format!("postgres.url: {what}"));
        let mut config: Config = self.url.parse().map_err(|_| {
            bad("is no URL of a database; write postgres://USER@HOST:PORT/DATABASE")
        })?;
        if let Some(file) = &self.password_file {
            let text = files::read_text(file).map_err(|error| {
                let file = file.display();
                DatabaseError::Place(format!("postgres.password_file: {file}: {error}"))
            })?;
            config.password(text.trim_end_matches(['\r', '\n']));
        }
        let is_here = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => ["localhost", "127.0.0.1", "::1"].contains(&name.as_str()),
        };
        let is_plain = self.url.contains("sslmode=disable");
        let all_here = !config.get_hosts().is_empty() && config.get_hosts().iter().all(is_here);
        match (all_here, is_plain) {
            (true, false)
                if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) =>
            {
                config.ssl_mode(SslMode::Disable);
            }
            (true, true) => {
                config.ssl_mode(SslMode::Disable);
            }
            (false, true) => {
                return Err(bad(
                    "says sslmode=disable for a server that is not on this machine; remove that",
                ));
            }
            (_, false) => {
                config.ssl_mode(SslMode::Require);
            }
        }
        config.connect_timeout(self.timeout);
        config.application_name("signing-trail");
        Ok(config)
    }

    /// Connects. Nothing of the database is changed.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn connect(&self) -> Result<Client, DatabaseError> {
        Ok(self.connect_and_hear().await?.0)
    }

    /// Connects, and hears what is notified on a channel: whoever waits on the second part wakes up, also
    /// once the connection ends.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn listen(&self, channel: &str) -> Result<(Client, Arc<Notify>), DatabaseError> {
        let (client, told) = self.connect_and_hear().await?;
        self.within(client.batch_execute(&format!("LISTEN {channel}"))).await?;
        Ok((client, told))
    }

    async fn connect_and_hear(&self) -> Result<(Client, Arc<Notify>), DatabaseError> {
        let told = Arc::new(Notify::new());
        let config = self.config()?;
        let late = DatabaseError::Late(self.timeout.as_millis());
        let client = if config.get_ssl_mode() == SslMode::Disable {
            let connecting = config.connect(NoTls);
            let (client, connection) =
                timeout(self.timeout, connecting).await.map_err(|_| late)??;
            tokio::spawn(hear(connection, Arc::clone(&told)));
            client
        } else {
            let tls = Tls::new(self.ca_file.as_deref()).map_err(DatabaseError::Place)?;
            let connecting = config.connect(tls);
            let (client, connection) =
                timeout(self.timeout, connecting).await.map_err(|_| late)??;
            tokio::spawn(hear(connection, Arc::clone(&told)));
            client
        };
        // What hangs there ends there too, and lets go of the table. What is committed is on disk, whatever a role or a
        // database has set; waiting for a standby to show it as well is no less.
        let millis = self.timeout.as_millis();
        let set = format!(
            "SET TIME ZONE 'UTC'; SET statement_timeout = {millis}; SET lock_timeout = {millis}; \
             SET idle_in_transaction_session_timeout = {millis}; \
             SELECT set_config('synchronous_commit', 'on', false)
               WHERE current_setting('synchronous_commit') <> 'remote_apply'"
        );
        self.within(client.batch_execute(&set)).await?;
        Ok((client, told))
    }

    /// Looks whether the database keeps what it commits, by its settings, also where this session does not use them.
    async fn keeps(&self, client: &Client) -> Result<(), DatabaseError> {
        let sql = "SELECT name FROM pg_settings WHERE name = ANY($1) AND 'off' IN (setting, reset_val) LIMIT 1";
        let names = ["fsync", "synchronous_commit"];
        let Some(row) = self.within(client.query_opt(sql, &[&names.as_slice()])).await? else {
            return Ok(());
        };
        let off: String = row.try_get(0)?;
        let name = names.into_iter().find(|name| *name == off).unwrap_or("fsync");
        Err(DatabaseError::Forgets { name, value: "off".to_owned() })
    }

    /// Looks whether the tables keep it.
    async fn are_logged(&self, client: &Client) -> Result<(), DatabaseError> {
        let Some(unlogged) = self.first_unlogged(client).await? else { return Ok(()) };
        let why = format!(
            "{unlogged} is UNLOGGED, so a crash of the database empties it; ALTER TABLE {unlogged} SET LOGGED"
        );
        Err(DatabaseError::Table { table: self.table.to_string(), why: vec![why] })
    }

    /// What of the rows, their partitions and the positions a crash of the database empties.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(super) async fn first_unlogged(
        &self,
        client: &Client,
    ) -> Result<Option<String>, DatabaseError> {
        // A table that is no partition and has none is in no partition tree.
        let sql = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relpersistence <> 'p' AND c.oid IN (
                     SELECT to_regclass(n) FROM unnest($1::text[]) n
                     UNION SELECT t.relid FROM unnest($1::text[]) n, pg_partition_tree(to_regclass(n)) t)
                   ORDER BY 1 LIMIT 1";
        let tables = vec![self.table.quoted(), self.positions()];
        let found = self.within(client.query_opt(sql, &[&tables])).await?;
        Ok(found.map(|row| row.try_get(0)).transpose()?)
    }

    /// What `step` comes to, within the deadline.
    pub(crate) async fn within<T>(
        &self,
        step: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, DatabaseError> {
        let late = || DatabaseError::Late(self.timeout.as_millis());
        Ok(timeout(self.timeout, step).await.map_err(|_| late())??)
    }
}

/// Runs a connection until it ends.
async fn hear<S, T>(mut connection: Connection<S, T>, told: Arc<Notify>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    // An error ends it: whoever uses the client finds out.
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if matches!(message, AsyncMessage::Notification(_)) {
            told.notify_one();
        }
    }
    told.notify_one();
}

impl Session {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Connects, and makes our own tables if they are not there.
    ///
    /// # Errors
    /// [`DatabaseError`]: also if the database would forget what it commits, or the table cannot hold
    /// our rows.
    pub async fn open(place: &Place) -> Result<Self, DatabaseError> {
        let client = place.connect().await?;
        place.keeps(&client).await?;
        place.make_tables(&client).await?;
        place.are_logged(&client).await?;
        let shape = place.shape(&client).await?;
        let statements = place.prepare(&client, &shape).await?;
        Ok(Self { client, place: place.clone(), shape, statements })
    }

    /// Looks whether the database still keeps what it commits: a setting or a table may change while it runs.
    ///
    /// # Errors
    /// [`DatabaseError::Forgets`], [`DatabaseError::Table`].
    pub async fn keeps(&self) -> Result<(), DatabaseError> {
        self.place.keeps(&self.client).await?;
        self.place.are_logged(&self.client).await
    }
}
