//! What is remembered of logins, for all workers of the process: a token counts wrong PINs, whoever
//! brings them, and so one that it refused is brought by no other upstream of the same token either.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::files;
use signing_core::Moment;
use signing_core::worker::{FileIdentity, Leave};

use super::super::UpstreamError;

/// After the first login that failed for a reason which may or may not be the PIN's, and after the
/// second. After the next one there is none until someone has acted: tokens lock after three at least.
const DOUBTFUL_PAUSES: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(300)];

/// How long one login keeps others from theirs. One that takes longer hangs, and nobody waits for
/// it: the next one is one more attempt at most.
const TURN_MAX: Duration = Duration::from_secs(5);

/// How often whoever waits for a turn looks whether anybody still wants it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The logins of one process.
#[derive(Debug, Default)]
pub struct Ledger {
    tokens: Mutex<BTreeMap<Token, Logins>>,
    changed: Condvar,
}

/// A token, by its library and its label.
type Token = (PathBuf, String);

#[derive(Debug, Default)]
struct Logins {
    /// A worker logs in: its turn's number, and since when.
    under_way: Option<(u64, Moment)>,
    /// Turns so far.
    turns: u64,
    /// What failed, by the PIN's file: as many as are configured.
    failed: BTreeMap<PathBuf, Failed>,
}

#[derive(Debug)]
struct Failed {
    with: Option<FileIdentity>,
    error: UpstreamError,
    /// The next attempt with the same file; none: only with another one.
    next: Option<Moment>,
    doubtful: usize,
}

/// Of that file; none while it is not there.
pub(super) fn identity(file: &Path) -> Option<FileIdentity> {
    Some(files::identity(&std::fs::metadata(file).ok()?))
}

/// What a login came to, if it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginFailure {
    /// The PIN is why.
    Pin,
    /// The token does not say why: it may have counted the attempt.
    Doubtful,
}

/// Why there is no login now.
#[derive(Debug)]
pub(super) struct NotNow {
    pub(super) error: UpstreamError,
    /// With this file of the PIN.
    pub(super) with: Option<FileIdentity>,
    /// Until then; none: until the file is another one.
    pub(super) until: Option<Moment>,
}

/// The one login that a token is asked for at a time. Dropping it gives the turn to the next.
#[derive(Debug)]
pub(super) struct LoginTurn<'l> {
    ledger: &'l Ledger,
    token: Token,
    number: u64,
    pin_file: PathBuf,
    with: Option<FileIdentity>,
}

impl Ledger {
    /// Why no login is made now with that file, if none is.
    pub(super) fn refused(
        &self,
        (module, label): (&Path, &str),
        pin_file: &Path,
        now: Moment,
    ) -> Option<NotNow> {
        let tokens = self.tokens();
        let logins = tokens.get(&(module.to_owned(), label.to_owned()))?;
        logins.refused(pin_file, identity(pin_file), now)
    }

    /// Waits for the turn to log in; none if `unwanted` says that nobody needs it any more.
    pub(super) fn turn(
        &self,
        (module, label): (&Path, &str),
        pin_file: &Path,
        now: impl Fn() -> Moment,
        unwanted: impl Fn() -> bool,
    ) -> Option<Result<LoginTurn<'_>, NotNow>> {
        let token = (module.to_owned(), label.to_owned());
        let mut tokens = self.tokens();
        while tokens.entry(token.clone()).or_default().is_under_way(now()) {
            if unwanted() {
                return None;
            }
            let waited = self.changed.wait_timeout(tokens, LOOK_EVERY);
            tokens = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        // The worker brings the PIN of this very file or none: a change in between is another chance.
        let with = identity(pin_file);
        let logins = tokens.entry(token.clone()).or_default();
        if let Some(not_now) = logins.refused(pin_file, with, now()) {
            return Some(Err(not_now));
        }
        logins.turns += 1;
        let number = logins.turns;
        logins.under_way = Some((number, now()));
        Some(Ok(LoginTurn { ledger: self, token, number, pin_file: pin_file.to_owned(), with }))
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeMap<Token, Logins>> {
        // Nothing under this lock panics half-way.
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Logins {
    fn is_under_way(&self, now: Moment) -> bool {
        self.under_way.is_some_and(|(_, since)| now.since(since) < TURN_MAX)
    }

    fn refused(&self, pin_file: &Path, with: Option<FileIdentity>, now: Moment) -> Option<NotNow> {
        let failed = self.failed.get(pin_file).filter(|failed| failed.with == with)?;
        let until = failed.next;
        let is_refused = until.is_none_or(|next| now < next);
        is_refused.then(|| NotNow { error: failed.error.clone(), with, until })
    }
}

impl LoginTurn<'_> {
    /// What the worker is told: with which file it may log in.
    pub(super) fn leave(&self) -> Leave {
        Leave { pin_file: self.with }
    }

    /// The token let it in.
    pub(super) fn succeeded(self) {
        if let Some(logins) = self.ledger.tokens().get_mut(&self.token) {
            logins.failed.remove(&self.pin_file);
        }
    }

    /// It did not; when it is tried again, at the earliest.
    pub(super) fn failed(self, why: LoginFailure, error: &UpstreamError, now: Moment) -> NotNow {
        let mut tokens = self.ledger.tokens();
        let failed = &mut tokens.entry(self.token.clone()).or_default().failed;
        let before = failed.get(&self.pin_file).filter(|before| before.with == self.with);
        let before = before.map_or(0, |before| before.doubtful);
        let (next, doubtful) = match why {
            LoginFailure::Pin => (None, before),
            LoginFailure::Doubtful => {
                (DOUBTFUL_PAUSES.get(before).map(|pause| now.after(*pause)), before + 1)
            }
        };
        let entry = Failed { with: self.with, error: error.clone(), next, doubtful };
        failed.insert(self.pin_file.clone(), entry);
        drop(tokens);
        NotNow { error: error.clone(), with: self.with, until: next }
    }
}

impl Drop for LoginTurn<'_> {
    fn drop(&mut self) {
        if let Some(logins) = self.ledger.tokens().get_mut(&self.token)
            && logins.under_way.is_some_and(|(number, _)| number == self.number)
        {
            logins.under_way = None;
        }
        self.ledger.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use signing_core::evidence::Fault;

    use super::*;
    use host::clock::now;

    const MODULE: &str = "/lib/hsm.so";

    fn error() -> UpstreamError {
        UpstreamError::failed(Fault::KeyUnavailable, "no")
    }

    fn turn<'l>(
        ledger: &'l Ledger,
        label: &str,
        pin: &Path,
        at: Moment,
    ) -> Result<LoginTurn<'l>, NotNow> {
        ledger.turn((Path::new(MODULE), label), pin, || at, || false).unwrap()
    }

    #[test]
    fn a_refused_pin_is_brought_by_nobody_until_its_file_is_another_one() {
        let (ledger, at) = (Ledger::default(), now());
        let directory = std::env::temp_dir().join(format!("ledger-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let pin = directory.join("pin");
        std::fs::write(&pin, "1").unwrap();
        let held = turn(&ledger, "a", &pin, at).unwrap().failed(LoginFailure::Pin, &error(), at);
        assert_eq!(held.until, None);
        let later = at.after(Duration::from_secs(1_000_000));
        assert!(turn(&ledger, "a", &pin, later).is_err());
        // Another token, and another file, are others' business.
        drop(turn(&ledger, "b", &pin, at).unwrap());
        drop(turn(&ledger, "a", &directory.join("other"), at).unwrap());
        std::fs::write(&pin, "22").unwrap();
        turn(&ledger, "a", &pin, at).unwrap().succeeded();
        drop(turn(&ledger, "a", &pin, at).unwrap());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_login_that_fails_without_a_reason_is_tried_three_times_and_not_soon() {
        let (ledger, at) = (Ledger::default(), now());
        let pin = Path::new("/nowhere/pin");
        let mut time = at;
        for pause in DOUBTFUL_PAUSES {
            let held = turn(&ledger, "a", pin, time).unwrap();
            let held = held.failed(LoginFailure::Doubtful, &error(), time);
            assert_eq!(held.until, Some(time.after(pause)));
            let refused = turn(&ledger, "a", pin, time).unwrap_err();
            assert_eq!(refused.until, held.until);
            time = time.after(pause);
        }
        let last =
            turn(&ledger, "a", pin, time).unwrap().failed(LoginFailure::Doubtful, &error(), time);
        assert_eq!(last.until, None);
        assert!(turn(&ledger, "a", pin, time.after(Duration::from_secs(1_000_000))).is_err());
    }

    #[test]
    fn a_login_that_hangs_keeps_nobody_for_long_and_its_late_end_ends_no_other_turn() {
        let (ledger, at) = (Ledger::default(), now());
        let (token, pin) = ((Path::new(MODULE), "a"), Path::new("/nowhere/pin"));
        let is_free = |at| ledger.turn(token, pin, || at, || true).is_some();
        let hangs = turn(&ledger, "a", pin, at).unwrap();
        let later = at.after(TURN_MAX);
        let second = turn(&ledger, "a", pin, later).unwrap();
        drop(hangs);
        assert!(!is_free(later), "the second one has its turn");
        drop(second);
        assert!(is_free(later));
    }

    #[test]
    fn one_logs_in_at_a_time_and_who_is_not_needed_does_not_wait() {
        let (ledger, at) = (Ledger::default(), now());
        let pin = Path::new("/nowhere/pin");
        let first = turn(&ledger, "a", pin, at).unwrap();
        let token = (Path::new(MODULE), "a");
        assert!(ledger.turn(token, pin, || at, || true).is_none());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| turn(&ledger, "a", pin, at).is_err());
            first.failed(LoginFailure::Pin, &error(), at);
            assert!(second.join().unwrap(), "it hears what the first one came to");
        });
    }
}
