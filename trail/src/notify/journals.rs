//! The journals as one stream of notifications: each in its own order, and of two the earlier record
//! first. Where each was read up to, and what is in force there, is in the state of who listens.

use std::path::PathBuf;
use std::sync::Arc;

use host::clock::{rfc3339_millis, wall_now};
use host::log::Log;
use serde_json::json;
use signing_core::journal::AuditKeys;

use super::back_off::BackOff;
use super::feed::{Cursor, Extent, Feed, extent};
use super::notice::{Name, Notice, RecordView, is_heard, of_record, overdue};
use super::state::{Journal, State};
use crate::check::Parts;
use crate::event::Owner;
use crate::source::SourceError;
use crate::uuid;

/// Records that are passed in one look.
const RECORDS_MAX: u32 = 50_000;

/// A journal that is followed.
struct Followed {
    owner: Owner,
    path: PathBuf,
    open: Option<(Feed, AuditKeys)>,
    back_off: BackOff,
    failure: Option<String>,
}

/// All that are followed, for one listener.
pub(crate) struct Journals {
    listener: String,
    followed: Vec<Followed>,
    parts: Arc<Parts>,
    log: Log,
}

/// Where a journal is read from.
#[derive(Debug, PartialEq)]
struct Begin {
    cursor: Cursor,
    /// Records up to here are not told; none: the place was known.
    quiet_until: Option<u64>,
    /// Records that nobody will hear of.
    lost: Option<(u64, u64)>,
    /// Another log stands where the known one was.
    is_replaced: bool,
}

impl Journals {
    pub(crate) fn new(listener: &str, parts: Arc<Parts>, log: Log) -> Self {
        let followed = |(owner, path): &(Owner, PathBuf)| Followed {
            owner: *owner,
            path: path.clone(),
            open: None,
            back_off: BackOff::new(),
            failure: None,
        };
        let followed = parts.config.journals.iter().map(followed).collect();
        Self { listener: listener.to_owned(), followed, parts, log }
    }

    /// What keeps a journal from being read.
    pub(crate) fn failure(&self) -> Option<String> {
        let of = |one: &Followed| Some(format!("{}: {}", one.owner.word(), one.failure.as_ref()?));
        self.followed.iter().find_map(of)
    }

    /// Notes where a new listener begins, before anything is read: what happens from here on is told, also
    /// while the listener is away.
    pub(crate) async fn begin(&mut self, state: &mut State) {
        for index in 0..self.followed.len() {
            let owner = self.followed.get(index).map(|one| one.owner);
            if owner.is_some_and(|owner| !state.journals.contains_key(owner.word())) {
                // Nothing can be lost to whom nothing was told.
                let _ = self.read_on(index, state).await;
            }
        }
    }

    /// Reads on to the next record that is to be told. None: nothing more is there by now.
    pub(crate) async fn next(&mut self, state: &mut State) -> Option<Vec<Notice>> {
        for index in 0..self.followed.len() {
            if let Some(lost) = self.read_on(index, state).await {
                return Some(vec![lost]);
            }
        }
        let front = |one: &Followed| {
            let (feed, _) = one.open.as_ref()?;
            Some(feed.front()?.outline.at.clone())
        };
        let ready =
            self.followed.iter().enumerate().filter_map(|(at, one)| Some((front(one)?, at)));
        let (_, index) = ready.min()?;
        let has_signer = self.followed.iter().any(|one| one.owner == Owner::Signer);
        let followed = self.followed.get_mut(index)?;
        let (feed, _) = followed.open.as_mut()?;
        let heard = feed.take()?;
        let journal = state.journals.get_mut(followed.owner.word())?;
        let cursor = feed.cursor();
        journal.set(cursor);
        let of = RecordView {
            owner: followed.owner,
            log: cursor.log,
            seq: heard.seq,
            kind: heard.kind,
            outline: &heard.outline,
            has_signer,
        };
        let notices = of_record(&of, &mut journal.standing);
        Some(if heard.seq <= journal.quiet_until { Vec::new() } else { notices })
    }

    /// A key that is overdue while no record says so. Only where everything was read that is there: the key
    /// may be destroyed by then.
    pub(crate) fn overdue(&self, state: &mut State) -> Option<Notice> {
        let signer = self.followed.iter().find(|one| one.owner == Owner::Signer)?;
        let (feed, _) = signer.open.as_ref().filter(|(feed, _)| feed.is_at_end())?;
        let journal = state.journals.get_mut(Owner::Signer.word())?;
        let (kid, due) = journal.standing.take_overdue(wall_now())?;
        Some(overdue(feed.cursor().log, &kid, &due, &due))
    }

    /// Looks for more in one journal; what was lost, if something was.
    async fn read_on(&mut self, index: usize, state: &mut State) -> Option<Notice> {
        let followed = self.followed.get_mut(index)?;
        if !followed.back_off.is_due() {
            return None;
        }
        let mut lost = None;
        let (feed, keys) = match followed.open.take() {
            Some((feed, keys)) if feed.front().is_some() => {
                followed.open = Some((feed, keys));
                return None;
            }
            Some(open) => open,
            None => match open(followed, state, &self.parts).await {
                Ok((open, notice)) => {
                    lost = notice;
                    open
                }
                Err(error) => {
                    self.failed(index, &error);
                    return None;
                }
            },
        };
        let reading = tokio::task::spawn_blocking(move || {
            let mut feed = feed;
            feed.read(RECORDS_MAX, &keys).map(|()| (feed, keys))
        });
        // It panics only where it would have panicked here.
        match reading.await.ok()? {
            Ok((feed, keys)) => {
                if let Some(journal) = state.journals.get_mut(followed.owner.word()) {
                    journal.set(feed.cursor());
                }
                followed.open = Some((feed, keys));
                followed.back_off.reset();
                followed.failure = None;
            }
            Err(error) => self.failed(index, &error),
        }
        lost
    }

    fn failed(&mut self, index: usize, error: &SourceError) {
        let Some(followed) = self.followed.get_mut(index) else { return };
        followed.back_off.failed(None);
        let words = error.to_string();
        if followed.failure.as_ref() != Some(&words) {
            self.log.error(
                "a journal cannot be read for notifications",
                json!({"destination": self.listener, "journal": followed.owner.word(), "error": words}),
            );
        }
        followed.failure = Some(words);
    }
}

/// Opens a journal where its listener is; what was lost meanwhile.
async fn open(
    followed: &Followed,
    state: &mut State,
    parts: &Arc<Parts>,
) -> Result<((Feed, AuditKeys), Option<Notice>), SourceError> {
    let (owner, path, parts) = (followed.owner, followed.path.clone(), Arc::clone(parts));
    let known = state.journals.get(owner.word()).and_then(Journal::cursor);
    let opening = tokio::task::spawn_blocking(move || {
        let begin = begin(owner, known, extent(&path)?);
        let feed = Feed::open(&path, begin.cursor, is_heard)?;
        Ok::<_, SourceError>((begin, feed, parts.audit_keys()))
    });
    let gone = |_| SourceError::Stop(audit::walk::Stop::NoJournal(followed.path.clone()));
    let (begin, feed, keys) = opening.await.map_err(gone)??;
    let word = owner.word();
    match (begin.quiet_until, state.journals.get_mut(word)) {
        (None, Some(journal)) => journal.set(begin.cursor),
        (quiet_until, _) => {
            let journal = Journal::new(begin.cursor, quiet_until.unwrap_or_default());
            state.journals.insert(word.to_owned(), journal);
        }
    }
    let cursor = begin.cursor;
    let notice = |summary, data| Notice {
        id: uuid::v5(cursor.log, &format!("notice records_lost {}", cursor.seq)),
        event: Name::RecordsLost,
        at: rfc3339_millis(wall_now()),
        summary,
        record: Some((owner, cursor.log, cursor.seq)),
        data,
    };
    let lost = begin.lost.map(|(first, last)| {
        let words = format!(
            "Records {first} to {last} of {word} were removed before they could be notified"
        );
        notice(words, json!({"first": first, "last": last}))
    });
    let replaced = begin.is_replaced.then(|| {
        let words = format!("Another journal stands where that of {word} was: what was not notified of the old one is lost");
        notice(words, json!({}))
    });
    Ok(((feed, keys), lost.or(replaced)))
}

/// Where to read from, by what is known and what is there.
fn begin(owner: Owner, known: Option<Cursor>, there: Extent) -> Begin {
    let Extent { log, oldest, newest_segment, newest } = there;
    match known {
        // A new listener. The newest segment says what is in force of the proxy; which keys are there still,
        // only all of the signer's journal says.
        None => {
            let first = match owner {
                Owner::Proxy => newest_segment,
                Owner::Signer => oldest,
            };
            let cursor = Cursor::before(log, first);
            Begin { cursor, quiet_until: Some(newest), lost: None, is_replaced: false }
        }
        Some(known) if known.log != log => {
            let cursor = Cursor::before(log, oldest);
            Begin { cursor, quiet_until: Some(0), lost: None, is_replaced: true }
        }
        Some(known) if known.seq + 1 < oldest => {
            let lost = Some((known.seq + 1, oldest - 1));
            let cursor = Cursor::before(log, oldest);
            Begin { cursor, quiet_until: None, lost, is_replaced: false }
        }
        Some(cursor) => Begin { cursor, quiet_until: None, lost: None, is_replaced: false },
    }
}

#[cfg(test)]
mod tests {
    use signing_core::tree::LogId;

    use super::*;

    #[test]
    fn a_place_is_gone_on_from_and_what_is_gone_by_then_is_named() {
        let (log, other) = (LogId::new([1; 16]), LogId::new([2; 16]));
        let there = Extent { log, oldest: 101, newest_segment: 301, newest: 399 };
        let at = |log, seq| Cursor { log, size: seq, root: None, seq };
        let of = |owner, known| {
            let begin = begin(owner, known, there);
            (begin.cursor.size, begin.quiet_until, begin.lost, begin.is_replaced)
        };
        assert_eq!(of(Owner::Proxy, None), (300, Some(399), None, false));
        assert_eq!(of(Owner::Signer, None), (100, Some(399), None, false));
        assert_eq!(of(Owner::Proxy, Some(at(log, 350))), (350, None, None, false));
        assert_eq!(of(Owner::Proxy, Some(at(log, 100))), (100, None, None, false));
        assert_eq!(of(Owner::Proxy, Some(at(log, 99))), (100, None, Some((100, 100)), false));
        assert_eq!(of(Owner::Proxy, Some(at(log, 0))), (100, None, Some((1, 100)), false));
        assert_eq!(of(Owner::Proxy, Some(at(other, 350))), (100, Some(0), None, true));
    }
}
