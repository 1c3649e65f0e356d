//! A passphrase that waits to be used: once, within five minutes, and then it is wiped. How
//! often each user may bring one is bounded.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use signing_core::Moment;
use zeroize::Zeroizing;

/// How long a passphrase waits.
pub const WAITS: Duration = Duration::from_secs(5 * 60);
/// Passphrases in a row, before one has to wait.
const BURST: u32 = 5;
/// How long until one more may be brought.
const EVERY: Duration = Duration::from_secs(12);

/// The place of one passphrase.
#[derive(Default)]
pub struct Unlock {
    waiting: Option<Waiting>,
    /// By uid: only users who may use the socket come this far.
    brought: BTreeMap<u32, RecentAttempts>,
}

/// How many a user brought lately, and when that was counted.
#[derive(Default)]
struct RecentAttempts {
    count: u32,
    counted_at: Moment,
}

struct Waiting {
    passphrase: Zeroizing<Vec<u8>>,
    until: Moment,
    by: String,
}

impl Unlock {
    /// Whether that user may bring another passphrase now; it counts. One who guesses keeps no
    /// other from bringing the right one.
    pub fn may_bring(&mut self, uid: u32, now: Moment) -> bool {
        let RecentAttempts { count, counted_at } = self.brought.entry(uid).or_default();
        let passed = now.since(*counted_at).as_secs() / EVERY.as_secs();
        if passed > 0 {
            *count = count.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
            *counted_at = now;
        }
        let may = *count < BURST;
        *count += u32::from(may);
        may
    }

    /// Keeps one, instead of another that may be there.
    pub fn bring(&mut self, passphrase: Zeroizing<Vec<u8>>, by: String, now: Moment) {
        self.waiting = Some(Waiting { passphrase, until: now.after(WAITS), by });
    }

    /// Takes it, for one use, and whose it was.
    pub fn take(&mut self, now: Moment) -> Option<(Zeroizing<Vec<u8>>, String)> {
        let Waiting { passphrase, until, by } = self.waiting.take()?;
        (now < until).then_some((passphrase, by))
    }

    /// Wipes it if it waited too long; whose it was.
    pub fn expire(&mut self, now: Moment) -> Option<String> {
        let waiting = self.waiting.take_if(|waiting| now >= waiting.until)?;
        Some(waiting.by)
    }

    /// Whether one waits.
    #[must_use]
    pub fn waits(&self, now: Moment) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| now < waiting.until)
    }
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unlock").field("waits", &self.waiting.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos(0).after(Duration::from_secs(seconds))
    }

    fn brought(unlock: &mut Unlock, seconds: u64) {
        unlock.bring(Zeroizing::new(b"open".to_vec()), "uid 0".to_owned(), at(seconds));
    }

    #[test]
    fn i5_a_passphrase_is_used_once() {
        let mut unlock = Unlock::default();
        brought(&mut unlock, 0);
        assert!(unlock.waits(at(1)));
        assert_eq!(unlock.take(at(1)).unwrap().0.as_slice(), b"open");
        assert!(unlock.take(at(1)).is_none() && !unlock.waits(at(1)));
    }

    #[test]
    fn i5_a_passphrase_waits_five_minutes_and_no_longer() {
        for (seconds, waits) in [(299, true), (300, false), (10_000, false)] {
            let mut unlock = Unlock::default();
            brought(&mut unlock, 0);
            assert_eq!(unlock.waits(at(seconds)), waits);
            assert_eq!(unlock.expire(at(seconds)).is_none(), waits);
            assert_eq!(unlock.take(at(seconds)).is_some(), waits);
        }
    }

    #[test]
    fn i8_guessing_is_slow() {
        let mut unlock = Unlock::default();
        let allowed = (0..600).filter(|second| unlock.may_bring(0, at(*second))).count();
        assert!((5..=56).contains(&allowed), "{allowed} in ten minutes");
        assert!((0..BURST).all(|_| unlock.may_bring(0, at(5_000))));
        assert!(!unlock.may_bring(0, at(5_000)));
        assert!(unlock.may_bring(1000, at(5_000)), "another user's passphrase");
    }
}
