//! The least that the way to the emergency signer and back can cost: the same messages over
//! the same kind of socket, so many at once, and nothing behind them. In a process of its own.

use std::collections::HashMap;
use std::os::unix::net::UnixStream as Pair;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_core::breakglass::wire::{self, Answer, Ask, Input, JournalHead, JournalRecord};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::cpu::ProcessClock;
use crate::load::{Phase, Sample, sample};
use crate::stage::DIGEST;

const READ_BYTES: usize = 64 * 1024;

/// How many, and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct HopLoop {
    /// How many wait at once.
    #[arg(long)]
    pub waiters: usize,
    /// Warm-up, in milliseconds.
    #[arg(long)]
    pub warm_up_ms: u64,
    /// The time that counts, in milliseconds.
    #[arg(long)]
    pub counting_ms: u64,
}

/// Those who wait for an answer, by its number.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>;

/// Asks until the time is over.
///
/// # Errors
/// If there is no socket.
pub fn run(args: &HopLoop) -> anyhow::Result<Sample> {
    let (near, far) = Pair::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    // The signer has one thread, the proxy one for each core.
    std::thread::Builder::new().name("far".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(answer(far))
    })?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let (read, write) = UnixStream::from_std(near)?.into_split();
        let (jobs, inbox) = mpsc::channel(4096);
        let waiting = Waiting::default();
        tokio::spawn(send(inbox, write, Arc::clone(&waiting)));
        tokio::spawn(receive(read, waiting));
        let phase = Arc::new(Phase::default());
        let mut working = JoinSet::new();
        for _ in 0..args.waiters {
            working.spawn(ask_until_over(jobs.clone(), Arc::clone(&phase)));
        }
        let millis = Duration::from_millis;
        let clock = ProcessClock::of(std::process::id())?;
        let timed = phase.run(millis(args.warm_up_ms), millis(args.counting_ms), clock).await?;
        let mut latencies = Vec::new();
        while let Some(worked) = working.join_next().await {
            latencies.extend(worked??);
        }
        anyhow::Ok(sample(latencies, timed))
    })
}

fn head() -> JournalHead {
    JournalHead { log: "0".repeat(32), size: 123_456, root: "a".repeat(64) }
}

async fn ask_until_over(
    jobs: mpsc::Sender<(Ask, oneshot::Sender<Answer>)>,
    phase: Arc<Phase>,
) -> anyhow::Result<Vec<u64>> {
    let mut latencies = Vec::new();
    while !phase.is_over() {
        let began = Instant::now();
        let ask = Ask::Sign(wire::Sign {
            id: 0,
            session: "INC-7-0a1b2c3d".to_owned(),
            caller: crate::load::CALLER.to_owned(),
            request_id: "0".repeat(32),
            signer_kid: "payments".to_owned(),
            algorithm: "ED25519_SHA_512".to_owned(),
            input: Input::Message(STANDARD.encode(DIGEST)),
            justification: None,
            proxy_head: head(),
            proves: false,
        });
        let (reply, answer) = oneshot::channel();
        jobs.send((ask, reply)).await.map_err(|_| anyhow!("nobody sends"))?;
        answer.await.context("nobody answers")?;
        if phase.counts() {
            latencies.push(u64::try_from(began.elapsed().as_nanos())?);
        }
    }
    Ok(latencies)
}

async fn send(
    mut inbox: mpsc::Receiver<(Ask, oneshot::Sender<Answer>)>,
    mut write: tokio::net::unix::OwnedWriteHalf,
    waiting: Waiting,
) -> anyhow::Result<()> {
    let (mut out, mut next_id) = (Vec::new(), 0);
    while let Some(job) = inbox.recv().await {
        out.clear();
        let mut next = Some(job);
        while let Some((mut ask, reply)) = next {
            next_id += 1;
            if let Ask::Sign(sign) = &mut ask {
                sign.id = next_id;
            }
            wire::write(&ask, &mut out)?;
            waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(next_id, reply);
            next = inbox.try_recv().ok();
        }
        write.write_all(&out).await?;
    }
    Ok(())
}

async fn receive(
    mut read: tokio::net::unix::OwnedReadHalf,
    waiting: Waiting,
) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let mut taken = 0;
        while let Some((answer, length)) =
            wire::read::<Answer>(bytes.get(taken..).unwrap_or_default())?
        {
            taken += length;
            let Answer::Signed(signed) = &answer else { continue };
            let reply = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&signed.id);
            if let Some(reply) = reply {
                let _ = reply.send(answer);
            }
        }
        bytes.drain(..taken);
        bytes.reserve(READ_BYTES);
        if read.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

/// What the signer does of it.
async fn answer(far: Pair) -> anyhow::Result<()> {
    let (mut read, mut write) = UnixStream::from_std(far)?.into_split();
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    loop {
        let mut taken = 0;
        while let Some((ask, length)) = wire::read::<Ask>(bytes.get(taken..).unwrap_or_default())? {
            taken += length;
            let signed = wire::Signed {
                id: ask.id(),
                signature: "A".repeat(88),
                record: JournalRecord { log: "0".repeat(32), seq: 123_457, leaf: "a".repeat(64) },
                remaining: 1_000_000,
                proof: None,
            };
            wire::write(&Answer::Signed(signed), &mut out)?;
        }
        bytes.drain(..taken);
        if !out.is_empty() {
            write.write_all(&out).await?;
            out.clear();
        }
        bytes.reserve(READ_BYTES);
        if read.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}
