//! `register`: asks the sink whether it knows this replica, and writes the answer into the volume. Every
//! failure to ask is an answer too, "unknown", with which no journal begins.

use std::io;
use std::path::{Path, PathBuf};

use audit::Presence;
use audit::replica::{read_answer, write_answer};
use signing_core::replica::{Answer, Known, ReplicaName};
use tokio::time::timeout;

use super::table::{VolumeContent, judge};
use crate::config::Config;
use crate::event::Owner;
use crate::postgres::{DatabaseError, Place, Session};
use crate::source;

/// Deadlines of single steps that asking may take together.
const STEPS: u32 = 3;

/// Why no answer was written.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The configuration does not say who it is.
    #[error(
        "replica.name: is not set; name what outlives the volume, in a pod by the environment: \
         SIGNING_TRAIL__REPLICA__NAME=$(POD_NAMESPACE)/$(POD_NAME)"
    )]
    NoName,
    /// The configuration does not say where the journal is.
    #[error("journals.{0}: is not set; name the directory of the journal")]
    NoJournal(&'static str),
    /// The answer cannot be kept.
    #[error(
        "--answer {file}: {error}; it has to lie in the volume of the journal, where this user may write"
    )]
    Answer {
        /// The file.
        file: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// The system says no.
    #[error("the system gives no randomness")]
    NoRandomness,
}

/// Asks, and writes the answer to `file`. Dying anywhere leaves the answer "unknown", or none; asking
/// again with the nonce that is in it gives what asking once would have given.
///
/// # Errors
/// [`RegisterError`]: no answer was written.
pub async fn register(config: &Config, owner: Owner, file: &Path) -> Result<Answer, RegisterError> {
    let name = config.replica.clone().ok_or(RegisterError::NoName)?;
    let key = match owner {
        Owner::Proxy => "proxy",
        Owner::Signer => "signer",
    };
    let journal = config.journals.iter().find(|(of, _)| *of == owner);
    let (_, directory) = journal.ok_or(RegisterError::NoJournal(key))?;
    let nonce = nonce_of(file, &name, owner)?;
    let answer = |known, detail: String| {
        Answer::new(name.clone(), owner.word(), nonce.clone(), known, detail)
    };
    let keep = |answer: &Answer| {
        let cannot = |error| RegisterError::Answer { file: file.to_owned(), error };
        write_answer(file, answer).map_err(cannot)
    };
    // An answer of an earlier run must not stand while nobody knows.
    keep(&answer(
        Known::Unknown,
        "the command that asked the sinks was stopped; run it again".to_owned(),
    ))?;
    let presence = Presence::inspect(directory, "signing-proxy init");
    let given = match presence.is_there {
        None => answer(Known::Unknown, presence.detail),
        is_there => {
            let here = if is_there == Some(true) {
                // A journal that cannot be read is one all the same.
                VolumeContent::Journal(
                    source::identify(directory).ok().map(|(log, _)| log.origin()),
                )
            } else {
                VolumeContent::Nothing
            };
            let asking = ask(&config.postgres, &name, owner, &nonce, &here);
            let late = DatabaseError::Late(config.postgres.timeout.as_millis());
            let asked = timeout(config.postgres.timeout * STEPS, asking).await;
            match (asked.unwrap_or(Err(late)), &here) {
                (Ok((known, detail)), _) => answer(known, detail),
                // It needs no permission.
                (Err(error), VolumeContent::Journal(_)) => {
                    answer(Known::Present, format!("the sink postgres was not asked: {error}"))
                }
                (Err(error), VolumeContent::Nothing) => {
                    answer(Known::Unknown, format!("the sink postgres: {error}"))
                }
            }
        }
    };
    keep(&given)?;
    Ok(given)
}

/// The nonce of this volume: what an earlier run drew, or a fresh one.
fn nonce_of(file: &Path, name: &ReplicaName, owner: Owner) -> Result<String, RegisterError> {
    if let Ok(Some(before)) = read_answer(file)
        && before.replica == *name
        && before.journal == owner.word()
    {
        return Ok(before.nonce);
    }
    // What is damaged says nothing: with a fresh nonce this is a volume that nobody knows.
    let mut nonce = [0; 16];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| RegisterError::NoRandomness)?;
    Ok(hex::encode(nonce))
}

async fn ask(
    place: &Place,
    name: &ReplicaName,
    owner: Owner,
    nonce: &str,
    here: &VolumeContent,
) -> Result<(Known, String), DatabaseError> {
    let mut session = Session::open(place).await?;
    place.make_replicas(session.client()).await?;
    let row = place.register(session.client_mut(), name, owner, nonce, here).await?;
    let judged = judge(here, &row, nonce);
    let detail = format!("the sink postgres knows {name} since {}{}", row.since, row.of_log());
    Ok(match judged {
        Known::New => (judged, format!("the sink postgres had never heard of {name}")),
        Known::Known | Known::Present | Known::Unknown => (judged, detail),
    })
}
