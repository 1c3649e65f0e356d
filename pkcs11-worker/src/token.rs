//! From a library's path to a token that is logged in, with its key found.

use std::io;
use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use signing_core::Algorithm;
use signing_core::evidence::Fault;
use signing_core::worker::{Leave, Login, Start, printable};

use crate::key::{self, Key};
use crate::token_error::TokenError;
use crate::{fault, pin, slots};

/// Who is asked before a login, and told of it: a token counts wrong PINs, whoever brings them.
pub(crate) trait Proxy {
    /// Waits until no other worker logs in, and hears which PIN may be brought.
    fn may_log_in(&mut self) -> io::Result<Leave>;

    /// The token let us in.
    fn logged_in(&mut self) -> io::Result<()>;
}

/// What is said of a library that cannot be initialised.
const NO_START: &str = "the library does not start; the server, daemon or device behind it may be down, \
                        or its settings do not reach the worker";

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

impl Token {
    /// Loads the library, finds the token, logs in once `proxy` lets it, and finds the key.
    pub(crate) fn open(start: &Start, proxy: &mut impl Proxy) -> Result<Self, TokenError> {
        let Some((algorithm, Some(kind))) = Algorithm::parse_with_kind(&start.algorithm) else {
            return Err(TokenError::key(format!("no such algorithm: {:?}", start.algorithm)));
        };
        let library = Pkcs11::new(&start.module).map_err(|error| {
            TokenError::key(format!(
                "module {} cannot be loaded: {}; name the vendor's library",
                start.module,
                printable(&error.to_string())
            ))
        })?;
        library
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(|error| TokenError::new(NO_START, &error))?;
        let slot = slots::find(&library, &start.token_label)?;
        let keeper = library
            .open_ro_session(slot)
            .map_err(|error| TokenError::new("the token opens no session", &error))?;
        let info = library
            .get_token_info(slot)
            .map_err(|error| TokenError::new("the token does not say what it is", &error))?;
        if info.login_required() {
            let leave = proxy.may_log_in().map_err(TokenError::proxy)?;
            log_in(&library, &keeper, &info, Path::new(&start.pin_file), leave)?;
            proxy.logged_in().map_err(TokenError::proxy)?;
        }
        let key = key::find(&keeper, start, (algorithm, kind))?;
        Ok(Self { library, slot, _keeper: keeper, key })
    }

    /// A session for one thread, which is the only one to use it.
    pub(crate) fn session(&self) -> Result<Session, TokenError> {
        self.library.open_ro_session(self.slot).map_err(|error| {
            TokenError::new("the token opens no session for each of the threads", &error)
        })
    }
}

/// Logs in, unless that could lock the PIN: the last attempt is left to a person.
fn log_in(
    library: &Pkcs11,
    session: &Session,
    info: &TokenInfo,
    pin_file: &Path,
    leave: Leave,
) -> Result<(), TokenError> {
    let refused = |detail: &str| {
        let detail = detail.to_owned();
        Err(TokenError { fault: Fault::KeyUnavailable, detail, login: Login::Pin })
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
    let pin = pin::read(pin_file, leave)?;
    match session.login(UserType::User, Some(&pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(error) => Err(not_let_in(library, session, info, &error)),
    }
}

/// What a failed login tells. Whatever its code is: a token that says now that wrong PINs were
/// tried, and did not before, has counted this one.
fn not_let_in(
    library: &Pkcs11,
    session: &Session,
    before: &TokenInfo,
    error: &Error,
) -> TokenError {
    let mut failed = TokenError::new("the token does not let us in", error);
    let after = session.get_session_info().and_then(|info| library.get_token_info(info.slot_id()));
    let was_counted = after.is_ok_and(|after| attempts(&after) > attempts(before));
    failed.login = if was_counted { Login::Pin } else { fault::of_login(error) };
    match failed.login {
        Login::Pin if was_counted => {
            failed.fault = Fault::KeyUnavailable;
            failed.detail.push_str("; the token counted this as a wrong PIN");
        }
        Login::Doubtful => failed.detail.push_str(
            "; it may have counted this as a wrong PIN, so it is tried three times at most, \
             the last after minutes: fix the cause, then touch pin_file",
        ),
        Login::Pin | Login::Other => {}
    }
    failed
}

/// How far the token is from locking the PIN, as far as its flags say.
fn attempts(info: &TokenInfo) -> u8 {
    if info.user_pin_locked() {
        3
    } else if info.user_pin_final_try() {
        2
    } else {
        u8::from(info.user_pin_count_low())
    }
}
