//! When the data plane's TLS material expires, as metrics.

use std::fmt::Write as _;

use mtls::ServerTls;
use time::OffsetDateTime;

use super::{AUTHORITY_EXPIRY, DESCRIPTIONS, LIST_EXPIRY};

/// The samples of one configuration, as Prometheus reads them. The recorder keeps every series
/// that there ever was, and an authority that a reload took out must not look as if it expired.
pub(super) fn samples(tls: &ServerTls) -> String {
    let mut text = String::new();
    let authorities = tls.authority_ends().map(|(position, key, ends)| {
        (format!("authority=\"{position}\",spki_sha256=\"{key}\""), ends)
    });
    family(&mut text, AUTHORITY_EXPIRY, authorities);
    let lists = tls.list_ends();
    let lists = lists.map(|(file, list, ends)| (format!("file=\"{file}\",list=\"{list}\""), ends));
    family(&mut text, LIST_EXPIRY, lists);
    text
}

/// One family of gauges that show instants; without samples nothing of it.
pub(super) fn family(
    text: &mut String,
    name: &str,
    samples: impl Iterator<Item = (String, OffsetDateTime)>,
) {
    let help = DESCRIPTIONS.iter().find(|(described, ..)| *described == name);
    let help = help.map_or("", |(_, _, help)| help);
    let head = format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
    for (index, (labels, ends)) in samples.enumerate() {
        if index == 0 {
            text.push_str(&head);
        }
        // Writing to a text does not fail.
        let _ = writeln!(text, "{name}{{{labels}}} {}", ends.unix_timestamp());
    }
    if !text.is_empty() {
        text.push('\n');
    }
}
