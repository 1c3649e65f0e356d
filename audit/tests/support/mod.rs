//! A small journal in memory, and what tests look at in it.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit::scan::segments;
use audit::{AuditKey, Clock, Identity, Journal, Observer, OpenError, Opened, init};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_core::Moment;
use signing_core::journal::{AuditKeys, Freeze, InForce, Init, Kind, Record};
use time::OffsetDateTime;

pub(crate) const SEGMENT_BYTES: u64 = 1 << 20;
/// The audit key's.
pub(crate) const SEED: [u8; 32] = [7; 32];
const CLOCK: Clock = Clock { now: || Moment::from_nanos(1), wall: || OffsetDateTime::UNIX_EPOCH };

/// A directory in memory, so that a sync takes no time; removed on drop.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new("/dev/shm").join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug)]
struct Deaf;

impl Observer for Deaf {
    fn record(&mut self, _: Kind) {}
    fn appended(&mut self, _: Duration) {}
    fn synced(&mut self, _: Duration) {}
    fn batch(&mut self, _: usize) {}
}

pub(crate) fn key() -> AuditKey {
    key_of(&SEED)
}

pub(crate) fn key_of(seed: &[u8; 32]) -> AuditKey {
    // PKCS#8 of an Ed25519 seed (RFC 8410).
    let der = [&[48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32][..], seed].concat();
    let label = ["PRIVATE", "KEY"].join(" ");
    let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
    AuditKey::from_pem(pem.as_bytes()).unwrap()
}

pub(crate) fn open(path: &Path) -> Result<Opened, OpenError> {
    let mut keys = AuditKeys::default();
    keys.add(key().public().clone());
    Opened::open(path, key().into(), &keys, None)
}

pub(crate) fn start(opened: Opened) -> Journal {
    start_with(opened, &InForce::default())
}

/// With what is in force.
pub(crate) fn start_with(opened: Opened, in_force: &InForce) -> Journal {
    let (deployment, audit_kid, version) = ("d", "audit", "1");
    let identity = Identity { deployment, audit_kid, version, required_trail: None, in_force };
    opened.start(&identity, SEGMENT_BYTES, CLOCK, Box::new(Deaf)).unwrap()
}

/// Where an idle writer states how much is on disk.
pub(crate) const STATED: &str = "durable";

/// A journal with an init, a start, some freezes, each waited for, and a stop. Returns its
/// one segment.
pub(crate) fn small_journal(path: &Path) -> PathBuf {
    small_journal_in(path, SEGMENT_BYTES)
}

/// The same in a segment of that length.
pub(crate) fn small_journal_in(path: &Path, segment_bytes: u64) -> PathBuf {
    let record = Record::Init(Init {
        audit_key: &STANDARD.encode(key().public().spki_der()),
        audit_kid: "audit",
        by: "uid 0",
        deployment: "d",
        new_replica: None,
        replaces: None,
    });
    init(path, segment_bytes, &key(), &record, OffsetDateTime::UNIX_EPOCH).unwrap();
    let journal = start(open(path).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for reason in ["one", "", "a longer reason, so that the records have several lengths"] {
        let freeze = Record::Freeze(Freeze { by: "uid 0", id: None, reason });
        runtime.block_on(journal.begin_append(&freeze).unwrap().durable()).unwrap();
    }
    journal.stop("the test").unwrap();
    // As if it had died before it was idle: what it states then makes every cut a defect.
    fs::remove_file(path.join(STATED)).unwrap();
    segments(path).unwrap().remove(0).path
}

pub(crate) fn writable(segment: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(segment).unwrap()
}
