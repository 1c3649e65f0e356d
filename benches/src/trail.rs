//! The trail beside what it cannot do without: its rows beside a bare batched insert of the same rows, the
//! proxy's CPU with it and without, and a signature that waits for the database beside one commit.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;
use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{Kind, Proxy, World};
use tokio_postgres::{Client, NoTls};

use crate::load::{self, CALLER, Target};
use crate::report::load_average;
use crate::rounds::measured_by;
use crate::stage::{DIGEST, ourselves};
use crate::statistics::{Spread, float, percentile};

/// Rows in a second, over those of a bare batched insert: at least.
const ROWS_MIN: f64 = 0.7;
/// The proxy's CPU of a signature with the trail, over that without: at most.
const CPU_MAX: f64 = 1.05;
/// A signature that waits for the database, over one that does not and one commit: at most.
const COMMIT_MAX: f64 = 1.2;
/// As the trail sends them.
const BATCH_ROWS: usize = 1_000;
const KID: &str = "payments";

/// Measures the trail.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Trailed {
    /// Connections while the proxy's CPU is measured.
    #[arg(long = "clients", default_value_t = 64)]
    pub clients: usize,
    /// Measures only the signature that waits for the database.
    #[arg(long)]
    pub required: bool,
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    clients: usize,
    is_required_only: bool,
    rounds: usize,
    seconds: f64,
    load_before: f64,
    rows: Spread,
    rows_per_second: Spread,
    bare_rows_per_second: Spread,
    rows_ratio: Spread,
    cpu_us: Spread,
    cpu_with_trail_us: Spread,
    cpu_ratio: Spread,
    p50_us: Spread,
    commit_p50_us: Spread,
    paced_commit_p50_us: Spread,
    required_p50_us: Spread,
    required_ratio: Spread,
    paced_ratio: Spread,
}

/// One round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    rows: f64,
    rows_per_second: f64,
    bare_per_second: f64,
    cpu: f64,
    cpu_with: f64,
    p50: f64,
    commit: f64,
    paced_commit: f64,
    required: f64,
}

/// Measures, so many rounds of so many seconds.
///
/// # Errors
/// If anything does not sign, or a database does not answer.
pub async fn measure(args: &Trailed, seconds: f64, rounds: usize) -> anyhow::Result<Report> {
    ensure!((1..=256).contains(&args.clients), "--clients {}: give 1 to 256", args.clients);
    let (load_before, counting) = (load_average(), Duration::from_secs_f64(seconds));
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let plain = world.proxy().signer(KID, &key).caller(CALLER, &[KID]).start().await;
    let (socket, uid) = (world.scratch.path("required.sock"), nix::unistd::getuid());
    let table = format!("[trail]\nrequired_socket = {socket:?}\nuid = {uid}\n");
    let builder = world.proxy().signer(KID, &key).caller(CALLER, &[KID]).directory("requiring");
    let requiring = builder.tables(&table).start_shut().await;
    let tls = load::tls(&world.pki)?;
    let mut all = Vec::new();
    for number in 1..=rounds {
        eprintln!("round {number} of {rounds}");
        let mut round = Round::default();
        if !args.required {
            rows(&world, counting, &mut round).await?;
        }
        let times = (counting / 4, counting);
        let postgres = Postgres::start().await;
        let registry = world.scratch.path("proxy/signers.json");
        let journal = world.scratch.path("proxy/journal");
        let with = async |proxy: &Proxy<'_>, clients| -> anyhow::Result<load::Sample> {
            load::run(&target(proxy), &tls, clients, times).await
        };
        // Each connects anew: what was there before is warm for both.
        if !args.required {
            round.cpu = with(&plain, args.clients).await?.cpu_us;
        }
        round.p50 = with(&plain, 1).await?.p50_us;
        if !args.required {
            let mut trail = Trail::new(&[("proxy", &journal)], &registry, &postgres);
            trail.start();
            trail.holds("signing-proxy", 1).await;
            round.cpu_with = with(&plain, args.clients).await?.cpu_us;
            trail.kill().await;
        }
        let registry = world.scratch.path("requiring/signers.json");
        let journal = world.scratch.path("requiring/journal");
        let trail = Trail::new(&[("proxy", &journal)], &registry, &postgres);
        let mut trail = trail.required(&socket);
        trail.start();
        requiring.healthy().await;
        round.required = with(&requiring, 1).await?.p50_us;
        trail.kill().await;
        round.commit = commit(&postgres, counting, Duration::ZERO).await?;
        let pause = Duration::from_secs_f64(round.p50 / 1e6);
        round.paced_commit = commit(&postgres, counting, pause).await?;
        all.push(round);
    }
    Ok(Report::of(args, seconds, load_before, &all))
}

fn target(proxy: &Proxy<'_>) -> Target {
    let body = json!({
        "signer_kid": KID, "digest": STANDARD.encode(DIGEST), "digest_algorithm": "sha256",
    });
    Target {
        address: proxy.listen.clone(),
        pid: proxy.process.pid(),
        request: load::post("/v1/sign", &body.to_string()),
        status: 200,
        aside: None,
        pace: Duration::ZERO,
        plain: false,
    }
}

/// A journal of emergency signatures, each of which has a row: shipped from the first record on, and then
/// the same rows inserted by a client that does nothing else.
async fn rows(world: &World, counting: Duration, round: &mut Round) -> anyhow::Result<()> {
    let dir = world.scratch.path("beside");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir)?;
    let mut command = ourselves("journal-loop")?;
    command.args(["--waiters", "64", "--emergency", "--dir"]).arg(&dir);
    command.arg("--key-file").arg(world.scratch.path("proxy/audit.key"));
    measured_by(command, (Duration::ZERO, counting))?;
    let journal = dir.join("journal");
    let newest = audit::walk::newest(&journal)?.size;
    let postgres = Postgres::start().await;
    let client = connect(&postgres).await?;
    let registry = world.scratch.path("proxy/signers.json");
    let mut trail = Trail::new(&[("signer", Path::new(&journal))], &registry, &postgres);
    trail.start();
    trail.process().says("the database is reached; shipping").await;
    let began = Instant::now();
    loop {
        let sql = "SELECT coalesce(max(shipped), 0) FROM signing_proxy.trail_positions";
        let shipped: i64 = client.query_one(sql, &[]).await?.try_get(0)?;
        if u64::try_from(shipped)? >= newest {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = began.elapsed();
    trail.kill().await;
    let (count, bare) = bare(&client).await?;
    round.rows = count;
    round.rows_per_second = count / took.as_secs_f64();
    round.bare_per_second = count / bare.as_secs_f64();
    Ok(())
}

async fn connect(postgres: &Postgres) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Inserts the rows that are there into a table of the same form; how many, and how long it took.
async fn bare(client: &Client) -> anyhow::Result<(f64, Duration)> {
    const COLUMNS: [(&str, &str); 11] = [
        ("id", "uuid"),
        ("actor_id", "text"),
        ("event_type", "text"),
        ("payload", "jsonb"),
        ("prev_hash", "text"),
        ("hash", "text"),
        ("signature", "text"),
        ("signer_kid", "text"),
        ("signer_id", "text"),
        ("created_at", "timestamptz"),
        ("ts", "timestamptz"),
    ];
    let like = "CREATE TABLE bare (LIKE signing_proxy.audit_events INCLUDING ALL)";
    client.batch_execute(like).await?;
    let texts: Vec<_> = COLUMNS.iter().map(|(name, _)| format!("{name}::text")).collect();
    let all =
        format!("SELECT {} FROM signing_proxy.audit_events ORDER BY created_at", texts.join(", "));
    let found = client.query(&all, &[]).await?;
    let mut batches = Vec::new();
    for rows in found.chunks(BATCH_ROWS) {
        let mut columns = Vec::new();
        for at in 0..COLUMNS.len() {
            let column: Result<Vec<Option<String>>, _> =
                rows.iter().map(|row| row.try_get(at)).collect();
            columns.push(column?);
        }
        batches.push(columns);
    }
    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let casts: Vec<_> = COLUMNS.iter().map(|(name, kind)| format!("r.{name}::{kind}")).collect();
    let arrays: Vec<_> = (1..=COLUMNS.len()).map(|at| format!("${at}::text[]")).collect();
    let insert = format!(
        "INSERT INTO bare ({names}) SELECT {} FROM unnest({}) AS r({names})",
        casts.join(", "),
        arrays.join(", "),
        names = names.join(", ")
    );
    let began = Instant::now();
    for batch in &batches {
        let values: Vec<_> = batch.iter().map(|column| column as _).collect();
        client.execute(&insert, &values).await?;
    }
    let took = began.elapsed();
    Ok((float(u64::try_from(found.len())?), took))
}

/// Half of the commits of one small change took at most so long, in microseconds, each after that pause: a database that
/// is asked now and then has to wake up first.
async fn commit(postgres: &Postgres, counting: Duration, pause: Duration) -> anyhow::Result<f64> {
    let client = connect(postgres).await?;
    let made = "DROP TABLE IF EXISTS one; CREATE TABLE one (n bigint); INSERT INTO one VALUES (0)";
    client.batch_execute(made).await?;
    let change = client.prepare("UPDATE one SET n = n + 1").await?;
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < counting {
        // Shorter than the runtime's own timers can wait.
        std::thread::sleep(pause);
        let one = Instant::now();
        client.execute(&change, &[]).await?;
        took.push(u64::try_from(one.elapsed().as_nanos())?);
    }
    took.sort_unstable();
    ensure!(!took.is_empty(), "no commit in {} s", counting.as_secs_f64());
    Ok(float(percentile(&took, 50)) / 1e3)
}

impl Report {
    fn of(args: &Trailed, seconds: f64, load_before: f64, rounds: &[Round]) -> Self {
        let spread = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
        Self {
            clients: args.clients,
            is_required_only: args.required,
            rounds: rounds.len(),
            seconds,
            load_before,
            rows: spread(|round| round.rows),
            rows_per_second: spread(|round| round.rows_per_second),
            bare_rows_per_second: spread(|round| round.bare_per_second),
            rows_ratio: spread(|round| round.rows_per_second / round.bare_per_second),
            cpu_us: spread(|round| round.cpu),
            cpu_with_trail_us: spread(|round| round.cpu_with),
            cpu_ratio: spread(|round| round.cpu_with / round.cpu),
            p50_us: spread(|round| round.p50),
            commit_p50_us: spread(|round| round.commit),
            paced_commit_p50_us: spread(|round| round.paced_commit),
            required_p50_us: spread(|round| round.required),
            required_ratio: spread(|round| round.required / (round.p50 + round.commit)),
            paced_ratio: spread(|round| round.required / (round.p50 + round.paced_commit)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the trail, PostgreSQL on a unix socket; median of {} rounds of {} s; load average before: {}\n",
            self.rounds, self.seconds, self.load_before
        )?;
        let mut line = |name: &str, Spread { median, min, max }: &Spread| {
            writeln!(f, "{name:<52} {:>26}", format!("{median:.1} [{min:.1}..{max:.1}]"))
        };
        if !self.is_required_only {
            line("rows", &self.rows)?;
            line("rows/s of the trail", &self.rows_per_second)?;
            line("rows/s of a bare batched insert", &self.bare_rows_per_second)?;
            line("CPU us of a signature, proxy", &self.cpu_us)?;
            line("CPU us of a signature, proxy, with the trail", &self.cpu_with_trail_us)?;
        }
        line("p50 us of a signature", &self.p50_us)?;
        line("p50 us of a commit", &self.commit_p50_us)?;
        line("p50 us of a commit, paced like signatures", &self.paced_commit_p50_us)?;
        line("p50 us of a signature, required", &self.required_p50_us)?;
        let mut ratio = |name: &str, of: &Spread, aim: &str, is_met: bool| {
            let Spread { median, min, max } = of;
            let met = if is_met { "met" } else { "MISSED" };
            writeln!(f, "{name}: {median:.2} [{min:.2}..{max:.2}]  {aim}  {met}")
        };
        if !self.is_required_only {
            let rows_met = self.rows_ratio.median >= ROWS_MIN;
            ratio("rows / bare insert", &self.rows_ratio, &format!(">= {ROWS_MIN}"), rows_met)?;
            let cpu_met = self.cpu_ratio.median <= CPU_MAX;
            ratio("CPU with / without", &self.cpu_ratio, &format!("<= {CPU_MAX}"), cpu_met)?;
        }
        let required_met = self.required_ratio.median <= COMMIT_MAX;
        let aim = format!("<= {COMMIT_MAX}");
        ratio("required / (p50 + one commit)", &self.required_ratio, &aim, required_met)?;
        let Spread { median, min, max } = self.paced_ratio;
        writeln!(f, "required / (p50 + one paced commit): {median:.2} [{min:.2}..{max:.2}]")
    }
}
