//! What each target does with its bytes, and what has to hold whatever they are. The fuzz
//! targets and `tests/system/corpus.rs`, which replays the corpus, share this file.

mod breakglass;
mod edges;
mod journal;
mod keys;
mod wires;

use std::path::Path;
use std::str::from_utf8;
use std::time::Duration;

use configuration::Environment;
use http::{HeaderMap, HeaderName, HeaderValue};
use monitor::Stored;
use server::untrusted_input;
use sign::request_context::{self, RequestContext};
use signing_core::journal::{Frame, HEADER_BYTES, Header, Outline};
use signing_core::key::{Batching, PublicKey, Purpose};
use signing_core::tree::{Inclusion, SignedCheckpoint};
use signing_core::{
    Algorithm, Caller, Canary, Digest, Door, Hash, Input, Kid, Moment, Registry, SignatureFormat,
    Signer, ToBeSigned, batch,
};

/// A target: what it does with bytes. It panics if something does not hold.
pub type Body = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const ALL: [(&str, Body); 29] = [
    ("sign_body", sign_body),
    ("verify_body", verify_body),
    ("registry", registry),
    ("config", config_toml),
    ("certificate", certificate),
    ("revocation_list", revocation_list),
    ("public_key", public_key),
    ("signature", signature),
    ("batch_proof", batch_proof),
    ("journal_bytes", journal_bytes),
    ("journal_recovery", journal::recovery),
    ("headers", headers),
    ("aws_signature", edges::aws_signature),
    ("input", input),
    ("state_file", state_file),
    ("breakglass_request", breakglass::request),
    ("approval", breakglass::approvals),
    ("approvers", breakglass::approvers),
    ("signer_config", breakglass::signer_config),
    ("signer_state", breakglass::signer_state),
    ("key_file", keys::key_file),
    ("token_key", keys::token_key),
    ("signer_frames", wires::signer),
    ("worker_frames", wires::worker),
    ("admin_body", edges::admin_body),
    ("resource", edges::resource),
    ("gate_answer", edges::gate_answer),
    ("cloudtrail", edges::cloudtrail),
    ("upstream_date", edges::upstream_date),
];

/// Runs the target of that name on `bytes`.
pub fn run(name: &str, bytes: &[u8]) {
    let body = ALL.iter().find(|(target, _)| *target == name);
    let (_, body) = body.unwrap_or_else(|| panic!("no target {name}"));
    body(bytes);
}

/// Splits off the first byte, which chooses.
fn choose<'t, 'b, T>(among: &'t [T], bytes: &'b [u8]) -> Option<(&'t T, &'b [u8])> {
    let (first, rest) = bytes.split_first()?;
    Some((among.get(usize::from(*first) % among.len())?, rest))
}

/// A body to sign, in the dialect that the first byte chooses.
fn sign_body(bytes: &[u8]) {
    const PATHS: [(&str, Option<&str>); 6] = [
        ("/v1/sign", Some("application/json")),
        ("/v1/sign", None),
        ("/sign", None),
        ("/signData", None),
        ("/sign/hash", None),
        ("/sign/canonical", None),
    ];
    let Some(((path, content_type), body)) = choose(&PATHS, bytes) else { return };
    let Ok(request) = untrusted_input::sign_request(path, *content_type, body) else { return };
    prepared(&request.input);
    assert!(request.justification.is_none_or(|text| !text.contains(['\0', '\n', '\r'])));
}

/// A body to verify.
fn verify_body(bytes: &[u8]) {
    const PATHS: [(&str, Option<&str>); 2] =
        [("/v1/verify", Some("application/json")), ("/verify", None)];
    let Some(((path, content_type), body)) = choose(&PATHS, bytes) else { return };
    let Ok((input, signature)) = untrusted_input::verify_request(path, *content_type, body) else {
        return;
    };
    prepared(&input);
    does_not_verify(&input, &signature);
}

/// Whatever is asked for, no caller ever has a canary signed.
fn prepared(input: &Input) {
    for algorithm in Algorithm::ALL {
        let Ok(prepared) = ToBeSigned::prepare(input, *algorithm) else { continue };
        is_no_canary(&prepared);
        if let Input::Message(message) = input {
            assert!(!message.starts_with(CANARY), "the digest of a canary could be signed");
        }
        assert_eq!(prepared.algorithm(), *algorithm);
    }
}

fn is_no_canary(prepared: &ToBeSigned) {
    assert!(!prepared.bytes().starts_with(CANARY), "a canary could be signed");
}

/// Nobody has the private keys of these.
fn does_not_verify(input: &Input, signature: &[u8]) {
    for (algorithm, pem) in
        [(Algorithm::EcdsaSha256, P256_PEM), (Algorithm::Ed25519Sha512, ED25519_PEM)]
    {
        let key = PublicKey::from_pem(pem, algorithm);
        let key = key.unwrap_or_else(|error| panic!("{algorithm}: {error}"));
        let Ok(prepared) = ToBeSigned::prepare(input, algorithm) else { continue };
        assert!(!key.verifies(&prepared, signature), "{algorithm}: forged {signature:02x?}");
    }
}

/// `signers.json`: what is read is written so that it reads the same.
fn registry(bytes: &[u8]) {
    let Some(registry) = from_utf8(bytes).ok().and_then(|text| Registry::from_json(text).ok())
    else {
        return;
    };
    let written = serde_json::to_string(&registry.to_document());
    let written = written.unwrap_or_else(|error| panic!("not written: {error}"));
    let again = Registry::from_json(&written);
    let again = again.unwrap_or_else(|mistakes| panic!("{mistakes:?} in {written}"));
    let kids =
        |registry: &Registry| registry.iter().map(|signer| signer.kid.clone()).collect::<Vec<_>>();
    assert_eq!(kids(&registry), kids(&again));
    for signer in registry.iter() {
        assert_eq!(again.get(signer.kid.as_str()), Some(signer));
    }
}

/// A configuration: mistakes, each of which says something.
fn config_toml(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let environment = Environment::from_iter([]);
    if let Ok(mistakes) = configuration::mistakes(text, Path::new("/nowhere"), &environment) {
        assert!(mistakes.iter().all(|mistake| mistake.contains(": ")), "{mistakes:?}");
    }
}

/// A client certificate: a caller's name is one that a policy could hold.
fn certificate(bytes: &[u8]) {
    if let Ok(caller) = untrusted_input::caller(bytes) {
        assert_eq!(Caller::parse(caller.as_str()).ok().as_ref(), Some(&caller));
    }
    // The names alone, one on each line, with their kind.
    let Ok(text) = from_utf8(bytes) else { return };
    let of =
        |kind: char| text.lines().filter_map(|line| line.strip_prefix(kind)).collect::<Vec<_>>();
    let (uris, dns_names) = (of('u'), of('d'));
    if let Ok(caller) = Caller::from_subject_alternative_names(&uris, &dns_names) {
        assert_eq!(Caller::parse(caller.as_str()).ok().as_ref(), Some(&caller));
        // A name of one form never makes a caller of another.
        let name = caller.as_str();
        let is_uri = name.contains([':', '/']);
        assert_eq!(name.starts_with("spiffe://"), is_uri, "{name}");
        assert!(if is_uri { &uris } else { &dns_names }.contains(&name), "{name}");
    }
}

/// A revocation list: one that is taken revokes all that it lists.
fn revocation_list(bytes: &[u8]) {
    assert_ne!(untrusted_input::revocation_list(bytes), Some(false), "a revocation is passed over");
}

/// A public key of the algorithm that the first byte chooses, as PEM or DER: one encoding
/// only, which it is written in again.
fn public_key(bytes: &[u8]) {
    let Some((algorithm, bytes)) = choose(Algorithm::ALL, bytes) else { return };
    if let Ok(key) = PublicKey::from_spki_der(bytes, *algorithm) {
        assert_eq!(key.spki_der(), bytes, "another encoding was taken");
        assert_eq!(PublicKey::from_pem(&key.to_pem(), *algorithm).ok().as_ref(), Some(&key));
    }
    let key = from_utf8(bytes).ok().and_then(|text| PublicKey::from_pem(text, *algorithm).ok());
    if let Some(key) = key {
        let again = PublicKey::from_spki_der(key.spki_der(), *algorithm);
        assert_eq!(again.ok().as_ref(), Some(&key));
    }
}

/// A signature in either form: read, it is of its algorithm's own form, and it is nobody's.
fn signature(bytes: &[u8]) {
    let Some((algorithm, bytes)) = choose(Algorithm::ALL, bytes) else { return };
    does_not_verify(&Input::Message(b"hi".to_vec()), bytes);
    does_not_verify(&Input::Digest(Hash::Sha256.of(b"hi")), bytes);
    if let Some(der) = SignatureFormat::P1363.read(*algorithm, bytes) {
        assert_eq!(der.first(), Some(&0x30));
        does_not_verify(&Input::Message(b"hi".to_vec()), &der);
    }
}

/// A proof of a batch signer: read, it is written so that it reads the same, and it proves nothing of a
/// key that nobody has.
fn batch_proof(bytes: &[u8]) {
    let key = PublicKey::from_pem(ED25519_PEM, Algorithm::Ed25519Sha512);
    let Ok((public_key, kid)) = key.map(|key| (key, kid("bulk"))) else { return };
    let signer = Signer {
        kid,
        public_key,
        purpose: Purpose::Signing,
        batch: Batching::Unnamed,
        not_after: None,
        revoked_at: None,
    };
    let Ok(signer) = signer.in_deployment("test") else { return };
    let Some(name) = signer.batch.key_name() else { return };
    let stated = batch::stated_deployment(bytes, &signer.kid);
    if let Some(proof) = batch::BatchProof::parse(bytes, name) {
        assert_eq!(proof.to_text().as_bytes(), bytes, "a second spelling was taken");
        assert!(batch::is_proof(bytes));
        assert_eq!(stated, Some("test"));
    }
    for input in [Input::Message(b"hi".to_vec()), Input::Digest(Hash::Sha256.of(b"hi"))] {
        let Ok(input) = signer.prepare(&input, Algorithm::Ed25519Sha512) else { continue };
        assert!(signer.verify(&input, bytes.to_vec()).is_err(), "a forged proof");
    }
}

fn kid(text: &str) -> Kid {
    Kid::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The forms of a journal: a header, a frame, a record.
fn journal_bytes(bytes: &[u8]) {
    if let Some(head) = bytes.first_chunk::<HEADER_BYTES>()
        && let Ok(header) = Header::parse(head)
    {
        assert_eq!(header.encode(), *head, "another encoding was taken");
    }
    if let Ok(Some(frame)) = Frame::parse(bytes) {
        assert!(frame.bytes() <= bytes.len());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(checkpoint) = SignedCheckpoint::parse(text) {
            assert_eq!(checkpoint.note(), text, "another encoding was taken");
        }
        if let Ok(proof) = Inclusion::parse(text) {
            assert_eq!(proof.to_text(), text, "another encoding was taken");
        }
    }
    if let Some((outline, kind)) = Outline::parse(bytes) {
        assert_eq!(outline.r#type, kind.word());
        let _ = (outline.number("intent"), outline.text("signer_kid"));
    }
}

/// Headers, `name: value` a line.
fn header_map(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}

/// Headers of a request.
fn headers(bytes: &[u8]) {
    let headers = header_map(bytes);
    let id = request_context::request_id(&headers);
    assert!((1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    let (now, longest) = (Moment::from_nanos(u64::MAX / 2), Duration::from_secs(5));
    if let Ok(context) = RequestContext::read(&headers, (Door::Mtls, &id), now, longest) {
        assert!(context.deadline <= now.after(longest), "a caller's deadline is longer than ours");
        assert!(context.deadline > now);
        assert!(context.traceparent.is_none_or(|trace| trace.len() == 55));
        let is_key = |key: String| key.len() <= 128 && key.bytes().all(|b| b.is_ascii_graphic());
        assert!(context.idempotency_key.is_none_or(is_key));
    }
}

/// An input that was read: a digest or a message, and a canary's name.
fn input(bytes: &[u8]) {
    prepared(&Input::Message(bytes.to_vec()));
    for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
        if let Ok(digest) = Digest::new(hash, bytes) {
            prepared(&Input::Digest(digest));
        }
        if let Ok(input) = Input::digest_of(hash, bytes) {
            prepared(&input);
        }
    }
    // Whatever a signer is called, its canary is nothing that a caller may have signed.
    let kid = from_utf8(bytes).ok().and_then(|text| Kid::parse(text).ok());
    if let Some(kid) = kid {
        let canary = Canary::new(&kid, [7; signing_core::canary::NONCE_BYTES]);
        assert!(format!("{canary:?}").len() > 64);
    }
}

/// The file of freeze and seals: what is read is written so that it reads the same.
fn state_file(bytes: &[u8]) {
    let Ok(stored) = Stored::parse(bytes) else { return };
    let written = stored.encode().unwrap_or_else(|error| panic!("not written: {error}"));
    let again = Stored::parse(&written);
    let again =
        again.unwrap_or_else(|why| panic!("{why} in {}", String::from_utf8_lossy(&written)));
    assert_eq!(
        again.in_force.freeze.is_some(),
        stored.in_force.freeze.is_some(),
        "a freeze was lost"
    );
    assert_eq!(again.audit_seal.is_some(), stored.audit_seal.is_some(), "a seal was lost");
    assert!(again.in_force.seals.keys().eq(stored.in_force.seals.keys()), "a seal was lost");
}

const CANARY: &[u8] = b"signing-proxy canary v1\0";

const P256_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAErCmR7/sF5xKX497qCwuWh1N39x1+\n\
Qh38niqsTbJNUNSeKvwsp+4u+nug3NHAzgbiGy1UHX2OQpQK8//1TJbCwQ==\n\
-----END PUBLIC KEY-----\n";

const ED25519_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEAswNPVoUxKLJXUhnvAGlCXxErc/AC5zYiBjHqgIg/ec0=\n\
-----END PUBLIC KEY-----\n";
