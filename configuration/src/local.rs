//! The local doors: `[[server.local]]`, where each stands and who proves what there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::environment::Environment;
use host::section::Section;
use signing_core::Caller;

use super::credential;
use super::places::{clash, too_long_for_a_socket};

/// The guard that asks for client certificates everywhere.
const GUARD: &str = "REQUIRE_MTLS";

/// How a unix socket is named.
const UNIX: &str = "unix:";

/// The user that the kernel shows in place of one which has no id in this user namespace
/// (`/proc/sys/kernel/overflowuid`, user_namespaces(7)): several users look like this one.
const OVERFLOW_UID: u32 = 65_534;

const EXPECTED_LISTEN: &str =
    "expected a loopback address and port such as 127.0.0.1:8444, or unix:PATH";
const ONE_PROOF: &str = "give exactly one of uid, token_sha256, access_key_id and anyone";

/// A local door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Where it stands.
    pub listen: LocalListen,
    /// Who may come in. One caller may have several proofs.
    pub callers: Vec<LocalCaller>,
}

/// Where a local door stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalListen {
    /// A loopback address.
    Loopback(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// A caller of a local door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalCaller {
    /// `local:NAME`.
    pub caller: Arc<Caller>,
    /// What proves that it calls.
    pub proof: Proof,
}

/// What proves who calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// The user whose process made the other end of the connection.
    Uid(u32),
    /// A bearer token, by its SHA-256.
    Token([u8; 32]),
    /// A key pair of the form that AWS has: requests are signed with its secret (SigV4).
    KeyPair {
        /// Its public half.
        access_key_id: String,
        /// The file of its secret half.
        secret_file: PathBuf,
    },
    /// Nothing: whoever reaches the door is this caller.
    Anyone,
}

impl std::fmt::Display for LocalListen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loopback(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// Reads the doors. `asking` is what in the environment asks for the real thing; `data_plane` is
/// taken.
pub(super) fn doors(
    sections: Vec<Section>,
    (directory, environment): (&Path, &Environment),
    asking: &[String],
    data_plane: SocketAddr,
) -> Vec<Local> {
    let mut doors: Vec<Local> = Vec::new();
    for mut section in sections {
        if asking.iter().any(|guard| guard == GUARD) {
            section.mistake(
                "listen",
                format!(
                    "is a door without client certificates, but {GUARD} asks for mTLS; remove this \
                     [[server.local]], or do not set {GUARD}"
                ),
            );
        }
        let listen = listen(&mut section, directory);
        let callers = callers(&mut section, directory, environment);
        if let Some(listen) = listen {
            let taken = match &listen {
                LocalListen::Loopback(address) => clash(*address, data_plane),
                LocalListen::Unix(_) => false,
            };
            if taken || doors.iter().any(|door| is_same_place(&door.listen, &listen)) {
                section.mistake(
                    "listen",
                    format!(
                        "is {listen}, where another listener stands already; name another place"
                    ),
                );
            }
            doors.push(Local { listen, callers });
        }
        section.finish();
    }
    doors
}

/// Whether nobody can listen on both.
fn is_same_place(one: &LocalListen, other: &LocalListen) -> bool {
    match (one, other) {
        (LocalListen::Loopback(one), LocalListen::Loopback(other)) => clash(*one, *other),
        (LocalListen::Unix(one), LocalListen::Unix(other)) => one == other,
        (LocalListen::Loopback(_), LocalListen::Unix(_))
        | (LocalListen::Unix(_), LocalListen::Loopback(_)) => false,
    }
}

fn listen(section: &mut Section, directory: &Path) -> Option<LocalListen> {
    let text = section.required("listen", EXPECTED_LISTEN);
    if text.is_empty() {
        return None;
    }
    if let Some(path) = text.strip_prefix(UNIX).filter(|path| !path.is_empty()) {
        let path = directory.join(path);
        if let Some(mistake) = too_long_for_a_socket(&path) {
            section.mistake("listen", mistake);
            return None;
        }
        return Some(LocalListen::Unix(path));
    }
    match text.parse::<SocketAddr>() {
        // Whoever reaches it from another host is none of this machine's users.
        Ok(address) if address.ip().is_loopback() => Some(LocalListen::Loopback(address)),
        Ok(_) | Err(_) => {
            section.mistake("listen", format!("is {text:?}, {EXPECTED_LISTEN}"));
            None
        }
    }
}

fn callers(section: &mut Section, directory: &Path, environment: &Environment) -> Vec<LocalCaller> {
    let sections = section.sections("callers");
    if sections.is_empty() {
        section
            .mistake("callers", "is missing; add [[server.local.callers]] with a name and a proof");
    }
    let mut callers: Vec<LocalCaller> = Vec::new();
    let mut proofs = BTreeSet::new();
    let several = sections.len() > 1;
    for mut section in sections {
        let name = section.required("name", "write NAME of the caller local:NAME");
        let caller = (!name.is_empty()).then(|| Caller::from_local_name(&name));
        let caller = caller.and_then(|caller| {
            caller.map_err(|why| section.mistake("name", why)).map(Arc::new).ok()
        });
        let proof = proof(&mut section, directory, environment);
        if let Some(proof) = &proof {
            if !proofs.insert(distinct(proof)) {
                let what =
                    "has the same proof as another caller of this door; give it one of its own";
                section.mistake("name", what);
            }
            if *proof == Proof::Anyone && several {
                section.mistake(
                    "anyone",
                    "makes everybody this caller, so this door cannot have another one; make it a \
                     [[server.local]] of its own",
                );
            }
        }
        if let (Some(caller), Some(proof)) = (caller, proof) {
            callers.push(LocalCaller { caller, proof });
        }
        section.finish();
    }
    callers
}

/// The one proof of a caller.
fn proof(section: &mut Section, directory: &Path, environment: &Environment) -> Option<Proof> {
    let uid = section.number_if_there("uid", 0..=u64::from(u32::MAX - 1));
    let token = section.text("token_sha256");
    let id = section.text("access_key_id");
    let (file, named) = ("secret_access_key_file", "secret_access_key_credential");
    let place = match id {
        Some(_) => credential::place(section, (file, named), directory, environment),
        // Known keys all the same: what stands there without an id is a mistake.
        None => {
            let there = section.text(file).or(section.text(named));
            if there.is_some() {
                section.mistake(file, "stands without access_key_id; name the key pair's id too");
            }
            None
        }
    };
    let anyone = section.flag("anyone", false);
    if let (None, None, Some(id), false) = (&uid, &token, &id, anyone) {
        return key_pair(section, id, place);
    }
    match (uid, token, anyone) {
        _ if id.is_some() => {
            section.mistake("name", format!("has several proofs; {ONE_PROOF}"));
            None
        }
        (Some(uid), None, false) => match u32::try_from(uid) {
            Ok(uid) if uid != OVERFLOW_UID => Some(Proof::Uid(uid)),
            Ok(_) | Err(_) => {
                let what = "is the user that the kernel shows for everybody who has no id here; \
                            name a user of its own";
                section.mistake("uid", format!("{uid} {what}"));
                None
            }
        },
        (None, Some(token), false) => token_hash(section, &token),
        (None, None, true) => Some(Proof::Anyone),
        (None, None, false) => {
            section.mistake("name", format!("proves nothing; {ONE_PROOF}"));
            None
        }
        (..) => {
            section.mistake("name", format!("has several proofs; {ONE_PROOF}"));
            None
        }
    }
}

fn token_hash(section: &mut Section, text: &str) -> Option<Proof> {
    let mut hash = [0; 32];
    if hex::decode_to_slice(text, &mut hash).is_err() {
        // Never the text: it may be the token itself.
        section.mistake(
            "token_sha256",
            format!(
                "has {} characters that are not 64 hex digits; write what `printf %s \"$TOKEN\" | \
                 sha256sum` says",
                text.chars().count()
            ),
        );
        return None;
    }
    Some(Proof::Token(hash))
}

/// What of a proof two callers of a door cannot share.
fn distinct(proof: &Proof) -> Proof {
    match proof {
        Proof::KeyPair { access_key_id, .. } => {
            let access_key_id = access_key_id.clone();
            Proof::KeyPair { access_key_id, secret_file: PathBuf::new() }
        }
        Proof::Uid(_) | Proof::Token(_) | Proof::Anyone => proof.clone(),
    }
}

/// The id as AWS has it (IAM `accessKeyIdType`): 16 to 128 letters, digits and underscores.
fn key_pair(section: &mut Section, id: &str, secret_file: Option<PathBuf>) -> Option<Proof> {
    let is_id = (16..=128).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_id {
        let what = format!("is {id:?}, expected 16 to 128 letters, digits and underscores");
        section.mistake("access_key_id", what);
        return None;
    }
    Some(Proof::KeyPair { access_key_id: id.to_owned(), secret_file: secret_file? })
}
