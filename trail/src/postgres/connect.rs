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
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Statement};

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
    /// Moves a position without rows.
    pub(super) advance: Statement,
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
        // What hangs there ends there too, and lets go of the table.
        let millis = self.timeout.as_millis();
        let set = format!(
            "SET TIME ZONE 'UTC'; SET statement_timeout = {millis}; SET lock_timeout = {millis}; \
             SET idle_in_transaction_session_timeout = {millis}"
        );
        self.within(client.batch_execute(&set)).await?;
        Ok((client, told))
    }

    async fn keeps(&self, client: &Client) -> Result<(), DatabaseError> {
        for name in ["fsync", "synchronous_commit"] {
            let row = self.within(client.query_one(&format!("SHOW {name}"), &[])).await?;
            let value: String = row.try_get(0)?;
            if value == "off" {
                return Err(DatabaseError::Forgets { name, value });
            }
        }
        Ok(())
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
        let shape = place.shape(&client).await?;
        let advance = place.within(client.prepare(&place.advance())).await?;
        Ok(Self { client, place: place.clone(), shape, advance })
    }

    /// Looks whether the database still keeps what it commits: a setting may change while it runs.
    ///
    /// # Errors
    /// [`DatabaseError::Forgets`].
    pub async fn keeps(&self) -> Result<(), DatabaseError> {
        self.place.keeps(&self.client).await
    }
}
