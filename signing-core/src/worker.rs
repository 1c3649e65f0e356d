//! What the proxy and `pkcs11-worker` say to each other: frames over a socket pair,
//! each a length of four bytes, big endian, and so many bytes.
//!
//! ```text
//! proxy   -> Start (JSON)                    once
//! worker  -> Started (JSON): LogsIn          before a login, which waits for
//! proxy   -> Leave (JSON)                    the leave to log in
//! worker  -> Started (JSON): LoggedIn        if it was let in
//! worker  -> Started (JSON): Ready or Failed once
//! proxy   -> id (8 bytes) algorithm (1) input        again and again, without waiting
//! worker  -> id (8 bytes) 0 (1) signature            in any order
//!          | id (8 bytes) 1 + fault (1) last (1) detail
//! ```
//!
//! The worker runs a vendor's code: nothing that it says is believed. A signature is
//! verified like any other, and a frame that is none ends the worker.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::evidence::Fault;
use crate::key::{Algorithm, RAW_MESSAGE_MAX_BYTES};

/// No signature of a token is longer: RSA-4096. ML-DSA keys are not asked of tokens.
pub const SIGNATURE_MAX_BYTES: usize = 512;

/// The longest frame, without its length.
pub const FRAME_MAX_BYTES: usize = 8192;

/// The longest `detail` of a failed call, in bytes; what is longer is cut.
const DETAIL_MAX_BYTES: usize = 300;

/// The same of a failed start, which may list what the token holds.
const START_DETAIL_MAX_BYTES: usize = 1200;

/// Bytes of a frame before the input or the signature.
const HEAD_BYTES: usize = 9;

const _: () = assert!(HEAD_BYTES + RAW_MESSAGE_MAX_BYTES <= FRAME_MAX_BYTES);
const _: () = assert!(HEAD_BYTES + SIGNATURE_MAX_BYTES <= FRAME_MAX_BYTES);
// As JSON, where a character may take six bytes.
const _: () = assert!(6 * START_DETAIL_MAX_BYTES + 256 <= FRAME_MAX_BYTES);

/// Which key the worker serves. It holds the place of the PIN, never the PIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The vendor's library.
    pub module: String,
    /// The label of the token.
    pub token_label: String,
    /// `CKA_LABEL` of the private key.
    pub key_label: Option<String>,
    /// `CKA_ID` of the private key, in hex.
    pub key_id: Option<String>,
    /// The file that holds the PIN.
    pub pin_file: String,
    /// How many threads sign, each with a session of its own.
    pub threads: usize,
    /// The registered algorithm, by its name in registries, which tells the curve too; an RSA key
    /// serves all of its kind.
    pub algorithm: String,
    /// The soft limit of open files for the library, which may not count beyond it; none: as the
    /// worker was started. The proxy raises its own, and a child inherits that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_max: Option<u64>,
}

/// The leave to log in, with the one PIN that the proxy answers for. What a token refused is brought
/// again only from another file, so the worker logs in with what it reads from this one or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leave {
    /// The PIN's file as the proxy saw it; none if it was not there.
    pub pin_file: Option<FileIdentity>,
}

/// What tells whether a file was written again: its place, size and time, never its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileIdentity {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `st_size`.
    pub bytes: u64,
    /// The seconds of `st_mtim`.
    pub modified_s: i64,
    /// Its nanoseconds within the second.
    pub modified_ns: i64,
}

/// How the start goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Started {
    /// The token is found and has a session open. The login is the next step, once the proxy says so:
    /// a token counts wrong PINs, whoever brings them.
    LogsIn,
    /// The token let it in.
    LoggedIn,
    /// Logged in, and the key found.
    Ready {
        /// DER SubjectPublicKeyInfo of the key, in hex; not compared with anything yet.
        spki_hex: String,
    },
    /// Not started; the worker ends.
    Failed {
        /// What is known, as [`Fault::word`] says it.
        fault: String,
        /// What is wrong and what to do.
        detail: String,
        /// What it has to do with the login.
        login: Login,
    },
}

/// What a failed start has to do with the login: whether another attempt may bring a lockout nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// Nothing: it did not come to it, or the session, token or device is plainly why.
    Other,
    /// The PIN is why.
    Pin,
    /// It failed, and the token does not say why: the attempt may have been counted.
    Doubtful,
}

/// One input to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Repeated in the answer.
    pub id: u64,
    /// With which algorithm.
    pub algorithm: Algorithm,
    /// The digest, or for Ed25519 the message.
    pub input: Vec<u8>,
}

/// What became of one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The call's.
    pub id: u64,
    /// A signature in its algorithm's own form, or why there is none.
    pub result: Result<Vec<u8>, Failure>,
}

/// Why there is no signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is known.
    pub fault: Fault,
    /// The token's error code, with a few words.
    pub detail: String,
    /// The worker signs nothing any more and wants to be started anew: its session,
    /// its login or its token is gone.
    pub last: bool,
}

impl Call {
    /// Appends it to `buffer` as a frame.
    pub fn write(id: u64, algorithm: Algorithm, input: &[u8], buffer: &mut Vec<u8>) {
        frame(buffer, &[&id.to_be_bytes(), &[code(algorithm)], input]);
    }

    /// Reads a frame. None if it is no call.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let (id, rest) = frame.split_first_chunk::<8>()?;
        let (algorithm, input) = rest.split_first()?;
        let algorithm = *Algorithm::ALL.get(usize::from(*algorithm))?;
        Some(Self { id: u64::from_be_bytes(*id), algorithm, input: input.to_vec() })
    }
}

impl Answered {
    /// Appends it to `buffer` as a frame.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        let id = self.id.to_be_bytes();
        match &self.result {
            Ok(signature) => frame(buffer, &[&id, &[0], signature]),
            Err(Failure { fault, detail, last }) => {
                let detail = detail.as_bytes();
                let detail = detail.get(..DETAIL_MAX_BYTES).unwrap_or(detail);
                frame(buffer, &[&id, &[1 + fault_code(*fault)], &[u8::from(*last)], detail]);
            }
        }
    }

    /// Reads a frame. None if it is no answer.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let (id, rest) = frame.split_first_chunk::<8>()?;
        let id = u64::from_be_bytes(*id);
        let (kind, rest) = rest.split_first()?;
        let Some(fault) = kind.checked_sub(1) else {
            let fits = !rest.is_empty() && rest.len() <= SIGNATURE_MAX_BYTES;
            return fits.then(|| Self { id, result: Ok(rest.to_vec()) });
        };
        let fault = *FAULTS.get(usize::from(fault))?;
        let (last, detail) = rest.split_first()?;
        let detail = detail.get(..DETAIL_MAX_BYTES).unwrap_or(detail);
        let detail = printable(&String::from_utf8_lossy(detail));
        Some(Self { id, result: Err(Failure { fault, detail, last: *last != 0 }) })
    }
}

impl Started {
    /// A failed start, in words.
    #[must_use]
    pub fn failed(fault: Fault, detail: &str, login: Login) -> Self {
        Self::Failed { fault: fault.word().to_owned(), detail: start_detail(detail), login }
    }
}

/// The fault of that word; what is unknown is indeterminate.
#[must_use]
pub fn fault_of_word(word: &str) -> Fault {
    FAULTS.into_iter().find(|fault| fault.word() == word).unwrap_or(Fault::Indeterminate)
}

/// A vendor's words in one line, at most so many bytes long that they fit a frame.
#[must_use]
pub fn printable(words: &str) -> String {
    text::clipped(words, DETAIL_MAX_BYTES)
}

/// The words of a failed start in one line.
#[must_use]
pub fn start_detail(words: &str) -> String {
    text::clipped(words, START_DETAIL_MAX_BYTES)
}

/// Writes one frame at once.
///
/// # Errors
/// Those of `to`; `InvalidInput` if `bytes` does not fit a frame.
pub fn send(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() > FRAME_MAX_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut whole = Vec::with_capacity(4 + bytes.len());
    frame(&mut whole, &[bytes]);
    to.write_all(&whole)
}

/// Reads one frame. None at the end of the stream, between two frames.
///
/// # Errors
/// Those of `from`; `InvalidData` if a frame says that it is longer than any.
pub fn receive(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut got = 0;
    while got < length.len() {
        let Some(rest) = length.get_mut(got..) else { break };
        match from.read(rest) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = length_of(length).ok_or(io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// Frames out of whatever pieces a stream comes in.
#[derive(Debug, Default)]
pub struct Frames {
    held: Vec<u8>,
    read: usize,
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame says that it is longer than {FRAME_MAX_BYTES} bytes")]
pub struct NoFrame;

impl Frames {
    /// Takes in a piece.
    pub fn extend(&mut self, piece: &[u8]) {
        self.held.drain(..self.read);
        self.read = 0;
        self.held.extend_from_slice(piece);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// [`NoFrame`]; nothing that follows can be read either.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, NoFrame> {
        let rest = self.held.get(self.read..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = length_of(*length).ok_or(NoFrame)?;
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        self.read += 4 + length;
        Ok(Some(frame))
    }
}

const FAULTS: [Fault; 5] = [
    Fault::Rejected,
    Fault::Unavailable,
    Fault::Indeterminate,
    Fault::Throttled,
    Fault::KeyUnavailable,
];

fn fault_code(fault: Fault) -> u8 {
    match fault {
        Fault::Rejected => 0,
        Fault::Unavailable => 1,
        Fault::Indeterminate => 2,
        // A worker has no queue of its own, so it never says the second.
        Fault::Throttled | Fault::Overloaded => 3,
        Fault::KeyUnavailable => 4,
    }
}

/// Both programs are of one build, so a place in a list is a name.
fn code(algorithm: Algorithm) -> u8 {
    let place = Algorithm::ALL.iter().position(|other| *other == algorithm);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}

fn length_of(length: [u8; 4]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= FRAME_MAX_BYTES)
}

fn frame(buffer: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    // Inputs, signatures and details are bounded far below this.
    buffer.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    parts.iter().for_each(|part| buffer.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_answers_read_back_whatever_pieces_they_come_in() {
        let mut stream = Vec::new();
        let calls: Vec<_> = (0_u64..)
            .zip(Algorithm::ALL)
            .map(|(id, algorithm)| Call { id, algorithm: *algorithm, input: vec![7; 32] })
            .collect();
        for Call { id, algorithm, input } in &calls {
            Call::write(*id, *algorithm, input, &mut stream);
        }
        for size in [1, 3, 41, stream.len()] {
            let mut frames = Frames::default();
            let mut read = Vec::new();
            for piece in stream.chunks(size) {
                frames.extend(piece);
                while let Some(frame) = frames.next_frame().unwrap() {
                    read.push(Call::read(frame).unwrap());
                }
            }
            assert_eq!(read, calls, "in pieces of {size}");
        }
    }

    #[test]
    fn every_fault_reads_back() {
        let failures = FAULTS.map(|fault| Failure { fault, detail: "CKR_X".into(), last: true });
        let results = failures.into_iter().map(Err).chain([Ok(vec![1; SIGNATURE_MAX_BYTES])]);
        for result in results {
            let answered = Answered { id: 9, result };
            let mut stream = Vec::new();
            answered.write(&mut stream);
            let frame = receive(&mut stream.as_slice()).unwrap().unwrap();
            assert_eq!(Answered::read(&frame), Some(answered));
        }
        for fault in FAULTS {
            assert_eq!(fault_of_word(fault.word()), fault);
        }
        assert_eq!(fault_of_word("fine"), Fault::Indeterminate);
    }

    #[test]
    fn what_a_confused_worker_says_is_no_answer() {
        for frame in [&[][..], &[0; 8], &[0; 9], &[0, 0, 0, 0, 0, 0, 0, 0, 1], &[9; 40], &[0; 600]]
        {
            assert_eq!(Answered::read(frame), None, "{} bytes", frame.len());
        }
        let mut frames = Frames::default();
        frames.extend(&[0, 1, 0, 0]);
        assert_eq!(frames.next_frame(), Err(NoFrame));
        assert!(receive(&mut &[0, 0, 0, 4, 1][..]).is_err());
        assert!(receive(&mut &[0xff; 64][..]).is_err());
        assert_eq!(receive(&mut &[][..]).unwrap(), None);
    }

    #[test]
    fn a_vendors_words_fit_one_line() {
        let words = printable(&"x\n\u{1b}\u{202e}".repeat(1000));
        assert!(words.starts_with("x\\n\\u{1b}\\u{202e}x"), "{words}");
        assert!(words.len() <= DETAIL_MAX_BYTES && !words.contains(text::is_hidden), "{words}");
        assert_eq!(printable(&"\u{fffd}".repeat(1000)), "\u{fffd}".repeat(DETAIL_MAX_BYTES / 3));
    }
}
