//! What a test takes by chance, from the seed that `tests/run.sh` prints, and whether
//! it has the time to take everything.

use std::hash::{BuildHasher as _, RandomState};

/// Numbers that the same seed gives again.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Of this run's seed, `PROPTEST_RNG_SEED`, and the test's name.
    #[must_use]
    pub fn of(test: &str) -> Self {
        let seed = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
        println!("{test}: PROPTEST_RNG_SEED={seed} repeats this");
        Self(test.bytes().fold(seed, |state, byte| mixed(state ^ u64::from(byte))))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        usize::try_from(mixed(self.0) % end as u64).unwrap()
    }
}

/// The last step of SplitMix64.
fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

/// Whether this is the campaign (`CAMPAIGN=1`): everything instead of a sample.
#[must_use]
pub fn is_campaign() -> bool {
    std::env::var_os("CAMPAIGN").is_some_and(|campaign| campaign == "1")
}
