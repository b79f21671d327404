//! Streams of random numbers that do not disturb each other.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// The stream of one purpose: what is drawn from it changes nothing in any other, so that a fault
/// that is taken out of a schedule leaves the rest as it was.
pub(crate) fn stream(seed: u64, purpose: &[u64]) -> SmallRng {
    SmallRng::seed_from_u64(number(seed, purpose))
}

/// A number for one purpose.
pub(crate) fn number(seed: u64, purpose: &[u64]) -> u64 {
    purpose.iter().fold(mixed(seed), |state, part| mixed(state ^ part.wrapping_mul(STEP)))
}

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64 (Steele, Lea and Flood 2014).
fn mixed(state: u64) -> u64 {
    let mut z = state.wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Draws that the simulation makes often.
pub(crate) trait Draw {
    /// Whether something happens that has a chance of `percent` in a hundred.
    fn chance(&mut self, percent: u32) -> bool;
    /// A duration from zero to `limit`.
    fn up_to(&mut self, limit: Duration) -> Duration;
    /// A duration between two.
    fn between(&mut self, least: Duration, most: Duration) -> Duration;
    /// One of these.
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T;
    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize;
}

impl Draw for SmallRng {
    fn chance(&mut self, percent: u32) -> bool {
        self.random_range(0..100) < percent
    }

    fn up_to(&mut self, limit: Duration) -> Duration {
        self.between(Duration::ZERO, limit)
    }

    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let nanos = |duration: Duration| duration.as_nanos() as u64;
        Duration::from_nanos(self.random_range(nanos(least)..=nanos(most.max(least))))
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random_range(0..limit)
    }
}
