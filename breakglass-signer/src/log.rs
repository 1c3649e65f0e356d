//! The log on stderr: one JSON object a line, written by a thread of its own from a bounded
//! queue, so that a reader that stalls holds up nobody. What finds it full is lost: what must
//! not be lost is in the journal. It holds no signature, message or secret.

use std::io::{self, Write as _};
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

use host::clock::wall_now;
use serde_json::{Map, Value, json};
use signing_core::journal::instant;

const LINES_MAX: usize = 1024;
/// How long the end of the process waits for the last line.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes lines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log(SyncSender<Line>);

#[derive(Debug)]
enum Line {
    Event(Vec<u8>),
    Mark(SyncSender<()>),
}

impl Log {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let (queue, lines) = mpsc::sync_channel(LINES_MAX);
        std::thread::Builder::new().name("log".into()).spawn(move || {
            for line in lines {
                match line {
                    // Nobody is left to tell that it could not be written.
                    Line::Event(bytes) => drop(io::stderr().lock().write_all(&bytes)),
                    Line::Mark(mark) => drop(mark.try_send(())),
                }
            }
        })?;
        Ok(Self(queue))
    }

    /// Something happened.
    pub fn info(&self, message: &str, fields: Value) {
        self.write("INFO", message, fields);
    }

    /// Something deserves attention.
    pub fn warn(&self, message: &str, fields: Value) {
        self.write("WARN", message, fields);
    }

    /// Something is wrong.
    pub fn error(&self, message: &str, fields: Value) {
        self.write("ERROR", message, fields);
    }

    fn write(&self, level: &str, message: &str, fields: Value) {
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), json!(instant(wall_now())));
        line.insert("level".to_owned(), json!(level));
        line.insert("message".to_owned(), json!(message));
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        let _ = self.0.try_send(Line::Event(
            text::json(&format!("{}\n", Value::Object(line))).into_owned().into_bytes(),
        ));
    }

    /// Waits until everything logged so far is written, for a moment at most.
    pub fn flush(&self) {
        let (written, answer) = mpsc::sync_channel(1);
        if self.0.try_send(Line::Mark(written)).is_ok() {
            // A log that is stuck is not waited for.
            let _ = answer.recv_timeout(PATIENCE);
        }
    }
}
