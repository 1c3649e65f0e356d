//! Names of callers: a name of one form never makes a caller of another form, wherever
//! it stands. The table is tried at each place that reads one.

use rcgen::string::Ia5String;
use rcgen::{CustomExtension, SanType};
use serde_json::{Value, json};
use signing_core::breakglass::{Request, RequestError};
use system_tests::breakglass::sign;
use system_tests::{Kind, Profile, Protocol, World};

use crate::ALICE;
use crate::config_files::{check, said};

const BILLING: &str = "billing.example";
/// A caller of a local door, which no certificate names.
const LOCAL: &str = "local:billing";

/// The forms of names that a certificate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum San {
    Uri,
    Dns,
    Email,
}

/// Names as certificates state them: in which form, and whether that is a caller's name.
/// The text of each that is none is, or looks like, the name of a caller of another form.
const SANS: [(San, &str, bool); 26] = [
    (San::Uri, ALICE, true),
    (San::Dns, BILLING, true),
    (San::Dns, ALICE, false),
    (San::Dns, "spiffe:test/alice", false),
    (San::Dns, "SPIFFE://test/alice", false),
    (San::Dns, "test/alice", false),
    (San::Dns, "https://billing.example", false),
    (San::Dns, "billing.example:443", false),
    (San::Dns, LOCAL, false),
    (San::Dns, "Billing.example", false),
    (San::Dns, "billing.example.", false),
    (San::Dns, "*.example", false),
    (San::Dns, "bil_ling.example", false),
    (San::Dns, "10.0.0.1", false),
    (San::Dns, " billing.example", false),
    (San::Uri, BILLING, false),
    (San::Uri, "https://billing.example", false),
    (San::Uri, LOCAL, false),
    (San::Uri, "dns:billing.example", false),
    (San::Uri, "SPIFFE://test/alice", false),
    (San::Uri, "spiffe:test/alice", false),
    (San::Uri, "spiffe://test/alice/", false),
    (San::Uri, "spiffe://test:443/alice", false),
    (San::Uri, "spiffe://test/alice?as=bob", false),
    (San::Email, BILLING, false),
    (San::Email, ALICE, false),
];

/// Texts that are the name of a caller of some form, and texts that are of none.
fn names() -> impl Iterator<Item = (&'static str, bool)> {
    let texts = SANS.iter().map(|(_, name, _)| *name);
    texts.map(|name| (name, [ALICE, BILLING, LOCAL].contains(&name)))
}

#[tokio::test]
async fn in_a_certificate_each_form_of_name_makes_only_its_own_kind_of_caller() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).caller(BILLING, &["ec"]).start();
    let proxy = proxy.await;
    for (form, name, is_caller) in SANS {
        let text = Ia5String::try_from(name).unwrap();
        let name_of_that_form = match form {
            San::Uri => SanType::URI(text),
            San::Dns => SanType::DnsName(text),
            San::Email => SanType::Rfc822Name(text),
        };
        let certificate = world.pki.issue_with(&Profile::client(ALICE), |params| {
            params.subject_alt_names = vec![name_of_that_form];
        });
        let client = proxy.client_with(&certificate, Protocol::Http1).await;
        let answer = client.sign_message("ec", b"hi").await;
        let expected = if is_caller { (200, "") } else { (403, "caller_not_authorized") };
        assert_eq!((answer.status, answer.reason()), expected, "{form:?} {name:?}");
        if !is_caller {
            assert!(answer.text.contains("names no caller"), "{}", answer.text);
        }
    }
}

#[test]
fn in_the_configuration_a_name_is_a_spiffe_id_a_dns_name_or_a_local_callers_and_nothing_else() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    for (name, is_caller) in names() {
        let output = check(&world.proxy().signer("ec", &key).caller(name, &["ec"]).write(), &[]);
        let said = said(&output);
        assert_eq!(output.status.success(), is_caller, "{name:?}: {said}");
        let mut lines = said.lines();
        let is_told = lines.any(|line| line.contains("callers[0].name: ") && line.contains(name));
        assert!(is_caller || is_told, "{name:?}: {said}");
    }
}

#[tokio::test]
async fn in_the_scope_of_a_break_glass_request_and_on_its_wire_a_name_is_of_one_form_too() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let signer = world.signer().replaces("payments", &key).start().await;
    let mut proxy = signer.connect().await;
    let mut request = signer.request();
    for (name, is_caller) in names() {
        request["callers"] = json!([name]);
        let read = Request::parse(request.to_string().as_bytes());
        let mistaken = |error: RequestError| error.to_string().starts_with("callers: ");
        assert_eq!(read.map_err(mistaken).err(), (!is_caller).then_some(true), "{name:?}");
    }
    request["callers"] = json!(["local:Billing"]);
    let refused = proxy.ask(signer.activation(&request)).await;
    assert!(refused["refused"].to_string().contains("callers: "), "{refused}");
    request["callers"] = json!([ALICE, BILLING, LOCAL]);
    let session = signer.activated(&mut proxy, &request).await;
    for (name, is_caller) in names() {
        let mut ask: Value = sign(&session, "payments", b"hi");
        ask["sign"]["caller"] = json!(name);
        let answer = proxy.ask(ask).await;
        assert_eq!(answer["signed"].is_object(), is_caller, "{name:?}: {answer}");
    }
}

/// `nameConstraints` that permits only URIs with the host `other`, in DER: no other name.
fn only_other_uris() -> CustomExtension {
    let subtree = [&[0x86, 5][..], b"other"].concat();
    let subtrees = [&[0x30, u8::try_from(subtree.len()).unwrap()][..], &subtree].concat();
    let permitted = [&[0xa0, u8::try_from(subtrees.len()).unwrap()][..], &subtrees].concat();
    let content = [&[0x30, u8::try_from(permitted.len()).unwrap()][..], &permitted].concat();
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
    extension.set_criticality(true);
    extension
}

#[tokio::test]
async fn an_authority_whose_uris_are_constrained_names_no_spiffe_caller_by_a_dns_name() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let constrained = world.pki.authority("constrained", |params| {
        params.custom_extensions = vec![only_other_uris()];
    });
    let alice = Profile::client(ALICE);
    let as_dns_name = Profile { uris: vec![], dns_names: vec![ALICE.to_owned()], ..alice.clone() };
    let certificate = constrained.issue(&as_dns_name).with(&constrained);
    let client = proxy.client_with(&certificate, Protocol::Http1).await;
    assert_eq!(client.sign_message("ec", b"hi").await.reason(), "caller_not_authorized");
    // As a URI, the handshake refuses it: constraints of URIs are not understood, so nobody
    // passes them.
    let certificate = constrained.issue(&alice).with(&constrained);
    let client = proxy.client_with(&certificate, Protocol::Http1).await;
    let refused = client.send(http::Method::GET, "/v1/signers", &[], "").await;
    assert!(refused.is_err(), "{refused:?}");
}
