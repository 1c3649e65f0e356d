//! What proves who calls at a local door.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use configuration::{LocalCaller, Proof};
use host::secret;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use signing_core::Caller;
use sigv4::Secret;
use time::OffsetDateTime;

use super::claim::Claim;
use super::fault::{Fault, NotProven};

/// The scheme of a token (RFC 6750 2.1).
const BEARER: &str = "bearer ";

/// The proofs that a door takes, and whom each names.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    uids: BTreeMap<u32, Arc<Caller>>,
    tokens: Vec<([u8; 32], Arc<Caller>)>,
    key_pairs: BTreeMap<String, (Secret, Arc<Caller>)>,
    anyone: Option<Arc<Caller>>,
}

/// What a request shows.
#[derive(Debug)]
pub(super) enum Shown {
    /// Who calls.
    Caller(Arc<Caller>),
    /// A signature, which has to be checked with the body.
    Claim(Claim),
}

impl Proofs {
    /// Reads the secrets of key pairs.
    ///
    /// # Errors
    /// Every mistake, each a sentence.
    pub(super) fn load(callers: &[LocalCaller]) -> Result<Self, Vec<String>> {
        let (mut proofs, mut mistakes) = (Self::default(), Vec::new());
        for LocalCaller { caller, proof } in callers {
            let caller = Arc::clone(caller);
            match proof {
                Proof::Uid(uid) => {
                    proofs.uids.insert(*uid, caller);
                }
                Proof::Token(hash) => proofs.tokens.push((*hash, caller)),
                Proof::KeyPair { access_key_id, secret_file } => match secret::line(secret_file) {
                    Ok(line) => {
                        let pair = (Secret::new(&line), caller);
                        proofs.key_pairs.insert(access_key_id.clone(), pair);
                    }
                    Err(why) => mistakes.push(format!(
                        "server.local: the secret_access_key_file {} of {} {why}; write the secret key \
                         there, on one line",
                        secret_file.display(),
                        caller.as_str()
                    )),
                },
                Proof::Anyone => proofs.anyone = Some(caller),
            }
        }
        if mistakes.is_empty() { Ok(proofs) } else { Err(mistakes) }
    }

    /// Whether whoever reaches the door is a caller.
    pub(super) fn take_anyone(&self) -> bool {
        self.anyone.is_some()
    }

    /// Whose connection it is, if the connection itself shows that.
    pub(super) fn of_connection(&self, uid: Option<u32>) -> Option<&Arc<Caller>> {
        uid.and_then(|uid| self.uids.get(&uid)).or(self.anyone.as_ref())
    }

    /// Who calls with these headers on a connection of `owner`. A token that is shown decides, so
    /// that a wrong one is never overlooked.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub(super) fn of_request(
        &self,
        head: &Parts,
        owner: Option<&Arc<Caller>>,
    ) -> Result<Shown, NotProven> {
        let headers = &head.headers;
        if !self.tokens.is_empty()
            && let Some(token) = token(headers)?
        {
            return self.of_token(token).map(Shown::Caller).ok_or_else(|| {
                let detail =
                    "this door does not know the bearer token; send the one whose SHA-256 it is configured with";
                NotProven::new(Fault::Unknown, detail)
            });
        }
        if !self.key_pairs.is_empty()
            && let Some(claim) = Claim::read(head)?
        {
            return Ok(Shown::Claim(claim));
        }
        owner.cloned().map(Shown::Caller).ok_or_else(|| {
            let shown = headers.contains_key(AUTHORIZATION);
            let fault = if shown { Fault::Incomplete } else { Fault::Missing };
            NotProven::new(fault, &format!("nothing proves who calls: {}", self.wanted()))
        })
    }

    /// Checks of a claim what the head of its request shows.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub(super) fn check_head(
        &self,
        claim: &Claim,
        head: &Parts,
        now: OffsetDateTime,
    ) -> Result<(), NotProven> {
        self.key_pair(claim)?;
        claim.check_head(&head.headers, now)
    }

    /// Whose key pair signed the request.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub(super) fn of_claim(
        &self,
        claim: &Claim,
        (head, body): (&Parts, &[u8]),
        now: OffsetDateTime,
    ) -> Result<Arc<Caller>, NotProven> {
        let (secret, caller) = self.key_pair(claim)?;
        claim.check(secret, head, body, now).map(|()| Arc::clone(caller))
    }

    fn key_pair(&self, claim: &Claim) -> Result<&(Secret, Arc<Caller>), NotProven> {
        self.key_pairs.get(&claim.access_key_id).ok_or_else(|| {
            NotProven::new(Fault::Unknown, "this door does not know the access key id")
        })
    }

    /// Every token is compared, each in a time that says nothing of where it differs.
    fn of_token(&self, token: &[u8]) -> Option<Arc<Caller>> {
        let shown = digest(&SHA256, token);
        let is_same = |hash: &[u8; 32]| verify_slices_are_equal(hash, shown.as_ref()).is_ok();
        let found = self.tokens.iter().fold(
            None,
            |found, (hash, caller)| {
                if is_same(hash) { Some(caller) } else { found }
            },
        );
        found.cloned()
    }

    /// What a caller has to do.
    fn wanted(&self) -> String {
        let ways = [
            (!self.uids.is_empty(), "call as a user whom this door knows"),
            (!self.tokens.is_empty(), "send `Authorization: Bearer TOKEN`"),
            (!self.key_pairs.is_empty(), "sign with a key pair of this door (SigV4)"),
        ];
        let ways = ways.into_iter().filter(|(taken, _)| *taken).map(|(_, way)| way);
        ways.collect::<Vec<_>>().join(", or ")
    }
}

/// The token that a request shows; None: none.
fn token(headers: &HeaderMap) -> Result<Option<&[u8]>, NotProven> {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (shown.next(), shown.next()) else {
        return match headers.contains_key(AUTHORIZATION) {
            true => {
                let detail = "`Authorization` is given twice; send it once";
                Err(NotProven::new(Fault::Incomplete, detail))
            }
            false => Ok(None),
        };
    };
    let value = value.as_bytes();
    let scheme = value.get(..BEARER.len());
    let is_bearer = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(BEARER.as_bytes()));
    Ok(value.get(BEARER.len()..).filter(|_| is_bearer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Arc<Caller> {
        Arc::new(Caller::from_local_name(name).unwrap())
    }

    fn proofs(all: &[(&str, Proof)]) -> Proofs {
        let local = |(name, proof): &(&str, Proof)| LocalCaller {
            caller: caller(name),
            proof: proof.clone(),
        };
        Proofs::load(&all.iter().map(local).collect::<Vec<_>>()).unwrap()
    }

    fn of_token(token: &str) -> Proof {
        Proof::Token(digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap())
    }

    /// Who calls as `uid` with these `Authorization` headers.
    fn who(proofs: &Proofs, uid: Option<u32>, authorization: &[&str]) -> Option<String> {
        let (mut head, ()) = http::Request::new(()).into_parts();
        for value in authorization {
            head.headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        match proofs.of_request(&head, proofs.of_connection(uid)) {
            Ok(Shown::Caller(caller)) => Some(caller.as_str().to_owned()),
            Ok(Shown::Claim(_)) | Err(_) => None,
        }
    }

    #[test]
    fn each_proof_names_its_own_caller_and_nothing_else_names_any() {
        let both =
            proofs(&[("a", Proof::Uid(1000)), ("b", of_token("secret")), ("c", of_token("other"))]);
        let [a, b, c] = ["local:a", "local:b", "local:c"].map(|name| Some(name.to_owned()));
        for (uid, authorization, wanted) in [
            (Some(1000), &[][..], &a),
            (Some(1001), &[], &None),
            (None, &[], &None),
            (None, &["Bearer secret"], &b),
            (None, &["bearer other"], &c),
            (Some(1000), &["Bearer other"], &c),
            // A wrong token is not overlooked, whoever shows it.
            (Some(1000), &["Bearer wrong"], &None),
            (Some(1000), &["Bearer "], &None),
            (Some(1000), &["Bearer secret", "Bearer secret"], &None),
            (None, &["Bearer secret "], &None),
            (None, &["Bearer  secret"], &None),
            (None, &["Bearersecret"], &None),
            (None, &["Basic secret"], &None),
            // Another scheme than the door takes says nothing.
            (Some(1000), &["Basic x"], &a),
        ] {
            assert_eq!(who(&both, uid, authorization), *wanted, "{uid:?} {authorization:?}");
        }
    }

    #[test]
    fn anyone_is_whoever_reaches_the_door() {
        let pod = proofs(&[("pod", Proof::Anyone)]);
        for authorization in [&[][..], &["Bearer x"], &["AWS4-HMAC-SHA256 x"], &["a", "b"]] {
            for uid in [None, Some(0), Some(1000)] {
                assert_eq!(who(&pod, uid, authorization).as_deref(), Some("local:pod"));
            }
        }
    }

    #[test]
    fn a_door_that_knows_only_users_heeds_no_header() {
        let users = proofs(&[("a", Proof::Uid(7))]);
        assert_eq!(who(&users, Some(7), &["Bearer x"]).as_deref(), Some("local:a"));
        assert_eq!(who(&users, Some(8), &["Bearer x"]), None);
    }
}
