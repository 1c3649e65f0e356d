//! What no caller may have signed, whatever the key: bytes that mean something to this product.

use crate::batch::begins_like_a_note;
use crate::breakglass::NAMESPACE;
use crate::canary;
use crate::refusal::{Reason, Refusal};

/// What an OpenSSH signature is made over begins so, with its namespace behind a length
/// (PROTOCOL.sshsig of OpenSSH).
const SSHSIG: &[u8] = b"SSHSIG";

/// Refuses a caller's message that could be taken for a canary, for an approval of a
/// break-glass request, or for the note of a batch. Keys are disjoint (I4), and all of it is refused by
/// the registry alone: this holds where two copies of a registry differ, and over time.
pub(crate) fn refuse(message: &[u8]) -> Result<(), Refusal> {
    let what = if message.starts_with(canary::PREFIX) {
        "with the prefix of the proxy's own canaries"
    } else if is_approval(message) {
        "like an approval of a break-glass request"
    } else if begins_like_a_note(message) {
        "like the note of a batch"
    } else {
        return Ok(());
    };
    let detail = format!("the input begins {what}; sign other bytes");
    Err(Refusal::new(Reason::InvalidRequest, detail))
}

fn is_approval(message: &[u8]) -> bool {
    let namespace = message.strip_prefix(SSHSIG).and_then(<[u8]>::split_first_chunk::<4>);
    namespace.is_some_and(|(length, rest)| {
        usize::try_from(u32::from_be_bytes(*length)) == Ok(NAMESPACE.len())
            && rest.starts_with(NAMESPACE.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Algorithm, ToBeSigned};
    use crate::request::Input;

    #[test]
    fn i4_no_caller_may_sign_an_approval() {
        let of = |namespace: &str| {
            let length = u32::try_from(namespace.len()).unwrap().to_be_bytes();
            [SSHSIG, &length, namespace.as_bytes(), &[0; 76]].concat()
        };
        for algorithm in Algorithm::ALL {
            let sign = |message| ToBeSigned::prepare(&Input::Message(message), *algorithm);
            assert_eq!(sign(of(NAMESPACE)).unwrap_err().reason, Reason::InvalidRequest);
            assert!(sign(of("git")).is_ok(), "other signatures of OpenSSH are none of ours");
            assert!(sign(SSHSIG.to_vec()).is_ok());
        }
    }
}
