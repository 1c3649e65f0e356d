//! From a library's path to a token that is logged in, with its key found.

use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use signing_core::Algorithm;
use signing_core::gate::Fault;
use signing_core::worker::{Login, Start, Started, printable};

use crate::key::{self, Key};
use crate::{fault, pin};

/// A token, open and logged in.
#[derive(Debug)]
pub(crate) struct Token {
    /// The library.
    library: Pkcs11,
    slot: Slot,
    /// Never used again, and never closed: closing the last session logs out.
    _keeper: Session,
    /// The key.
    pub(crate) key: Key,
}

/// Why a token can not be used.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// What is known.
    pub(crate) fault: Fault,
    /// What is wrong and what to do.
    pub(crate) detail: String,
    /// What it has to do with the login.
    pub(crate) login: Login,
}

impl Token {
    /// Loads the library, finds the token, logs in and finds the key.
    pub(crate) fn open(start: &Start) -> Result<Self, Trouble> {
        let Some(algorithm) = Algorithm::parse(&start.algorithm) else {
            return Err(Trouble::key(format!("no such algorithm: {:?}", start.algorithm)));
        };
        let library = Pkcs11::new(&start.module).map_err(|error| {
            Trouble::key(format!(
                "module {} can not be loaded: {}; name the vendor's library",
                start.module,
                printable(&error.to_string())
            ))
        })?;
        library
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(|error| Trouble::new("the library does not start", &error))?;
        let slot = find(&library, &start.token_label)?;
        let keeper = library
            .open_ro_session(slot)
            .map_err(|error| Trouble::new("the token opens no session", &error))?;
        let info = library
            .get_token_info(slot)
            .map_err(|error| Trouble::new("the token does not say what it is", &error))?;
        log_in(&keeper, &info, Path::new(&start.pin_file))?;
        let key = key::find(&keeper, start, algorithm)?;
        Ok(Self { library, slot, _keeper: keeper, key })
    }

    /// A session for one thread, which is the only one to use it.
    pub(crate) fn session(&self) -> Result<Session, Trouble> {
        self.library.open_ro_session(self.slot).map_err(|error| {
            Trouble::new("the token opens no session for each of the threads", &error)
        })
    }
}

impl Trouble {
    /// What someone has to set right.
    pub(crate) fn key(detail: impl Into<String>) -> Self {
        Self { fault: Fault::KeyUnavailable, detail: detail.into(), login: Login::Other }
    }

    /// What a token said.
    pub(crate) fn new(what: &str, error: &Error) -> Self {
        Self {
            fault: fault::of_start(error),
            detail: format!("{what}: {}", fault::words(error)),
            login: Login::Other,
        }
    }

    /// As the proxy is told.
    pub(crate) fn started(self) -> Started {
        Started::failed(self.fault, self.detail, self.login)
    }
}

/// The slot of the token with that label: slots' numbers change, labels do not.
fn find(library: &Pkcs11, label: &str) -> Result<Slot, Trouble> {
    let slots = library
        .get_slots_with_token()
        .map_err(|error| Trouble::new("the library lists no slots", &error))?;
    // A slot that does not say what it holds is not the one that is looked for.
    let present: Vec<(Slot, String)> = slots
        .into_iter()
        .filter_map(|slot| {
            let info = library.get_token_info(slot).ok()?;
            Some((slot, info.label().trim_end().to_owned()))
        })
        .collect();
    let mut found = present.iter().filter(|(_, name)| name == label);
    match (found.next(), found.next()) {
        (Some((slot, _)), None) => Ok(*slot),
        (Some(_), Some(_)) => Err(Trouble::key(format!(
            "token_label {label:?}: several tokens have it; give each a label of its own"
        ))),
        (None, _) => {
            // A token without a label is one that nobody has set up yet.
            let named = present.iter().filter(|(_, name)| !name.is_empty());
            let names: Vec<_> = named.map(|(_, name)| format!("{name:?}")).collect();
            Err(Trouble {
                // Taken out, or a network HSM that does not answer.
                fault: Fault::Unavailable,
                detail: format!(
                    "token_label {label:?}: no such token is present; insert it or correct the label; \
                     present are: {}",
                    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                ),
                login: Login::Other,
            })
        }
    }
}

/// Logs in, unless that could lock the PIN: the last attempt is left to a person.
fn log_in(session: &Session, info: &TokenInfo, pin_file: &Path) -> Result<(), Trouble> {
    if !info.login_required() {
        return Ok(());
    }
    let refused = |detail: &str| {
        let detail = detail.to_owned();
        Err(Trouble { fault: Fault::KeyUnavailable, detail, login: Login::Pin })
    };
    if info.user_pin_locked() {
        return refused("the PIN is locked; have the token's security officer set it anew");
    }
    if info.user_pin_final_try() {
        return refused(
            "one more wrong PIN would lock the token, so none is tried; log in once by hand with \
             the right one, and write it into pin_file",
        );
    }
    if !info.user_pin_initialized() {
        return refused("the token's user has no PIN yet; have its security officer set one");
    }
    let pin = pin::read(pin_file)?;
    match session.login(UserType::User, Some(&pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(error) => {
            let mut trouble = Trouble::new("the token does not let us in", &error);
            trouble.login = fault::of_login(&error);
            if trouble.login == Login::Doubtful {
                trouble.detail.push_str(
                    "; it may have counted this as a wrong PIN, so it is tried three times at most, \
                     the last after minutes: mend the cause, then touch pin_file",
                );
            }
            Err(trouble)
        }
    }
}
