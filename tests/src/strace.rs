//! A process under strace: system calls that fail, take long or are its last, and a
//! record of them.
//!
//! The tracer is the process's grandchild (`-D`): id, signals and exit status are the
//! process's own, and the tracer ends with it. A call is counted per thread.
//!
//! No `--seccomp-bpf`: with it, strace 6.1 sends a signal at the first call only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::eventually;
use crate::programs::system;

/// What happens at a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happens {
    /// It is not made and fails with that errno, such as `EIO`.
    Fails(&'static str),
    /// It is not made: the process is killed there.
    Kills,
    /// It begins so much later.
    Delays(Duration),
}

/// At which calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At that one, from 1.
    Only(usize),
    /// At that one and all that follow.
    From(usize),
}

/// How a process is traced. Every call that is named is written to a file.
#[derive(Clone, Debug)]
pub struct Strace {
    calls: String,
    injection: Option<String>,
    paths: Vec<PathBuf>,
    output: PathBuf,
}

impl Strace {
    /// Writes every call of `calls`, with what its descriptors are, to the file `output`.
    #[must_use]
    pub fn record(calls: &[&str], output: &Path) -> Self {
        Self {
            calls: calls.join(","),
            injection: None,
            paths: Vec::new(),
            output: output.to_owned(),
        }
    }

    /// Makes `happens` happen at calls of `call`.
    #[must_use]
    pub fn inject(call: &str, happens: Happens, when: When, output: &Path) -> Self {
        let happens = match happens {
            Happens::Fails(errno) => format!("error={errno}"),
            Happens::Kills => "signal=SIGKILL".to_owned(),
            Happens::Delays(delay) => format!("delay_enter={}", delay.as_micros()),
        };
        let when = match when {
            When::Only(number) => format!("{number}"),
            When::From(number) => format!("{number}+"),
        };
        let injection = Some(format!("inject={call}:{happens}:when={when}"));
        Self { injection, ..Self::record(&[call], output) }
    }

    /// Only calls on that path, or on a descriptor of it.
    #[must_use]
    pub fn on(mut self, path: &Path) -> Self {
        self.paths.push(path.to_owned());
        self
    }

    /// `traced` under strace, with the environment `traced` was given and no other.
    #[must_use]
    pub fn command(&self, traced: &Command) -> Command {
        let mut command = system("strace");
        command.args(["-D", "-f", "-qq", "-yy", "-ttt", "-s", "0", "-o"]);
        command.arg(&self.output).arg("-e").arg(format!("trace={}", self.calls));
        if let Some(injection) = &self.injection {
            command.arg("-e").arg(injection);
        }
        for path in &self.paths {
            command.arg("-P").arg(path);
        }
        command.arg(traced.get_program()).args(traced.get_args()).env_clear();
        command.envs(traced.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// How many calls failed or were delayed so far.
    #[must_use]
    pub fn injected(&self) -> usize {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        text.lines()
            .filter(|line| line.ends_with("(INJECTED)") || line.ends_with("(DELAYED)"))
            .count()
    }

    /// What was written so far.
    #[must_use]
    pub fn recorded(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }
}

/// A disk that hangs: from now on, and until this is dropped, calls on a path do not return.
#[derive(Debug)]
pub struct Hang(Child);

/// Far beyond any test.
const HANGS: Duration = Duration::from_secs(3600);

impl Hang {
    /// Calls of `call` on `path` of the process `pid`, which runs.
    pub async fn of(pid: u32, call: &str, path: &Path) -> Self {
        let mut command = system("strace");
        command.args(["-f", "-qqq", "-o", "/dev/null", "-p"]).arg(pid.to_string());
        command.arg("-e").arg(format!("inject={call}:delay_enter={}", HANGS.as_micros()));
        command.arg("-P").arg(path).stdin(Stdio::null()).stderr(Stdio::null());
        let hang = Self(command.spawn().unwrap());
        eventually("every thread is traced", || std::future::ready(is_traced(pid).then_some(())))
            .await;
        hang
    }
}

impl Drop for Hang {
    /// What hangs goes on.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a tracer has all threads of that process.
fn is_traced(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let untraced = statuses.filter(|status| status.contains("TracerPid:\t0\n"));
    untraced.count() == 0
}
