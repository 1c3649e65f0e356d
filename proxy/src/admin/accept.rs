//! Who gets a connection to the admin socket, and which request of it is answered. Every user has
//! places of its own: whatever one of them does, another one can stop signing.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use host::clock::now;
use host::log_limit::LogLimit;
use host::places::{Place, Places};
use host::socket::has_waiting;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::geteuid;
use server::{Answer, problem};
use signing_core::admin::{Role, path, who_may};
use signing_core::{Reason, Refusal};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::yield_now;

use super::peer::Peer;
use super::{Admin, respond};

/// Connections of one user.
const PER_USER_MAX: usize = 32;
/// Of all users together who may use it by their group.
const BY_GROUP_MAX: usize = 128;
/// Of those who may not use it, only to be told so.
const STRANGERS_MAX: usize = 16;
const PER_STRANGER_MAX: usize = 4;

const CONNECTION_MAX: Duration = Duration::from_secs(60);
const BODY_MAX_BYTES: usize = 65_536;
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Places by uid.
struct Rooms {
    /// These have all of their places always, whoever else comes.
    users: BTreeSet<u32>,
    named: Places<u32>,
    by_group: Places<u32>,
    strangers: Places<u32>,
}

/// For lines that peers can cause.
#[derive(Default)]
struct Logs {
    refused: LogLimit,
    gave_way: LogLimit,
}

impl Rooms {
    fn new(access: &configuration::Admin) -> Self {
        // Root and the socket's owner beside those who are named: they may come by their group.
        let always = [0, geteuid().as_raw()];
        let named = access.everybody().into_iter().flat_map(|(_, _, members)| &members.uids);
        let users: BTreeSet<u32> = named.copied().chain(always).collect();
        Self {
            named: Places::new(users.len() * PER_USER_MAX, PER_USER_MAX),
            by_group: Places::new(BY_GROUP_MAX, PER_USER_MAX),
            strangers: Places::new(STRANGERS_MAX, PER_STRANGER_MAX),
            users,
        }
    }

    fn begin(&self, uid: u32, may_use: bool) -> Option<Place<u32>> {
        let room = match (may_use, self.users.contains(&uid)) {
            (true, true) => &self.named,
            (true, false) => &self.by_group,
            (false, _) => &self.strangers,
        };
        room.begin(uid)
    }

    /// Out of descriptors: a closed connection gives one back.
    fn give_way(&self) {
        for room in [&self.strangers, &self.by_group, &self.named] {
            room.give_way();
        }
    }
}

/// Serves the admin socket until the process ends; `again` hands over the socket that was bound in
/// place of one whose file was removed.
pub async fn serve(
    mut listener: UnixListener,
    mut again: mpsc::Receiver<UnixListener>,
    admin: Arc<Admin>,
) {
    let (rooms, logs) = (Rooms::new(&admin.access), Arc::new(Logs::default()));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(bound) = again.recv() => {
                listener = bound;
                continue;
            }
        };
        let Ok((stream, _)) = accepted else {
            if has_waiting(&listener) {
                rooms.give_way();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // A peer that the kernel does not name is nobody.
        if let Ok(credentials) = stream.peer_cred() {
            let peer = Peer::new(&credentials);
            let roles = peer.roles(&admin.access);
            if let Some(place) = rooms.begin(peer.uid(), !roles.is_empty()) {
                let shared = (Arc::clone(&admin), Arc::clone(&logs));
                tokio::spawn(connection(stream, (peer, roles.into()), Arc::new(place), shared));
            }
        }
        // Whoever has asked already is heard before the next one can take its place.
        yield_now().await;
    }
}

/// One request, so that nobody keeps a place without asking.
async fn connection(
    stream: UnixStream,
    (peer, roles): (Peer, Arc<[Role]>),
    place: Arc<Place<u32>>,
    (admin, logs): (Arc<Admin>, Arc<Logs>),
) {
    let service = {
        let (place, logs) = (Arc::clone(&place), Arc::clone(&logs));
        service_fn(move |request| {
            let (admin, place, logs) = (Arc::clone(&admin), Arc::clone(&place), Arc::clone(&logs));
            let roles = Arc::clone(&roles);
            async move {
                let answer = match allowed(&roles, request.uri().path()) {
                    Ok(()) => answer(&admin, peer, &place, request).await,
                    Err(why) => Err(not_allowed(peer.uid(), &why, &place, &logs)),
                };
                Ok::<_, Infallible>(answer.unwrap_or_else(|refusal| problem(&refusal, None)))
            }
        })
    };
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .max_buf_size(65_536);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // First what has arrived of a request: whoever has asked does not give way.
        biased;
        // An error here is the peer's: it sees its connection close. A place is nobody's for ever.
        _ = tokio::time::timeout(CONNECTION_MAX, serving) => {}
        () = place.gave_way() => {
            if let Some(left_out) = logs.gave_way.pass(now()) {
                let peer = format!("uid {}", peer.uid());
                tracing::warn!(
                    target: "admin",
                    peer,
                    left_out,
                    "a connection without a command gave way to newer ones"
                );
            }
        }
    }
}

/// Whether a peer with these roles may ask for that path; or why not, and what to do.
fn allowed(roles: &[Role], asked: &str) -> Result<(), String> {
    if roles.is_empty() {
        return Err(
            "may not use this socket; the keys of [admin] that end in _uids and _gids say \
                    who may"
                .to_owned(),
        );
    }
    // What is no path is told to whoever has a role.
    if !path::ALL.contains(&asked) || roles.iter().any(|role| role.may(asked)) {
        return Ok(());
    }
    let has: Vec<_> = roles.iter().map(|role| role.word()).collect();
    Err(format!(
        "has the role {} here, and {asked} takes {}: ask one of them, or add the uid to the role in \
         [admin] and restart",
        has.join(" and "),
        who_may(asked)
    ))
}

fn not_allowed(uid: u32, why: &str, place: &Place<u32>, logs: &Logs) -> Refusal {
    // Answered at once, however many have asked.
    let _ = place.asked();
    let who = format!("uid {uid}");
    if let Some(left_out) = logs.refused.pass(now()) {
        tracing::warn!(target: "admin", peer = who, why, left_out, "refused on the admin socket");
    }
    Refusal::new(Reason::CallerNotAuthorized, format!("{who} {why}"))
}

/// Reads the whole request before it counts as one: a body that does not come keeps nobody out.
async fn answer(
    admin: &Admin,
    peer: Peer,
    place: &Place<u32>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Refusal> {
    let (head, body) = request.into_parts();
    let body = whole(body).await;
    let has_room = place.asked();
    let request = Request::from_parts(head, body?);
    // A stop is never too much.
    if !has_room && ![path::FREEZE, path::FLEET_FREEZE].contains(&request.uri().path()) {
        return Err(Refusal::new(
            Reason::Overloaded,
            format!(
                "too many commands of uid {} are under way; wait until one has ended, then retry",
                peer.uid()
            ),
        ));
    }
    respond(admin, peer, request).await
}

async fn whole(body: Incoming) -> Result<Bytes, Refusal> {
    let reading = Limited::new(body, BODY_MAX_BYTES).collect();
    let body = tokio::time::timeout(READ_TIMEOUT, reading)
        .await
        .map_err(|_| Refusal::new(Reason::RequestTimeout, "the body did not arrive in time"))?
        .map_err(|error| Refusal::new(Reason::InvalidRequest, error.to_string()))?;
    Ok(body.to_bytes())
}
