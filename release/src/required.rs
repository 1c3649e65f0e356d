//! A sink of the trail without which nothing leaves: what the trail was told to be on disk, and what it
//! said that the sink has committed. It believes nothing but the heads that this process told it on the
//! same connection, and silence is an answer: no.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signing_core::journal::Head;
use signing_core::tree::LogId;
use signing_core::{Moment, Reason, Refusal};

/// The trail speaks at least once a second while its sink answers. After this, it counts as silent.
const SILENT_AFTER: Duration = Duration::from_secs(5);
/// Heads of one log that may be without an answer.
const STATED_MAX: usize = 1024;

/// The sink, if one is required. Shared between the releases that wait and the connection to the trail.
#[derive(Debug)]
pub struct RequiredSink {
    /// This process's own log: of no other journal does it say anything.
    own: LogId,
    /// None: no sink is required.
    claims: Option<Mutex<Claims>>,
}

#[derive(Debug)]
struct Claims {
    /// This process's own log.
    own: LogId,
    /// How long a head may be without an answer.
    patience: Duration,
    link: Link,
}

#[derive(Debug)]
enum Link {
    Down { why: String },
    Up { logs: BTreeMap<LogId, Log>, heard: Moment },
}

#[derive(Debug, Default)]
struct Log {
    /// Heads that the trail was told, without an answer yet; sizes grow.
    stated: VecDeque<(Head, Moment)>,
    /// The newest head that the sink holds.
    held: Option<Head>,
    /// The size of the newest head that the trail was told, whatever became of it.
    told: Option<u64>,
}

/// What became of a head that the trail is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stated {
    /// It is new: tell it.
    New,
    /// This or a later one was told already.
    Known,
    /// The trail is not connected, or leaves too many without an answer.
    NotNow,
}

/// The trail says that the sink holds what nobody told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it says that record {0} is committed under a root that this process did not tell it")]
pub struct FalseCommit(pub u64);

/// The trail cannot say whether the sink holds a head without which nothing can be released, or that nobody told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// It is of this process's own log.
    #[error("it cannot say whether record {0} of this process's own log is committed")]
    Own(u64),
    /// It waits for no answer.
    #[error("it cannot say whether record {0} is committed, which nobody asked")]
    NotAnnounced(u64),
}

/// Why nothing is released now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// No trail.
    #[error("the trail is not connected: {0}")]
    Down(String),
    /// It was not heard for a while.
    #[error("the trail has said nothing for {} s", SILENT_AFTER.as_secs())]
    Silent,
    /// It has not come to what this process wrote.
    #[error("the sink does not hold the newest records yet: the trail catches up")]
    Behind,
    /// It leaves something without an answer.
    #[error("the trail has not said within {0} ms that a record is committed")]
    Late(u128),
}

impl RequiredSink {
    /// The sink of the log `own`, as the configuration of the process has it: `patience` is how long a record may take to
    /// be committed; none: no sink is required.
    #[must_use]
    pub fn new(own: LogId, patience: Option<Duration>) -> Self {
        let link = || Link::Down { why: "it has not been reached yet".to_owned() };
        let claims = patience.map(|patience| Mutex::new(Claims { own, patience, link: link() }));
        Self { own, claims }
    }

    /// Whether one is required.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        self.claims.is_some()
    }

    /// A trail is connected, and has said nothing of any record yet.
    pub fn connected(&self, now: Moment) {
        if let Some(mut claims) = self.claims() {
            claims.link = Link::Up { logs: BTreeMap::new(), heard: now };
        }
    }

    /// The trail is gone, and what it said with it.
    pub fn disconnected(&self, why: &str) {
        if let Some(mut claims) = self.claims() {
            claims.link = Link::Down { why: why.to_owned() };
        }
    }

    /// A head that is on disk is about to be told.
    pub fn state(&self, log: LogId, head: Head, now: Moment) -> Stated {
        let Some(mut claims) = self.claims() else { return Stated::NotNow };
        let Link::Up { logs, .. } = &mut claims.link else { return Stated::NotNow };
        let log = logs.entry(log).or_default();
        if log.told.is_some_and(|told| head.size <= told) {
            return Stated::Known;
        }
        if log.stated.len() >= STATED_MAX {
            return Stated::NotNow;
        }
        log.told = Some(head.size);
        log.stated.push_back((head, now));
        Stated::New
    }

    /// The trail says that the sink holds everything up to `head`.
    ///
    /// # Errors
    /// [`FalseCommit`] if that is no head that it was told on this connection: whatever it says is worth nothing.
    pub fn hear(&self, log: LogId, head: Head, now: Moment) -> Result<(), FalseCommit> {
        let Some(mut claims) = self.claims() else { return Err(FalseCommit(head.size)) };
        let Link::Up { logs, heard } = &mut claims.link else { return Err(FalseCommit(head.size)) };
        let known = logs.get_mut(&log).ok_or(FalseCommit(head.size))?;
        if known.held != Some(head) {
            let at = known.stated.iter().position(|(stated, _)| *stated == head);
            let at = at.ok_or(FalseCommit(head.size))?;
            known.stated.drain(..=at);
            known.held = Some(head);
        }
        *heard = now;
        Ok(())
    }

    /// The trail cannot say whether the sink holds what it was told of `log` up to `head`. Whoever waits for that waits in
    /// vain, until it holds a later head; of another log nobody else does.
    ///
    /// # Errors
    /// [`Unknown`]: the connection is worth nothing.
    pub fn pass_over(&self, log: LogId, head: Head) -> Result<(), Unknown> {
        let not_told = Unknown::NotAnnounced(head.size);
        let mut claims = self.claims().ok_or(not_told)?;
        if log == claims.own {
            return Err(Unknown::Own(head.size));
        }
        let Link::Up { logs, .. } = &mut claims.link else { return Err(not_told) };
        let known = logs.get_mut(&log).ok_or(not_told)?;
        let at = known.stated.iter().position(|(stated, _)| *stated == head);
        known.stated.drain(..=at.ok_or(not_told)?);
        Ok(())
    }

    /// The trail says that its sink answers, and nothing more.
    pub fn alive(&self, now: Moment) {
        if let Some(mut claims) = self.claims()
            && let Link::Up { heard, .. } = &mut claims.link
        {
            *heard = now;
        }
    }

    /// Why nothing would be released now, if so. It is looked at before anybody is asked to sign.
    #[must_use]
    pub fn error(&self, now: Moment) -> Option<SinkError> {
        self.claims()?.error(now)
    }

    /// What a caller is told of that.
    ///
    /// # Errors
    /// `audit_unavailable`, at once.
    pub fn check(&self, now: Moment) -> Result<(), Refusal> {
        match self.error(now) {
            None => Ok(()),
            Some(_) => Err(refusal(
                "the required sink of the trail does not take records now, and nothing is signed without it",
            )),
        }
    }

    /// The same in a session, in which the emergency signer's own record has to be committed too: `signer` is its log, as
    /// far as it is known.
    ///
    /// # Errors
    /// `audit_unavailable`, at once.
    pub fn check_session(&self, signer: Option<LogId>, now: Moment) -> Result<(), Refusal> {
        self.check(now)?;
        let Some(claims) = self.claims() else { return Ok(()) };
        let error = signer.map_or(Some(SinkError::Behind), |log| claims.error_of(log, now));
        match error {
            None => Ok(()),
            Some(_) => Err(refusal(
                "the required sink of the trail does not take the emergency signer's records now, and nothing is \
                 signed in a session without it",
            )),
        }
    }

    /// Whether it is the sink of that journal.
    pub(crate) fn is_of(&self, log: LogId) -> bool {
        self.own == log
    }

    /// Whether the sink has committed that record of that log. Always, if no sink is required.
    pub(crate) fn holds(&self, log: LogId, seq: u64) -> bool {
        let Some(claims) = self.claims() else { return true };
        let Link::Up { logs, .. } = &claims.link else { return false };
        let held = logs.get(&log).and_then(|log| log.held);
        held.is_some_and(|held| seq <= held.size)
    }

    fn claims(&self) -> Option<MutexGuard<'_, Claims>> {
        // Nothing under this lock panics but for want of memory.
        self.claims.as_ref().map(|claims| claims.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Claims {
    fn error(&self, now: Moment) -> Option<SinkError> {
        let heard = match &self.link {
            Link::Down { why } => return Some(SinkError::Down(why.clone())),
            Link::Up { heard, .. } => *heard,
        };
        if now.since(heard) > SILENT_AFTER {
            return Some(SinkError::Silent);
        }
        // Of another log only those wait that want it: its trail may be missing while no session is in force.
        self.error_of(self.own, now)
    }

    /// Why no record of `log` would be committed in time.
    fn error_of(&self, log: LogId, now: Moment) -> Option<SinkError> {
        let Link::Up { logs, .. } = &self.link else { return None };
        let Some(log) = logs.get(&log).filter(|log| log.held.is_some()) else {
            return Some(SinkError::Behind);
        };
        let is_late = |at: Moment| now.since(at) > self.patience;
        let is_late = log.stated.front().is_some_and(|(_, at)| is_late(*at));
        is_late.then_some(SinkError::Late(self.patience.as_millis()))
    }
}

pub(crate) fn refusal(detail: &str) -> Refusal {
    Refusal::new(Reason::AuditUnavailable, detail)
}

#[cfg(test)]
mod tests {
    use signing_core::tree::TreeHash;

    use super::*;

    const OWN: LogId = LogId::new([1; 16]);
    const OTHER: LogId = LogId::new([2; 16]);
    const PATIENCE: Duration = Duration::from_millis(1_500);

    fn head(size: u64) -> Head {
        Head { size, root: TreeHash::leaf(&size.to_be_bytes()) }
    }

    fn ms(at: u64) -> Moment {
        Moment::from_nanos(at * 1_000_000)
    }

    fn connected() -> RequiredSink {
        let sink = RequiredSink::new(OWN, Some(PATIENCE));
        sink.connected(ms(0));
        sink
    }

    #[test]
    fn where_no_sink_is_required_everything_is_held() {
        let sink = RequiredSink::new(OWN, None);
        assert!(!sink.is_required() && sink.holds(OWN, 7));
        assert!(sink.check(ms(0)).is_ok() && sink.check_session(None, ms(0)).is_ok());
        // It says nothing of another journal.
        assert!(sink.is_of(OWN) && !sink.is_of(OTHER));
    }

    #[test]
    fn in_a_session_the_log_of_the_emergency_signer_has_to_be_held_before_anybody_signs() {
        let sink = connected();
        sink.state(OWN, head(5), ms(0));
        sink.hear(OWN, head(5), ms(0)).unwrap();
        assert!(sink.check(ms(1)).is_ok());
        assert!(sink.check_session(None, ms(1)).is_err());
        assert!(sink.check_session(Some(OTHER), ms(1)).is_err());
        sink.state(OTHER, head(3), ms(1));
        assert!(sink.check_session(Some(OTHER), ms(1)).is_err());
        sink.hear(OTHER, head(3), ms(2)).unwrap();
        assert!(sink.check_session(Some(OTHER), ms(2)).is_ok());
        sink.state(OTHER, head(4), ms(3));
        assert!(sink.check_session(Some(OTHER), ms(1_503)).is_ok());
        assert!(sink.check_session(Some(OTHER), ms(1_504)).is_err());
        assert!(sink.check(ms(1_504)).is_ok());
    }

    #[test]
    fn what_nobody_knows_of_another_log_keeps_only_those_back_who_wait_for_it() {
        let sink = connected();
        sink.state(OWN, head(5), ms(0));
        sink.hear(OWN, head(5), ms(0)).unwrap();
        for size in [3, 4, 6] {
            assert_eq!(sink.state(OTHER, head(size), ms(0)), Stated::New);
        }
        assert_eq!(sink.pass_over(OTHER, head(5)), Err(Unknown::NotAnnounced(5)));
        assert_eq!(sink.pass_over(OTHER, head(4)), Ok(()));
        // It is not told again, and nothing more is believed of it.
        assert_eq!(sink.state(OTHER, head(4), ms(1)), Stated::Known);
        assert_eq!(sink.hear(OTHER, head(4), ms(1)), Err(FalseCommit(4)));
        assert_eq!(sink.pass_over(OTHER, head(6)), Ok(()));
        assert_eq!(sink.state(OTHER, head(6), ms(1)), Stated::Known);
        assert!(sink.check(ms(4_000)).is_ok() && !sink.holds(OTHER, 1));
        assert!(sink.check_session(Some(OTHER), ms(4_000)).is_err());
        // A later head covers it.
        assert_eq!(sink.state(OTHER, head(7), ms(4_000)), Stated::New);
        sink.hear(OTHER, head(7), ms(4_000)).unwrap();
        assert!(sink.holds(OTHER, 6) && sink.check_session(Some(OTHER), ms(4_000)).is_ok());
        // Without its own log nothing goes on.
        sink.state(OWN, head(6), ms(4_000));
        assert_eq!(sink.pass_over(OWN, head(6)), Err(Unknown::Own(6)));
        assert!(!sink.holds(OWN, 6));
    }

    #[test]
    fn a_trail_that_catches_up_and_says_so_is_behind_and_not_silent() {
        let sink = connected();
        sink.state(OWN, head(5), ms(0));
        sink.alive(ms(5_000));
        assert_eq!(sink.error(ms(9_000)), Some(SinkError::Behind));
        assert_eq!(sink.error(ms(10_001)), Some(SinkError::Silent));
    }

    #[test]
    fn only_a_head_that_was_told_on_this_connection_counts() {
        let sink = connected();
        assert_eq!(sink.state(OWN, head(5), ms(0)), Stated::New);
        assert_eq!(sink.state(OWN, head(5), ms(0)), Stated::Known);
        assert_eq!(sink.state(OWN, head(9), ms(1)), Stated::New);
        assert!(!sink.holds(OWN, 1));
        let other = Head { root: TreeHash::empty(), ..head(5) };
        for lie in [head(4), head(6), head(10), other] {
            assert_eq!(sink.hear(OWN, lie, ms(2)), Err(FalseCommit(lie.size)));
        }
        assert_eq!(sink.hear(OTHER, head(5), ms(2)), Err(FalseCommit(5)));
        assert!(!sink.holds(OWN, 1));
        assert_eq!(sink.hear(OWN, head(5), ms(2)), Ok(()));
        assert!(sink.holds(OWN, 5) && !sink.holds(OWN, 6) && !sink.holds(OTHER, 1));
        // Said again, and then the newest; what was passed over needs no answer.
        assert_eq!(sink.hear(OWN, head(5), ms(3)), Ok(()));
        assert_eq!(sink.hear(OWN, head(9), ms(3)), Ok(()));
        assert_eq!(sink.hear(OWN, head(5), ms(3)), Err(FalseCommit(5)));
        assert!(sink.holds(OWN, 9));
    }

    #[test]
    fn what_a_trail_said_goes_with_its_connection() {
        let sink = connected();
        sink.state(OWN, head(5), ms(0));
        sink.hear(OWN, head(5), ms(0)).unwrap();
        sink.disconnected("gone");
        assert!(!sink.holds(OWN, 1));
        assert_eq!(sink.error(ms(0)), Some(SinkError::Down("gone".to_owned())));
        assert_eq!(sink.state(OWN, head(6), ms(0)), Stated::NotNow);
        assert!(sink.hear(OWN, head(5), ms(0)).is_err());
        sink.connected(ms(1));
        assert!(!sink.holds(OWN, 1));
        assert_eq!(sink.error(ms(1)), Some(SinkError::Behind));
        assert_eq!(sink.hear(OWN, head(5), ms(1)), Err(FalseCommit(5)));
    }

    #[test]
    fn silence_and_a_head_without_an_answer_are_refused_before_anybody_signs() {
        let sink = connected();
        sink.state(OWN, head(5), ms(0));
        assert_eq!(sink.error(ms(1)), Some(SinkError::Behind));
        sink.hear(OWN, head(5), ms(10)).unwrap();
        assert_eq!(sink.error(ms(5_010)), None);
        assert_eq!(sink.error(ms(5_011)), Some(SinkError::Silent));
        sink.state(OWN, head(6), ms(20));
        assert_eq!(sink.error(ms(1_520)), None);
        assert_eq!(sink.error(ms(1_521)), Some(SinkError::Late(1_500)));
        let refusal = sink.check(ms(1_521)).unwrap_err();
        assert_eq!(refusal.reason, Reason::AuditUnavailable);
        sink.hear(OWN, head(6), ms(1_600)).unwrap();
        assert_eq!(sink.error(ms(1_600)), None);
    }

    #[test]
    fn so_many_heads_may_be_without_an_answer() {
        let sink = connected();
        for size in 1..=1_024 {
            assert_eq!(sink.state(OWN, head(size), ms(0)), Stated::New);
        }
        assert_eq!(sink.state(OWN, head(1_025), ms(0)), Stated::NotNow);
        sink.hear(OWN, head(1), ms(0)).unwrap();
        assert_eq!(sink.state(OWN, head(1_025), ms(0)), Stated::New);
    }
}
