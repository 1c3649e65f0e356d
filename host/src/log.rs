//! The log on stderr: one JSON object a line. It holds no signature, message or secret.

use std::io;

use serde_json::{Map, Value, json};
use signing_core::journal::instant;

use crate::clock::wall_now;
use crate::journald::Level;
use crate::log_thread::LogThread;

/// Writes lines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log(LogThread);

impl Log {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start() -> io::Result<Self> {
        LogThread::start().map(Self)
    }

    /// Something happened.
    pub fn info(&self, message: &str, fields: Value) {
        self.write(Level::Info, message, fields);
    }

    /// Something deserves attention.
    pub fn warn(&self, message: &str, fields: Value) {
        self.write(Level::Warn, message, fields);
    }

    /// Something is wrong.
    pub fn error(&self, message: &str, fields: Value) {
        self.write(Level::Error, message, fields);
    }

    fn write(&self, level: Level, message: &str, fields: Value) {
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), json!(instant(wall_now())));
        line.insert("level".to_owned(), json!(level.word()));
        line.insert("message".to_owned(), json!(message));
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        self.0.write(level, format!("{}\n", Value::Object(line)).into_bytes());
    }

    /// Waits until everything logged so far is written, at most for a second.
    pub fn flush(&self) {
        self.0.flush();
    }
}
