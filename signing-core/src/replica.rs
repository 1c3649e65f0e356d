//! Whether a process without a journal may begin a new one by itself. A volume that was emptied looks
//! like a first start. Only somebody who outlives the volume can tell the two apart, so a sink is asked,
//! and whatever is not a clear "never heard of it" is a refusal (I7).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::json;

/// The form of an [`Answer`] in a file.
const TYPE: &str = "signing-trail/replica-answer/v1";
/// The longest name.
const NAME_MAX_BYTES: usize = 200;
/// Hex digits of a nonce.
const NONCE_DIGITS: usize = 32;

/// What outlives the volume: `payments/signing-proxy-0`, the namespace and the name of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplicaName(String);

/// Not a name of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a replica's name has 1 to {NAME_MAX_BYTES} characters of a-z, A-Z, 0-9 and . _ - / :, such as \
     payments/signing-proxy-0"
)]
pub struct NoReplicaName;

impl ReplicaName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`NoReplicaName`].
    pub fn parse(text: &str) -> Result<Self, NoReplicaName> {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
        if (1..=NAME_MAX_BYTES).contains(&text.len()) && text.bytes().all(is_fine) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoReplicaName)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ReplicaName {
    type Error = NoReplicaName;

    fn try_from(text: String) -> Result<Self, NoReplicaName> {
        Self::parse(&text)
    }
}

impl From<ReplicaName> for String {
    fn from(name: ReplicaName) -> Self {
        name.0
    }
}

impl fmt::Display for ReplicaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the sinks said of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// No sink has ever heard of it, or only of this very volume, which has no journal yet.
    New,
    /// A sink knows it with another volume.
    Known,
    /// It has its journal: nobody needs to know more.
    Present,
    /// They were asked, and did not all answer. What a process leaves that dies while it asks.
    Unknown,
}

/// The answer, kept in the volume that it is about. The nonce ties the two together: a sink says "new"
/// again to whoever brings the nonce back, and an emptied volume has lost it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    r#type: String,
    /// Who was asked about.
    pub replica: ReplicaName,
    /// Whose journal: `signing-proxy` or `breakglass-signer`.
    pub journal: String,
    /// 32 hex digits, drawn when this volume was first asked about.
    pub nonce: String,
    /// What was said.
    pub known: Known,
    /// The same for a person.
    pub detail: String,
}

impl Answer {
    /// An answer.
    #[must_use]
    pub fn new(
        replica: ReplicaName,
        journal: &str,
        nonce: String,
        known: Known,
        detail: String,
    ) -> Self {
        Self { r#type: TYPE.to_owned(), replica, journal: journal.to_owned(), nonce, known, detail }
    }

    /// Reads the file's content.
    ///
    /// # Errors
    /// Why it is not what was written.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let answer: Self = json::from_file(bytes).map_err(|error| error.to_string())?;
        let is_nonce = answer.nonce.len() == NONCE_DIGITS
            && answer.nonce.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if answer.r#type != TYPE {
            Err(format!("its type is {:?}, expected {TYPE:?}", answer.r#type))
        } else if !is_nonce {
            Err(format!("its nonce is not {NONCE_DIGITS} lower-case hex digits"))
        } else {
            Ok(answer)
        }
    }
}

/// What is in the volume. None: it cannot be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether a journal is there.
    pub journal: Option<bool>,
    /// Whether the state is there.
    pub state: Option<bool>,
}

/// What `init --if-absent` does.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// A new journal may be made.
    Make(NewReplica),
    /// Both are there: nothing is to do.
    Keep,
    /// Nothing is made.
    Refuse(Refused),
}

/// Nothing was here before: only [`decide`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct NewReplica {
    name: ReplicaName,
}

impl NewReplica {
    /// Whose journal it will be.
    #[must_use]
    pub fn name(&self) -> &ReplicaName {
        &self.name
    }
}

/// Why nothing is made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A journal without a state.
    #[error("the journal is there, and the state is not")]
    StateGone,
    /// A state without a journal.
    #[error("the state is there, and the journal is not")]
    JournalGone,
    /// The volume cannot be looked at.
    #[error("whether a journal and a state are there cannot be seen")]
    Unseen,
    /// A sink knows this replica.
    #[error("there is no journal and no state, but {0}: the volume was emptied or replaced")]
    Emptied(String),
    /// Nobody said that it is new.
    #[error("there is no journal and no state, and no sink said that this replica is new: {0}")]
    Silence(String),
}

impl Refused {
    /// What to do, by the verbs of `program`.
    #[must_use]
    pub fn fix(&self, program: &str) -> String {
        match self {
            Self::StateGone => format!(
                "bring the state back, or make it again of the journal: {program} state rebuild --config FILE \
                 --reason WHY"
            ),
            Self::JournalGone => {
                "bring the journal back: it was moved away or deleted. Nothing may begin without its records"
                    .to_owned()
            }
            Self::Unseen => "let the user of this process read both directories".to_owned(),
            Self::Emptied(_) => format!(
                "bring the old volume back. Only if it is lost for good, a person makes a new journal: \
                 {program} init --config FILE (docs/operating/lost-journal.md has the steps)"
            ),
            Self::Silence(_) => format!(
                "fix that, and run this again. Only if no sink can be asked, and this is the first start, a \
                 person makes the journal: {program} init --config FILE"
            ),
        }
    }
}

/// Decides. `answer` is what the sinks said; an error: why there is no answer.
#[must_use]
pub fn decide(
    found: Found,
    replica: &ReplicaName,
    journal: &str,
    answer: Result<&Answer, &str>,
) -> Decision {
    let refuse = Decision::Refuse;
    match (found.journal, found.state) {
        (Some(true), Some(true)) => return Decision::Keep,
        (Some(true), Some(false)) => return refuse(Refused::StateGone),
        (Some(false), Some(true)) => return refuse(Refused::JournalGone),
        (None, _) | (_, None) => return refuse(Refused::Unseen),
        (Some(false), Some(false)) => {}
    }
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => return refuse(Refused::Silence(why.to_owned())),
    };
    if answer.replica != *replica || answer.journal != journal {
        let (other, of) = (&answer.replica, &answer.journal);
        let why =
            format!("the answer is about the {of} of {other}, not the {journal} of {replica}");
        return refuse(Refused::Silence(why));
    }
    match answer.known {
        Known::New => Decision::Make(NewReplica { name: replica.clone() }),
        Known::Known => refuse(Refused::Emptied(answer.detail.clone())),
        // It was there when the sinks were asked: so it was taken away since.
        Known::Present => refuse(Refused::Emptied(answer.detail.clone())),
        Known::Unknown => refuse(Refused::Silence(answer.detail.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ReplicaName {
        ReplicaName::parse(text).unwrap()
    }

    fn answer(known: Known) -> Answer {
        Answer::new(name("pay/p-0"), "signing-proxy", "0".repeat(32), known, "why".to_owned())
    }

    #[test]
    fn only_an_empty_volume_that_a_sink_calls_new_gets_a_journal() {
        let looks = [Some(true), Some(false), None];
        let answers = [Known::New, Known::Known, Known::Present, Known::Unknown];
        for (journal, state) in looks.iter().flat_map(|one| looks.map(|other| (*one, other))) {
            let found = Found { journal, state };
            let silent = decide(found, &name("pay/p-0"), "signing-proxy", Err("no file"));
            assert!(!matches!(silent, Decision::Make(_)), "{found:?}");
            for known in answers {
                let given = answer(known);
                let decided = decide(found, &name("pay/p-0"), "signing-proxy", Ok(&given));
                let is_first =
                    (journal, state) == (Some(false), Some(false)) && known == Known::New;
                assert_eq!(matches!(decided, Decision::Make(_)), is_first, "{found:?} {known:?}");
                let is_both = (journal, state) == (Some(true), Some(true));
                assert_eq!(decided == Decision::Keep, is_both, "{found:?} {known:?}");
            }
        }
    }

    #[test]
    fn the_answer_about_another_replica_or_another_journal_is_none() {
        let empty = Found { journal: Some(false), state: Some(false) };
        let new = answer(Known::New);
        for (replica, journal) in [("pay/p-1", "signing-proxy"), ("pay/p-0", "breakglass-signer")] {
            let decided = decide(empty, &name(replica), journal, Ok(&new));
            assert!(matches!(decided, Decision::Refuse(Refused::Silence(_))), "{decided:?}");
        }
    }

    #[test]
    fn an_answer_reads_as_it_was_written_and_nothing_else_does() {
        let given = answer(Known::New);
        let text = serde_json::to_string(&given).unwrap();
        assert_eq!(Answer::parse(text.as_bytes()), Ok(given));
        for (from, to) in [
            ("replica-answer/v1", "replica-answer/v2"),
            ("00000000000000000000000000000000", "0"),
            ("00000000000000000000000000000000", "ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ"),
            ("pay/p-0", "pay p-0"),
            ("\"new\"", "\"sure\""),
            ("{", "{\"more\":1,"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert!(Answer::parse(changed.as_bytes()).is_err(), "{changed}");
        }
    }

    #[test]
    fn a_name_has_no_blanks_and_an_end() {
        let longest = "x".repeat(NAME_MAX_BYTES);
        for good in ["a", "pay/signing-proxy-0", "eu:pay/p_0.1", &longest] {
            assert!(ReplicaName::parse(good).is_ok(), "{good}");
        }
        let longer = "x".repeat(NAME_MAX_BYTES + 1);
        for bad in ["", " ", "a b", "a\n", "é", "$(POD_NAME)", &longer] {
            assert!(ReplicaName::parse(bad).is_err(), "{bad}");
        }
    }
}
