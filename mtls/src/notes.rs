//! What deserves attention in TLS material without mistakes. `check` prints it.

use host::clock::rfc3339;
use time::{Duration, OffsetDateTime};

use super::anchors::Anchors;
use super::list::name;
use super::revocation::{Listed, Revocation};
use crate::dated::Dated;

/// Of the server's own certificate.
pub(super) fn certificate(dated: &Dated, now: OffsetDateTime, soon: Duration) -> Vec<String> {
    let Dated { what, begins, ends } = dated;
    let mut notes = Vec::new();
    if *begins > now {
        let begins = rfc3339(*begins);
        notes.push(format!("{what} is valid only from {begins}; until then clients refuse it"));
    }
    if *ends - now < soon {
        let left = u64::try_from((*ends - now).whole_seconds()).unwrap_or_default();
        let ends = rfc3339(*ends);
        notes.push(format!("{what} ends at {ends}, {}; renew it", text::from_now(left)));
    }
    notes
}

/// Of the client authorities: those that admit nobody, or not for long.
pub(super) fn authorities(
    anchors: &Anchors,
    lists: Option<&Revocation>,
    now: OffsetDateTime,
    soon: Duration,
) -> Vec<String> {
    let mut notes = anchors.remarks().to_vec();
    for authority in anchors.iter() {
        let Dated { what, begins, ends } = &authority.dated;
        let mut note = |why: String| notes.push(format!("{what} ({:?}) {why}", authority.name()));
        if *begins > now {
            let begins = rfc3339(*begins);
            note(format!("is valid only from {begins}; until then its clients are refused"));
        } else if !authority.counts(now) {
            let ends = rfc3339(*ends);
            note(format!("expired at {ends}, so its clients are refused; leave it out"));
        } else if *ends - now < soon {
            let left = u64::try_from((*ends - now).whole_seconds()).unwrap_or_default();
            let (ends, left) = (rfc3339(*ends), text::from_now(left));
            note(format!(
                "expires at {ends}, {left}: its clients are refused then, and their connections \
                 end; add its successor"
            ));
        }
        for remark in &authority.remarks {
            note((*remark).to_owned());
        }
        for id in &authority.unknown {
            note(format!("has the critical extension {id}, which nobody looks at here"));
        }
        if let Some(list) = lists.and_then(|lists| authority.revoked_by(lists, now)) {
            let list = &list.dated.what;
            note(format!("is revoked by {list}, so its clients are refused; leave it out"));
        }
    }
    notes
}

/// Of the revocation lists: those that do not do what whoever named them expects.
pub(super) fn revocation_lists(
    lists: &Revocation,
    anchors: &Anchors,
    now: OffsetDateTime,
) -> Vec<String> {
    let all = lists.all();
    let mut notes: Vec<_> = all.iter().filter_map(|listed| list(listed, lists, now)).collect();
    for anchor in anchors.iter() {
        // Under its key, or else its clients have none that counts.
        let has_any = lists.of(&anchor.subject).any(|listed| lists.is_by(listed, &anchor.spki));
        if !has_any {
            notes.push(format!(
                "{} ({:?}) has no list in client_crl_files, so its clients are refused; name its \
                 list there",
                anchor.dated.what,
                anchor.name()
            ));
        }
    }
    notes
}

fn list(listed: &Listed, lists: &Revocation, now: OffsetDateTime) -> Option<String> {
    let Listed { list, dated: Dated { what, begins, ends }, by_anchor, .. } = listed;
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
