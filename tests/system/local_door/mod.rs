//! The local door: callers of this machine, without a certificate. It proves who calls, and
//! nothing else differs.

mod configuration;
mod limits;
mod proofs;
mod strangers;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use system_tests::Answer;
use system_tests::client::local;

/// A user that nobody else here is.
const USER: u32 = 4242;
/// `sha256sum` of `secret`.
const SECRET: &str =
    "token_sha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"";
const JSON: (&str, &str) = ("content-type", "application/json");

/// The body of a request that names no signer.
fn body() -> String {
    json!({"message": STANDARD.encode(b"hi")}).to_string()
}

/// Asks a door to sign, with those headers too.
async fn sign(place: &str, headers: &[(&str, &str)]) -> Answer {
    local(place, "POST", "/v1/sign", &[&[JSON], headers].concat(), body()).await
}
