//! A journal that is damaged: opening it finds the damage, or cuts what was last. Never is
//! another history read out of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use audit::scan::{Frames, Step, segments};
use audit::{AuditKey, Clock, Identity, Observer, Opened, init};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_core::Moment;
use signing_core::journal::{AuditKeys, Frame, Freeze, Head, InForce, Init, Kind, Record};
use time::OffsetDateTime;

const SEGMENT_BYTES: u64 = 1 << 20;

/// What was written, and every state that it went through.
struct Written {
    name: String,
    bytes: Vec<u8>,
    heads: Vec<Head>,
}

#[derive(Debug)]
struct Deaf;

impl Observer for Deaf {
    fn record(&mut self, _: Kind) {}
    fn appended(&mut self, _: Duration) {}
    fn synced(&mut self, _: Duration) {}
    fn batch(&mut self, _: usize) {}
}

/// Bytes are orders: each four say what is done where.
pub(super) fn recovery(orders: &[u8]) {
    static WRITTEN: OnceLock<Written> = OnceLock::new();
    let written = WRITTEN.get_or_init(write);
    let mut bytes = written.bytes.clone();
    for order in orders.as_chunks::<4>().0.iter().take(32) {
        damage(&mut bytes, *order);
    }
    let scratch = Scratch::new("read");
    let file = scratch.0.join(&written.name);
    fs::write(&file, &bytes).unwrap_or_else(|error| panic!("{error}"));
    let file = fs::OpenOptions::new().write(true).open(&file);
    file.and_then(|file| file.set_len(SEGMENT_BYTES)).unwrap_or_else(|error| panic!("{error}"));
    if let Ok(opened) = open(&scratch.0) {
        let head = opened.head();
        assert!(written.heads.contains(&head), "another history: it ends with {head:?}");
        drop(opened);
        // What was cut is gone for good, and what is left is whole.
        let again = open(&scratch.0).unwrap_or_else(|error| panic!("not again: {error}"));
        assert_eq!((again.head(), again.cut()), (head, None));
    }
}

/// Flips, overwrites, copies, moves or cuts.
fn damage(bytes: &mut [u8], [what, high, low, with]: [u8; 4]) {
    let length = bytes.len();
    let at = usize::from(u16::from_be_bytes([high, low])) % length;
    let Some(place) = bytes.get_mut(at..) else { return };
    let span = (usize::from(with) * 4).min(place.len());
    match what % 5 {
        0 => place.iter_mut().take(1).for_each(|byte| *byte ^= 1 << (with % 8)),
        1 => place.iter_mut().take(1).for_each(|byte| *byte = with),
        2 => place.iter_mut().take(span).for_each(|byte| *byte = 0),
        3 => place.iter_mut().for_each(|byte| *byte = 0),
        _ => {
            let to = (at + span).min(length);
            let fits = (length - to).min(span);
            bytes.copy_within(at..at + fits, to);
        }
    }
}

fn write() -> Written {
    let scratch = Scratch::new("written");
    let record = Record::Init(Init {
        audit_key: &STANDARD.encode(key().public().spki_der()),
        audit_kid: "audit",
        by: "uid 0",
        deployment: "d",
        new_replica: None,
        replaces: None,
    });
    let done = init(&scratch.0, SEGMENT_BYTES, &key(), &record, OffsetDateTime::UNIX_EPOCH);
    done.unwrap_or_else(|error| panic!("{error}"));
    let opened = open(&scratch.0).unwrap_or_else(|error| panic!("{error}"));
    let identity = Identity {
        deployment: "d",
        audit_kid: "audit",
        version: "1",
        required_trail: None,
        in_force: &InForce::default(),
    };
    let clock = Clock { now: || Moment::from_nanos(1), wall: || OffsetDateTime::UNIX_EPOCH };
    let journal = opened.start(&identity, SEGMENT_BYTES, clock, Box::new(Deaf));
    let journal = journal.unwrap_or_else(|error| panic!("{error}"));
    for reason in ["one", "", "a longer reason", "the last one"] {
        let freeze = Record::Freeze(Freeze { by: "uid 0", id: None, reason });
        journal.note(&freeze).unwrap_or_else(|error| panic!("{error}"));
    }
    journal.stop("written").unwrap_or_else(|error| panic!("{error}"));
    let segment = segments(&scratch.0).unwrap_or_else(|error| panic!("{error}")).remove(0);
    let mut frames = Frames::open(&segment).unwrap_or_else(|error| panic!("{error}"));
    let (mut heads, mut end) = (Vec::new(), 0);
    while let Ok(Step::Frame(at, frame)) = frames.step() {
        end = at + frame.bytes() as u64;
        if let Frame::Checkpoint(sealing) = frame {
            heads.push(Head::of(sealing.checkpoint.checkpoint()));
        }
    }
    let mut bytes = fs::read(&segment.path).unwrap_or_else(|error| panic!("{error}"));
    // A little of the emptiness behind the records, which may be damaged too.
    bytes.truncate(usize::try_from(end).unwrap_or_default() + 256);
    let name = segment.path.file_name().map(|name| name.to_string_lossy().into_owned());
    Written { name: name.unwrap_or_default(), bytes, heads }
}

fn open(path: &Path) -> Result<Opened, audit::OpenError> {
    let mut keys = AuditKeys::default();
    keys.add(key().public().clone());
    Opened::open(path, key().into(), &keys, None)
}

fn key() -> AuditKey {
    // PKCS#8 of an Ed25519 seed (RFC 8410).
    let der = [&[48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32][..], &[7; 32]].concat();
    let label = ["PRIVATE", "KEY"].join(" ");
    let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
    AuditKey::from_pem(pem.as_bytes()).unwrap_or_else(|fault| panic!("{fault:?}"))
}

/// A directory in memory, if there is one, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let above = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let thread = std::thread::current().id();
        let path = above.join(format!("fuzz-journal-{}-{thread:?}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
