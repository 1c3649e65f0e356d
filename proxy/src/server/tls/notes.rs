//! What deserves attention in TLS material without mistakes. `check` prints it.

use time::{Duration, OffsetDateTime};

use super::anchors::Anchors;
use super::list::name;
use super::revocation::{Listed, Revocation};
use crate::conditions::Dated;
use crate::time::rfc3339;

/// Of the server's own certificate.
pub(super) fn certificate(dated: &Dated, now: OffsetDateTime, soon: Duration) -> Vec<String> {
    let Dated { what, begins, ends } = dated;
    let mut notes = Vec::new();
    if *begins > now {
        let begins = rfc3339(*begins);
        notes.push(format!("{what} is valid from {begins} on only; until then clients refuse it"));
    }
    if *ends - now < soon {
        let left = u64::try_from((*ends - now).whole_seconds()).unwrap_or_default();
        let ends = rfc3339(*ends);
        notes.push(format!("{what} ends at {ends}, {}; renew it", text::from_now(left)));
    }
    notes
}

/// Of the revocation lists: those that do not do what whoever named them expects.
pub(super) fn revocation_lists(
    lists: &Revocation,
    anchors: &Anchors,
    now: OffsetDateTime,
) -> Vec<String> {
    let mut all: Vec<_> = lists.all().collect();
    all.sort_by(|one, other| one.dated.what.cmp(&other.dated.what));
    let mut notes: Vec<_> = all.iter().filter_map(|listed| list(listed, lists, now)).collect();
    for anchor in anchors.iter() {
        // Under its key, or else its clients have none that counts.
        let has_any = lists.of(&anchor.subject).any(|listed| lists.is_by(listed, &anchor.spki));
        if !has_any {
            notes.push(format!(
                "{} ({:?}) has no list in client_crl_files, so its clients are refused; name its \
                 list there",
                anchor.dated.what,
                name(&anchor.subject)
            ));
        }
    }
    notes
}

fn list(listed: &Listed, lists: &Revocation, now: OffsetDateTime) -> Option<String> {
    let Listed { list, dated: Dated { what, begins, ends }, by_anchor } = listed;
    let issuer = name(&list.issuer);
    if list.is_expired(now) {
        let ends = rfc3339(*ends);
        return Some(if lists.replaces(listed, now) {
            format!(
                "{what} expired at {ends}, and a current list covers what it covered; leave it out"
            )
        } else {
            format!(
                "{what} expired at {ends}: the clients of {issuer:?} that no other list covers are \
                 refused; fetch the current list"
            )
        });
    }
    if !list.is_current(now) {
        return Some(format!(
            "{what} was issued at {}, which is to come: until then it revokes, and says of nobody \
             that he is not revoked; compare this clock with that of {issuer:?}",
            rfc3339(*begins)
        ));
    }
    (!by_anchor).then(|| {
        format!(
            "{what} is of {issuer:?}, which is not in client_ca_file: it counts for clients that \
             bring the certificate of that intermediate authority, and its signature is checked \
             then; if there is no such authority, leave it out"
        )
    })
}
