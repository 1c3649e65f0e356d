//! The authorities of `client_ca_file` together: the trust anchors of every client's path.

use std::path::Path;

use host::clock::rfc3339;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use time::OffsetDateTime;

use super::authority::Authority;
use super::files::{certificates, mistake};
use super::terms::known_algorithms;
use crate::dated::Dated;

const KEY: &str = "server.tls.client_ca_file";

/// A handshake tells clients the authorities' names, in a field of 65,535 bytes with a length
/// before each name.
const NAMES_MAX_BYTES: usize = 65_000;

/// The authorities, in the order of the file.
#[derive(Debug)]
pub(super) struct Anchors {
    authorities: Vec<Authority>,
    /// What webpki takes of each, in the same order.
    trusted: Vec<TrustAnchor<'static>>,
    /// Of the file, whatever the time is.
    remarks: Vec<String>,
}

impl Anchors {
    /// Reads each certificate of the file.
    ///
    /// # Errors
    /// Every mistake: the file, the position in it, the fix.
    pub(super) fn load(file: &Path, now: OffsetDateTime) -> Result<Self, Vec<String>> {
        let all = certificates(KEY, file).map_err(|mistake| vec![mistake])?;
        let known = known_algorithms();
        let (mut authorities, mut trusted) = (Vec::new(), Vec::new());
        let mut mistakes = Vec::new();
        for (position, der) in (1..).zip(&all) {
            let what = format!("{KEY}: certificate {position} of {}", file.display());
            match Authority::read(der, &what, &known) {
                Ok((authority, anchor)) => {
                    authorities.push(authority);
                    trusted.push(anchor);
                }
                Err(why) => mistakes.push(format!("{what} {why}")),
            }
        }
        let names_bytes: usize = authorities.iter().map(|one| one.subject.len() + 2).sum();
        if names_bytes > NAMES_MAX_BYTES {
            mistakes.push(mistake(
                KEY,
                file,
                format_args!(
                    "has authorities whose names have {names_bytes} bytes, and a handshake takes \
                     {NAMES_MAX_BYTES}; leave only those in it that issue client certificates"
                ),
            ));
        }
        if mistakes.is_empty() && !authorities.iter().any(|authority| authority.counts(now)) {
            mistakes.push(none_counts(&authorities, file, now));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let remarks = twice(&all, file);
        Ok(Self { authorities, trusted, remarks })
    }

    /// When each of them counts.
    pub(super) fn dated(&self) -> Vec<Dated> {
        self.authorities.iter().map(|authority| authority.dated.clone()).collect()
    }

    pub(super) fn trusted(&self) -> &[TrustAnchor<'static>] {
        &self.trusted
    }

    /// Their names, without the outer tag and length.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &[u8]> {
        self.trusted.iter().map(|anchor| anchor.subject.as_ref())
    }

    /// The authority that webpki found: two may have the same name and key, and not the same
    /// dates, so that only their place tells them apart.
    pub(super) fn of(&self, found: &TrustAnchor<'_>) -> Option<&Authority> {
        let is_it = |one: &TrustAnchor<'_>| std::ptr::addr_eq(one, found);
        self.authorities.get(self.trusted.iter().position(is_it)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Authority> {
        self.authorities.iter()
    }

    pub(super) fn remarks(&self) -> &[String] {
        &self.remarks
    }
}

fn none_counts(authorities: &[Authority], file: &Path, now: OffsetDateTime) -> String {
    let dates = authorities.iter().map(|authority| {
        let Dated { what, begins, ends } = &authority.dated;
        let what = what.strip_prefix(KEY).map_or(&**what, |what| what.trim_start_matches(": "));
        if *begins > now {
            format!("{what} is valid only from {}", rfc3339(*begins))
        } else {
            format!("{what} expired at {}", rfc3339(*ends))
        }
    });
    let dates: Vec<_> = dates.collect();
    mistake(
        KEY,
        file,
        format_args!(
            "has no authority that is valid now, so every client is refused: {}; add one that is",
            dates.join(", ")
        ),
    )
}

/// The same certificate again changes nothing: perhaps another one was meant.
fn twice(certificates: &[CertificateDer<'_>], file: &Path) -> Vec<String> {
    let again = certificates.iter().enumerate().filter_map(|(index, one)| {
        let first = certificates.iter().position(|other| other == one)?;
        let (second, first) = (index + 1, first + 1);
        (second != first).then(|| {
            format!(
                "{KEY}: certificate {second} of {} is the same as certificate {first}; leave one out",
                file.display()
            )
        })
    });
    again.collect()
}
