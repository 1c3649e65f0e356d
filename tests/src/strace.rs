//! A process under strace: system calls that fail, take long or are its last, and a
//! record of them.
//!
//! The tracer is the process's grandchild (`-D`): id, signals and exit status are the
//! process's own, and the tracer ends with it. A call is counted per thread.
//!
//! No `--seccomp-bpf`: with it, strace 6.1 sends a signal at the first call only.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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
