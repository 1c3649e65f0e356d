//! The one connection to the trail. Whatever is odd about it ends it, and then nothing is released until
//! another one has caught up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use audit::Newest;
use configuration::RequiredTrail;
use host::clock::now;
use release::{SinkError, Stated};
use signing_core::journal::Head;
use signing_core::required::{self, ProxyMessage, TrailMessage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::Shared;

/// How long connecting and the greeting may take.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// Between attempts to connect.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How long a write may take.
const WRITE_MAX: Duration = Duration::from_secs(2);
/// How often an idle connection is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) struct Connection {
    settings: RequiredTrail,
    shared: Arc<Shared>,
}

/// A trail that has greeted.
struct Connected {
    lines: Lines,
    writer: OwnedWriteHalf,
}

/// Whole lines out of a stream of bytes.
struct Lines {
    half: OwnedReadHalf,
    read: Vec<u8>,
}

impl Connection {
    pub(super) const fn new(settings: RequiredTrail, shared: Arc<Shared>) -> Self {
        Self { settings, shared }
    }

    /// Connects, serves, and connects again, for ever.
    pub(super) async fn run(self) {
        let mut said = String::new();
        loop {
            let greeted = timeout(GREETING_MAX, self.connect()).await;
            let greeted = greeted.unwrap_or_else(|_| Err(io::Error::other("it does not greet")));
            let error = match greeted {
                Ok(connected) => {
                    tracing::info!(target: "trail", "the trail of the required sink is connected");
                    said.clear();
                    self.serve(connected).await
                }
                Err(error) => error,
            };
            let socket = self.settings.socket.display();
            let why = format!("{socket}: {error}");
            self.shared.sink.disconnected(&why);
            self.shared.heard();
            if why != said {
                tracing::error!(target: "trail", why, "the trail of the required sink is not connected; nothing is signed");
                said = why;
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn connect(&self) -> io::Result<Connected> {
        let stream = UnixStream::connect(&self.settings.socket).await?;
        // Whoever else stands at that path would say yes to everything.
        let (uid, expected) = (stream.peer_cred()?.uid(), self.settings.uid);
        if uid != expected {
            return Err(io::Error::other(format!(
                "user {uid} listens there, and trail.uid is {expected}; find out who took the socket's place, or \
                 correct trail.uid"
            )));
        }
        let (half, mut writer) = stream.into_split();
        let mut lines = Lines { half, read: Vec::new() };
        write(&mut writer, &ProxyMessage::Hello { version: required::VERSION }).await?;
        match lines.next().await? {
            TrailMessage::Hello { version: required::VERSION, .. } => {
                Ok(Connected { lines, writer })
            }
            TrailMessage::Hello { version, .. } => Err(io::Error::other(format!(
                "it speaks version {version} of the lines, and this proxy {}; run the same release of both",
                required::VERSION
            ))),
            TrailMessage::Refused { detail } => {
                Err(io::Error::other(format!("it serves nobody: {detail}")))
            }
            TrailMessage::Committed { .. }
            | TrailMessage::Unknown { .. }
            | TrailMessage::Alive {} => Err(io::Error::other("it does not greet")),
        }
    }

    /// Serves until the connection is of no more use, and says why.
    async fn serve(&self, Connected { mut lines, mut writer }: Connected) -> io::Error {
        let shared = &self.shared;
        shared.sink.connected(now());
        let mut told = 0;
        loop {
            if let Err(error) = self.tell(&mut writer, &mut told).await {
                return error;
            }
            tokio::select! {
                message = lines.next() => match message {
                    Ok(message) => if let Err(error) = self.hear(message) { return error },
                    Err(error) => return error,
                },
                () = shared.journal.went_on() => {}
                () = shared.wanted.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if let Some(silent @ SinkError::Silent) = shared.sink.error(now()) {
                return io::Error::other(silent.to_string());
            }
        }
    }

    /// Tells what is new on disk, and what is on its way there, of which it told `told` before.
    async fn tell(&self, writer: &mut OwnedWriteHalf, told: &mut u64) -> io::Result<()> {
        let Newest { on_disk, written } = self.shared.journal.newest();
        let (from, to) = (on_disk.checkpoint().size.max(*told), written.checkpoint().size);
        for checkpoint in self.shared.on_disk(on_disk) {
            let said = checkpoint.checkpoint();
            let stated = self.shared.sink.state(said.log, Head::of(said), now());
            if stated == Stated::New {
                let note = checkpoint.note().to_owned();
                write(writer, &ProxyMessage::OnDisk { note }).await?;
            }
        }
        if from < to {
            write(writer, &ProxyMessage::Written { note: written.note().to_owned() }).await?;
            *told = to;
        }
        Ok(())
    }

    fn hear(&self, message: TrailMessage) -> io::Result<()> {
        let (log, size, root) = match message {
            TrailMessage::Committed { log, size, root } => (log, size, root),
            TrailMessage::Unknown { log, size, root, detail } => {
                return self.pass_over((log.as_str(), size, root.as_str()), &detail);
            }
            TrailMessage::Alive {} => {
                self.shared.sink.alive(now());
                return Ok(());
            }
            TrailMessage::Refused { detail } => {
                return Err(io::Error::other(format!("it stops: {detail}")));
            }
            TrailMessage::Hello { .. } => return Err(io::Error::other("it greets twice")),
        };
        let (log, head) = required::head(&log, size, &root)
            .ok_or_else(|| io::Error::other("what it says is committed cannot be read"))?;
        self.shared.sink.hear(log, head, now()).map_err(io::Error::other)?;
        self.shared.heard();
        Ok(())
    }

    /// Of this proxy's own log that ends the connection. Of another one only those wait in vain who wait for it.
    fn pass_over(&self, (log, size, root): (&str, u64, &str), why: &str) -> io::Result<()> {
        let (log, head) = required::head(log, size, root)
            .ok_or_else(|| io::Error::other("what it says that it does not know cannot be read"))?;
        let passed = self.shared.sink.pass_over(log, head);
        passed.map_err(|unknown| io::Error::other(format!("{unknown}: {why}")))?;
        tracing::warn!(
            target: "trail", log = %log, size, why,
            "the trail cannot say whether a record of the emergency signer is committed"
        );
        Ok(())
    }
}

impl Lines {
    /// The next message. Cancel safe: what was read stays in the buffer.
    async fn next(&mut self) -> io::Result<TrailMessage> {
        loop {
            if let Some(message) = required::take(&mut self.read).map_err(io::Error::other)? {
                return Ok(message);
            }
            if self.half.read_buf(&mut self.read).await? == 0 {
                return Err(io::Error::other("it closed the connection"));
            }
        }
    }
}

async fn write(writer: &mut OwnedWriteHalf, message: &ProxyMessage) -> io::Result<()> {
    let line = required::line(message);
    let written = timeout(WRITE_MAX, writer.write_all(&line)).await;
    written.unwrap_or_else(|_| Err(io::Error::other("it does not read what it is told")))
}
