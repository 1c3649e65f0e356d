//! What is to be signed or verified: a file, standard input, or a digest. A short one is sent as it is.
//! Of a long one the digest is sent, so that it never leaves this machine and may have any size.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Value, json};
use signing_core::key::RAW_MESSAGE_MAX_BYTES;
use signing_core::{Digest, Hash, Input};

/// The input.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Flags {
    /// The file, or - for standard input.
    file: Option<PathBuf>,
    /// A digest instead: 64, 96 or 128 hex digits (SHA-256, 384, 512).
    #[arg(long, value_name = "HEX", value_parser = digest)]
    digest: Option<Digest>,
}

/// The longest message that is sent: three quarters of the longest body that a proxy can be set to
/// take, since it goes as base64.
const MESSAGE_MAX_BYTES: usize = 12 << 20;

/// As much of the input as says how to send it.
pub(super) enum CallerInput {
    /// All of it.
    Whole(WholeInput),
    /// It goes on.
    Digested(DigestedInput),
}

/// An input that is sent as it is.
pub(super) struct WholeInput {
    /// What it is, for people.
    pub(super) name: String,
    pub(super) input: Input,
}

/// An input whose digest is sent.
pub(super) struct DigestedInput {
    name: String,
    beginning: Vec<u8>,
    rest: Box<dyn Read>,
}

impl Flags {
    /// Begins to read it.
    pub(super) fn open(&self) -> anyhow::Result<CallerInput> {
        if let Some(digest) = &self.digest {
            let name = format!("the digest {digest}");
            return Ok(CallerInput::Whole(WholeInput {
                name,
                input: Input::Digest(digest.clone()),
            }));
        }
        let file = self.file.as_deref().unwrap_or(Path::new("-"));
        let (name, mut rest): (String, Box<dyn Read>) = if file == Path::new("-") {
            ("standard input".to_owned(), Box::new(io::stdin()))
        } else {
            let name = file.display().to_string();
            let opened = File::open(file).with_context(|| name.clone())?;
            (name, Box::new(opened))
        };
        let most = u64::try_from(RAW_MESSAGE_MAX_BYTES)?.saturating_add(1);
        let mut beginning = Vec::new();
        rest.by_ref().take(most).read_to_end(&mut beginning).with_context(|| name.clone())?;
        if beginning.len() > RAW_MESSAGE_MAX_BYTES {
            return Ok(CallerInput::Digested(DigestedInput { name, beginning, rest }));
        }
        let name = format!("{name} ({} bytes, {})", beginning.len(), Hash::Sha256.of(&beginning));
        Ok(CallerInput::Whole(WholeInput { name, input: Input::Message(beginning) }))
    }
}

impl DigestedInput {
    /// Its digests by each of `hashes`, in one reading.
    pub(super) fn digests(mut self, hashes: &[Hash]) -> anyhow::Result<Vec<WholeInput>> {
        let mut hashers: Vec<_> = hashes.iter().map(|hash| hash.hasher()).collect();
        let (mut buffer, mut length) = (std::mem::take(&mut self.beginning), 0_u64);
        while !buffer.is_empty() {
            length = length.saturating_add(u64::try_from(buffer.len())?);
            hashers.iter_mut().for_each(|hasher| hasher.update(&buffer));
            buffer.clear();
            self.rest
                .by_ref()
                .take(1 << 20)
                .read_to_end(&mut buffer)
                .with_context(|| self.name.clone())?;
        }
        let whole = hashers.into_iter().map(|hasher| {
            let digest = hasher.finish();
            let name = format!("{} ({length} bytes, {digest})", self.name);
            WholeInput { name, input: Input::Digest(digest) }
        });
        Ok(whole.collect())
    }

    /// All of it as a message, for a key that signs messages of any length.
    pub(super) fn whole(mut self) -> anyhow::Result<WholeInput> {
        let most = u64::try_from(MESSAGE_MAX_BYTES)?.saturating_add(1);
        let mut message = std::mem::take(&mut self.beginning);
        self.rest.take(most).read_to_end(&mut message).with_context(|| self.name.clone())?;
        if message.len() > MESSAGE_MAX_BYTES {
            bail!(
                "{} has more than {MESSAGE_MAX_BYTES} bytes, and no proxy takes that much; have its digest \
                 signed (--digest): verifiers then verify over the digest's bytes",
                self.name
            );
        }
        let name =
            format!("{} ({} bytes, {})", self.name, message.len(), Hash::Sha256.of(&message));
        Ok(WholeInput { name, input: Input::Message(message) })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The fields of a request that say what is signed.
pub(super) fn fields(input: &Input) -> Value {
    match input {
        Input::Message(message) => json!({"message": STANDARD.encode(message)}),
        Input::Digest(digest) => json!({
            "digest": STANDARD.encode(digest.bytes()), "digest_algorithm": digest.hash().name(),
        }),
    }
}

fn digest(text: &str) -> Result<Digest, String> {
    let bytes = hex::decode(text).ok();
    let digest = bytes.and_then(|bytes| {
        let hash = Hash::ALL.into_iter().find(|hash| hash.digest_bytes() == bytes.len())?;
        Digest::new(hash, &bytes).ok()
    });
    digest.ok_or_else(|| {
        "expected 64, 96 or 128 hex digits, as sha256sum, sha384sum and sha512sum print them"
            .to_owned()
    })
}

/// Why an Ed25519 signer does not sign a long input.
pub(super) fn too_long(name: &str) -> anyhow::Error {
    anyhow!(
        "{name} has more than {RAW_MESSAGE_MAX_BYTES} bytes, and an Ed25519 signer signs at most that \
         much; have its digest signed (--digest \"$(sha256sum FILE | cut -d ' ' -f 1)\": verifiers then \
         verify over the digest's 32 bytes), or use an ECDSA, RSA or ML-DSA signer"
    )
}
