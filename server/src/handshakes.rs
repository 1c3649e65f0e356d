//! Places for TLS handshakes, which clients without a certificate can take too. A silent client
//! gives way to a newer one, so that nobody keeps these places from callers.
//!
//! A handshake is *silent* until the whole ClientHello has arrived. The oldest silent handshake
//! gives way when a place is wanted. A handshake whose ClientHello arrived never gives way to a
//! silent one. It gives way to another one whose ClientHello arrived, once it is stalled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::peer_address::PeerAddress;
use signing_core::Moment;
use tokio::sync::Notify;

/// From the ClientHello to the end of the handshake are two round trips and a few signatures. A
/// handshake that takes longer is stalled, and gives way to the next that says hello.
const STALLED: Duration = Duration::from_secs(1);

/// All handshakes under way.
#[derive(Clone, Debug)]
pub(super) struct Handshakes(Arc<Mutex<Places>>);

/// The place of one handshake, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    of: Handshakes,
    id: u64,
    gives_way: Arc<Notify>,
}

/// The places, as a decision without a clock or a socket.
#[derive(Debug)]
struct Places {
    max: usize,
    per_source_max: usize,
    next_id: u64,
    silent: Room,
    greeted: Room,
}

/// Handshakes of one kind. A newer one has a higher id.
#[derive(Debug, Default)]
struct Room {
    handshakes: BTreeMap<u64, UnderWay>,
    by_source: HashMap<PeerAddress, BTreeSet<u64>>,
}

#[derive(Clone, Debug)]
struct UnderWay {
    source: PeerAddress,
    since: Moment,
    gives_way: Arc<Notify>,
}

impl Handshakes {
    /// No handshakes, of which there may be `max`, and `per_source_max` from one source.
    pub(super) fn new(max: usize, per_source_max: usize) -> Self {
        let (silent, greeted) = (Room::default(), Room::default());
        Self(Arc::new(Mutex::new(Places { max, per_source_max, next_id: 0, silent, greeted })))
    }

    /// A place for a client that has just connected; None if no handshake gives way to it.
    pub(super) fn begin(&self, source: PeerAddress, now: Moment) -> Option<Handshake> {
        let gives_way = Arc::new(Notify::new());
        let under_way = UnderWay { source, since: now, gives_way: Arc::clone(&gives_way) };
        let id = self.lock().begin(under_way)?;
        Some(Handshake { of: self.clone(), id, gives_way })
    }

    /// Closes the oldest silent handshake, for its file descriptor.
    pub(super) fn give_way(&self) {
        self.lock().silent.give_way(None);
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // Nothing under this lock panics but for want of memory.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handshake {
    /// The ClientHello has arrived. False if no place is left for it: all are taken by handshakes
    /// that are no further, and not stalled.
    pub(super) fn greeted(&mut self, now: Moment) -> bool {
        match self.of.lock().greet(self.id, now) {
            Some(id) => {
                self.id = id;
                true
            }
            None => false,
        }
    }

    /// Ends once another handshake has the place.
    pub(super) fn other_took_it(&self) -> impl Future<Output = ()> + use<> {
        Arc::clone(&self.gives_way).notified_owned()
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut places = self.of.lock();
        let _ = places.silent.remove(self.id).or_else(|| places.greeted.remove(self.id));
    }
}

impl Places {
    fn begin(&mut self, under_way: UnderWay) -> Option<u64> {
        let source = under_way.source;
        let of_source = self.silent.of(source) + self.greeted.of(source);
        let all = self.silent.all() + self.greeted.all();
        // The source's own first: who fills its own share closes its own connections.
        let has_place = if of_source >= self.per_source_max {
            self.silent.give_way(Some(source))
        } else {
            all < self.max || self.silent.give_way(None)
        };
        has_place.then(|| {
            let id = self.number();
            self.silent.insert(id, under_way);
            id
        })
    }

    /// None if the handshake gave way, or finds no place.
    fn greet(&mut self, id: u64, now: Moment) -> Option<u64> {
        let under_way = self.silent.remove(id)?;
        let source = under_way.source;
        let has_place = if self.greeted.of(source) >= greeted_max(self.per_source_max) {
            self.greeted.stalled_gives_way(Some(source), now)
        } else {
            self.greeted.all() < greeted_max(self.max) || self.greeted.stalled_gives_way(None, now)
        };
        has_place.then(|| {
            let id = self.number();
            self.greeted.insert(id, UnderWay { since: now, ..under_way });
            id
        })
    }

    fn number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// An eighth of the places is kept for silent handshakes: every ClientHello arrives in one of these.
fn greeted_max(max: usize) -> usize {
    (max - max / 8).min(max.saturating_sub(1)).max(1)
}

impl Room {
    fn all(&self) -> usize {
        self.handshakes.len()
    }

    fn of(&self, source: PeerAddress) -> usize {
        self.by_source.get(&source).map_or(0, BTreeSet::len)
    }

    fn insert(&mut self, id: u64, under_way: UnderWay) {
        self.by_source.entry(under_way.source).or_default().insert(id);
        self.handshakes.insert(id, under_way);
    }

    fn remove(&mut self, id: u64) -> Option<UnderWay> {
        let removed = self.handshakes.remove(&id)?;
        if let Some(of_source) = self.by_source.get_mut(&removed.source) {
            of_source.remove(&id);
            if of_source.is_empty() {
                self.by_source.remove(&removed.source);
            }
        }
        Some(removed)
    }

    /// The oldest, of all or of one source.
    fn oldest(&self, of: Option<PeerAddress>) -> Option<u64> {
        match of {
            None => self.handshakes.keys().next().copied(),
            Some(source) => self.by_source.get(&source)?.first().copied(),
        }
    }

    /// Has the oldest give way; false if there is none.
    fn give_way(&mut self, of: Option<PeerAddress>) -> bool {
        let removed = self.oldest(of).and_then(|id| self.remove(id));
        removed.inspect(|removed| removed.gives_way.notify_one()).is_some()
    }

    /// Has the oldest give way if it is stalled; false if it is not.
    fn stalled_gives_way(&mut self, of: Option<PeerAddress>, now: Moment) -> bool {
        let oldest = self.oldest(of).and_then(|id| self.handshakes.get(&id));
        oldest.is_some_and(|oldest| now.since(oldest.since) >= STALLED) && self.give_way(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "192.0.2.1";
    const B: &str = "192.0.2.2";

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(0).after(Duration::from_millis(millis))
    }

    fn begin(of: &Handshakes, address: &str) -> Option<Handshake> {
        of.begin(PeerAddress::of(address.parse().unwrap()), at(0))
    }

    /// Whether another handshake has its place.
    fn is_out(handshake: &Handshake) -> bool {
        let places = handshake.of.lock();
        ![&places.silent, &places.greeted]
            .iter()
            .any(|room| room.handshakes.contains_key(&handshake.id))
    }

    fn is_silent(handshake: &Handshake) -> bool {
        handshake.of.lock().silent.handshakes.contains_key(&handshake.id)
    }

    #[test]
    fn the_oldest_silent_handshake_gives_way() {
        let all = Handshakes::new(4, 3);
        let mut first = begin(&all, A).unwrap();
        assert!(first.greeted(at(0)));
        let silent = [begin(&all, A), begin(&all, A), begin(&all, B)].map(Option::unwrap);
        // A share that is full, then all places.
        let _of_a = begin(&all, A).unwrap();
        assert_eq!(silent.each_ref().map(is_out), [true, false, false]);
        let _of_b = begin(&all, B).unwrap();
        assert_eq!(silent.each_ref().map(is_out), [true, true, false]);
        assert!(!is_out(&first), "its ClientHello arrived");
        drop(silent);
        drop(first);
        assert!(begin(&all, A).is_some());
    }

    #[test]
    fn a_stalled_handshake_gives_way_only_to_one_that_said_hello() {
        let all = Handshakes::new(8, 8);
        let mut greeted: Vec<_> = (0..7).map(|_| begin(&all, A).unwrap()).collect();
        assert!(greeted.iter_mut().all(|handshake| handshake.greeted(at(0))));
        // Every silent client of a flood, however long the others are stalled.
        let _flood: Vec<_> = (0..100).map(|_| begin(&all, B).unwrap()).collect();
        assert!(!greeted.iter().any(is_out));
        let mut early = begin(&all, B).unwrap();
        assert!(!early.greeted(at(999)), "nobody is stalled yet");
        let mut late = begin(&all, B).unwrap();
        assert!(late.greeted(at(1000)));
        assert_eq!(greeted.iter().map(is_out).collect::<Vec<_>>()[..2], [true, false]);
    }

    #[test]
    fn whatever_comes_and_goes_places_are_bounded_and_a_newcomer_finds_one() {
        let (max, per_source_max) = (16, 6);
        let all = Handshakes::new(max, per_source_max);
        let mut open: Vec<Handshake> = Vec::new();
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        for step in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let pick = usize::try_from(random >> 40).unwrap() % open.len().max(1);
            match random % 4 {
                0 | 1 => {
                    let address = format!("192.0.2.{}", (random >> 8) % 5);
                    open.push(begin(&all, &address).expect("a silent handshake gives way"));
                }
                2 if !open.is_empty() => drop(open.swap_remove(pick)),
                _ => {
                    let before = open.len();
                    if let Some(handshake) =
                        open.get_mut(pick).filter(|handshake| is_silent(handshake))
                    {
                        let has_place = handshake.greeted(at(step));
                        assert_eq!(has_place, !is_out(handshake));
                    }
                    let after = open.iter().filter(|handshake| !is_out(handshake)).count();
                    assert!(after + 1 >= before, "a hello closes one handshake at most");
                }
            }
            open.retain(|handshake| !is_out(handshake));
            let places = all.lock();
            assert_eq!(places.silent.all() + places.greeted.all(), open.len());
            assert!(open.len() <= max);
            assert!(places.greeted.all() <= greeted_max(max));
            for of_source in places.silent.by_source.keys().chain(places.greeted.by_source.keys()) {
                let count = places.silent.of(*of_source) + places.greeted.of(*of_source);
                assert!(count <= per_source_max && count > 0);
                assert!(places.greeted.of(*of_source) <= greeted_max(per_source_max));
            }
        }
    }
}
