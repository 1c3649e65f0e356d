//! `signctl fleet`: all members at once, by way of the database that their agents read. What is posted
//! there stops members; it ends a freeze only by what a person signed, which each member verifies.

mod draft;
mod members;
mod statement;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use host::clock::{rfc3339, wall_now};
use host::environment::reason;
use host::out;
use nix::unistd::{User, getuid};
use serde_json::{Map, Value, json};
use signctl::failure::Failure;
use signing_core::FreezeId;
use signing_core::admin::HeldFreeze;
use tokio::runtime::Runtime;
use trail::fleet::StatementRow;
use trail::postgres::{Client, DatabaseError, Place};

use crate::database::{Database, Table, runtime};
use members::{Answer, Asked, Member};
pub(crate) use statement::statement;

/// How long it waits for the members, and how often it looks.
const WAIT_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a watched status is shown.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// The longest that a step with the database may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is said where no agent has been.
const NO_MEMBER: &str =
    "no member is known: is signing-trail running beside each proxy, with [fleet]?";

/// What to do with the fleet.
#[derive(Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show every member: whether it signs, why it refuses, since when it is silent. Exit 0 only if all
    /// sign.
    #[command(
        after_help = "Example: signctl fleet status --json | jq '.members[] | select(.state != \"signs\")'"
    )]
    Status {
        /// Only members that have this label, as with freeze.
        #[arg(long, value_name = "NAME=VALUE")]
        label: Vec<String>,
        /// Show it again every two seconds, until stopped.
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        database: Database,
    },
    /// Stop signing at every member. Exit 0 only if each that is known obeyed.
    #[command(
        after_help = "Example: signctl fleet freeze --reason \"INC-42: KMS signs wrongly\"\n         signctl fleet freeze --reason \"INC-43\" --label region=eu-1"
    )]
    Freeze {
        /// Why; callers and records see it.
        #[arg(long)]
        reason: String,
        /// Only members that have this label: of fleet.labels in the configuration of their
        /// signing-trail, or deployment=NAME, or fleet=NAME. May be given more than once: those that
        /// have all.
        #[arg(long, value_name = "NAME=VALUE")]
        label: Vec<String>,
        #[command(flatten)]
        database: Database,
    },
    /// Write the statement that ends freezes, for a person of the configured role to sign.
    #[command(
        after_help = "Example: signctl fleet statement --reason \"INC-42: KMS is well again\" --out statement.json"
    )]
    Statement(draft::Flags),
    /// End freezes by a statement that a person of the configured role signed. Exit 0 only if each
    /// member that is known ended them.
    #[command(
        after_help = "Example: ssh-keygen -Y sign -n fleet@signing-proxy -f KEY statement.json && signctl fleet unfreeze --statement statement.json"
    )]
    Unfreeze {
        /// The statement, which lists the freezes; its signature is in FILE.sig.
        #[arg(long, value_name = "FILE")]
        statement: PathBuf,
        #[command(flatten)]
        database: Database,
    },
    /// Forget a member that is gone for good, so that nobody waits for it. One that is not gone comes
    /// back by itself.
    #[command(
        after_help = "Example: signctl fleet forget INSTANCE, as signctl fleet status shows it"
    )]
    Forget {
        /// The instance id of the member.
        instance: String,
        #[command(flatten)]
        database: Database,
    },
}

/// A session with the database.
struct Session {
    runtime: Runtime,
    place: Place,
    client: Client,
}

pub(crate) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    match &flags.verb {
        Verb::Status { label, watch, database } => status(label, *watch, database, as_json),
        Verb::Freeze { reason, label, database } => freeze(reason, label, database, as_json),
        Verb::Statement(flags) => draft::run(flags, as_json).map(|()| ExitCode::SUCCESS),
        Verb::Unfreeze { statement, database } => {
            unfreeze(statement, &Session::open(database)?, as_json)
        }
        Verb::Forget { instance, database } => {
            let Session { runtime, place, client } = Session::open(database)?;
            if !runtime.block_on(place.forget_member(&client, instance))? {
                bail!("no member {instance} is known; look at signctl fleet status");
            }
            if as_json {
                out::report_json(&json!({"forgotten": instance}))?;
            } else {
                out::report(&text::line(&format!("{instance} is forgotten")))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn status(
    labels: &[String],
    watch: bool,
    database: &Database,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    is_label(labels)?;
    loop {
        match Session::open(database).and_then(|session| session.members(labels)) {
            Ok(members) => {
                let is_good = !members.is_empty() && members.iter().all(Member::signs);
                let code = say(&members, None, is_good, as_json, Member::state)?;
                if !watch {
                    return Ok(code);
                }
            }
            // Whoever watches sees it come back.
            Err(error) if watch => out::say(&format!("signctl: {error:#}")),
            Err(error) => return Err(error),
        }
        std::thread::sleep(WATCH_EVERY);
        if !as_json {
            out::show(&format!("\n{}", rfc3339(wall_now())))?;
        }
    }
}

fn freeze(
    why: &str,
    labels: &[String],
    database: &Database,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    is_label(labels)?;
    let session = Session::open(database)?;
    let asked = Asked::Freeze(session.post_freeze(why, labels)?);
    session.wait(&asked, labels, as_json)
}

fn unfreeze(file: &Path, session: &Session, as_json: bool) -> anyhow::Result<ExitCode> {
    let (parsed, bytes, signature) = statement::files(file)?;
    let utf8 = |bytes: Vec<u8>, what: &str| {
        String::from_utf8(bytes)
            .map_err(|_| anyhow!("--statement {}{what}: it is no text", file.display()))
    };
    let (statement, signature) = (utf8(bytes, "")?, utf8(signature, ".sig")?);
    let row = StatementRow { id: hex::encode(random()?), statement, signature };
    let ends = parsed.ends();
    session.runtime.block_on(session.place.post_statement(&session.client, &row, ends))?;
    session.wait(&Asked::Unfreeze { row: row.id, ends: ends.clone() }, &[], as_json)
}

fn random() -> anyhow::Result<[u8; FreezeId::BYTES]> {
    let mut random = [0; FreezeId::BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| anyhow!("the system gives no randomness"))?;
    Ok(random)
}

pub(crate) fn is_label(labels: &[String]) -> anyhow::Result<()> {
    match labels.iter().find(|label| !label.contains('=')) {
        Some(label) => bail!("--label {label}: write NAME=VALUE"),
        None => Ok(()),
    }
}

/// What became of a freeze of all members that have these labels.
///
/// # Errors
/// It is not known to be posted, or not what became of it.
pub(crate) fn stop(why: &str, labels: &[String], place: &Place) -> anyhow::Result<Stopped> {
    let session = Session::at(place)?;
    let id = session.post_freeze(why, labels)?;
    let asked = Asked::Freeze(id);
    let (members, _) = session.settled(&asked, labels)?;
    Ok(Stopped { id, asked, members })
}

/// How the members are, as `signctl fleet status --json` says it.
///
/// # Errors
/// The database does not say.
pub(crate) fn status_of(place: &Place) -> anyhow::Result<Map<String, Value>> {
    let members = Session::at(place)?.members(&[])?;
    let members = members.iter().map(|member| member.to_json(member.state())).collect();
    Ok(Map::from_iter([("members".to_owned(), members)]))
}

/// A freeze of the fleet, and what became of it at each member.
#[derive(Debug)]
pub(crate) struct Stopped {
    id: FreezeId,
    asked: Asked,
    members: Vec<Member>,
}

impl Stopped {
    /// In words.
    ///
    /// # Errors
    /// The same, where a member is not frozen or none is known.
    pub(crate) fn said(&self) -> Result<String, String> {
        let Self { id, asked, members } = self;
        if members.is_empty() {
            return Err(format!("freeze {id} is posted, and {NO_MEMBER}"));
        }
        let missed = members.iter().filter(|member| !member.did(asked));
        let missed: Vec<_> = missed.map(|member| member.line(&member.answer(asked))).collect();
        let frozen = members.len().saturating_sub(missed.len());
        let all = text::counted(members.len(), "member");
        let said = format!("{frozen} of {all} frozen (freeze {id})");
        if missed.is_empty() { Ok(said) } else { Err(format!("{said}; {}", missed.join("; "))) }
    }

    /// A line for each member, and what to do about those that are not known to be frozen.
    pub(crate) fn table(&self) -> String {
        let Self { asked, members, .. } = self;
        let table = members::table(members, |member| member.answer(asked));
        if members.iter().all(|member| member.did(asked)) {
            return table;
        }
        format!(
            "{table}\nwho is not frozen: go to that machine and run signctl freeze --reason TEXT. The freeze of the fleet \
             is in the database, and is obeyed as soon as that member's agent reads it"
        )
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let Self { id, asked, members } = self;
        let members = members.iter().map(|member| member.to_json(member.answer(asked)));
        json!({"id": id, "members": members.collect::<Vec<_>>()})
    }
}

/// Whether every member that has these labels passes a gate. At least one has to be known.
///
/// # Errors
/// Who does not, and why.
pub(crate) async fn passes(place: &Place, labels: &[String]) -> Result<String, Failure> {
    let failed = |error: DatabaseError| Failure::new("database", format!("the database: {error}"));
    let client = place.connect().await.map_err(failed)?;
    let rows = place.members(&client).await.map_err(failed)?;
    let members: Vec<_> = rows.iter().map(Member::of).filter(|it| it.has(labels)).collect();
    let held: Vec<_> = members.iter().filter_map(|it| it.passes().err()).collect();
    let (all, counted) = (members.len(), |count| text::counted(count, "member"));
    match held.first() {
        None if all == 0 => Err(Failure::new("no_members", NO_MEMBER)),
        None => Ok(format!("{} of {} sign", all, counted(all))),
        Some(first) => {
            let why: Vec<_> = held.iter().map(|failure| failure.detail.as_str()).collect();
            let why = why.join("; ");
            let detail = format!("{} of {} cannot be relied on: {why}", held.len(), counted(all));
            Err(Failure::new(&first.reason, detail))
        }
    }
}

impl Session {
    fn open(database: &Database) -> anyhow::Result<Self> {
        Self::at(&database.place(&Table::default())?)
    }

    fn at(place: &Place) -> anyhow::Result<Self> {
        let place = Place { timeout: TIMEOUT, ..place.clone() };
        let runtime = runtime()?;
        let client = runtime.block_on(place.connect())?;
        Ok(Self { runtime, place, client })
    }

    /// Posts a freeze for the members that have these labels.
    fn post_freeze(&self, why: &str, labels: &[String]) -> anyhow::Result<FreezeId> {
        let why = reason(why).map_err(|error| anyhow!("--reason: {error}"))?;
        let id = FreezeId::new(random()?);
        let (id_text, since) = (id.to_string(), rfc3339(wall_now()));
        let freeze = HeldFreeze { id: id_text, reason: why, by: whoami(), since };
        let Self { runtime, place, client } = self;
        // It is there for whoever joins later, also if no agent has ever been here.
        runtime.block_on(place.make_fleet(client))?;
        runtime.block_on(place.post_freeze(client, &freeze, labels))?;
        Ok(id)
    }

    fn members(&self, labels: &[String]) -> anyhow::Result<Vec<Member>> {
        let rows = self.runtime.block_on(self.place.members(&self.client))?;
        Ok(rows.iter().map(Member::of).filter(|member| member.has(labels)).collect())
    }

    /// Waits until every member that is heard of did what was asked, and says what became of it.
    fn wait(&self, asked: &Asked, labels: &[String], as_json: bool) -> anyhow::Result<ExitCode> {
        let (members, is_good) = self.settled(asked, labels)?;
        say(&members, Some(asked), is_good, as_json, |member| member.answer(asked))
    }

    /// How the members are once each of them did what was asked, or is not waited for any more; and
    /// whether all of them did.
    fn settled(&self, asked: &Asked, labels: &[String]) -> anyhow::Result<(Vec<Member>, bool)> {
        let began = Instant::now();
        loop {
            let members = self
                .members(labels)
                .with_context(|| format!("{}; what became of it cannot be read", asked.posted()))?;
            let is_settled = members.iter().all(|member| member.is_settled(asked));
            if is_settled || began.elapsed() >= WAIT_MAX {
                let is_good = !members.is_empty() && members.iter().all(|member| member.did(asked));
                return Ok((members, is_good));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Says how the members are, or what became of what was asked.
fn say(
    members: &[Member],
    asked: Option<&Asked>,
    is_good: bool,
    as_json: bool,
    word: impl Fn(&Member) -> Answer,
) -> anyhow::Result<ExitCode> {
    let is_look = asked.is_none();
    if as_json {
        let members: Vec<_> = members.iter().map(|member| member.to_json(word(member))).collect();
        let id = match asked {
            Some(Asked::Freeze(id)) => Some(id),
            Some(Asked::Unfreeze { .. }) | None => None,
        };
        let all = json!({"id": id, "members": members, "ok": is_good});
        if is_look { out::show_json(&all)? } else { out::report_json(&all)? }
    } else {
        let mut words =
            if members.is_empty() { NO_MEMBER.to_owned() } else { members::table(members, word) };
        if let Some(Asked::Freeze(id)) = asked {
            words += &format!("\nfreeze {id}; to end it: signctl fleet unfreeze --statement FILE");
        }
        if is_look { out::show(&words)? } else { out::report(&words)? }
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Who ordered it, for people.
fn whoami() -> String {
    let uid = getuid();
    match User::from_uid(uid) {
        Ok(Some(user)) => format!("uid {uid} ({})", user.name),
        Ok(None) | Err(_) => format!("uid {uid}"),
    }
}
