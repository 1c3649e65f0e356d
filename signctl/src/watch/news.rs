//! Asks the proxy and the trail, on threads of their own: whatever hangs there, keys and clock go on.

use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use signing_core::admin::{Events, Freeze, Frozen, path};

use super::view::News;
use crate::client::{self, Reply};
use crate::show;

/// How often the status is asked for.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// A status that takes longer does not count.
const STATUS_WITHIN: Duration = Duration::from_secs(3);
/// How long a question for events waits at the proxy, in seconds.
const EVENTS_WAIT_S: u64 = 20;
/// How often the trail is asked.
const TRAIL_EVERY: Duration = Duration::from_secs(2);
/// After an error.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts to ask; ends when nobody hears it any more. `trail` is where the trail shows its status.
pub(super) fn ask(
    socket: &Path,
    trail: Option<&str>,
    to: &SyncSender<News>,
) -> std::io::Result<()> {
    let (place, send) = (socket.to_owned(), to.clone());
    start("status", move || {
        loop {
            let status = News::Status(status(&place).map(Box::new).map_err(sentence));
            if send.send(status).is_err() {
                return;
            }
            thread::sleep(STATUS_EVERY);
        }
    })?;
    let (place, send) = (socket.to_owned(), to.clone());
    start("events", move || {
        let mut position = Position::default();
        loop {
            let events = events(&place, &mut position).map_err(sentence);
            let failed = events.is_err();
            if send.send(News::Events(events)).is_err() {
                return;
            }
            if failed {
                thread::sleep(PAUSE);
            }
        }
    })?;
    let Some(address) = trail.map(str::to_owned) else { return Ok(()) };
    let send = to.clone();
    start("trail", move || {
        loop {
            let lines = trail_lines(&address).map_err(sentence);
            if send.send(News::Trail(lines)).is_err() {
                return;
            }
            thread::sleep(TRAIL_EVERY);
        }
    })
}

/// Has the proxy freeze; the answer comes as news.
pub(super) fn freeze(socket: &Path, reason: String, to: &SyncSender<News>) -> std::io::Result<()> {
    let (socket, to) = (socket.to_owned(), to.clone());
    start("freeze", move || {
        let froze = client::post(&socket, path::FREEZE, &Freeze { reason });
        let froze = froze.and_then(|reply| good(&reply, |reply| reply.read::<Frozen>()));
        let words = froze.map(|frozen| show::frozen(&frozen).words.replace('\n', "; "));
        // If nobody hears it the view has ended; the freeze is in force all the same.
        let _ = to.send(News::Froze(words.map_err(sentence)));
    })
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

fn status(
    socket: &Path,
) -> anyhow::Result<(signing_core::admin::Health, signing_core::admin::ProxyStatus)> {
    let reply = client::get_within(socket, path::STATUS, STATUS_WITHIN)?;
    good(&reply, |reply| Ok((reply.read()?, reply.read()?)))
}

/// Where the next question goes on, in which log.
#[derive(Default)]
struct Position {
    log: Option<String>,
    after: Option<u64>,
}

fn events(socket: &Path, position: &mut Position) -> anyhow::Result<Events> {
    let asked = match position.after {
        Some(after) => format!("{}?after={after}&wait_s={EVENTS_WAIT_S}", path::EVENTS),
        None => path::EVENTS.to_owned(),
    };
    let within = Duration::from_secs(EVENTS_WAIT_S) + STATUS_WITHIN;
    let reply = client::get_within(socket, &asked, within)?;
    let events = good(&reply, |reply| reply.read::<Events>());
    match &events {
        Ok(events) => {
            // Another log begins at its own beginning.
            let is_same = position.log.as_ref().is_none_or(|log| *log == events.log);
            position.after = is_same.then_some(events.next);
            position.log = Some(events.log.clone());
        }
        // A position that the proxy does not know belongs to another log.
        Err(_) if reply.status == 400 => *position = Position::default(),
        Err(_) => {}
    }
    events
}

fn trail_lines(address: &str) -> anyhow::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(trail::status::ask(address)).map_err(anyhow::Error::msg)?;
    Ok(trail::status::lines(&status).lines().map(str::to_owned).collect())
}

/// What an answer says, unless it is a refusal.
fn good<T>(reply: &Reply, read: impl FnOnce(&Reply) -> anyhow::Result<T>) -> anyhow::Result<T> {
    if reply.refusal().is_some() {
        anyhow::bail!("{}", reply.refused());
    }
    read(reply)
}

/// An error with its causes, in one line.
fn sentence(error: anyhow::Error) -> String {
    format!("{error:#}")
}
