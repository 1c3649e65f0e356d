//! A schedule of faults out of one number.

use std::collections::BTreeMap;

use signing_core::evidence::Fault;

/// What an upstream does with a call that begins now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    Slow,
    /// It still signs, and says of the key that it is disabled.
    Disabled,
    Fails(Fault),
    Hangs,
}

impl Mood {
    pub(crate) fn signs(self) -> bool {
        match self {
            Self::Well | Self::Slow | Self::Disabled => true,
            Self::Fails(_) | Self::Hangs => false,
        }
    }

    /// Whether the key's state speaks against it.
    pub(crate) fn is_against_the_key(self) -> bool {
        matches!(self, Self::Disabled | Self::Fails(Fault::KeyUnavailable))
    }
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Moods that change until the faults are over; well ever after.
pub(crate) fn moods(random: &mut Random, until: u64) -> BTreeMap<u64, Mood> {
    let mut moods = BTreeMap::new();
    let mut time = random.below(30_000);
    while time < until {
        let mood = match random.below(9) {
            0 | 1 => Mood::Well,
            2 => Mood::Slow,
            3 => Mood::Hangs,
            4 => Mood::Fails(Fault::Throttled),
            5 => Mood::Fails(Fault::KeyUnavailable),
            6 => Mood::Fails(Fault::Indeterminate),
            7 => Mood::Disabled,
            _ => Mood::Fails(Fault::Unavailable),
        };
        moods.insert(time, mood);
        // From flapping to long.
        let most = [200, 3_000, 40_000][usize::try_from(random.below(3)).unwrap()];
        time += 1 + random.below(most);
    }
    moods.insert(until, Mood::Well);
    moods
}
