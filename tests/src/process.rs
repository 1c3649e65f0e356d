//! A real process whose output is kept, and which never outlives its test.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::eventually;

/// A running process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    stdout: Lines,
    stderr: Lines,
}

#[derive(Clone, Debug, Default)]
struct Lines {
    read: Arc<Mutex<Vec<String>>>,
    /// Nothing more will come.
    whole: Arc<AtomicBool>,
}

impl Process {
    /// Starts `command`.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        Self::start_with(&mut command, Stdio::piped())
    }

    /// Starts `command`, whose standard output goes there.
    #[must_use]
    pub fn start_with(command: &mut Command, stdout: Stdio) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let stdout = child.stdout.take().map(Lines::follow).unwrap_or_default();
        let stderr = Lines::follow(child.stderr.take().unwrap());
        Self { child, name, stdout, stderr }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What of it is in memory, in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// Waits for a line on stdout or stderr of which `find` makes something.
    /// A process that ends first fails the test with what it said.
    pub async fn line<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let mut checked = (0, 0);
        eventually(what, || {
            let found = self
                .stdout
                .find(&mut checked.0, &find)
                .or_else(|| self.stderr.find(&mut checked.1, &find));
            if found.is_none()
                && let Some(status) = self.child.try_wait().unwrap()
            {
                panic!("{} ended with {status} before: {what}\n{}", self.name, self.output());
            }
            std::future::ready(found)
        })
        .await
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let ending = || std::future::ready(self.child.try_wait().unwrap());
        let status = eventually("the end of the process", ending).await;
        // Its last words are on their way. What it leaves behind may hold its pipes for ever.
        for _ in 0..200 {
            if self.has_said_all() {
                break;
            }
            // A pause: between two looks, whether it has said all.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        status
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Whether it has ended, and all that it said was read.
    pub fn has_said_all(&mut self) -> bool {
        let all = [&self.stdout, &self.stderr].map(|lines| lines.whole.load(Ordering::Acquire));
        !self.is_running() && all == [true; 2]
    }

    /// Waits until it has said `text`, and returns all that it said: what it has
    /// written may not have been read yet.
    pub async fn says(&self, text: &str) -> String {
        eventually(&format!("{} to say {text:?}", self.name), || {
            let output = self.output();
            std::future::ready(output.contains(text).then_some(output))
        })
        .await
    }

    /// What was read of its output so far, stdout first.
    #[must_use]
    pub fn output(&self) -> String {
        format!("{}\n{}", self.stdout.all(), self.stderr.all())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.output());
        }
    }
}

impl Lines {
    fn follow(from: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                kept.read.lock().unwrap().push(line);
            }
            kept.whole.store(true, Ordering::Release);
        });
        lines
    }

    fn find<T>(&self, checked: &mut usize, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let lines = self.read.lock().unwrap();
        let found = lines.iter().skip(*checked).find_map(|line| find(line));
        *checked = lines.len();
        found
    }

    fn all(&self) -> String {
        self.read.lock().unwrap().join("\n")
    }
}
