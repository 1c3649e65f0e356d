//! What is wrong with the files of the proxy.

use rcgen::IsCa;
use system_tests::breakglass::succeeds;
use system_tests::programs::system;
use system_tests::{Pki, Profile};
use time::{Duration, OffsetDateTime};

use super::{Is, Place, Row, row, variable};

/// An authority's certificate beside the good one.
fn beside(place: &Place<'_>, pem: &str) {
    place.write("ca.pem", format!("{}{pem}", place.world.pki.ca_pem));
}

fn in_other_form(place: &Place<'_>, file: &str, arguments: &[&str]) {
    let path = place.path(file);
    let mut openssl = system("openssl");
    let out = place.path("other");
    let _ = succeeds(openssl.args(arguments).arg("-in").arg(&path).arg("-out").arg(&out));
    std::fs::rename(out, path).unwrap();
}

const SEAL: &[&str] = &["pkcs8", "-topk8", "-v2", "aes256", "-passout", "pass:x"];
const AS_DER: &[&str] = &["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"];

pub(super) const ROWS: &[Row] = &[
    row(
        "a server certificate that has expired",
        Is::Mistake,
        |place| {
            let old = place.world.pki.issue(&Profile { days: (-9, -2), ..Profile::server() });
            place.write("server.pem", old.certificate_pem);
            place.write("server.key", old.key_pem);
        },
        &["server.tls.certificate_file: ", "server.pem", "20", "; renew it"],
    ),
    row(
        "one that ends in two days",
        Is::Note,
        |place| {
            let old = place.world.pki.issue(&Profile { days: (-9, 2), ..Profile::server() });
            place.write("server.pem", old.certificate_pem);
            place.write("server.key", old.key_pem);
        },
        &["server.tls.certificate_file: ", "server.pem", "renew"],
    ),
    row(
        "a key of another certificate",
        Is::Mistake,
        |place| place.write("server.key", place.world.pki.issue(&Profile::server()).key_pem),
        &[
            "server.tls.private_key_file: ",
            "server.key is not the key of the certificate",
            "name its own",
        ],
    ),
    row(
        "no authority that is valid",
        Is::Mistake,
        |place| {
            let ended = |params: &mut rcgen::CertificateParams| {
                params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
            };
            place.write("ca.pem", Pki::made("expired", ended).ca_pem);
        },
        &["server.tls.client_ca_file: ", "ca.pem has no authority that is valid now"],
    ),
    row(
        "an authority that has expired, beside a good one",
        Is::Note,
        |place| {
            let ended = |params: &mut rcgen::CertificateParams| {
                params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
            };
            beside(place, &Pki::made("expired", ended).ca_pem);
        },
        &[
            "server.tls.client_ca_file: certificate 2 of ",
            "ca.pem",
            "expired at 20",
            "; leave it out",
        ],
    ),
    row(
        "a client's certificate among the authorities",
        Is::Mistake,
        |place| {
            beside(place, &place.world.pki.issue(&Profile::client("a.example")).certificate_pem)
        },
        &[
            "server.tls.client_ca_file: certificate 2 of ",
            "ca.pem",
            "has no basicConstraints",
            "; ",
        ],
    ),
    row(
        "CA:FALSE among the authorities",
        Is::Mistake,
        |place| beside(place, &Pki::made("x", |params| params.is_ca = IsCa::ExplicitNoCa).ca_pem),
        &["server.tls.client_ca_file: certificate 2 of ", "ca.pem", "CA:FALSE", "; "],
    ),
    row(
        "an authority twice",
        Is::Note,
        |place| beside(place, &place.world.pki.ca_pem),
        &["server.tls.client_ca_file: certificate 2 of ", "is the same as certificate 1", "; "],
    ),
    row(
        "a revocation list that has expired",
        Is::Note,
        |place| place.write("clients.crl", place.world.pki.revocation_list(&[], -1)),
        &["server.tls.client_crl_files: ", "clients.crl", "20", "; "],
    ),
    row(
        "a delta list",
        Is::Mistake,
        |place| {
            let delta = place.world.pki.list().with(&[0x55, 0x1d, 27], true, &[0x02, 1, 1]);
            place.write("clients.crl", delta.der());
        },
        &["server.tls.client_crl_files: list 1 of ", "clients.crl is a delta list", "; "],
    ),
    row(
        "a list of another authority",
        Is::Note,
        |place| place.write("clients.crl", Pki::named("another").revocation_list(&[], 7)),
        &[
            "server.tls.client_crl_files: list 1 of ",
            "clients.crl is of \"CN=another\", which is not in client_ca_file",
            "leave it out",
        ],
    ),
    row(
        "an authority whose list is missing",
        Is::Note,
        |place| place.write("clients.crl", Pki::named("another").revocation_list(&[], 7)),
        &["server.tls.client_ca_file: certificate 1 of ", "has no list", "; name its list there"],
    ),
    row(
        "an encrypted key",
        Is::Mistake,
        |place| in_other_form(place, "server.key", SEAL),
        &[
            "server.tls.private_key_file: ",
            "server.key holds an encrypted private key",
            "openssl pkey -in ",
        ],
    ),
    row(
        "a key in DER",
        Is::Mistake,
        |place| in_other_form(place, "audit.key", AS_DER),
        &[
            "audit.key_file: ",
            "audit.key holds a private key in DER",
            "openssl pkey -inform DER -in ",
        ],
    ),
    row(
        "a line end behind a key's id",
        Is::Mistake,
        |place| place.configure("key_id = \"", "key_id = \"\\n"),
        &["key_id: is \"\\n", "begins with a ", "; remove it"],
    ),
    row(
        "a blank behind a region",
        Is::Mistake,
        |place| place.configure("region = \"eu-test-1\"", "region = \"eu-test-1 \""),
        &["region: is \"eu-test-1 \"", "ends with a ", "; remove it"],
    ),
    variable(
        &[("AWS_REGION", "eu-test-1\n")],
        Is::Note,
        &["AWS_REGION: is \"eu-test-1\\n\"", "taken as \"eu-test-1\"", "remove"],
    ),
    variable(
        &[("KMS_KEY_ID", " 1234abcd-12ab-34cd-56ef-1234567890ab")],
        Is::Note,
        &["KMS_KEY_ID: is \" 1234", "taken as \"1234", "remove"],
    ),
    Row {
        environment: &[("HTTPS_PROXY", "socks5://127.0.0.1:1080")],
        ..row(
            "a proxy of a kind that is not spoken",
            Is::Mistake,
            |place| {
                place.configure("endpoint = \"http://127.0.0.1", "endpoint = \"https://kms.example")
            },
            &["HTTPS_PROXY: is \"socks5://127.0.0.1:1080\"", "expected http://HOST:PORT"],
        )
    },
    variable(&[("RUST_LOG", "")], Is::Note, &["RUST_LOG: is empty", "the default applies: info"]),
    variable(
        &[("RUST_LOG", "inof")],
        Is::Note,
        &["RUST_LOG: \"inof\" is not one of the levels", "the default applies: info"],
    ),
    row(
        "a key that others read",
        Is::MistakeInProduction,
        |place| place.chmod("server.key", 0o644),
        &[
            "server.tls.private_key_file: every user may read ",
            "server.key (mode 0644)",
            "chmod it to 0400",
        ],
    ),
    row(
        "the audit key that others read",
        Is::MistakeInProduction,
        |place| place.chmod("audit.key", 0o604),
        &["audit.key_file: every user may read ", "audit.key (mode 0604)", "chmod it to 0400"],
    ),
    row(
        "a registry that others change",
        Is::MistakeInProduction,
        |place| place.chmod("signers.json", 0o666),
        &["registry.file: every user may change ", "signers.json (mode 0666)", "chmod o-w "],
    ),
    row(
        "a configuration that others change",
        Is::MistakeInProduction,
        |place| place.chmod("signing-proxy.toml", 0o666),
        &["--config: every user may change ", "signing-proxy.toml (mode 0666)", "chmod o-w "],
    ),
    row(
        "a state that others write into",
        Is::MistakeInProduction,
        |place| place.chmod("state", 0o777),
        &["state.dir: every user may write into ", "state (mode 0777)", "chmod o-w "],
    ),
    row(
        "a journal that others write into",
        Is::MistakeInProduction,
        |place| place.chmod("journal", 0o777),
        &["audit.dir: every user may write into ", "journal (mode 0777)", "chmod o-w "],
    ),
    row(
        "a user who is not in the socket's group",
        Is::Note,
        |place| place.configure("allowed_uids = [0]", "allowed_uids = [0, 65534]"),
        &[
            "admin.allowed_uids: uid 65534 (nobody) cannot connect to ",
            "admin.sock",
            "usermod -aG root nobody",
        ],
    ),
    row(
        "a user whom a directory keeps out",
        Is::Note,
        |place| {
            place.configure("allowed_uids = [0]", "allowed_uids = [65534]");
            place.chmod("", 0o700);
        },
        &[
            "admin.allowed_uids: uid 65534 (nobody) cannot connect to ",
            "may not enter ",
            "mode 0700",
            "chmod o+x ",
        ],
    ),
    row(
        "a group that is not the socket's",
        Is::Note,
        |place| place.configure("allowed_uids = [0]", "allowed_uids = [0]\nallowed_gids = [65534]"),
        &["admin.allowed_gids: ", "65534 (nogroup)", "admin.sock", "0 (root)", "chgrp 65534 "],
    ),
    row(
        "nobody may freeze",
        Is::Note,
        |place| place.configure("allowed_uids = [0]", "allowed_uids = []"),
        &["admin.allowed_uids: is []", "nobody can freeze", "add a user"],
    ),
    row(
        "a caller that is no name",
        Is::Mistake,
        |place| place.configure("name = \"spiffe://test/alice\"", "name = \"http://t/a\""),
        &["callers[0].name: ", "http://t/a", "spiffe://"],
    ),
    row(
        "a misspelt revocation",
        Is::Mistake,
        |place| {
            let revoked = "\"revoked_at\":\"2026-01-01T00:00:00Z\",\"signer_kid\":\"ec\"";
            place.edit("signers.json", "\"signer_kid\":\"ec\"", revoked);
        },
        &["registry.file: ", "\"ec\"", "\"revoked_at\" is unknown; write \"revokedAt\""],
    ),
    row(
        "a list in the place of an entry",
        Is::Mistake,
        |place| place.write("signers.json", r#"{"signers":[["ec","ECDSA_SHA_256","x"]]}"#),
        &["registry.file: ", "signers.json", "object"],
    ),
    row(
        "one address that takes every handshake",
        Is::Note,
        |place| {
            let limits = "[server]\nhandshakes_max = 8\nhandshakes_per_address_max = 9\n";
            place.configure("[server]\n", limits);
        },
        &["server.handshakes_per_address_max: is 9", "handshakes_max 8", "lower it"],
    ),
    row(
        "one caller that takes the room of all answers",
        Is::Note,
        |place| {
            let limits = "[server]\nanswers_max_bytes = 131072\nanswers_per_caller_max_bytes = 262144\n\
                          answers_per_connection_max_bytes = 65536\n";
            place.configure("[server]\n", limits);
        },
        &["server.answers_per_caller_max_bytes: is 262144", "answers_max_bytes 131072", "lower it"],
    ),
];
