//! Name constraints of authorities: what docs/operating/certificates.md says of them.

use rcgen::{CustomExtension, DnType, GeneralSubtree, NameConstraints};
use system_tests::{Pki, Profile};

use super::Site;
use crate::ALICE;
use crate::config_files::{check, said};

/// `nameConstraints` with this one base, permitted (0) or excluded (1), in DER.
fn constraint(list: u8, base: &[u8]) -> CustomExtension {
    let tlv = |tag: u8, content: &[u8]| {
        [&[tag, u8::try_from(content.len()).unwrap()][..], content].concat()
    };
    let content = tlv(0x30, &tlv(0xa0 | list, &tlv(0x30, base)));
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
    extension.set_criticality(true);
    extension
}

/// The base of URIs whose host is `test`.
const OF_URIS: &[u8] = b"\x86\x04test";

#[tokio::test]
async fn constraints_of_dns_names_are_honoured_and_what_is_not_understood_admits_nobody() {
    let site = Site::new();
    let config = site.builder().write();
    let dns = |name: &str| vec![GeneralSubtree::DnsName(name.to_owned())];
    let names = |permitted, excluded| {
        Pki::made("constrained", |params| {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: permitted,
                excluded_subtrees: excluded,
            });
        })
    };
    let raw = |list, base: &[u8]| {
        Pki::made("constrained", |params| params.custom_extensions = vec![constraint(list, base)])
    };
    let directory = {
        let mut name = rcgen::DistinguishedName::new();
        name.push(DnType::CommonName, "test");
        vec![GeneralSubtree::DirectoryName(name)]
    };
    let (uris, nobody) = ("constrains URIs", "constrains directory names");
    let proxy = site.start(&[&Pki::new()]).await;
    // Whether a SPIFFE caller and the DNS caller `a.example` are let in, and the note.
    for (case, authority, spiffe, dns_name, note) in [
        ("nothing", Pki::named("free"), true, true, ""),
        ("its DNS names", names(dns("example"), vec![]), true, true, ""),
        ("other DNS names", names(dns("other"), vec![]), true, false, ""),
        ("not its DNS names", names(vec![], dns("example")), true, false, ""),
        ("its URIs", raw(0, OF_URIS), false, true, uris),
        ("not other URIs", raw(1, OF_URIS), false, true, uris),
        ("directory names", names(directory.clone(), vec![]), false, false, nobody),
        ("not these directory names", names(vec![], directory), false, false, nobody),
    ] {
        let below = authority.authority("below", |_| ());
        site.put(&[&authority]);
        super::reload(&proxy);
        for (name, is_let_in) in [(ALICE, spiffe), ("a.example", dns_name)] {
            let profile = Profile::client(name);
            for certificate in [authority.issue(&profile), below.issue(&profile).with(&below)] {
                let told = site.told(&proxy, &certificate).await;
                assert_eq!(told.is_empty(), is_let_in, "{case}: {name}: {told}");
            }
        }
        let said = said(&check(&config, &[]));
        let noted =
            said.lines().any(|line| line.contains("client_ca_file") && line.contains("constrains"));
        assert_eq!(noted, !note.is_empty(), "{case}: {said}");
        assert!(said.contains(note), "{case}: {said}");
    }
}
