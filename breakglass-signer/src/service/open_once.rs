//! Whether a passphrase opens a key, asked before an outage: the key is opened once, proves itself, and is
//! wiped. Nothing is armed, and who asked is recorded. Guessing is as slow here as with a passphrase that
//! is to be used.

use host::clock::{now, wall_now};
use serde_json::json;
use signing_core::Kid;
use signing_core::breakglass::wire::{KeyState, Opened, Reason, Refused};
use signing_core::breakglass::{Clause, NotActivated};
use zeroize::Zeroizing;

use super::keys::state_of;
use super::{Service, refused};

impl Service {
    /// Tries it. A passphrase that waits for an activation stays as it is. If this process dies here, the
    /// kernel takes the memory that held the key.
    ///
    /// # Errors
    /// [`Refused`]: the key did not open, or was not tried.
    pub async fn open_once(
        &self,
        id: u64,
        kid: &str,
        passphrase: Zeroizing<Vec<u8>>,
        (uid, by): (u32, &str),
    ) -> Result<Opened, Refused> {
        let because = |clause, why: &str| refused(id, Reason::Activation(clause), why);
        // Opening takes as long as the key's file says, and an activation would wait for it.
        let Ok(_turn) = self.activating.try_lock() else {
            let why = "an activation is under way, which opens the key itself; try again after it";
            return Err(refused(id, Reason::Overloaded, why));
        };
        if self.armory.borrow().active.is_some() {
            let why = "a session is in force, and no key is tried beside it";
            return Err(because(Clause::SessionInForce, why));
        }
        let held = Kid::parse(kid).ok().and_then(|kid| self.materials.keys.get_key_value(&kid));
        let Some((kid, held)) = held else {
            let held: Vec<_> = self.materials.keys.keys().map(Kid::as_str).collect();
            let why = format!("this signer holds no such key; it holds: {}", held.join(", "));
            return Err(because(Clause::KeyUnknown, &why));
        };
        let unreadable = self.unreadable().await;
        let state = state_of(&self.armory.borrow(), held, &unreadable, wall_now());
        match state {
            KeyState::Sealed | KeyState::Open => {}
            state @ (KeyState::Revoked | KeyState::Destroyed | KeyState::Missing) => {
                let file = unreadable.get(&held.signer.kid).filter(|_| state == KeyState::Missing);
                let file = file.map(|why| format!(": {why}")).unwrap_or_default();
                let why = format!("the key {kid} is {}, so it is not opened{file}", state.word());
                return Err(because(Clause::KeyNotUsable, &why));
            }
        }
        if !self.armory.borrow_mut().unlock.may_bring(uid, now()) {
            let why = "this user brought too many passphrases; wait a quarter of a minute";
            return Err(refused(id, Reason::Overloaded, why));
        }
        let opened = self.opened(kid, passphrase).await;
        self.note_unlock(by, if opened.is_ok() { "opened" } else { "not_opened" });
        match opened {
            Ok(key) => {
                drop(key);
                self.log.info(
                    "a passphrase was tried, and opens the key",
                    json!({"by": by, "emergency_kid": kid.as_str()}),
                );
                Ok(Opened { id, emergency_kid: kid.to_string() })
            }
            Err(NotActivated { clause, sentence }) => {
                self.log.warn(
                    "an emergency key does not open",
                    json!({"emergency_kid": kid.as_str(), "by": by}),
                );
                Err(because(clause, &sentence))
            }
        }
    }
}
