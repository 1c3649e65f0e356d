//! Destroying an emergency key. Revocation is the control, so it comes before the destruction; and
//! because nothing takes a revocation back, everything that can be asked comes before that.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use super::{operator, text};
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
    /// Have the emergency signer itself destroy it, past the proxy: also a key that is not due, since
    /// no session used it.
    #[arg(long, value_name = "PATH", conflicts_with = "socket")]
    pub(super) operator_socket: Option<PathBuf>,
    #[command(flatten)]
    pub(super) socket: Socket,
}

/// Revokes it, then has the signer destroy it.
pub(super) fn run(flags: &Flags, socket: &Path) -> anyhow::Result<Reply> {
    let Flags { kid, reason, signers, operator_socket, .. } = flags;
    let body = json!({"emergency_kid": kid, "reason": reason});
    let ask = || match operator_socket {
        Some(signer) => operator::destroy(signer, kid, reason),
        None => client::post(socket, "/v1/breakglass/destroy", &body),
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
        None => client::get(socket, "/v1/breakglass"),
    };
    let known = known.with_context(|| untouched(kid, file))?;
    can_be_destroyed(&known.body, kid, operator_socket.is_some())
        .map_err(|why| anyhow!("{why}; {}", untouched(kid, file)))?;
    let at = signers::revoke(file, kid)?;
    // From here on it is revoked on disk, whatever becomes of the rest.
    let revoked = format!(
        "{kid} IS revoked in {} since {at}, and stays so: `signctl reload` puts that in force; its \
         destruction is what is missing: mend the cause and run the same again",
        file.display()
    );
    let mut reply = ask().map_err(|error| anyhow!("{error:#}; {revoked}"))?;
    let said = text(&reply.body, "/detail").map(|detail| format!("{detail}; {revoked}"));
    if let Some(body) = reply.body.as_object_mut() {
        body.insert("revokedAt".to_owned(), json!(at));
        if let (true, Some(said)) = (reply.status != 200, said) {
            body.insert("detail".to_owned(), json!(said));
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
fn can_be_destroyed(known: &Value, kid: &str, by_operator: bool) -> Result<(), String> {
    let Some(signer) = known.get("signer") else {
        return Err("the emergency signer is not connected to the proxy".to_owned());
    };
    let sessions = [known.get("session"), signer.get("session")];
    let uses = |session: &&Value| text(session, "/emergency_kid") == Some(kid);
    if let Some(session) = sessions.into_iter().flatten().find(uses) {
        let name = text(session, "/session").unwrap_or("-");
        return Err(format!(
            "the session {name} signs with {kid}; end it first: signctl breakglass end --reason ..."
        ));
    }
    let keys = || signer.get("keys").and_then(Value::as_array).into_iter().flatten();
    let Some(key) = keys().find(|key| text(key, "/kid") == Some(kid)) else {
        let held = keys().filter_map(|key| text(key, "/kid")).collect::<Vec<_>>().join(", ");
        return Err(format!("the emergency signer holds no key {kid}; it holds: {held}"));
    };
    if by_operator || text(key, "/destruction_due").is_some() {
        return Ok(());
    }
    if text(key, "/state") == Some("destroyed") {
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
    use super::*;

    #[test]
    fn a_key_that_is_used_or_not_held_or_through_the_proxy_not_due_is_not_destroyed() {
        let due =
            json!([{"kid": "e", "state": "sealed", "destruction_due": "2026-11-26T00:00:00Z"}]);
        let unused = json!([{"kid": "e", "state": "sealed"}]);
        let gone = json!([{"kid": "e", "state": "destroyed"}]);
        let session = json!({"session": "s", "emergency_kid": "e"});
        for by_operator in [false, true] {
            let known = json!({"signer": {"keys": due}});
            assert_eq!(can_be_destroyed(&known, "e", by_operator), Ok(()));
            for (known, word) in [
                (json!({"configured": true}), "not connected"),
                (json!({"signer": {"keys": []}}), "holds no key e"),
                (json!({"signer": {"keys": due}, "session": session}), "the session s signs"),
                (json!({"signer": {"keys": due, "session": session}}), "the session s signs"),
            ] {
                let why = can_be_destroyed(&known, "e", by_operator).unwrap_err();
                assert!(why.contains(word), "{why}");
            }
        }
        for (keys, word) in [(unused, "--operator-socket"), (gone, "destroyed already")] {
            let known = json!({"signer": {"keys": keys}});
            assert!(can_be_destroyed(&known, "e", false).unwrap_err().contains(word));
            assert_eq!(can_be_destroyed(&known, "e", true), Ok(()));
        }
    }
}
