//! What cannot be served is a mistake that names the file and the list.

use rcgen::KeyUsagePurpose;
use server::untrusted_input;
use system_tests::{Kind, List, Pki, Point, Profile, World};
use time::Duration;

use super::{DAY, REVOKED, Site, told};
use crate::ALICE;
use crate::config_files::{check, said};

const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 24];
const DELTA: &[u8] = &[0x55, 0x1d, 27];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 29];
const FRESHEST: &[u8] = &[0x55, 0x1d, 46];
/// 1.2.3.4
const UNHEARD_OF: &[u8] = &[0x2a, 3, 4];

#[test]
fn every_case_that_is_not_served_is_a_mistake_that_names_the_list() {
    let world = World::new();
    let pki = &world.pki;
    let key = world.kms.key(Kind::P256);
    let config = world
        .proxy()
        .tls("client_crl_files = [\"good.crl\", \"clients.crl\"]")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .write();
    let one = pki.issue(&Profile::client(ALICE));
    let list = || pki.list().revoking(&one);
    let point = || Point::uris(&["http://crl/1"]);
    let mut forged = pki.list().der();
    *forged.last_mut().unwrap() ^= 1;
    let mut longer = pki.list().der();
    longer.push(0);
    let no_number_but_more = list().version_1().with(FRESHEST, false, &[0x30, 0]);
    let mistakes: Vec<(&str, Vec<u8>, &str)> = [
        ("a delta list", list().with(DELTA, true, &[0x02, 1, 1]), "is a delta list"),
        ("one that hides it", list().with(DELTA, false, &[0x02, 1, 1]), "is a delta list"),
        ("indirect by its point", list().at(&point().only(4)), "is an indirect list"),
        (
            "indirect by an entry",
            list().with_in_entries(CERTIFICATE_ISSUER, true, &[0x30, 0]),
            "is an indirect list",
        ),
        ("some reasons", list().at(&point().field(3, &[6, 0x40])), "only revocations for some"),
        ("attribute certificates", list().at(&point().only(5)), "attribute certificates only"),
        ("a relative point", list().at(&Point::relative()), "relative to its issuer's name"),
        ("a point without a name", list().at(&Point::uris(&[])), "a distribution point without"),
        ("nobody's", list().at(&point().only(1).only(2)), "so none at all"),
        ("fields out of order", list().at(&point().only(2).only(1)), "cannot be read"),
        ("a field twice", list().at(&point().only(1).only(1)), "cannot be read"),
        ("an unheard-of field", list().at(&point().only(6)), "cannot be read"),
        ("no boolean", list().at(&point().field(4, &[1])), "cannot be read"),
        ("two points", list().at(&point()).at(&point()), "is not a certificate revocation list"),
        (
            "a critical extension",
            list().with(UNHEARD_OF, true, &[5, 0]),
            "the critical extension 1.2.3.4",
        ),
        (
            "a critical extension of an entry",
            list().with_in_entries(UNHEARD_OF, true, &[5, 0]),
            "the critical extension 1.2.3.4",
        ),
        ("version 1", list().version_1(), "is a list of version 1"),
        ("version 1 with extensions", no_number_but_more, "is a list of version 1"),
        ("no end", list().without_next_update(), "has no nextUpdate"),
        ("ends before it begins", list().between(DAY, -DAY), "not after its thisUpdate"),
        (
            "another key",
            list().signed_by(&Pki::named("another")),
            "is signed by none of the authorities \"CN=test authority\"",
        ),
    ]
    .map(|(name, list, expected): (_, List, _)| (name, list.der(), expected))
    .into_iter()
    .chain([
        ("a forged signature", forged, "is signed by none of the authorities"),
        ("something behind", longer, "is not a certificate revocation list"),
    ])
    .collect();
    world.scratch.write("proxy/good.crl", pki.list().pem());
    for (name, der, expected) in mistakes {
        world.scratch.write("proxy/clients.crl", &der);
        let output = check(&config, &[]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        let mistake = said.lines().find(|line| line.contains(expected));
        let mistake = mistake.unwrap_or_else(|| panic!("{name}: {said}"));
        assert!(mistake.contains("server.tls.client_crl_files: list 1 of "), "{name}: {said}");
        assert!(mistake.contains("clients.crl "), "{name}: {said}");
        assert!(mistake.contains("; "), "{name}: what to do? {said}");
    }
    // What only looks strange is served.
    let strange = list()
        .with(UNHEARD_OF, false, &[5, 0])
        .with(FRESHEST, false, &[0x30, 0])
        .with_in_entries(INVALIDITY_DATE, true, &[0x18, 0])
        .with_in_entries(UNHEARD_OF, false, &[5, 0]);
    world.scratch.write("proxy/clients.crl", strange.der());
    let output = check(&config, &[]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn in_a_file_of_several_lists_the_mistake_says_which() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let config = world
        .proxy()
        .tls("client_crl_files = [\"clients.crl\"]")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .write();
    let (good, delta) = (world.pki.list(), world.pki.list().with(DELTA, true, &[0x02, 1, 1]));
    let good = good.pem();
    for (text, expected) in [
        (format!("{good}{}{good}", delta.pem()), "list 2 of "),
        (format!("{good}{}", world.pki.ca_pem), "has 1 revocation list and 1 other PEM block"),
        (
            format!("{good}{}", good.replace("X509 CRL", "CRL")),
            "1 revocation list and 1 other PEM block",
        ),
        ("no list".to_owned(), "is not PEM"),
        (
            format!("{good}-----BEGIN X509 CRL-----\n!\n-----END X509 CRL-----\n"),
            "is damaged: the PEM block from line 8 on",
        ),
        (format!("{good}{}", good.replace("-----END X509 CRL-----", "")), "is cut"),
    ] {
        world.scratch.write("proxy/clients.crl", text);
        let output = check(&config, &[]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected) && said.contains("clients.crl"), "{expected}: {said}");
    }
}

#[test]
fn an_authority_that_may_not_sign_lists_has_none() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let config = world
        .proxy()
        .tls("client_crl_files = [\"clients.crl\"]")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .write();
    let only_certificates =
        world.pki.renewed(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    let unsaid = world.pki.renewed(|params| params.key_usages = Vec::new());
    world.scratch.write("proxy/clients.crl", world.pki.list().pem());
    for (authorities, fits) in [
        (vec![&only_certificates], false),
        // The same key: one of its certificates allows it.
        (vec![&only_certificates, &world.pki], true),
        (vec![&unsaid], true),
    ] {
        let text: String = authorities.iter().map(|authority| authority.ca_pem.as_str()).collect();
        world.scratch.write("proxy/ca.pem", text);
        let output = check(&config, &[]);
        let said = said(&output);
        assert_eq!(output.status.success(), fits, "{said}");
        assert!(fits || said.contains("its keyUsage lacks cRLSign"), "{said}");
    }
}

#[tokio::test]
async fn a_list_of_an_intermediate_authority_that_may_not_sign_lists_says_nothing_good() {
    let site = Site::new();
    let proxy = site.start().await;
    let root = &site.world.pki;
    let below = root.authority("below", |params| {
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    let issue = || below.issue(&Profile::client(ALICE)).with(&below);
    let (good, bad) = (issue(), issue());
    site.put([&[&root.list()], &[&below.list().revoking(&bad)]], &[root]);
    super::reload(&proxy);
    assert!(told(&proxy, &root.ca_pem, &good).await.contains(super::UNKNOWN));
    assert!(told(&proxy, &root.ca_pem, &bad).await.contains(REVOKED));
}

#[test]
fn check_says_of_each_list_what_it_does() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let config = world
        .proxy()
        .tls("client_crl_files = [\"one.crl\", \"two.crl\"]")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .write();
    let pki = &world.pki;
    let expired = || pki.list().between(-DAY * 9, -DAY);
    let shard = |uri: &str| Point::uris(&[uri]);
    let stranger = Pki::named("stranger");
    let refused = ["are refused; fetch the current list"];
    for (one, two, expected) in [
        (pki.list(), pki.list(), &[][..]),
        (expired(), pki.list(), &["a current list covers what it covered; leave it out"]),
        (pki.list(), expired(), &["a current list covers what it covered; leave it out"]),
        (expired(), expired(), &[refused[0], refused[0]]),
        (expired().at(&shard("http://1")), pki.list().at(&shard("http://2")), &refused),
        (expired(), pki.list().at(&shard("http://1")), &refused),
        (pki.list().between(Duration::HOUR, DAY), pki.list(), &["is to come"]),
        (stranger.list(), pki.list(), &["which is not in client_ca_file"]),
        (
            stranger.list(),
            stranger.list(),
            &["is not in client_ca_file", "is not in client_ca_file", "has no list in client_crl"],
        ),
    ] {
        world.scratch.write("proxy/one.crl", one.pem());
        world.scratch.write("proxy/two.crl", two.pem());
        let output = check(&config, &[]);
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        let notes: Vec<_> = said.lines().filter(|line| line.contains("client_c")).collect();
        assert_eq!(notes.len(), expected.len(), "{said}");
        for (note, expected) in notes.iter().zip(expected) {
            assert!(note.contains(expected), "{expected}: {said}");
        }
    }
}

#[test]
fn no_change_of_a_byte_hides_a_revocation_from_us_that_another_parser_sees() {
    let world = World::new();
    let bad = world.pki.issue(&Profile::client(ALICE));
    let point = Point::uris(&["http://crl/1"]).only(1);
    let list = world.pki.list().revoking(&bad).with_in_entries(INVALIDITY_DATE, false, &[5, 0]);
    let der = list.at(&point).der();
    assert_eq!(untrusted_input::revocation_list(&der), Some(true));
    let mut taken = 0;
    for index in 0..der.len() {
        for flipped in [0x01, 0x02, 0x20, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[index] ^= flipped;
            let revokes_all = untrusted_input::revocation_list(&changed);
            assert_ne!(revokes_all, Some(false), "byte {index}, bits {flipped:#x}");
            taken += u32::from(revokes_all.is_some());
        }
    }
    assert!(taken > 0, "a change of the number alone is no mistake of form");
}
