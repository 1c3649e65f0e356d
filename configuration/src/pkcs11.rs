//! A key on a PKCS#11 token: `provider = "pkcs11"`.

use std::path::Path;

use host::environment::Environment;
use host::section::Section;
use upstream::settings::Pkcs11;

use super::credential;

/// A token's label has so many bytes (PKCS#11 3.1, `CK_TOKEN_INFO`).
const LABEL_MAX_BYTES: usize = 32;

/// Reads its keys out of an upstream's section.
pub(super) fn pkcs11(section: &mut Section, directory: &Path, environment: &Environment) -> Pkcs11 {
    let module = section.required("module", "name the vendor's PKCS#11 library, a .so");
    let token_label = section.required("token_label", "name the token by its label");
    if token_label.len() > LABEL_MAX_BYTES {
        let length = token_label.len();
        section.mistake(
            "token_label",
            format!("has {length} bytes; a token's label has at most {LABEL_MAX_BYTES}"),
        );
    }
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let key_label = some(section.text("key_label"));
    let key_id = some(section.text("key_id"));
    if key_label.is_none() && key_id.is_none() {
        section
            .mistake("key_label", "is missing; name the private key by key_label, key_id or both");
    }
    if let Some(id) = &key_id
        && hex::decode(id).is_err()
    {
        section.mistake(
            "key_id",
            format!("is {id:?}, expected an even number of hex digits, such as \"01a2\""),
        );
    }
    let pin_file =
        credential::place(section, ("pin_file", "pin_credential"), directory, environment)
            .unwrap_or_default();
    let threads = usize::try_from(section.number("threads", 4, 1..=64)).unwrap_or(1);
    let call_timeout = section.millis("call_timeout_ms", 2_000);
    let start_timeout = section.millis("start_timeout_ms", 30_000);
    let worker_file = some(section.text("worker")).map(|worker| directory.join(worker));
    Pkcs11 {
        module: directory.join(module),
        token_label,
        key_label,
        key_id: key_id.map(|id| id.to_ascii_lowercase()),
        pin_file,
        threads,
        call_timeout,
        start_timeout,
        worker_file,
    }
}
