//! The bytes of request bodies before it is proved who calls: a signature covers the body, so it has to be
//! read first. What has arrived counts, not what was announced. Whoever proves nothing can fill the room
//! that there is, and keep nobody out of it: the oldest body gives way to newer ones, and first a body
//! of the source that has most in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host::peer_address::PeerAddress;
use signing_core::{Reason, Refusal};
use tokio::sync::Notify;

use super::bodies::OF_CALLER;
use super::share::Share;

/// All such bodies.
#[derive(Clone, Debug)]
pub(super) struct Unproved(Arc<Mutex<Room>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Arriving {
    of: Unproved,
    id: u64,
    gives_way: Arc<Notify>,
}

/// The room, as a decision without a socket.
#[derive(Debug)]
struct Room {
    max: usize,
    bytes: usize,
    /// What callers' bodies take from too.
    all: Arc<Share>,
    /// A newer body has a higher id.
    next_id: u64,
    bodies: BTreeMap<u64, Held>,
}

/// What has arrived of one body.
#[derive(Debug)]
struct Held {
    source: PeerAddress,
    bytes: usize,
    gives_way: Arc<Notify>,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// The body itself was the one to give way.
    GaveWay,
    /// Callers' bodies take all that there is.
    All,
}

impl Unproved {
    /// None yet: all together they have the room of one caller, out of everybody's.
    pub(super) fn new(limits: &configuration::Server, all: Arc<Share>) -> Self {
        Self(Arc::new(Mutex::new(Room {
            max: limits.bodies_per_caller_max_bytes,
            bytes: 0,
            all,
            next_id: 0,
            bodies: BTreeMap::new(),
        })))
    }

    /// One that comes from `source`. Nothing of it has arrived.
    pub(super) fn begin(&self, source: PeerAddress) -> Arriving {
        let gives_way = Arc::new(Notify::new());
        let mut room = self.lock();
        room.next_id += 1;
        let id = room.next_id;
        room.bodies.insert(id, Held { source, bytes: 0, gives_way: Arc::clone(&gives_way) });
        Arriving { of: self.clone(), id, gives_way }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        // Nothing under this lock panics but for want of memory.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arriving {
    /// So many more bytes of it have arrived.
    ///
    /// # Errors
    /// The refusal, if it gave way, or callers' bodies leave no room.
    pub(super) fn add(&self, bytes: usize) -> Result<(), Refusal> {
        let mut room = self.of.lock();
        room.add(self.id, bytes).map_err(|full| room.refusal(full))
    }

    /// Ends with the refusal once it gives way to another.
    pub(super) async fn gave_way(&self) -> Refusal {
        self.gives_way.notified().await;
        self.of.lock().refusal(Full::GaveWay)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let _ = self.of.lock().remove(self.id);
    }
}

impl Room {
    fn add(&mut self, id: u64, bytes: usize) -> Result<(), Full> {
        while self.bodies.contains_key(&id) && self.bytes.saturating_add(bytes) > self.max {
            if !self.one_gives_way() {
                return Err(Full::GaveWay);
            }
        }
        let Some(held) = self.bodies.get_mut(&id) else { return Err(Full::GaveWay) };
        if !self.all.try_add(bytes) {
            return Err(Full::All);
        }
        held.bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Has the oldest body of the source that holds most give way; false if nothing has arrived of any.
    fn one_gives_way(&mut self) -> bool {
        let mut of_sources: HashMap<PeerAddress, usize> = HashMap::new();
        for held in self.bodies.values() {
            *of_sources.entry(held.source).or_default() += held.bytes;
        }
        // The first of those that hold as much is the one with the oldest body.
        let most = of_sources.values().copied().max().unwrap_or_default();
        let is_of_greediest =
            |held: &Held| held.bytes > 0 && of_sources.get(&held.source) == Some(&most);
        let oldest = self.bodies.iter().find(|(_, held)| is_of_greediest(held)).map(|(id, _)| *id);
        let removed = oldest.and_then(|id| self.remove(id));
        removed.inspect(|held| held.gives_way.notify_one()).is_some()
    }

    fn remove(&mut self, id: u64) -> Option<Held> {
        let held = self.bodies.remove(&id)?;
        self.bytes -= held.bytes;
        self.all.remove(held.bytes);
        Some(held)
    }

    fn refusal(&self, full: Full) -> Refusal {
        let detail = match full {
            Full::GaveWay => format!(
                "{OF_CALLER} is {}, and request bodies of clients that have not proved who calls take that: \
                 this one gave way to newer ones; retry",
                self.max
            ),
            Full::All => format!(
                "{} is {}, and request bodies of all callers take that: retry once some of them are done",
                self.all.key(),
                self.all.max()
            ),
        };
        Refusal::new(Reason::Overloaded, detail)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const A: PeerAddress = PeerAddress::User(1);
    const B: PeerAddress = PeerAddress::User(2);

    fn of(max: usize, all: usize) -> Unproved {
        let all = Share::new("bodies_max_bytes", all);
        let bodies = BTreeMap::new();
        Unproved(Arc::new(Mutex::new(Room { max, bytes: 0, all, next_id: 0, bodies })))
    }

    fn begin(of: &Unproved, source: PeerAddress, bytes: usize) -> Arriving {
        let arriving = of.begin(source);
        arriving.add(bytes).unwrap();
        arriving
    }

    /// Whether it was told that it gave way.
    fn is_out(arriving: &Arriving) -> bool {
        let mut told = pin!(arriving.gave_way());
        matches!(told.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
    }

    #[test]
    fn the_oldest_body_gives_way_and_a_new_one_always_has_room() {
        let all = of(100, 1000);
        let nothing_yet = all.begin(A);
        let old: Vec<_> = (0..10).map(|_| begin(&all, A, 10)).collect();
        let new = begin(&all, A, 15);
        assert_eq!(old.iter().map(is_out).collect::<Vec<_>>()[..3], [true, true, false]);
        assert!(!is_out(&new) && !is_out(&nothing_yet));
        assert_eq!(old[0].add(1).unwrap_err().reason, Reason::Overloaded, "it is gone");
        for _ in 0..1000 {
            drop(begin(&all, A, 100));
        }
        drop((nothing_yet, old, new));
        let room = all.lock();
        assert_eq!((room.bytes, room.all.bytes(), room.bodies.len()), (0, 0, 0));
    }

    #[test]
    fn who_holds_most_gives_way_first_and_that_may_be_who_asks_for_more() {
        let all = of(100, 1000);
        let of_b = begin(&all, B, 30);
        let greedy = [begin(&all, A, 35), begin(&all, A, 35)];
        assert_eq!(greedy[1].add(10), Ok(()));
        assert_eq!(greedy.each_ref().map(is_out), [true, false]);
        assert!(greedy[1].add(26).is_err() && is_out(&greedy[1]));
        assert!(!is_out(&of_b), "the oldest of all, of another source");
        assert_eq!(of_b.add(70), Ok(()));
        assert!(of_b.add(1).is_err(), "no room for it even alone");
    }

    #[test]
    fn where_callers_take_all_nobody_gives_way_in_vain() {
        let all = of(100, 1000);
        let held = begin(&all, A, 50);
        assert!(all.lock().all.try_add(950));
        let new = all.begin(B);
        assert!(new.add(1).unwrap_err().detail.starts_with("bodies_max_bytes is 1000"));
        assert!(!is_out(&held));
    }
}
