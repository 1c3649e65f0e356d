//! The least that a durable record can cost: the journal alone, with so many who wait,
//! and a bare fdatasync on the same disk. Each in a process of its own.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use audit::{AuditKey, Clock, Identity, Journal, Observer, Opened};
use signing_core::journal::{
    ACTOR, AuditKeys, EmergencySigned, InForce, Init, Intent, Kind, Record, Signed, TimingUs,
};
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::cpu::ProcessClock;
use crate::load::{Phase, Sample, sample};

/// As in the default configuration.
const SEGMENT_BYTES: u64 = 64 << 20;
/// What one signature's two records take, about.
const BARE_WRITE_BYTES: usize = 1280;

/// Where, and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct JournalLoop {
    /// A directory on the disk that is measured.
    #[arg(long)]
    pub dir: PathBuf,
    /// PKCS#8 PEM of an audit key.
    #[arg(long)]
    pub key_file: PathBuf,
    /// How many wait at once.
    #[arg(long)]
    pub waiters: usize,
    /// Warm-up, in milliseconds.
    #[arg(long)]
    pub warm_up_ms: u64,
    /// The time that counts, in milliseconds.
    #[arg(long)]
    pub counting_ms: u64,
    /// Measures the bare write and fdatasync instead.
    #[arg(long)]
    pub bare: bool,
    /// Measures an emergency signer's one record for a signature instead.
    #[arg(long)]
    pub emergency: bool,
}

/// Nobody looks at what the writer tells.
#[derive(Debug)]
struct Deaf;

impl Observer for Deaf {
    fn record(&mut self, _: Kind) {}
    fn appended(&mut self, _: Duration) {}
    fn synced(&mut self, _: Duration) {}
    fn batch(&mut self, _: usize) {}
}

/// Appends, or syncs, until the time is over. One sample is one signature's two records,
/// or one fdatasync.
///
/// # Errors
/// If the disk says no.
pub fn run(args: &JournalLoop) -> anyhow::Result<Sample> {
    let journal = if args.bare { None } else { Some(journal(args)?) };
    // On as many threads as the proxy.
    let sample = tokio::runtime::Runtime::new()?.block_on(async {
        let phase = Arc::new(Phase::default());
        let mut working = JoinSet::new();
        match &journal {
            Some(journal) => {
                journal.tell_outcomes_on(&Handle::current())?;
                for _ in 0..args.waiters {
                    let (journal, phase) = (journal.clone(), Arc::clone(&phase));
                    let emergency = args.emergency;
                    working.spawn(async move {
                        match emergency {
                            true => emergency_until_over(&journal, &phase).await,
                            false => append_until_over(&journal, &phase).await,
                        }
                    });
                }
            }
            None => {
                let (dir, phase) = (args.dir.clone(), Arc::clone(&phase));
                working.spawn_blocking(move || sync_until_over(&dir, &phase));
            }
        }
        let millis = Duration::from_millis;
        let clock = ProcessClock::of(std::process::id())?;
        let timed = phase.run(millis(args.warm_up_ms), millis(args.counting_ms), clock).await?;
        let mut latencies = Vec::new();
        while let Some(worked) = working.join_next().await {
            latencies.extend(worked??);
        }
        anyhow::Ok(sample(latencies, timed))
    })?;
    if let Some(journal) = journal {
        journal.stop("measured")?;
    }
    Ok(sample)
}

fn journal(args: &JournalLoop) -> anyhow::Result<Journal> {
    let key = AuditKey::load(&args.key_file)?;
    let dir = args.dir.join("journal");
    let record = Record::Init(Init {
        audit_key: "",
        audit_kid: "bench",
        by: "bench",
        deployment: "bench",
        new_replica: None,
        replaces: None,
    });
    audit::init(&dir, SEGMENT_BYTES, &key, &record, OffsetDateTime::now_utc())?;
    let mut keys = AuditKeys::default();
    keys.add(key.public().clone());
    let identity = Identity {
        deployment: "bench",
        audit_kid: "bench",
        version: "bench",
        required_trail: None,
        in_force: &InForce::default(),
    };
    let clock = Clock { now: host::clock::now, wall: host::clock::wall_now };
    let opened = Opened::open(&dir, key.into(), &keys, None)?;
    Ok(opened.start(&identity, SEGMENT_BYTES, clock, Box::new(Deaf))?)
}

async fn append_until_over(journal: &Journal, phase: &Phase) -> anyhow::Result<Vec<u64>> {
    let (algorithm, caller, mode) = ("ECDSA_SHA_256", "spiffe://bench.example/load", "normal");
    let input_digest = format!("sha256:{}", "5a".repeat(32));
    let (request_id, signature) = ("0".repeat(32), "A".repeat(96));
    let signer_kid = "kms-p256";
    let (attempt, upstream_request_id) = ("0".repeat(32), "0".repeat(36));
    let (door, upstream, region) = ("mtls", Some("aws-kms"), Some("eu-central-1"));
    let mut latencies = Vec::new();
    while !phase.is_over() {
        let began = Instant::now();
        let intent = journal.intent(&Record::Intent(Intent {
            algorithm,
            attempt: Some(&attempt),
            caller,
            door,
            input_digest: &input_digest,
            justification: None,
            mode,
            region,
            request_id: &request_id,
            signer_kid,
            traceparent: None,
            upstream,
        }))?;
        let signed = Record::Signed(Signed {
            algorithm,
            attempt: Some(&attempt),
            batch: None,
            caller,
            door,
            earlier_attempts: Vec::new(),
            input_digest: &input_digest,
            intent: intent.seq(),
            mode,
            region,
            replayed: false,
            request_id: &request_id,
            signature: &signature,
            signer_kid,
            incident: None,
            session: None,
            signer_record: None,
            timing_us: TimingUs { queue: 12, upstream: 900, verify: 50 },
            upstream,
            upstream_request_id: Some(&upstream_request_id),
        });
        journal.outcome(intent, &signed, false).await?;
        if phase.counts() {
            latencies.push(u64::try_from(began.elapsed().as_nanos())?);
        }
    }
    Ok(latencies)
}

async fn emergency_until_over(journal: &Journal, phase: &Phase) -> anyhow::Result<Vec<u64>> {
    let (request_id, signature) = ("0".repeat(32), "A".repeat(88));
    let input_digest = format!("sha256:{}", "5a".repeat(32));
    let proxy_head = format!("{}:123456:{}", "0".repeat(32), "a".repeat(64));
    let mut latencies = Vec::new();
    while !phase.is_over() {
        let began = Instant::now();
        let record = Record::EmergencySigned(EmergencySigned {
            actor: ACTOR,
            algorithm: "ED25519_SHA_512",
            batch: None,
            caller: "spiffe://bench.example/load",
            incident: "INC-7",
            input_digest: &input_digest,
            justification: None,
            mode: "breakglass",
            proxy_head: &proxy_head,
            remaining: 1_000_000,
            replaces: "payments",
            request_id: &request_id,
            session: "INC-7-0a1b2c3d",
            session_justification: "KMS is down",
            signature: &signature,
            signer_kid: "emergency",
        });
        journal.begin_append(&record)?.durable().await?;
        if phase.counts() {
            latencies.push(u64::try_from(began.elapsed().as_nanos())?);
        }
    }
    Ok(latencies)
}

fn sync_until_over(dir: &Path, phase: &Phase) -> anyhow::Result<Vec<u64>> {
    let path = dir.join("bare");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let length = i64::try_from(SEGMENT_BYTES)?;
    nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, length)?;
    file.sync_all()?;
    let bytes = [0x5a; BARE_WRITE_BYTES];
    let (mut latencies, mut at) = (Vec::new(), 0);
    while !phase.is_over() {
        let began = Instant::now();
        file.write_all_at(&bytes, at)?;
        file.sync_data().context("fdatasync")?;
        at += BARE_WRITE_BYTES as u64;
        if at + BARE_WRITE_BYTES as u64 > SEGMENT_BYTES {
            at = 0;
        }
        if phase.counts() {
            latencies.push(u64::try_from(began.elapsed().as_nanos())?);
        }
    }
    std::fs::remove_file(&path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    Ok(latencies)
}
