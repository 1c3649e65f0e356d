//! What the live view knows, and what a key does to it. Pure: news and times are arguments, and nothing here draws.

use std::collections::VecDeque;
use std::time::Duration;

use host::environment::{self, REASON_MAX_CHARS};
use signing_core::Moment;
use signing_core::admin::{Event, Events, Health, ProxyStatus};
use signing_core::journal::Outline;
use time::OffsetDateTime;

use super::rates::Rates;
use crate::audit::words;

/// An answer that is older than this is shown as old.
const FRESH: Duration = Duration::from_secs(4);
/// Events that are kept.
const EVENTS_MAX: usize = 200;
/// What of an event's words is kept.
const EVENT_MAX_BYTES: usize = 1024;

/// The whole view.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The newest answer, however old.
    pub(super) seen: Option<Seen>,
    /// Set while the newest question was not answered.
    pub(super) trouble: Option<PollFailure>,
    pub(super) rates: Rates,
    /// The newest events, the oldest first.
    pub(super) events: VecDeque<Line>,
    /// Why no events come.
    pub(super) events_trouble: Option<String>,
    /// What the trail says of itself, where it is asked.
    pub(super) trail: Option<Result<Vec<String>, String>>,
    pub(super) mode: Mode,
    /// What became of the last key.
    pub(super) message: Option<String>,
}

/// A status, and when it was heard.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) health: Health,
    pub(super) proxy: ProxyStatus,
    pub(super) at: Moment,
    pub(super) wall: OffsetDateTime,
}

/// Why there is no answer, and since when.
#[derive(Debug)]
pub(super) struct PollFailure {
    pub(super) why: String,
    pub(super) since: Moment,
    pub(super) wall: OffsetDateTime,
}

/// One line among the events.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// `17:32:05`, or nothing.
    pub(super) at: String,
    /// The type of the record; `late` for a gap.
    pub(super) kind: String,
    pub(super) words: String,
}

/// What keys do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// It shows.
    #[default]
    Looks,
    /// A reason for a freeze is typed.
    Asks(String),
    /// The proxy was told to freeze, and has not answered yet.
    Freezes,
}

/// A key, as far as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C: leaves from everywhere.
    Leave,
}

/// What has to be done for a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Leave,
    /// Freeze for this reason.
    Freeze(String),
}

/// What was heard.
#[derive(Debug)]
pub(super) enum News {
    Status(Result<Box<(Health, ProxyStatus)>, String>),
    Events(Result<Events, String>),
    Trail(Result<Vec<String>, String>),
    /// What became of a freeze.
    Froze(Result<String, String>),
}

impl View {
    /// Takes news in that came at `now`.
    pub(super) fn hear(&mut self, news: News, now: Moment, wall: OffsetDateTime) {
        match news {
            News::Status(Ok(answer)) => {
                let (health, proxy) = *answer;
                self.rates.hear(now, proxy.activity.clone());
                self.seen = Some(Seen { health, proxy, at: now, wall });
                self.trouble = None;
            }
            News::Status(Err(why)) => match &mut self.trouble {
                // Since when is kept: it is the same silence.
                Some(trouble) => trouble.why = why,
                None => self.trouble = Some(PollFailure { why, since: now, wall }),
            },
            News::Events(Ok(events)) => {
                self.events_trouble = None;
                self.happened(events);
            }
            News::Events(Err(why)) => self.events_trouble = Some(why),
            News::Trail(lines) => self.trail = Some(lines),
            News::Froze(Ok(words)) => self.froze(words),
            News::Froze(Err(why)) => self.froze(format!("the freeze FAILED: {why}")),
        }
    }

    /// Since when there is no answer, and why; None while what is shown is fresh.
    pub(super) fn silence(&self, now: Moment) -> Option<(Duration, OffsetDateTime, &str)> {
        if let Some(PollFailure { why, since, wall }) = &self.trouble {
            // The silence began with the last answer, not with the first question that failed.
            let (since, wall) = match &self.seen {
                Some(seen) => (seen.at, seen.wall),
                None => (*since, *wall),
            };
            return Some((now.since(since), wall, why));
        }
        let seen = self.seen.as_ref().filter(|seen| now.since(seen.at) > FRESH)?;
        Some((now.since(seen.at), seen.wall, "it does not answer"))
    }

    /// What a key asks for.
    pub(super) fn press(&mut self, key: Key) -> Option<Act> {
        if key == Key::Leave {
            return Some(Act::Leave);
        }
        match (&mut self.mode, key) {
            (Mode::Looks, Key::Char('q')) => return Some(Act::Leave),
            (Mode::Looks, Key::Char('f')) => {
                self.message = None;
                self.mode = Mode::Asks(String::new());
            }
            (Mode::Asks(reason), Key::Char(typed)) => {
                if reason.chars().count() < REASON_MAX_CHARS && !typed.is_control() {
                    reason.push(typed);
                }
            }
            (Mode::Asks(reason), Key::Backspace) => {
                reason.pop();
            }
            (Mode::Asks(_), Key::Escape) => {
                self.mode = Mode::Looks;
                self.message = Some("nothing was frozen".to_owned());
            }
            (Mode::Asks(reason), Key::Enter) => match environment::reason(reason) {
                Ok(reason) => {
                    self.mode = Mode::Freezes;
                    self.message = None;
                    return Some(Act::Freeze(reason));
                }
                Err(why) => self.message = Some(format!("not frozen: {why}")),
            },
            (Mode::Looks, _) => self.message = None,
            (Mode::Freezes, _) | (Mode::Asks(_), Key::Leave) => {}
        }
        None
    }

    fn froze(&mut self, words: String) {
        self.mode = Mode::Looks;
        self.message = Some(words);
    }

    fn happened(&mut self, Events { missed_through, events, .. }: Events) {
        if let Some(through) = missed_through {
            let words = format!(
                "events are missing here: this view was late; signctl audit tail has them, up to record {through}"
            );
            self.keep(Line { at: String::new(), kind: "late".to_owned(), words });
        }
        for Event { at, r#type, data, .. } in events {
            let outline = Outline { at, data, r#type };
            let kid = outline.text("signer_kid").unwrap_or_default();
            let text = format!("{kid} {}", words(&outline));
            self.keep(Line {
                at: outline.at.chars().skip(11).take(8).collect(),
                words: text::clipped(text.trim(), EVENT_MAX_BYTES),
                kind: outline.r#type,
            });
        }
    }

    fn keep(&mut self, line: Line) {
        self.events.push_back(line);
        while self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::show::examples;

    const WALL: OffsetDateTime = time::macros::datetime!(2026-11-26 17:32:05 UTC);

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos((1_000 + seconds) * 1_000_000_000)
    }

    fn status() -> News {
        News::Status(Ok(Box::new((examples::health(), examples::proxy()))))
    }

    fn typed(view: &mut View, text: &str) {
        for typed in text.chars() {
            assert_eq!(view.press(Key::Char(typed)), None);
        }
    }

    #[test]
    fn silence_counts_from_the_last_answer_and_ends_with_the_next() {
        let mut view = View::default();
        assert!(view.silence(at(0)).is_none(), "nothing was asked yet");
        view.hear(News::Status(Err("refused".to_owned())), at(1), WALL);
        view.hear(News::Status(Err("refused again".to_owned())), at(9), WALL);
        let (silent, _, why) = view.silence(at(11)).unwrap();
        assert_eq!((silent.as_secs(), why), (10, "refused again"));
        view.hear(status(), at(12), WALL);
        assert!(view.silence(at(12)).is_none());
        // Whoever asks may hang itself: an old answer is old without a word.
        assert!(view.silence(at(16)).is_none());
        assert_eq!(view.silence(at(17)).unwrap().0.as_secs(), 5);
        view.hear(News::Status(Err("gone".to_owned())), at(20), WALL);
        assert_eq!(view.silence(at(22)).unwrap().0.as_secs(), 10);
        assert!(view.seen.is_some(), "the old answer is still there, and is said to be old");
    }

    #[test]
    fn only_a_typed_reason_and_enter_freeze() {
        let mut view = View::default();
        for key in [Key::Enter, Key::Char('F'), Key::Char('y'), Key::Escape, Key::Backspace] {
            assert_eq!(view.press(key), None, "{key:?}");
        }
        typed(&mut view, "f");
        assert_eq!(view.press(Key::Enter), None, "a reason is missing");
        assert!(view.message.as_ref().unwrap().contains("a reason is one line"));
        // What leaves elsewhere is a letter here.
        typed(&mut view, "  q INC-42x");
        view.press(Key::Backspace);
        let freeze = view.press(Key::Enter);
        assert_eq!(freeze, Some(Act::Freeze("q INC-42".to_owned())));
        assert_eq!(view.mode, Mode::Freezes);
        for key in [Key::Enter, Key::Char('f'), Key::Char('q'), Key::Escape] {
            assert_eq!(view.press(key), None, "one freeze at a time: {key:?}");
        }
        view.hear(News::Froze(Ok("frozen".to_owned())), at(1), WALL);
        assert_eq!((&view.mode, view.message.as_deref()), (&Mode::Looks, Some("frozen")));
        assert_eq!(view.press(Key::Char('q')), Some(Act::Leave));
    }

    #[test]
    fn escape_leaves_the_reason_and_control_c_leaves_everything() {
        let mut view = View::default();
        typed(&mut view, "fINC-42");
        assert_eq!(view.press(Key::Escape), None);
        assert_eq!(
            (&view.mode, view.message.as_deref()),
            (&Mode::Looks, Some("nothing was frozen"))
        );
        typed(&mut view, "f");
        assert_eq!(view.mode, Mode::Asks(String::new()), "the reason of before is gone");
        assert_eq!(view.press(Key::Leave), Some(Act::Leave));
        typed(&mut view, &"x".repeat(5_000));
        let Mode::Asks(reason) = &view.mode else { panic!("{:?}", view.mode) };
        assert_eq!(reason.len(), REASON_MAX_CHARS);
        let freeze = view.press(Key::Enter);
        assert_eq!(
            freeze,
            Some(Act::Freeze("x".repeat(REASON_MAX_CHARS))),
            "the proxy takes as many"
        );
    }

    #[test]
    fn events_are_bounded_and_a_gap_is_told() {
        let mut view = View::default();
        let event = |seq: u64| Event {
            seq,
            at: "2026-11-26T17:32:05.123456Z".to_owned(),
            r#type: "freeze".to_owned(),
            data: json!({"by": "uid 0", "reason": format!("\u{1b}[2J{}", "x".repeat(5_000))}),
        };
        let events = (1..=500).map(event).collect();
        let heard =
            Events { log: "l".to_owned(), size: 500, next: 500, missed_through: Some(7), events };
        view.hear(News::Events(Ok(heard)), at(1), WALL);
        assert_eq!(view.events.len(), EVENTS_MAX);
        let newest = view.events.back().unwrap();
        assert_eq!((newest.at.as_str(), newest.kind.as_str()), ("17:32:05", "freeze"));
        assert!(newest.words.starts_with("by uid 0: \\u{1b}[2J"), "{}", newest.words);
        assert!(newest.words.len() <= EVENT_MAX_BYTES);
        let late = Events {
            log: "l".to_owned(),
            size: 9,
            next: 9,
            missed_through: Some(7),
            events: vec![],
        };
        view.hear(News::Events(Ok(late)), at(2), WALL);
        assert_eq!(view.events.back().unwrap().kind, "late");
        view.hear(News::Events(Err("not_found".to_owned())), at(3), WALL);
        assert_eq!(view.events_trouble.as_deref(), Some("not_found"));
    }
}
