//! Dialects that the configuration adds to `POST /sign`: `[[dialects]]`.

use host::section::Section;

/// What a field's name may have, so that it is read the same way by everybody.
const EXPECTED: &str = "expected 1 to 64 letters, digits, `_`, `-` and `.`";

/// Fields that requests to `/sign` have in other dialects.
pub const ASKED: [&str; 12] = [
    "algorithm",
    "canonical",
    "canonical_payload",
    "data",
    "digest_hex",
    "hash",
    "key_id",
    "kid",
    "manifestId",
    "payload",
    "payload_b64",
    "signerId",
];

/// Fields of the answer.
pub const ANSWERED: [&str; 6] = ["algorithm", "audit", "mode", "signature", "signer_kid", "ts"];

/// A dialect by configuration: which field is the digest, and which one its answer repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedDialect {
    /// The field that holds the digest, in hex.
    pub digest_field: String,
    /// The field that the answer repeats.
    pub echo_field: Option<String>,
}

pub(super) fn dialects(sections: Vec<Section>) -> Vec<AddedDialect> {
    let mut dialects: Vec<AddedDialect> = Vec::new();
    for mut section in sections {
        let digest_field = section.required("digest_field", "name the field that holds the digest");
        let echo_field = section.text("echo_field");
        let taken = |name: &str| dialects.iter().any(|other| other.digest_field == name);
        if digest_field.is_empty() {
            // It is missing, which is said already.
        } else if !is_name(&digest_field) {
            section.mistake("digest_field", format!("is {digest_field:?}, {EXPECTED}"));
        } else if ASKED.contains(&digest_field.as_str()) || taken(&digest_field) {
            let what =
                format!("is {digest_field:?}, which another dialect reads; name another field");
            section.mistake("digest_field", what);
        }
        if let Some(echo) = &echo_field {
            if !is_name(echo) {
                section.mistake("echo_field", format!("is {echo:?}, {EXPECTED}"));
            } else if *echo == digest_field || ANSWERED.contains(&echo.as_str()) {
                let what = format!(
                    "is {echo:?}, which is the digest's field or one of the answer's own ({}); name \
                     another field",
                    ANSWERED.join(", ")
                );
                section.mistake("echo_field", what);
            }
        }
        section.finish();
        dialects.push(AddedDialect { digest_field, echo_field });
    }
    dialects
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}
