//! The rounds: every part in turn, again and again, so that a machine that
//! drifts drifts for all of them.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use system_tests::World;
use tokio_rustls::TlsConnector;

use crate::load::{self, Sample};
use crate::parts::{Curve, Part};
use crate::scene::Scene;
use crate::stage::{Stage, ourselves};

/// How long, how often, with how many connections.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The time of one part in one round that counts.
    pub counting: Duration,
    /// The time before it.
    pub warm_up: Duration,
    /// How often each part is measured.
    pub rounds: usize,
    /// Connections, or calls at once.
    pub connections: Vec<usize>,
    /// What is measured.
    pub parts: Vec<Part>,
}

/// What one part did over so many connections, round by round.
#[derive(Clone, Debug)]
pub struct Row {
    /// The part.
    pub part: Part,
    /// Connections.
    pub connections: usize,
    /// One for each round.
    pub samples: Vec<Sample>,
}

/// What one kind of key costs in one thread, round by round, in microseconds.
#[derive(Clone, Debug)]
pub struct OfKey {
    /// The elliptic curve that is measured.
    pub curve: Curve,
    /// Signatures of the development provider.
    pub sign_us: Vec<f64>,
    /// Verifications.
    pub verify_us: Vec<f64>,
}

/// All that was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// With processes.
    pub rows: Vec<Row>,
    /// Without.
    pub keys: Vec<OfKey>,
}

/// Runs the plan.
///
/// # Errors
/// If anything does not answer as it should: no figure is made of refusals.
pub async fn run(stage: &Stage, tls: &TlsConnector, plan: &Plan) -> anyhow::Result<Measured> {
    let row = |(connections, part)| Row { part, connections, samples: Vec::new() };
    let of_key = |curve| OfKey { curve, sign_us: Vec::new(), verify_us: Vec::new() };
    let (own, each): (Vec<_>, Vec<_>) =
        plan.parts.iter().copied().partition(|part| part.connections().is_some());
    let all = plan.connections.iter().flat_map(|count| each.iter().map(|part| (*count, *part)));
    let own = own.iter().filter_map(|part| Some((part.connections()?, *part)));
    let all = all.chain(own);
    let world = World::new();
    let scene = Scene::start(&world).await?;
    let mut measured =
        Measured { rows: all.map(row).collect(), keys: Curve::ALL.map(of_key).to_vec() };
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        for row in &mut measured.rows {
            let sample = one(stage, &scene, tls, plan, row.part, row.connections).await;
            row.samples.push(sample.with_context(|| row.part.name())?);
        }
        for of_key in &mut measured.keys {
            let alone = stage.alone.iter().find(|(curve, _)| *curve == of_key.curve);
            let (_, alone) = alone.context("no key of that kind")?;
            of_key.sign_us.push(alone.sign(plan.counting / 4)?);
            of_key.verify_us.push(alone.verify(plan.counting / 4)?);
        }
    }
    Ok(measured)
}

async fn one(
    stage: &Stage,
    scene: &Scene<'_>,
    tls: &TlsConnector,
    plan: &Plan,
    part: Part,
    connections: usize,
) -> anyhow::Result<Sample> {
    if matches!(part, Part::Outage) || part.connections().is_some() {
        return scene.run(part, connections, (plan.warm_up, plan.counting)).await;
    }
    on_stage(stage, tls, plan, part, connections).await
}

/// Measures a part that the stage has.
///
/// # Errors
/// If it does not answer as it should.
pub async fn on_stage(
    stage: &Stage,
    tls: &TlsConnector,
    plan: &Plan,
    part: Part,
    connections: usize,
) -> anyhow::Result<Sample> {
    match part {
        Part::KmsLoop(curve) => return kms_loop(stage, plan, curve, connections, &[]),
        Part::KmsLoopLean => {
            return kms_loop(stage, plan, Curve::Ed25519, connections, &["--lean"]);
        }
        _ => {}
    }
    if let Part::Journal | Part::BareSync = part {
        return journal_loop(stage, plan, part, connections);
    }
    let target = stage.target(part).context("nothing to load")?;
    if part == Part::Refusal {
        stage.freeze(true).await?;
    }
    let sample = load::run(&target, tls, connections, (plan.warm_up, plan.counting)).await;
    if part == Part::Refusal {
        stage.freeze(false).await?;
    }
    sample
}

fn kms_loop(
    stage: &Stage,
    plan: &Plan,
    curve: Curve,
    connections: usize,
    by: &[&str],
) -> anyhow::Result<Sample> {
    let mut command = ourselves("kms-loop")?;
    let key = stage.kms.key(curve);
    command
        .args(["--endpoint", &stage.kms.endpoint])
        .args(["--key-id", &key.id])
        // Its value begins like an option.
        .arg(format!("--public-key={}", key.public_key_pem))
        .args(["--algorithm", curve.algorithm().name()])
        .args(["--connections", &connections.to_string()])
        .args(by);
    measured_by(command, (plan.warm_up, plan.counting))
}

fn journal_loop(stage: &Stage, plan: &Plan, part: Part, waiters: usize) -> anyhow::Result<Sample> {
    let mut command = ourselves("journal-loop")?;
    command
        .arg("--dir")
        .arg(stage.beside_the_journal()?)
        .arg("--key-file")
        .arg(stage.audit_key())
        .args(["--waiters", &waiters.to_string()]);
    if part == Part::BareSync {
        command.arg("--bare");
    }
    measured_by(command, (plan.warm_up, plan.counting))
}

/// What a process measures of itself.
///
/// # Errors
/// What it ended with.
pub fn measured_by(
    mut command: Command,
    (warm_up, counting): (Duration, Duration),
) -> anyhow::Result<Sample> {
    command
        .args(["--warm-up-ms", &warm_up.as_millis().to_string()])
        .args(["--counting-ms", &counting.as_millis().to_string()])
        .stderr(Stdio::inherit());
    let output = command.output()?;
    ensure!(output.status.success(), "it ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}
