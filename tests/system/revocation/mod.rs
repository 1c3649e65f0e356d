//! Revocation lists: all of them are consulted, whatever their order and however they are
//! spread over files.

mod connections;
mod mistakes;

use rcgen::CrlDistributionPoint;
use system_tests::{Certificate, Client, Kind, List, Pki, Point, Profile, Protocol, Proxy, World};
use time::Duration;

use crate::ALICE;

const DAY: Duration = Duration::days(1);

/// A proxy that looks at the lists of two files.
struct Site {
    world: World,
}

impl Site {
    fn new() -> Self {
        Self { world: World::new() }
    }

    /// The files hold these lists, and `client_ca_file` these authorities.
    fn put(&self, files: [&[&List]; 2], authorities: &[&Pki]) {
        for (name, lists) in ["one.crl", "two.crl"].iter().zip(files) {
            let text: String = lists.iter().map(|list| list.pem()).collect();
            self.world.scratch.write(&format!("proxy/{name}"), text);
        }
        let text: String = authorities.iter().map(|authority| authority.ca_pem.as_str()).collect();
        self.world.scratch.write("proxy/ca.pem", text);
    }

    async fn start(&self) -> Proxy<'_> {
        let key = self.world.kms.key(Kind::P256);
        let builder = self.world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
        let builder = builder.tls("client_crl_files = [\"one.crl\", \"two.crl\"]");
        let list = self.world.pki.list();
        self.put([&[&list], &[&list]], &[&self.world.pki]);
        builder.start().await
    }

    fn issue(&self) -> Certificate {
        self.world.pki.issue(&Profile::client(ALICE))
    }
}

fn reload(proxy: &Proxy<'_>) {
    let (code, said, error) = proxy.signctl(&["reload"]);
    assert_eq!(code, 0, "{said}{error}");
}

/// What a client with that certificate is told: nothing, if it is let in, or the alert.
async fn told(proxy: &Proxy<'_>, ca_pem: &str, certificate: &Certificate) -> String {
    let client = Client::connect(&proxy.listen, ca_pem, certificate, Protocol::Http1).await;
    let answer = match client {
        Ok(client) => client.send(http::Method::GET, "/v1/signers", &[], "").await,
        Err(alert) => Err(alert),
    };
    match answer {
        Ok(answer) => {
            assert_eq!(answer.status, 200, "{answer:?}");
            String::new()
        }
        Err(alert) => alert,
    }
}

const IN: &str = "";
const REVOKED: &str = "CertificateRevoked";
/// Nobody says whether it is revoked: the alert that other servers send, too.
const UNKNOWN: &str = "UnknownCA";

/// A case: its name, its lists, and what each certificate is told.
type Case<'c> = (&'c str, Vec<List>, Vec<(&'c Certificate, &'c str)>);

/// Tries each case with its lists in every order, and spread over the files in every way.
async fn try_all(site: &Site, proxy: &Proxy<'_>, authorities: &[&Pki], cases: &[Case<'_>]) {
    // Clients trust the server's authority, whichever theirs is.
    let ca_pem = &site.world.pki.ca_pem;
    for (name, lists, expected) in cases {
        for order in orders(lists) {
            for cut in 1..=order.len() {
                let (one, two) = order.split_at(cut);
                // A file without a list is a mistake: one list twice changes nothing.
                let two = if two.is_empty() { one } else { two };
                site.put([one, two], authorities);
                reload(proxy);
                for (index, (certificate, alert)) in expected.iter().enumerate() {
                    let told = told(proxy, ca_pem, certificate).await;
                    let fits =
                        if alert.is_empty() { told.is_empty() } else { told.contains(alert) };
                    assert!(fits, "{name}: certificate {index}: {told:?}, not {alert:?}");
                }
            }
        }
    }
}

/// Every order of the lists.
fn orders(lists: &[List]) -> Vec<Vec<&List>> {
    let Some((first, rest)) = lists.split_first() else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for order in orders(rest) {
        for at in 0..=order.len() {
            let mut longer = order.clone();
            longer.insert(at, first);
            all.push(longer);
        }
    }
    all
}

#[tokio::test]
async fn revoked_on_any_valid_list_is_revoked_in_whatever_order_the_lists_are() {
    let site = Site::new();
    let proxy = site.start().await;
    let pki = &site.world.pki;
    let (good, bad) = (site.issue(), site.issue());
    let list = || pki.list();
    let older = || list().between(-DAY * 3, DAY);
    let expired = || list().between(-DAY * 9, -DAY);
    let early = || list().between(DAY, DAY * 9);
    let cases = [
        (
            "only the newer list has it",
            vec![older(), list().revoking(&bad)],
            vec![(&good, IN), (&bad, REVOKED)],
        ),
        (
            "only the older list has it",
            vec![older().revoking(&bad), list()],
            vec![(&good, IN), (&bad, REVOKED)],
        ),
        (
            "an expired list beside a current one",
            vec![expired(), list().revoking(&bad)],
            vec![(&good, IN), (&bad, REVOKED)],
        ),
        (
            "what an expired list had, and the current one has not",
            vec![expired().revoking(&bad), list()],
            vec![(&good, IN), (&bad, IN)],
        ),
        ("only an expired list", vec![expired()], vec![(&good, UNKNOWN), (&bad, UNKNOWN)]),
        (
            "a list of the future revokes already",
            vec![list(), early().revoking(&bad)],
            vec![(&good, IN), (&bad, REVOKED)],
        ),
        ("only a list of the future", vec![early()], vec![(&good, UNKNOWN)]),
        (
            "clocks that are a minute apart",
            vec![list().between(Duration::MINUTE, DAY)],
            vec![(&good, IN)],
        ),
        (
            "three lists",
            vec![older(), expired(), list().revoking(&bad)],
            vec![(&good, IN), (&bad, REVOKED)],
        ),
    ];
    try_all(&site, &proxy, &[pki], &cases).await;
}

#[tokio::test]
async fn a_sharded_list_covers_the_certificates_of_its_distribution_point() {
    let site = Site::new();
    let proxy = site.start().await;
    let pki = &site.world.pki;
    let at = |uri: &str| {
        pki.issue_with(&Profile::client(ALICE), |params| {
            let uris = vec![uri.to_owned()];
            params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
        })
    };
    let (first, other, third) = ("http://crl/1", "http://crl/2", "http://crl/3");
    let (one, bad, two, stray, nowhere) =
        (at(first), at(other), at(other), at(third), site.issue());
    let shard = |uri| pki.list().at(&Point::uris(&[uri]));
    let users = |uri| pki.list().at(&Point::uris(&[uri]).only(1));
    let authorities = |uri| pki.list().at(&Point::uris(&[uri]).only(2));
    let cases = [
        (
            "two shards",
            vec![shard(first), shard(other).revoking(&bad)],
            vec![(&one, IN), (&two, IN), (&bad, REVOKED), (&stray, UNKNOWN), (&nowhere, UNKNOWN)],
        ),
        (
            "a point of two names",
            vec![pki.list().at(&Point::uris(&[other, first]))],
            vec![(&one, IN), (&two, IN), (&stray, UNKNOWN)],
        ),
        (
            "of users",
            vec![users(first), users(other).revoking(&bad)],
            vec![(&one, IN), (&two, IN), (&bad, REVOKED)],
        ),
        ("of authorities", vec![authorities(first)], vec![(&one, UNKNOWN)]),
        (
            "of all users",
            vec![pki.list().at(&Point::default().only(1))],
            vec![(&one, IN), (&nowhere, IN)],
        ),
        (
            "one shard has expired",
            vec![shard(first), shard(other).between(-DAY * 9, -DAY)],
            vec![(&one, IN), (&two, UNKNOWN)],
        ),
        (
            "a shard beside a list of all",
            vec![pki.list(), shard(other).revoking(&bad)],
            vec![(&one, IN), (&two, IN), (&bad, REVOKED), (&stray, IN), (&nowhere, IN)],
        ),
        // A number is one certificate's, in whichever shard it stands.
        (
            "the wrong shard has it",
            vec![shard(first).revoking(&bad), shard(other)],
            vec![(&two, IN), (&bad, REVOKED)],
        ),
    ];
    try_all(&site, &proxy, &[pki], &cases).await;
}

#[tokio::test]
async fn an_authority_that_is_renewed_under_its_name_has_lists_under_both_keys() {
    let site = Site::new();
    let proxy = site.start().await;
    let old = &site.world.pki;
    let new = Pki::new();
    let same_key = old.renewed(|_| ());
    let of = |pki: &Pki| pki.issue(&Profile::client(ALICE));
    let (by_old, by_new, bad_old, bad_new) = (of(old), of(&new), of(old), of(&new));
    let both = || vec![old.list().revoking(&bad_old), new.list().revoking(&bad_new)];
    let cases = [
        (
            "a list under each key",
            both(),
            vec![(&by_old, IN), (&by_new, IN), (&bad_old, REVOKED), (&bad_new, REVOKED)],
        ),
        (
            "the new key's list revokes what the old key issued",
            vec![old.list(), new.list().revoking(&bad_old)],
            vec![(&by_old, IN), (&by_new, IN), (&bad_old, REVOKED)],
        ),
        (
            "only the new key's list",
            vec![new.list().revoking(&bad_old)],
            vec![(&by_old, UNKNOWN), (&by_new, IN), (&bad_old, REVOKED)],
        ),
        (
            "the old key's list has expired",
            vec![old.list().between(-DAY * 9, -DAY), new.list()],
            vec![(&by_old, UNKNOWN), (&by_new, IN)],
        ),
    ];
    try_all(&site, &proxy, &[old, &new], &cases).await;
    let cases = [(
        "the same key",
        vec![old.list().revoking(&bad_old)],
        vec![(&by_old, IN), (&bad_old, REVOKED)],
    )];
    try_all(&site, &proxy, &[&same_key, old], &cases).await;
}

#[tokio::test]
async fn intermediate_authorities_have_lists_and_stand_on_lists() {
    let site = Site::new();
    let proxy = site.start().await;
    let root = &site.world.pki;
    let below = |name| root.authority(name, |_| ());
    let (one, renewed, bad) = (below("one"), below("one"), below("bad"));
    let of = |pki: &Pki| pki.issue(&Profile::client(ALICE)).with(pki);
    let (by_one, by_renewed, by_bad, revoked) = (of(&one), of(&renewed), of(&bad), of(&one));
    let deep = one.authority("deep", |_| ());
    let by_deep = of(&deep).with(&one);
    let roots = || root.list().revoking_authority(&bad);
    let cases = [
        (
            "a list of each authority",
            vec![roots(), one.list().revoking(&revoked), bad.list()],
            vec![
                (&by_one, IN),
                (&revoked, REVOKED),
                (&by_bad, REVOKED),
                (&by_renewed, UNKNOWN),
                (&by_deep, UNKNOWN),
            ],
        ),
        ("without the root's list", vec![one.list()], vec![(&by_one, UNKNOWN)]),
        ("without the intermediate authority's list", vec![roots()], vec![(&by_one, UNKNOWN)]),
        (
            "two authorities of one name",
            vec![roots(), one.list(), renewed.list()],
            vec![(&by_one, IN), (&by_renewed, IN)],
        ),
        (
            "the root covers users only",
            vec![root.list().at(&Point::default().only(1)), one.list()],
            vec![(&by_one, UNKNOWN)],
        ),
        ("three deep", vec![roots(), one.list(), deep.list()], vec![(&by_deep, IN)]),
        (
            "the middle one is revoked",
            vec![roots(), one.list().revoking_authority(&deep), deep.list()],
            vec![(&by_one, IN), (&by_deep, REVOKED)],
        ),
    ];
    try_all(&site, &proxy, &[root], &cases).await;

    // An authority that is trusted by itself is no longer, once another one revokes it.
    let lists = vec![roots(), one.list(), bad.list()];
    let cases = [("trusted by itself", lists, vec![(&by_one, IN), (&by_bad, REVOKED)])];
    try_all(&site, &proxy, &[root, &one, &bad], &cases).await;
}
