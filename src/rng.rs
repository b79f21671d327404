//! The only place that draws random numbers.

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Randomness, injected so that a simulation can be repeated.
pub(crate) trait Randomness: Send + Sync + fmt::Debug + 'static {
    /// 128 fresh random bits.
    fn bits(&self) -> u128;

    /// A duration between zero and `limit`, uniformly.
    fn up_to(&self, limit: Duration) -> Duration {
        scaled(self.bits(), limit)
    }
}

fn scaled(bits: u128, limit: Duration) -> Duration {
    let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    // The product of two 64-bit numbers, scaled down: uniform up to a bias of 2^-64.
    let scaled = (u128::from(bits as u64) * (u128::from(nanos) + 1)) >> 64;
    Duration::from_nanos(scaled as u64)
}

/// The operating system's randomness, asked anew for every number: a forked process or a cloned
/// virtual machine must not repeat its parent's nonces (hazard H22).
#[derive(Debug)]
pub(crate) struct SystemRandomness;

impl Randomness for SystemRandomness {
    #[allow(clippy::disallowed_methods, reason = "this is the file that may")]
    fn bits(&self) -> u128 {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .expect("the operating system has no randomness: no nonce can be made safely");
        u128::from_ne_bytes(bytes)
    }

    /// Pauses need not differ from those of a cloned machine: they are cheaper to draw.
    fn up_to(&self, limit: Duration) -> Duration {
        static PAUSES: OnceLock<Pauses> = OnceLock::new();
        let process = std::process::id();
        let pauses = PAUSES.get_or_init(|| Pauses::new(process, self.bits() as u64));
        scaled(pauses.bits(process), limit)
    }
}

/// The pauses of one process.
#[derive(Debug)]
struct Pauses {
    process: u32,
    sequence: SeededRandomness,
}

impl Pauses {
    fn new(process: u32, seed: u64) -> Self {
        Self { process, sequence: SeededRandomness::new(seed) }
    }

    fn bits(&self, process: u32) -> u128 {
        // The workers that a server has forked would look for a lock in step.
        if process == self.process { self.sequence.bits() } else { SystemRandomness.bits() }
    }
}

/// A repeatable sequence: SplitMix64 (Steele, Lea and Flood 2014). For simulations only.
#[derive(Debug)]
pub(crate) struct SeededRandomness(Mutex<u64>);

impl SeededRandomness {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl Randomness for SeededRandomness {
    fn bits(&self) -> u128 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let high = u128::from(Self::next(&mut state));
        (high << 64) | u128::from(Self::next(&mut state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_were_forked_do_not_pause_in_step() {
        let [one, other] = [1, 1].map(|process| Pauses::new(process, 7));
        assert_eq!(one.bits(1), other.bits(1), "as copies do");
        assert_ne!(one.bits(2), other.bits(3));
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let draw = |seed| {
            let rng = SeededRandomness::new(seed);
            (rng.bits(), rng.bits())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1).0, draw(1).1);
    }

    #[test]
    fn the_system_does_not_repeat() {
        assert_ne!(SystemRandomness.bits(), SystemRandomness.bits());
    }

    #[test]
    fn durations_stay_within_their_limit_and_use_it() {
        let rng = SeededRandomness::new(3);
        let limit = Duration::from_millis(100);
        let draws: Vec<_> = (0..1000).map(|_| rng.up_to(limit)).collect();
        assert!(draws.iter().all(|draw| *draw <= limit));
        assert!(draws.iter().any(|draw| *draw > limit / 10 * 9));
        assert!(draws.iter().any(|draw| *draw < limit / 10));
        assert_eq!(rng.up_to(Duration::ZERO), Duration::ZERO);
    }
}
