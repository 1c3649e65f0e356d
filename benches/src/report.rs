//! What was measured, as a table for a person and as JSON for a program, and
//! whether the aims are met.

use std::fmt;

use serde::Serialize;

use crate::load::Sample;
use crate::parts::{Curve, Part};
use crate::rounds::{Measured, OfKey, Plan, Row};
use crate::scene::SLOTS;
use crate::statistics::Spread;

/// The refusal path, as a part of the ceiling: at least.
const REFUSAL_MIN: f64 = 0.8;
/// The same where several ask at once.
const REFUSALS_MIN: f64 = 0.9;
/// The p50 of a single caller's signature, over those of what it cannot do without: at most.
const SINGLE_P50_MAX: f64 = 1.15;
/// The sign path's CPU, over the sum of its unavoidable parts: at most.
const SIGN_MAX: f64 = 1.2;
/// Records on disk, for each fdatasync that the disk does one after the other: at least,
/// if several wait at once.
const RECORDS_MIN: f64 = 2.0;

/// The p99 of refusals in an outage, over the ceiling's: at most.
const OUTAGE_P99_MAX: f64 = 2.0;
/// Signatures through KMS that a core makes with our own client, over those with the SDK's, if
/// several wait at once: at least.
const LEAN_MIN: f64 = 1.5;
/// Calls of KMS that a core makes with our own client, over those with the SDK's: at least.
const CALLS_MIN: f64 = 2.2;
/// CPU of a signature by KMS's wire form, over the same by our own: at most.
const KMS_FORM_MAX: f64 = 1.1;
/// The same at a local door with a signature of AWS, which costs TLS nothing: at most.
const LOCAL_DOOR_MAX: f64 = 1.25;
/// The latency of what is accepted under overload, over that without: at most.
const OVERLOAD_MAX: f64 = 1.5;

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    machine: Machine,
    rounds: usize,
    seconds: f64,
    parts: Vec<PartReport>,
    alone: Vec<AloneReport>,
    ratios: Vec<Ratio>,
}

#[derive(Clone, Debug, Serialize)]
struct Machine {
    processor: String,
    cores: usize,
    /// Of the last minute before the run: what else was running.
    load_before: f64,
}

#[derive(Clone, Debug, Serialize)]
struct PartReport {
    part: Part,
    connections: usize,
    per_second: Spread,
    cpu_us: Spread,
    load_cpu_us: Spread,
    p50_us: Spread,
    p99_us: Spread,
}

#[derive(Clone, Debug, Serialize)]
struct AloneReport {
    key: &'static str,
    development_sign_us: Spread,
    verify_us: Spread,
}

/// A quotient, made round by round, and its aim.
#[derive(Clone, Debug, Serialize)]
struct Ratio {
    what: String,
    connections: usize,
    ratio: Spread,
    aim: String,
    met: bool,
}

impl Report {
    /// Makes it.
    #[must_use]
    pub fn of(measured: &Measured, plan: &Plan, load_before: f64) -> Self {
        let ratios = plan.connections.iter().flat_map(|count| ratios(measured, *count));
        let ratios = ratios.chain(overload(measured)).collect();
        Self {
            machine: Machine { processor: processor(), cores: cores(), load_before },
            rounds: plan.rounds,
            seconds: plan.counting.as_secs_f64(),
            parts: measured.rows.iter().map(PartReport::of).collect(),
            alone: measured.keys.iter().map(AloneReport::of).collect(),
            ratios,
        }
    }
}

/// The load average of the last minute.
#[must_use]
pub fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

impl PartReport {
    fn of(row: &Row) -> Self {
        let spread = |of: fn(&Sample) -> f64| Spread::of(row.samples.iter().map(of));
        Self {
            part: row.part,
            connections: row.connections,
            per_second: spread(|sample| sample.per_second),
            cpu_us: spread(|sample| sample.cpu_us),
            load_cpu_us: spread(|sample| sample.load_cpu_us),
            p50_us: spread(|sample| sample.p50_us),
            p99_us: spread(|sample| sample.p99_us),
        }
    }
}

impl AloneReport {
    fn of(key: &OfKey) -> Self {
        Self {
            key: key.curve.name(),
            development_sign_us: Spread::of(key.sign_us.iter().copied()),
            verify_us: Spread::of(key.verify_us.iter().copied()),
        }
    }
}

fn ratios(measured: &Measured, connections: usize) -> Vec<Ratio> {
    let values = |part: Part, of: fn(&Sample) -> f64| -> Vec<f64> {
        let row = |row: &&Row| row.part == part && row.connections == connections;
        let samples = measured.rows.iter().find(row).map(|row| row.samples.iter().map(of));
        samples.into_iter().flatten().collect()
    };
    let cpu = |part| values(part, |sample| sample.cpu_us);
    let rate = |part| values(part, |sample| sample.per_second);
    let at_least = |what: &str, min: f64, ratio: Spread| Ratio {
        what: what.to_owned(),
        connections,
        ratio,
        aim: format!(">= {min}"),
        met: ratio.median >= min,
    };
    let at_most = |what: String, max: f64, ratio: Spread| Ratio {
        what,
        connections,
        ratio,
        aim: format!("<= {max}"),
        met: ratio.median <= max,
    };
    let of_parts = |part: Part, parts: &str, ratio: Spread| {
        at_most(format!("CPU: {} / ({parts})", part.name()), SIGN_MAX, ratio)
    };
    let refusal_min = if connections > 1 { REFUSALS_MIN } else { REFUSAL_MIN };
    let mut ratios = vec![
        at_least(
            "requests/s: refusal / its ceiling",
            refusal_min,
            quotients(&rate(Part::Refusal), &[&rate(Part::CeilingOfRefusals)]),
        ),
        at_least(
            "CPU: ceiling / refusal",
            refusal_min,
            quotients(&cpu(Part::CeilingOfRefusals), &[&cpu(Part::Refusal)]),
        ),
    ];
    let p99 = |part| values(part, |sample| sample.p99_us);
    ratios.extend([
        at_least(
            "requests/s: refusal in an outage / its ceiling",
            REFUSAL_MIN,
            quotients(&rate(Part::Outage), &[&rate(Part::CeilingOfRefusals)]),
        ),
        at_least(
            "CPU: refusal, frozen / refusal in an outage",
            REFUSAL_MIN,
            quotients(&cpu(Part::Refusal), &[&cpu(Part::Outage)]),
        ),
        at_most(
            "p99: refusal in an outage / its ceiling".to_owned(),
            OUTAGE_P99_MAX,
            quotients(&p99(Part::Outage), &[&p99(Part::CeilingOfRefusals)]),
        ),
    ]);
    // A signature has two records.
    let records: Vec<_> = rate(Part::Journal).iter().map(|pairs| pairs * 2.0).collect();
    ratios.push(at_least(
        "records/s on disk / fdatasync/s one by one",
        if connections > 1 { RECORDS_MIN } else { 1.0 },
        quotients(&records, &[&rate(Part::BareSync)]),
    ));
    let (ceiling, append) = (cpu(Part::CeilingOfSignatures), cpu(Part::Journal));
    for OfKey { curve, sign_us, verify_us } in &measured.keys {
        let (signed, called) = (Part::Development(*curve), Part::Kms(*curve));
        let call = cpu(Part::KmsLoop(*curve));
        ratios.push(of_parts(
            signed,
            "ceiling + signing + verification + journal",
            quotients(&cpu(signed), &[&ceiling, sign_us, verify_us, &append]),
        ));
        ratios.push(of_parts(
            called,
            "ceiling + upstream call + verification + journal",
            quotients(&cpu(called), &[&ceiling, &call, verify_us, &append]),
        ));
    }
    if connections == 1 {
        let p50 = |part| values(part, |sample| sample.p50_us);
        for curve in Curve::ALL {
            let (signed, called) = (Part::Kms(curve), Part::KmsLoop(curve));
            let parts = [&p50(Part::CeilingOfSignatures), &p50(called), &p50(Part::BareSync)];
            let what = format!("p50: {} / (ceiling + upstream call + sync)", signed.name());
            ratios.push(at_most(what, SINGLE_P50_MAX, quotients(&p50(signed), &parts)));
        }
    }
    let native = cpu(Part::Development(Curve::P256));
    for (part, door, max) in [
        (Part::KmsForm, "KMS's wire form over mTLS", KMS_FORM_MAX),
        (Part::KmsFormAtLocalDoor, "KMS's wire form, SigV4, local door", LOCAL_DOOR_MAX),
    ] {
        let what = format!("CPU: development P-256, {door} / native over mTLS");
        ratios.push(at_most(what, max, quotients(&cpu(part), &[&native])));
    }
    ratios.push(at_least(
        "signatures through KMS per core / with client = \"sdk\"",
        if connections > 1 { LEAN_MIN } else { 1.0 },
        quotients(&cpu(Part::KmsBySdk), &[&cpu(Part::Kms(Curve::Ed25519))]),
    ));
    ratios.push(at_least(
        "calls of KMS per core, our own client / the SDK's, each alone",
        CALLS_MIN,
        quotients(&cpu(Part::KmsLoop(Curve::Ed25519)), &[&cpu(Part::KmsLoopLean)]),
    ));
    ratios.retain(|ratio| ratio.ratio.max > 0.0 && ratio.ratio.max.is_finite());
    ratios
}

/// What ten times the load does to those requests that are accepted, and how fast the
/// others hear that they are not.
fn overload(measured: &Measured) -> Vec<Ratio> {
    let values = |part: Part, of: fn(&Sample) -> f64| -> Vec<f64> {
        let row = measured.rows.iter().find(|row| row.part == part);
        row.into_iter().flat_map(|row| row.samples.iter().map(of)).collect()
    };
    let p50 = |part| values(part, |sample| sample.p50_us);
    let p99 = |part| values(part, |sample| sample.p99_us);
    let at_most = |what: &str, max: f64, ratio: Spread| Ratio {
        what: what.to_owned(),
        connections: SLOTS * 10,
        ratio,
        aim: format!("<= {max}"),
        met: ratio.median <= max,
    };
    let capacity = Part::AtCapacity;
    let mut ratios = vec![
        at_most(
            "p50: accepted at 10 times the capacity / at capacity",
            OVERLOAD_MAX,
            quotients(&p50(Part::Overload), &[&p50(capacity)]),
        ),
        at_most(
            "p99: accepted at 10 times the capacity / at capacity",
            OVERLOAD_MAX,
            quotients(&p99(Part::Overload), &[&p99(capacity)]),
        ),
        at_most(
            "p50: refused at 10 times the capacity / accepted at capacity",
            1.0,
            quotients(&p50(Part::OverloadRefused), &[&p50(capacity)]),
        ),
    ];
    ratios.retain(|ratio| ratio.ratio.max > 0.0 && ratio.ratio.max.is_finite());
    ratios
}

/// Of each round: a value over the sum of its parts; zero if one was not measured.
fn quotients(values: &[f64], parts: &[&Vec<f64>]) -> Spread {
    if parts.iter().any(|part| part.is_empty()) {
        return Spread::of(std::iter::empty());
    }
    Spread::of(
        values.iter().enumerate().map(|(round, value)| {
            value / parts.iter().filter_map(|part| part.get(round)).sum::<f64>()
        }),
    )
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, name)| name).to_owned()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { processor, cores, load_before } = &self.machine;
        writeln!(
            f,
            "{processor}, {cores} cores shared by load and servers; load average before: {load_before}"
        )?;
        writeln!(
            f,
            "mTLS, HTTP/1.1, loopback. Median of {} rounds of {} s; CPU [least..most of all rounds].\n",
            self.rounds, self.seconds
        )?;
        writeln!(
            f,
            "{:<30} {:>5} {:>9} {:>20} {:>9} {:>9} {:>8}",
            "part", "conns", "req/s", "server CPU us/req", "p50 us", "p99 us", "load us"
        )?;
        let mut connections = 0;
        for part in &self.parts {
            if part.connections != connections && connections != 0 {
                writeln!(f)?;
            }
            connections = part.connections;
            writeln!(
                f,
                "{:<30} {:>5} {:>9.0} {:>20} {:>9.0} {:>9.0} {:>8.1}",
                part.part.name(),
                part.connections,
                part.per_second.median,
                spread(&part.cpu_us, 1),
                part.p50_us.median,
                part.p99_us.median,
                part.load_cpu_us.median,
            )?;
        }
        writeln!(f, "\nalone, in one thread, CPU us each")?;
        for alone in &self.alone {
            writeln!(
                f,
                "  {:<8} development signing {:>18}   verification {:>18}",
                alone.key,
                spread(&alone.development_sign_us, 1),
                spread(&alone.verify_us, 1),
            )?;
        }
        writeln!(f, "\nratios, of each round")?;
        for ratio in &self.ratios {
            writeln!(
                f,
                "{:<76} {:>3} conns {:>18}  {:<7} {}",
                ratio.what,
                ratio.connections,
                spread(&ratio.ratio, 2),
                ratio.aim,
                if ratio.met { "met" } else { "MISSED" },
            )?;
        }
        let met = self.ratios.iter().filter(|ratio| ratio.met).count();
        writeln!(f, "\n{met} of {} aims met", self.ratios.len())
    }
}

fn spread(spread: &Spread, digits: usize) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.digits$} [{min:.digits$}..{max:.digits$}]")
}
