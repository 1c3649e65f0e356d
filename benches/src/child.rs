//! A server process: its first words are waited for, the rest of its output is
//! read and thrown away, and it ends with the harness.

use std::io::{self, BufReader, Read};
use std::process::{Child as Running, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

/// Far beyond what a start takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
#[derive(Debug)]
pub struct Child {
    running: Running,
}

impl Child {
    /// Starts `command` and waits for the line of JSON, on stdout or stderr, of
    /// which `find` makes something.
    ///
    /// # Errors
    /// If it ends first, or says nothing of that kind in time.
    pub fn start<T: Send + 'static>(
        mut command: Command,
        find: impl Fn(&Value) -> Option<T> + Clone + Send + 'static,
    ) -> anyhow::Result<(Self, T)> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = command.spawn().with_context(|| format!("{name} does not start"))?;
        let mut child = Self { running };
        let (found, first_words) = sync_channel(2);
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.running.stdout.take().map(|out| Box::new(out) as _),
            child.running.stderr.take().map(|out| Box::new(out) as _),
        ];
        for output in outputs.into_iter().flatten() {
            let (found, find) = (found.clone(), find.clone());
            std::thread::spawn(move || {
                follow(BufReader::with_capacity(65536, output), &found, find)
            });
        }
        drop(found);
        let words = first_words.recv_timeout(PATIENCE);
        Ok((child, words.with_context(|| format!("{name} does not serve; see above"))?))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.id()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

/// Shows lines until the one that is looked for, then reads on without a look:
/// a pipe that nobody reads would hold the server up.
fn follow<T>(
    mut output: impl io::BufRead,
    found: &std::sync::mpsc::SyncSender<T>,
    find: impl Fn(&Value) -> Option<T>,
) {
    let mut seen = String::new();
    let mut line = String::new();
    while output.read_line(&mut line).is_ok_and(|read| read > 0) {
        if let Some(words) = serde_json::from_str(&line).ok().and_then(|value| find(&value)) {
            let _ = found.send(words);
            let _ = io::copy(&mut output, &mut io::sink());
            return;
        }
        seen.push_str(&line);
        line.clear();
    }
    eprint!("{seen}");
}
