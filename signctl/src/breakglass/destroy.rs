//! Destroying an emergency key. Revocation is the control, so it comes before the destruction; and
//! because nothing takes a revocation back, everything that can be asked comes before that.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::json;
use signing_core::admin::breakglass::{Breakglass, Destroy};
use signing_core::admin::{Problem, path};
use signing_core::breakglass::wire::{Attested, KeyState};

use super::operator;
use crate::client::{self, Reply};
use crate::signers;
use crate::socket::Socket;

/// Which key, and where it is revoked.
#[derive(Args)]
pub(crate) struct Flags {
    /// The key's kid.
    kid: String,
    /// Why; recorded.
    #[arg(long)]
    reason: String,
    /// The registry to revoke it in.
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,
    /// Somebody attests that a copy of the key is destroyed: its name as `signctl breakglass status` shows it, who
    /// says so, and how. Repeatable; recorded. The key stays due until each copy is attested.
    #[arg(long, value_name = "COPY=WHO", value_parser = attested)]
    attest: Vec<Attested>,
    /// Have the emergency signer itself destroy it, past the proxy: also a key that is not due, since
    /// no session used it.
    #[arg(long, value_name = "PATH", conflicts_with = "socket")]
    pub(super) operator_socket: Option<PathBuf>,
    #[command(flatten)]
    pub(super) socket: Socket,
}

/// Reads `COPY=WHO`. No name of a copy holds `=`.
pub(crate) fn attested(text: &str) -> Result<Attested, String> {
    match text.split_once('=') {
        Some((copy, by)) if !copy.trim().is_empty() && !by.trim().is_empty() => {
            Ok(Attested { copy: copy.trim().to_owned(), by: by.trim().to_owned() })
        }
        _ => Err("expected COPY=WHO, COPY as `signctl breakglass status` shows it".to_owned()),
    }
}

/// Revokes it, then has the signer destroy it.
pub(super) fn run(flags: &Flags, socket: &Path) -> anyhow::Result<Reply> {
    let Flags { kid, reason, signers, attest, operator_socket, .. } = flags;
    let asked = (kid.as_str(), reason.as_str(), attest.as_slice());
    destroy(asked, signers.as_deref(), operator_socket.as_deref(), socket)
}

/// Destroys the key, for that reason, with what somebody attests of its copies.
pub(super) fn destroy(
    (kid, reason, attest): (&str, &str, &[Attested]),
    signers: Option<&Path>,
    operator_socket: Option<&Path>,
    socket: &Path,
) -> anyhow::Result<Reply> {
    let ask = || {
        let (emergency_kid, reason, attested) =
            (kid.to_owned(), reason.to_owned(), attest.to_vec());
        let body = Destroy { emergency_kid, reason, attested };
        match operator_socket {
            Some(signer) => operator::destroy(signer, body),
            None => client::post(socket, path::DESTROY, &body),
        }
    };
    let Some(file) = signers else {
        return ask();
    };
    let purpose = signers::purpose_of(file, kid)?;
    if purpose != signers::BREAKGLASS {
        bail!(
            "{kid} is no emergency key: its \"purpose\" in {} is {purpose:?}, and only an entry of \
             \"breakglass\" is destroyed; nothing was revoked and nothing destroyed",
            file.display()
        );
    }
    let known = match operator_socket {
        Some(signer) => operator::status(signer),
        None => client::get(socket, path::BREAKGLASS),
    };
    let known = known.and_then(|reply| reply.read()).with_context(|| untouched(kid, file))?;
    can_be_destroyed(&known, kid, operator_socket.is_some())
        .map_err(|why| anyhow!("{why}; {}", untouched(kid, file)))?;
    let at = signers::revoke(file, kid)?;
    // From here on it is revoked on disk, whatever becomes of the rest.
    let revoked = format!(
        "{kid} IS revoked in {} since {at}, and stays so: `signctl reload` puts that in force; its \
         destruction is what is missing: fix the cause, then run the same command again",
        file.display()
    );
    let mut reply = ask().map_err(|error| anyhow!("{error:#}; {revoked}"))?;
    let refusal = reply.refusal();
    if let Some(body) = reply.body.as_object_mut() {
        body.insert("revokedAt".to_owned(), json!(at));
        if let Some(Problem { detail, .. }) = refusal {
            body.insert("detail".to_owned(), json!(format!("{detail}; {revoked}")));
        }
    }
    Ok(reply)
}

/// Ends the sentence that says why not.
fn untouched(kid: &str, file: &Path) -> String {
    let file = file.display();
    format!(
        "{kid} was not destroyed, and not revoked in {file}; to revoke it all the same: signctl \
         signers revoke {kid} --signers {file} && signctl reload"
    )
}

/// Whether the signer would destroy that key now, by what it says of itself. For a proxy, it destroys
/// only what is due.
fn can_be_destroyed(known: &Breakglass, kid: &str, by_operator: bool) -> Result<(), String> {
    let Some(signer) = &known.signer else {
        return Err("the emergency signer is not connected to the proxy".to_owned());
    };
    let in_force = known.session.as_ref().map(|one| (&one.session, &one.emergency_kid));
    let held = signer.session.as_ref().map(|one| (&one.session, &one.emergency_kid));
    let mut sessions = [in_force, held].into_iter().flatten();
    if let Some((name, _)) = sessions.find(|(_, key)| *key == kid) {
        return Err(format!(
            "the session {name} signs with {kid}; end it first: signctl breakglass end --reason ..."
        ));
    }
    let Some(key) = signer.keys.iter().find(|key| key.kid == kid) else {
        let held = signer.keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>().join(", ");
        return Err(format!("the emergency signer holds no key {kid}; it holds: {held}"));
    };
    if by_operator || key.destruction_due.is_some() {
        return Ok(());
    }
    if key.state == KeyState::Destroyed {
        return Err(format!("the key {kid} is destroyed already"));
    }
    Err(format!(
        "the key {kid} is not due for destruction, since no session used it, and through the proxy only a \
         key that is due is destroyed; to destroy it now, add --operator-socket \
         /run/breakglass-signer/operator.sock"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::examples;
    use super::*;

    #[test]
    fn a_key_that_is_used_or_not_held_or_through_the_proxy_not_due_is_not_destroyed() {
        let due = || {
            let mut known = examples::known();
            known.signer.as_mut().unwrap().keys[0].destruction_due = Some("soon".to_owned());
            known
        };
        let [mut gone, mut keyless, mut here, mut there] = [(); 4].map(|()| due());
        gone.signer = None;
        keyless.signer.as_mut().unwrap().keys.clear();
        here.session = Some(examples::session().into());
        there.signer.as_mut().unwrap().session = Some(examples::session());
        let rows = [
            (gone, "not connected"),
            (keyless, "holds no key e"),
            (here, "the session INC-1-0a signs"),
            (there, "the session INC-1-0a signs"),
        ];
        for by_operator in [false, true] {
            assert_eq!(can_be_destroyed(&due(), "e", by_operator), Ok(()));
            for (known, word) in &rows {
                let why = can_be_destroyed(known, "e", by_operator).unwrap_err();
                assert!(why.contains(word), "{why}");
            }
        }
        for (kid, word) in [("e", "--operator-socket"), ("old", "destroyed already")] {
            let known = examples::known();
            assert!(can_be_destroyed(&known, kid, false).unwrap_err().contains(word));
            assert_eq!(can_be_destroyed(&known, kid, true), Ok(()));
        }
    }
}
