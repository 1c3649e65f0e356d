//! The log on stderr: JSON for a program, text for a person at a terminal, at the levels that
//! `RUST_LOG` asks for.

mod levels;

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _};

use host::environment::Environment;
use host::journald;
use host::log_thread::{LogState, LogThread};
use tracing::{Level, Metadata};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::levels::Levels;

/// The variable that says which levels are logged.
const SETTING: &str = "RUST_LOG";

/// Who may say more than `info`, if `RUST_LOG` asks for it: what the SDK and the
/// HTTP library say below that could hold a caller's message or a credential.
const MAY_SAY_MORE: [&str; 6] = ["signing_proxy", "admin", "audit", "gate", "outcome", "refusal"];

/// Whose events are not taken at all: the SDK's say what profiles, tokens' files and a
/// `credential_process` hold. What fails shows in the gates' own events, in words of ours.
const SAYS_NOTHING: &str = "aws_";

/// Where `tracing`'s events go.
#[derive(Clone, Debug)]
pub struct Log(LogThread);

/// What `check` says of a setting that the log would set aside.
#[must_use]
pub fn note(environment: &Environment) -> Option<String> {
    let Levels { set_aside, .. } = Levels::of(environment.as_given(SETTING).map(OsStr::new));
    set_aside.map(|why| {
        format!(
            "{SETTING}: {why}; the default applies: {}. Correct it, or unset it",
            levels::DEFAULT
        )
    })
}

impl Log {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start() -> io::Result<Self> {
        LogThread::start().map(Self)
    }

    /// What becomes of the lines.
    pub(crate) fn state(&self) -> LogState {
        self.0.state()
    }

    /// Makes it the log of `tracing`'s events.
    pub fn take_events(&self) {
        let Levels { targets: asked, set_aside } = Levels::of(std::env::var_os(SETTING).as_deref());
        let capped = filter_fn(|event| {
            let is_ours = MAY_SAY_MORE.iter().any(|target| event.target().starts_with(target));
            is_ours || (*event.level() <= Level::INFO && !event.target().starts_with(SAYS_NOTHING))
        });
        let events = tracing_subscriber::fmt::layer()
            .with_writer(self.clone())
            .log_internal_errors(false)
            .with_ansi(false);
        let registry = tracing_subscriber::registry();
        if io::stderr().is_terminal() {
            registry.with(events.with_filter(asked.and(capped))).init();
        } else {
            let events = events.json().flatten_event(true);
            registry.with(events.with_filter(asked.and(capped))).init();
        }
        if let Some(why) = set_aside {
            tracing::warn!(
                why,
                "{SETTING} is set aside, and the default applies: {}",
                levels::DEFAULT
            );
        }
    }

    /// Waits until everything logged so far is written, at most for a second: for
    /// the end of the process.
    pub fn flush(&self) {
        self.0.flush();
    }
}

/// Where one event goes.
#[derive(Debug)]
pub struct Written<'l> {
    log: &'l Log,
    level: journald::Level,
}

/// One event at a time, as tracing hands it over: whole.
impl io::Write for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.log.0.write(self.level, bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Written<'w>;

    fn make_writer(&'w self) -> Written<'w> {
        Written { log: self, level: journald::Level::Info }
    }

    fn make_writer_for(&'w self, event: &Metadata<'_>) -> Written<'w> {
        let level = match *event.level() {
            Level::ERROR => journald::Level::Error,
            Level::WARN => journald::Level::Warn,
            Level::INFO => journald::Level::Info,
            Level::DEBUG | Level::TRACE => journald::Level::Debug,
        };
        Written { log: self, level }
    }
}
