//! Whether a certificate is revoked, by every list of its issuer together. The order of the
//! lists never matters.

use std::collections::BTreeMap;

use rustls::crypto::WebPkiSupportedAlgorithms;
use time::OffsetDateTime;

use super::list::RevocationList;
use super::points::{Points, Role};
use crate::dated::Dated;

/// The lists in force, by their issuer's name in DER.
#[derive(Debug)]
pub(super) struct Revocation {
    by_issuer: BTreeMap<Box<[u8]>, Vec<Listed>>,
    known: WebPkiSupportedAlgorithms,
}

/// A list, and what is known of it since the load.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) list: RevocationList,
    /// The number of its file among `client_crl_files`, and its own in there, from 1 on.
    pub(super) place: (usize, usize),
    /// Where it stands, and when it counts.
    pub(super) dated: Dated,
    /// Whether an authority of `client_ca_file` signed it. Else an intermediate authority may
    /// have, which is known once a client brings it.
    pub(super) by_anchor: bool,
}

/// What is asked about.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    /// Its issuer's name, in DER.
    pub(super) issuer: &'a [u8],
    /// The content of its serial number.
    pub(super) serial: &'a [u8],
    pub(super) role: Role,
    pub(super) points: Points,
}

/// Who issued it, on the path that is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Issuer<'a> {
    /// Its public key, a `SubjectPublicKeyInfo`.
    pub(super) spki: &'a [u8],
    /// Whether its key usage allows it to sign lists.
    pub(super) signs_lists: bool,
}

/// Why a certificate is not known to be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotGood {
    /// A list says so.
    Revoked,
    /// The lists that would cover it held until then.
    Expired(OffsetDateTime),
    /// No list covers it.
    Unknown,
}

impl Revocation {
    pub(super) fn new(lists: Vec<Listed>, known: WebPkiSupportedAlgorithms) -> Self {
        let mut by_issuer: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for listed in lists {
            by_issuer.entry(listed.list.issuer.clone()).or_default().push(listed);
        }
        Self { by_issuer, known }
    }

    /// Until when the certificate is known to be good.
    ///
    /// By RFC 5280 an issuer's name and a serial number mean one certificate. So any list of
    /// that name revokes it, whatever the list covers, and also one under another key of that
    /// name, such as that of a renewed authority, if `client_ca_file` has that key too. That it
    /// is good is said only by a current list that covers it, under the key that issued it:
    /// a renewed authority need not know the certificates of the time before.
    pub(super) fn status(
        &self,
        subject: &Subject<'_>,
        issuer: Issuer<'_>,
        now: OffsetDateTime,
    ) -> Result<OffsetDateTime, NotGood> {
        let (mut good_until, mut expired) = (None, None);
        for Listed { list, by_anchor, .. } in self.of(subject.issuer) {
            let by_issuer = list.is_signed_by(issuer.spki, &self.known);
            if (by_issuer || *by_anchor) && list.revokes(subject.serial, now) {
                return Err(NotGood::Revoked);
            }
            let covers = list.scope.covers(subject.role, &subject.points);
            if !(by_issuer && issuer.signs_lists && covers) {
                continue;
            }
            if list.is_current(now) {
                good_until = good_until.max(Some(list.next_update));
            } else if list.is_expired(now) {
                expired = expired.max(Some(list.next_update));
            }
        }
        match (good_until, expired) {
            (Some(until), _) => Ok(until),
            (None, Some(at)) => Err(NotGood::Expired(at)),
            (None, None) => Err(NotGood::Unknown),
        }
    }

    /// The list that revokes an authority of `client_ca_file`, whose own issuer need not be
    /// there: its other clients are not asked for a list of that issuer.
    pub(super) fn revoking(
        &self,
        issuer: &[u8],
        serial: &[u8],
        now: OffsetDateTime,
    ) -> Option<&Listed> {
        let mut lists = self.of(issuer);
        lists.find(|listed| listed.by_anchor && listed.list.revokes(serial, now))
    }

    /// Whether the list is signed with that key, as far as that is known.
    pub(super) fn is_by(&self, listed: &Listed, spki: &[u8]) -> bool {
        listed.by_anchor && listed.list.is_signed_by(spki, &self.known)
    }

    /// Whether a current list under the same key covers all that `expired` covered.
    pub(super) fn replaces(&self, expired: &Listed, now: OffsetDateTime) -> bool {
        let key = expired.list.signer();
        self.of(&expired.list.issuer).any(|Listed { list, .. }| {
            list.is_current(now) && list.signer() == key && list.scope.includes(&expired.list.scope)
        })
    }

    /// Every list of that issuer.
    pub(super) fn of(&self, issuer: &[u8]) -> impl Iterator<Item = &Listed> {
        self.by_issuer.get(issuer).into_iter().flatten()
    }

    /// Every list, in the order of the files.
    pub(super) fn all(&self) -> Vec<&Listed> {
        let mut all: Vec<_> = self.by_issuer.values().flatten().collect();
        all.sort_by_key(|listed| listed.place);
        all
    }
}
