//! A dialect by configuration: `[[dialects]]` says which field is the digest, and which field the
//! answer repeats.

use configuration::AddedDialect;
use serde_json::{Map, Value};
use signing_core::{Hash, Input, Refusal, SignRequest};

use super::fields::request;
use super::{Dialect, hex_digest, invalid, parse};

/// `/sign {DIGEST_FIELD: hex, ECHO_FIELD?}`: a digest, by the default signer.
pub(super) fn read(body: &[u8], added: &AddedDialect) -> Result<(Dialect, SignRequest), Refusal> {
    let mut fields: Map<String, Value> = parse(body)?;
    let name = &added.digest_field;
    let Some(Value::String(text)) = fields.get(name) else {
        return Err(invalid(format!("\"{name}\" is not a text of hex digits")));
    };
    let digest = hex_digest(name, text, &Hash::ALL)?;
    let echoed = added.echo_field.as_ref().and_then(|name| fields.remove_entry(name));
    Ok((Dialect::Added { echoed }, request(Input::Digest(digest), None, None)?))
}
