//! The loop: read the fleet, present what it says to the proxy, say that this was done, post again what
//! the proxy holds, and write how the proxy is. A notification or a second begins the next turn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::now;
use host::log::Log;
use serde_json::{Value, json};
use signing_core::admin::{FleetFreeze, FleetMember, FleetStatement, path};
use signing_core::fleet::{Statement, errands};
use signing_core::{FreezeId, Moment};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::gauges::{Gauges, Presented};
use super::members::{MemberRow, part};
use super::proxy::{Proxy, Reply, one_line, typed};
use super::statements::{CHANNEL, FleetRows, FreezeRow, StatementRow};
use crate::config::Fleet;
use crate::metrics::Metrics;
use crate::postgres::{DatabaseError, Place};

/// How often the fleet is read without a notification.
const POLL: Duration = Duration::from_secs(1);
/// How often the member's row is written while nothing changes.
const WRITE_EVERY: Duration = Duration::from_secs(3);
/// How long a statement that ended nothing is not presented again: it may count later.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// The wait after the database failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Everything that the loop has.
#[derive(Debug)]
pub(crate) struct Agent {
    place: Place,
    proxy: Proxy,
    /// What freezes for some members only are held against: `region=eu-1`.
    labels: BTreeSet<String>,
    metrics: Metrics,
    gauges: Gauges,
    log: Log,
    /// Rows that the proxy did not take, by their ids.
    refused: BTreeMap<String, Refused>,
    /// Whom the freezes in the database concern: what the proxy holds does not say that.
    scopes: BTreeMap<FreezeId, Vec<String>>,
    /// When the member's row was written, and what it says that is not to wait.
    written: Option<(Moment, Value)>,
    /// The log of the proxy's journal.
    instance: String,
    /// What keeps it from carrying words, as it was logged last.
    problem: Option<String>,
}

/// A row that was not taken.
#[derive(Debug)]
struct Refused {
    at: Moment,
    /// Why, in the proxy's words.
    why: String,
}

/// Why a turn was not finished.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error("{0}")]
    Database(#[from] DatabaseError),
    #[error("{0}")]
    Proxy(String),
}

impl Agent {
    /// An agent of the proxy behind the socket.
    pub(crate) fn new(
        place: Place,
        fleet: Fleet,
        (metrics, gauges): (Metrics, Gauges),
        log: Log,
    ) -> Self {
        let Fleet { socket, labels } = fleet;
        Self {
            place,
            proxy: Proxy { socket },
            labels,
            metrics,
            gauges,
            log,
            refused: BTreeMap::new(),
            scopes: BTreeMap::new(),
            written: None,
            instance: String::new(),
            problem: None,
        }
    }

    /// Carries words until the process ends. While the database is away it says nothing to the proxy:
    /// that is how the proxy knows.
    pub(crate) async fn run(mut self) {
        loop {
            let failed = match self.place.listen(CHANNEL).await {
                Ok((client, notified)) => self.session(&client, &notified).await,
                Err(error) => error,
            };
            self.log_problem(failed.to_string());
            sleep(AGAIN).await;
        }
    }

    async fn session(&mut self, client: &Client, notified: &Notify) -> DatabaseError {
        if let Err(error) = self.place.make_fleet(client).await {
            return error;
        }
        // The database may be an older one than before.
        self.written = None;
        // Without the right to remove anything it carries words all the same.
        let _ = self.place.remove_old_statements(client).await;
        loop {
            match self.turn(client).await {
                Ok(()) => {
                    self.gauges.blocked(false);
                    if self.problem.take().is_some() {
                        self.log.info("the fleet is carried again", json!({}));
                    }
                }
                Err(TurnError::Database(error)) => return error,
                Err(TurnError::Proxy(why)) => self.log_problem(why),
            }
            // Whoever notifies during a turn begins the next one at once.
            let _ = timeout(POLL, notified.notified()).await;
        }
    }

    fn log_problem(&mut self, why: String) {
        self.gauges.blocked(true);
        if self.problem.as_ref() != Some(&why) {
            self.log.error("the fleet is not carried", json!({"error": why}));
            self.problem = Some(why);
        }
    }

    async fn turn(&mut self, client: &Client) -> Result<(), TurnError> {
        let words = self.place.fleet_words(client).await?;
        self.gauges.read();
        let status = self.proxy.status().await.map_err(TurnError::Proxy)?;
        let known: Option<FleetMember> = typed(part(&status, "/fleet")).ok();
        let labels = self.all_labels(&status);
        let own: Vec<_> = words.freezes.iter().filter(|freeze| freeze.is_for(&labels)).collect();
        for freeze in &own {
            self.present_freeze(known.as_ref(), freeze).await?;
        }
        for statement in &words.statements {
            self.present_statement(known.as_ref(), statement).await?;
        }
        self.forget_rows(&words);
        // All that was read has been presented: only now may this be said.
        let read = own.iter().map(|freeze| freeze.id.to_string()).collect();
        let heard = self.proxy.hear(read).await;
        if heard.is_ok() {
            self.gauges.presented();
        }
        let after = self.proxy.status().await.map_err(TurnError::Proxy)?;
        let member: Option<FleetMember> = typed(part(&after, "/fleet")).ok();
        self.instance = part(&after, "/audit/log").as_str().unwrap_or_default().to_owned();
        if let Some(member) = &member {
            self.run_errands(client, member, &words).await?;
        }
        let problem = match heard {
            Err(why) => Some(why),
            Ok(FleetMember { fleet: None, .. }) => Some(self.proxy.is_in_no_fleet()),
            Ok(_) => words.unreadable.first().map(|id| {
                let id = one_line(id);
                format!("the freeze {id:?} in the database is obeyed by nobody: its id is not 32 hex digits")
            }),
        };
        self.write_status(client, after, &labels, problem.as_deref()).await?;
        problem.map_or(Ok(()), |why| Err(TurnError::Proxy(why)))
    }

    /// What freezes for some members only are held against.
    fn all_labels(&self, status: &Value) -> BTreeSet<String> {
        let label = |name: &str, value: &Value| Some(format!("{name}={}", value.as_str()?));
        let own = [
            label("deployment", part(status, "/deployment")),
            label("fleet", part(status, "/fleet/fleet")),
        ];
        self.labels.iter().cloned().chain(own.into_iter().flatten()).collect()
    }

    async fn present_freeze(
        &mut self,
        known: Option<&FleetMember>,
        freeze: &FreezeRow,
    ) -> Result<(), TurnError> {
        self.scopes.insert(freeze.id, freeze.labels.clone());
        let id = freeze.id.to_string();
        let is_known = known.is_some_and(|known| {
            known.held.iter().any(|held| held.id == id) || known.ended.contains(&id)
        });
        if is_known {
            return Ok(());
        }
        let (reason, by) = (one_line(&freeze.reason), one_line(&freeze.by));
        let order = FleetFreeze { id: id.clone(), reason, by };
        let reply = self.proxy.post(path::FLEET_FREEZE, &order).await;
        self.keep_refusal(id, Presented::Freeze, reply.map_err(TurnError::Proxy)?);
        Ok(())
    }

    async fn present_statement(
        &mut self,
        known: Option<&FleetMember>,
        row: &StatementRow,
    ) -> Result<(), TurnError> {
        let is_fresh = |refused: &Refused| now().since(refused.at) < REFUSED_FOR;
        if self.refused.get(&row.id).is_some_and(is_fresh) {
            return Ok(());
        }
        let statement = Statement::parse(row.statement.as_bytes()).ok();
        let has_ended = |ids: &[String]| {
            let mut ends = statement.iter().flat_map(Statement::ends).map(FreezeId::to_string);
            statement.is_some() && ends.all(|id| ids.contains(&id))
        };
        if known.is_some_and(|known| has_ended(&known.ended)) {
            self.refused.remove(&row.id);
            return Ok(());
        }
        let presented = FleetStatement {
            statement_b64: STANDARD.encode(&row.statement),
            signature_b64: STANDARD.encode(&row.signature),
        };
        let reply = self.proxy.post(path::FLEET_STATEMENT, &presented).await;
        self.keep_refusal(row.id.clone(), Presented::Statement, reply.map_err(TurnError::Proxy)?);
        Ok(())
    }

    fn keep_refusal(&mut self, row: String, word: Presented, reply: Reply) {
        match reply.refusal() {
            Some(why) => {
                self.gauges.refused(word);
                self.refused.insert(row, Refused { at: now(), why })
            }
            None => self.refused.remove(&row),
        };
    }

    /// Forgets what concerns rows that are gone. Whom a freeze concerned is remembered while it is held,
    /// so that it is posted again for the same members.
    fn forget_rows(&mut self, words: &FleetRows) {
        let freezes: BTreeSet<_> = words.freezes.iter().map(|row| row.id.to_string()).collect();
        let statements = || words.statements.iter().map(|row| &row.id);
        self.refused.retain(|id, _| freezes.contains(id) || statements().any(|row| row == id));
    }

    /// Posts again what the member holds, and removes what ended everywhere.
    async fn run_errands(
        &mut self,
        client: &Client,
        member: &FleetMember,
        words: &FleetRows,
    ) -> Result<(), TurnError> {
        let ids = |ids: &mut dyn Iterator<Item = &String>| -> BTreeSet<FreezeId> {
            ids.filter_map(|id| FreezeId::parse(id).ok()).collect()
        };
        let held = ids(&mut member.held.iter().map(|held| &held.id));
        let ended = ids(&mut member.ended.iter());
        let rows: BTreeSet<_> = words.freezes.iter().map(|row| row.id).collect();
        self.scopes.retain(|id, _| rows.contains(id) || held.contains(id));
        if held.is_subset(&rows) && rows.is_disjoint(&ended) {
            return Ok(());
        }
        let others = self.place.members(client).await?;
        let others = others.iter().filter(|other| other.instance != self.instance);
        let held_by_others = others.flat_map(MemberRow::held).collect();
        let todo = errands(&held, &ended, &rows, &held_by_others);
        for freeze in &member.held {
            let Some(id) = FreezeId::parse(&freeze.id).ok().filter(|id| todo.post.contains(id))
            else {
                continue;
            };
            // Whom it concerned is not known after a restart of this process: then it concerns all.
            let labels = self.scopes.get(&id).cloned().unwrap_or_default();
            self.place.post_freeze(client, freeze, &labels).await?;
            self.log.error(
                "a freeze that is held here was not in the database: posted again",
                json!({"id": freeze.id}),
            );
        }
        if !todo.remove.is_empty() {
            self.place.remove_freezes(client, &todo.remove).await?;
        }
        Ok(())
    }

    /// Says how the member is, if that changed or was said a while ago.
    async fn write_status(
        &mut self,
        client: &Client,
        mut status: Value,
        labels: &BTreeSet<String>,
        problem: Option<&str>,
    ) -> Result<(), TurnError> {
        let refused: BTreeMap<_, _> =
            self.refused.iter().map(|(id, refused)| (id, &refused.why)).collect();
        let refused = json!(refused);
        let urgent = json!([
            part(&status, "/ok"),
            part(&status, "/reason"),
            part(&status, "/fleet/held"),
            refused,
            problem
        ]);
        let is_due =
            |(at, said): &(Moment, Value)| now().since(*at) >= WRITE_EVERY || *said != urgent;
        if !self.written.as_ref().is_none_or(is_due) {
            return Ok(());
        }
        let version = part(&status, "/version").as_str().unwrap_or_default().to_owned();
        if let Some(fleet) = status.pointer_mut("/fleet").and_then(Value::as_object_mut) {
            // Hundreds of ids, which nobody else needs.
            fleet.remove("ended");
        }
        let agent = json!({
            "problem": problem,
            "refused": refused,
            "trail": self.metrics.status(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        if let Some(status) = status.as_object_mut() {
            status.insert("labels".to_owned(), json!(labels));
            status.insert("agent".to_owned(), agent);
        }
        self.place.write_member(client, &self.instance, &version, &status).await?;
        self.written = Some((now(), urgent));
        Ok(())
    }
}
