//! Places for connections, of which each peer has a share: nobody who connects and waits keeps others
//! from being served.
//!
//! A connection is *half-open* until what it asks has arrived. When a place is wanted and none is left,
//! the oldest half-open connection of the peer that holds most gives way. Who has asked never does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::peer_address::PeerAddress;

/// Connections at once to a listener that asks for no proof, and of these from one source. Whoever can
/// connect can take places: on loopback every local user, under every address of 127.0.0.0/8.
const FOR_ANYBODY_MAX: usize = 256;
const OF_ANYBODY_MAX: usize = 128;

/// The places of one listener. `P` is what tells its peers apart: an address, or a user.
#[derive(Debug)]
pub struct Places<P: Copy + Eq + Hash>(Arc<Mutex<Taken<P>>>);

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub struct Place<P: Copy + Eq + Hash> {
    of: Places<P>,
    id: u64,
    peer: P,
}

/// The places that are taken, as a decision without a socket.
#[derive(Debug)]
struct Taken<P> {
    max: usize,
    per_peer_max: usize,
    /// A newer connection has a higher id.
    next_id: u64,
    half_open: BTreeMap<u64, HalfOpen<P>>,
    asked: BTreeSet<u64>,
    of_peers: HashMap<P, PeerPlaces>,
}

#[derive(Debug)]
struct HalfOpen<P> {
    peer: P,
    /// Of whoever waits to hear that it gave way.
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct PeerPlaces {
    half_open: BTreeSet<u64>,
    asked: usize,
}

impl<P: Copy + Eq + Hash> Clone for Places<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Places<PeerAddress> {
    /// Those of a listener for metrics and health, to which anybody may connect who reaches it.
    #[must_use]
    pub fn for_anybody() -> Self {
        Self::new(FOR_ANYBODY_MAX, OF_ANYBODY_MAX)
    }
}

impl<P: Copy + Eq + Hash> Places<P> {
    /// `max` places, of which one peer may have `per_peer_max`.
    #[must_use]
    pub fn new(max: usize, per_peer_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Taken {
            max,
            per_peer_max,
            next_id: 0,
            half_open: BTreeMap::new(),
            asked: BTreeSet::new(),
            of_peers: HashMap::new(),
        })))
    }

    /// A place for a connection that is new; None if all are taken by connections that have asked.
    ///
    /// Let the task that serves it run before the next one begins: what has arrived of a request by
    /// then is no reason to give way.
    #[must_use]
    pub fn begin(&self, peer: P) -> Option<Place<P>> {
        let id = self.lock().begin(peer)?;
        Some(Place { of: self.clone(), id, peer })
    }

    /// Closes the oldest half-open connection of the peer that holds most, for its file descriptor.
    pub fn give_way(&self) {
        self.lock().greediest_gives_way();
    }

    fn lock(&self) -> MutexGuard<'_, Taken<P>> {
        // Nothing under this lock panics but for want of memory.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Copy + Eq + Hash> Place<P> {
    /// What it asks has arrived: from here on it does not give way. False if most of its peer's places,
    /// or of all, are taken by connections that have asked: what takes long is to be refused.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.of.lock().asked(self.id, self.peer)
    }

    /// Ends once another connection has the place.
    pub async fn gave_way(&self) {
        poll_fn(|context| self.of.lock().poll_gave_way(self.id, context)).await;
    }
}

impl<P: Copy + Eq + Hash> Drop for Place<P> {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        taken.close(self.id);
        taken.forget_asked(self.id, self.peer);
    }
}

impl<P: Copy + Eq + Hash> Taken<P> {
    fn begin(&mut self, peer: P) -> Option<u64> {
        // The peer's own first: who fills its own share closes its own connections.
        let has_place = if self.of_peer(peer) >= self.per_peer_max {
            self.oldest_of(peer).is_some_and(|id| self.close(id))
        } else {
            self.all() < self.max || self.greediest_gives_way()
        };
        has_place.then(|| {
            self.next_id += 1;
            self.half_open.insert(self.next_id, HalfOpen { peer, waker: None });
            self.of_peers.entry(peer).or_default().half_open.insert(self.next_id);
            self.next_id
        })
    }

    fn asked(&mut self, id: u64, peer: P) -> bool {
        // One that has just given its place away, and asks all the same, is served beyond the limit.
        self.close(id);
        if self.asked.insert(id) {
            self.of_peers.entry(peer).or_default().asked += 1;
        }
        let of_peer = self.of_peers.get(&peer).map_or(0, |of_peer| of_peer.asked);
        of_peer <= asked_max(self.per_peer_max) && self.asked.len() <= asked_max(self.max)
    }

    fn poll_gave_way(&mut self, id: u64, context: &Context<'_>) -> Poll<()> {
        match self.half_open.get_mut(&id) {
            Some(half_open) => {
                half_open.waker = Some(context.waker().clone());
                Poll::Pending
            }
            None if self.asked.contains(&id) => Poll::Pending,
            None => Poll::Ready(()),
        }
    }

    fn greediest_gives_way(&mut self) -> bool {
        // Of peers that hold as many, the one whose connection is the oldest.
        let greediest = self
            .of_peers
            .values()
            .filter_map(|of_peer| Some((of_peer.all(), *of_peer.half_open.first()?)))
            .max_by_key(|(all, oldest)| (*all, std::cmp::Reverse(*oldest)));
        greediest.is_some_and(|(_, oldest)| self.close(oldest))
    }

    /// Ends a half-open connection; false if it is none.
    fn close(&mut self, id: u64) -> bool {
        let Some(HalfOpen { peer, waker }) = self.half_open.remove(&id) else { return false };
        if let Some(of_peer) = self.of_peers.get_mut(&peer) {
            of_peer.half_open.remove(&id);
        }
        self.forget(peer);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    fn forget_asked(&mut self, id: u64, peer: P) {
        if self.asked.remove(&id) {
            if let Some(of_peer) = self.of_peers.get_mut(&peer) {
                of_peer.asked -= 1;
            }
            self.forget(peer);
        }
    }

    /// Who holds nothing is not remembered.
    fn forget(&mut self, peer: P) {
        if self.of_peer(peer) == 0 {
            self.of_peers.remove(&peer);
        }
    }

    fn all(&self) -> usize {
        self.half_open.len() + self.asked.len()
    }

    fn of_peer(&self, peer: P) -> usize {
        self.of_peers.get(&peer).map_or(0, PeerPlaces::all)
    }

    fn oldest_of(&self, peer: P) -> Option<u64> {
        self.of_peers.get(&peer)?.half_open.first().copied()
    }
}

impl PeerPlaces {
    fn all(&self) -> usize {
        self.half_open.len() + self.asked
    }
}

/// An eighth of the places is kept for half-open connections: every request arrives in one of these.
fn asked_max(max: usize) -> usize {
    (max - max / 8).min(max.saturating_sub(1)).max(1)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether another connection has its place.
    fn is_out(place: &Place<u32>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(place.gave_way()).poll(&mut context).is_ready()
    }

    fn out(places: &[Place<u32>]) -> Vec<bool> {
        places.iter().map(is_out).collect()
    }

    #[test]
    fn the_oldest_half_open_connection_of_the_peer_itself_gives_way_first() {
        let all = Places::new(8, 3);
        let held: Vec<_> = [1, 2, 1, 1].map(|peer| all.begin(peer).unwrap()).into();
        let _more = all.begin(1).unwrap();
        assert_eq!(out(&held), [true, false, false, false]);
    }

    #[test]
    fn when_all_are_taken_the_peer_that_holds_most_gives_way_and_of_these_the_oldest() {
        let all = Places::new(6, 5);
        let held: Vec<_> = [3, 1, 1, 1, 2, 2].map(|peer| all.begin(peer).unwrap()).into();
        let _of_4 = all.begin(4).unwrap();
        assert_eq!(out(&held), [false, true, false, false, false, false]);
        // Two peers hold two each: the older connection.
        let _of_5 = all.begin(5).unwrap();
        assert_eq!(out(&held), [false, true, true, false, false, false]);
    }

    #[test]
    fn who_has_asked_keeps_its_place_whoever_comes() {
        let all = Places::new(8, 4);
        let asked: Vec<_> = (0..3).map(|_| all.begin(1).unwrap()).collect();
        assert!(asked.iter().all(Place::asked));
        let flood: Vec<_> = (0..100).map(|number| all.begin(number % 7).unwrap()).collect();
        assert_eq!(out(&asked), [false; 3]);
        drop(flood);
        // What is kept for half-open connections can be asked in too, and is told apart.
        let last = all.begin(1).unwrap();
        assert!(!last.asked() && !is_out(&last));
        assert!(all.begin(1).is_none(), "all four have asked");
        assert!(all.begin(2).is_some(), "another peer's share is its own");
        drop(last);
        assert!(all.begin(1).is_some());
    }

    #[test]
    fn one_that_asks_though_its_place_is_given_away_is_served() {
        let all = Places::new(1, 1);
        let (first, second) = (all.begin(1).unwrap(), all.begin(1).unwrap());
        assert!(is_out(&first) && !is_out(&second));
        let _ = first.asked();
        assert!(!is_out(&first));
        assert!(all.begin(2).is_some(), "the half-open one gave way");
        assert!(is_out(&second));
    }

    #[test]
    fn who_waits_is_woken_when_it_gives_way_and_not_when_it_asks() {
        let all = Places::new(4, 4);
        for gives_way in [true, false] {
            let place = all.begin(1).unwrap();
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let mut context = Context::from_waker(&waker);
            let mut waiting = pin!(place.gave_way());
            assert!(waiting.as_mut().poll(&mut context).is_pending());
            if gives_way {
                all.give_way();
                assert_eq!(woken.0.load(Ordering::SeqCst), 1);
            } else {
                assert!(place.asked());
                all.give_way();
            }
            assert_eq!(waiting.poll(&mut context).is_ready(), gives_way);
        }
    }

    #[test]
    fn whatever_comes_and_goes_places_are_bounded_and_a_newcomer_finds_one() {
        let (max, per_peer_max) = (16, 6);
        let all = Places::new(max, per_peer_max);
        let mut open: Vec<Place<u32>> = Vec::new();
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        for _ in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let pick = usize::try_from(random >> 40).unwrap() % open.len().max(1);
            match random % 4 {
                0 | 1 => {
                    let peer = u32::try_from((random >> 8) % 5).unwrap();
                    open.push(all.begin(peer).expect("a half-open connection gives way"));
                }
                2 if !open.is_empty() => drop(open.swap_remove(pick)),
                _ => {
                    // As a server does: what is refused is told so, and closed.
                    if open.get(pick).is_some_and(|place| !place.asked()) {
                        drop(open.swap_remove(pick));
                    }
                }
            }
            open.retain(|place| !is_out(place));
            let taken = all.lock();
            assert_eq!(taken.all(), open.len());
            assert!(taken.all() <= max && taken.asked.len() <= asked_max(max));
            let of_peers: usize = taken.of_peers.values().map(PeerPlaces::all).sum();
            assert_eq!(of_peers, open.len());
            assert!(taken.of_peers.values().all(|of| (1..=per_peer_max).contains(&of.all())));
        }
        drop(open);
        assert!(all.lock().of_peers.is_empty(), "nobody is remembered");
    }
}
