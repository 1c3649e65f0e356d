//! Break-glass: the request, its approvals, who may approve, and the emergency signer's files.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::from_utf8;
use std::sync::OnceLock;

use approvers::{Approvers, fingerprint, sshsig};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use breakglass_signer::config;
use breakglass_signer::store::Stored;
use host::environment::Environment;
use signing_core::breakglass::activation::Approval;
use signing_core::breakglass::{Draft, NAMESPACE, REQUEST_MAX_BYTES, Request};
use signing_core::{Caller, Hash, Kid};
use time::OffsetDateTime;

use super::choose;

/// Signed, by keys that nobody has, with `ssh-keygen -Y sign`.
const REQUEST: &[u8] = include_bytes!("../../corpus/breakglass_request/valid");
/// A byte that chooses the whole, and an approval.
const APPROVALS: [&[u8]; 7] = [
    include_bytes!("../../corpus/approval/ed25519"),
    include_bytes!("../../corpus/approval/ecdsa256"),
    include_bytes!("../../corpus/approval/ecdsa384"),
    include_bytes!("../../corpus/approval/ecdsa521"),
    include_bytes!("../../corpus/approval/rsa2048"),
    include_bytes!("../../corpus/approval/ed25519-sk"),
    include_bytes!("../../corpus/approval/ecdsa-sk"),
];
const ALLOWED: &str = include_str!("../../corpus/approvers/all");
/// When they signed.
const THEN: i64 = 1_795_513_200;

/// A request document: what parses is within the limits of I5, and is written so that it reads
/// the same.
pub(super) fn request(bytes: &[u8]) {
    let Ok(request) = Request::parse(bytes) else { return };
    within_limits(&request);
    assert!(bytes.len() <= REQUEST_MAX_BYTES);
    assert_eq!(request.sha256(), hex(Hash::Sha256.of(bytes).bytes()));
    assert_eq!(Request::parse(bytes).as_ref(), Ok(&request));
    let draft: Draft = serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}"));
    match draft.to_bytes() {
        Ok(written) => {
            let again = Request::parse(&written).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(fields(&again), fields(&request));
        }
        // Written with more white space it may be too long.
        Err(error) => assert!(error.to_string().contains("bytes, and a request has at most")),
    }
}

/// No field that an approval binds escapes its limits.
pub(super) fn within_limits(request: &Request) {
    let line = |text: &str, most: usize| {
        assert!((1..=most).contains(&text.len()) && text.trim() == text, "{text:?}");
        assert!(!text.contains(char::is_control), "{text:?}");
    };
    let is_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    line(request.id(), 64);
    line(request.audience(), 256);
    line(request.incident(), 128);
    line(request.justification(), 1024);
    assert!(request.session().starts_with(request.id()) && request.id().is_ascii());
    for count in [request.instances().len(), request.replaces().len(), request.callers().len()] {
        assert!((1..=32).contains(&count));
    }
    assert!(request.instances().iter().all(|instance| is_hex(instance, 64)));
    assert!(is_hex(request.emergency_key_sha256(), 64) && is_hex(&request.nonce(), 32));
    let kids = request.replaces().iter().chain([request.emergency_kid()]);
    assert!(kids.into_iter().all(|kid| Kid::parse(kid.as_str()).as_ref() == Ok(kid)));
    let callers = &mut request.callers().iter();
    assert!(callers.all(|caller| Caller::parse(caller.as_str()).as_ref() == Ok(caller)));
    assert!(request.outage_since() < request.not_before());
    assert!(request.not_before() < request.expires_at());
    assert!((1..=1 << 53).contains(&request.max_signatures()));
}

/// All but the hash of its bytes.
fn fields(request: &Request) -> String {
    format!(
        "{:?}",
        (
            (request.id(), request.audience(), request.instances(), request.incident()),
            (request.justification(), request.emergency_kid(), request.emergency_key_sha256()),
            (request.replaces(), request.callers(), request.nonce(), request.max_signatures()),
            (request.outage_since(), request.not_before(), request.expires_at()),
        )
    )
}

/// Approvals that are what `ssh-keygen` wrote, and who gave them.
struct Genuine {
    approvers: Approvers,
    armored: Vec<Vec<u8>>,
    by: BTreeMap<String, Approval>,
}

impl Genuine {
    fn get() -> &'static Self {
        static GENUINE: OnceLock<Genuine> = OnceLock::new();
        GENUINE.get_or_init(|| {
            let approvers = Approvers::parse(
                "approvers",
                Path::new("all"),
                ALLOWED.as_bytes(),
                &BTreeMap::new(),
            );
            let approvers = approvers.unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
            let armored: Vec<_> =
                APPROVALS.iter().map(|kept| kept.get(1..).unwrap_or_default().to_vec()).collect();
            let by = armored.iter().map(|armored| {
                let approval = sshsig::verify(armored, REQUEST, NAMESPACE, &approvers, then());
                approval.unwrap_or_else(|why| panic!("a genuine approval: {why}"))
            });
            let by = by.map(|approval| (approval.principal.clone(), approval)).collect();
            Self { approvers, armored, by }
        })
    }

    /// Whatever it is, it is taken over the request only, and says of its approver what is so.
    fn judge(&self, armored: &[u8]) {
        for other in [b"" as &[u8], b"{}", armored, &[REQUEST, b" "].concat()] {
            let taken = sshsig::verify(armored, other, NAMESPACE, &self.approvers, then());
            assert!(taken.is_err(), "an approval of other bytes: {taken:?}");
        }
        if let Ok(approval) = sshsig::verify(armored, REQUEST, NAMESPACE, &self.approvers, then()) {
            assert_eq!(self.by.get(&approval.principal), Some(&approval), "not what was approved");
        }
    }
}

/// An approval: as it is, a genuine one that is damaged, or genuine ones over other bytes.
pub(super) fn approvals(bytes: &[u8]) {
    let genuine = Genuine::get();
    match choose(&[0, 1, 2], bytes) {
        Some((0, armored)) => genuine.judge(armored),
        Some((1, orders)) => {
            let Some((whose, orders)) = choose(&genuine.armored, orders) else { return };
            let mut blob = disarmed(whose);
            for [high, low, what, with] in orders.as_chunks::<4>().0.iter().take(16) {
                let at = usize::from(u16::from_be_bytes([*high, *low])) % blob.len().max(1);
                match what % 4 {
                    0 => blob.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (with % 8)),
                    1 => blob.iter_mut().skip(at).take(1).for_each(|byte| *byte = *with),
                    2 => blob.insert(at.min(blob.len()), *with),
                    _ => blob.truncate(at),
                }
            }
            genuine.judge(&armored(&blob));
        }
        Some((_, other)) => {
            for armored in &genuine.armored {
                let taken = sshsig::verify(armored, other, NAMESPACE, &genuine.approvers, then());
                assert_eq!(taken.is_ok(), other == REQUEST, "{taken:?}");
            }
        }
        None => {}
    }
}

fn disarmed(armored: &[u8]) -> Vec<u8> {
    let lines = from_utf8(armored).unwrap_or_default().lines();
    let base64: String = lines.filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(base64).unwrap_or_else(|error| panic!("{error}"))
}

fn armored(blob: &[u8]) -> Vec<u8> {
    let mut out = b"-----BEGIN SSH SIGNATURE-----\n".to_vec();
    for line in STANDARD.encode(blob).as_bytes().chunks(70) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(b"-----END SSH SIGNATURE-----\n");
    out
}

/// The approvers file: each key once, with one principal, and no wildcard.
pub(super) fn approvers(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let roles = BTreeMap::from([("Security".to_owned(), vec!["ed25519@example.org".to_owned()])]);
    for roles in [BTreeMap::new(), roles] {
        match Approvers::parse("approvers", Path::new("all"), text.as_bytes(), &roles) {
            Ok(approvers) => are_approvers(&approvers, &roles),
            Err(mistakes) => assert!(mistakes.iter().all(|what| what.contains("approvers."))),
        }
    }
}

fn are_approvers(approvers: &Approvers, roles: &BTreeMap<String, Vec<String>>) {
    let mut plain = String::new();
    for (name, approver) in approvers.iter() {
        assert_eq!(*name, fingerprint(&approver.key));
        assert!(!approver.principal.contains(['*', '?', ',', '!', '"', ' ', '\t', '\n']));
        for role in &approver.roles {
            assert!(roles.get(role).is_some_and(|who| who.contains(&approver.principal)));
        }
        for now in [OffsetDateTime::UNIX_EPOCH, then()] {
            if let Err(why) = approver.may_approve(NAMESPACE, now) {
                assert!(why.contains(&approver.principal));
            }
        }
        let key = approver.key.to_openssh().unwrap_or_else(|error| panic!("{error}"));
        plain.push_str(&format!("{} {key}\n", approver.principal));
    }
    let again = Approvers::parse("approvers", Path::new("all"), plain.as_bytes(), &BTreeMap::new());
    let again = again.unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    assert!(again.iter().map(|(name, _)| name).eq(approvers.iter().map(|(name, _)| name)));
}

/// `breakglass-signer.toml`, after lines `VARIABLE=value` of its environment and a line `%%`.
pub(super) fn signer_config(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let (variables, text) = text.split_once("%%\n").unwrap_or(("", text));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let environment: Environment =
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if let Ok(mistakes) = config::mistakes(text, Path::new("/nowhere"), &environment) {
        assert!(mistakes.iter().all(|mistake| mistake.contains(": ")), "{mistakes:?}");
    }
}

/// The emergency signer's state: what is read is written so that it reads the same.
pub(super) fn signer_state(bytes: &[u8]) {
    let Ok(stored) = Stored::parse(bytes) else { return };
    let written = stored.encode().unwrap_or_else(|error| panic!("not written: {error}"));
    let again = Stored::parse(&written).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, stored);
    if let Some((log, head)) = stored.witness.as_ref().and_then(|witness| witness.parse()) {
        let written = signing_core::breakglass::wire::JournalHead::new(log, head);
        assert_eq!(written.parse(), Some((log, head)));
    }
    for due in stored.history.due.values() {
        let _ = due.is_over(then());
    }
}

fn then() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(THEN).unwrap_or_else(|error| panic!("{error}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
