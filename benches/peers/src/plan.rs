//! How much is measured. Everything is bounded: a run ends by itself.

use std::time::Duration;

/// The amounts of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub quick: bool,
    /// Each round runs every contestant once.
    pub rounds: usize,
    /// Rounds of what takes long.
    pub long_rounds: usize,
    /// Cycles in a round, of a lock that is known and of ever new ones.
    pub warm_cycles: usize,
    pub cold_cycles: usize,
    /// How long a rate is measured.
    pub window: Duration,
    /// The same where contenders wait for each other for up to seconds.
    pub contest_window: Duration,
    /// The same for a row of sizes.
    pub short_window: Duration,
    /// Contenders in the growing row.
    pub sizes: Vec<usize>,
    pub handovers: Vec<(Holding, usize)>,
    pub takeovers: usize,
    /// How long many locks are held: a multiple of the 10 s after which they are renewed.
    pub held_for: Duration,
    pub held_locks: usize,
    /// Rounds, cycles and hand-overs on stores that are far, and how long rates are measured there.
    pub far_rounds: usize,
    pub far_cycles: usize,
    pub far_handovers: usize,
    pub far_window: Duration,
}

/// For how long a lock is held before it is handed over.
#[derive(Clone, Copy, Debug)]
pub enum Holding {
    /// A quarter more or less: or it could keep time with those who ask at fixed intervals.
    About(Duration),
    /// Evenly up to this.
    UpTo(Duration),
}

impl Plan {
    pub fn full() -> Self {
        Self {
            quick: false,
            rounds: 3,
            long_rounds: 2,
            warm_cycles: 100,
            cold_cycles: 60,
            window: Duration::from_millis(1500),
            contest_window: Duration::from_millis(3000),
            short_window: Duration::from_millis(1000),
            sizes: vec![1, 2, 4, 8, 16, 32, 64],
            handovers: handovers([16, 8, 6]),
            takeovers: 5,
            held_for: Duration::from_secs(30),
            held_locks: 10_000,
            far_rounds: 2,
            far_cycles: 20,
            far_handovers: 8,
            far_window: Duration::from_millis(3000),
        }
    }

    pub fn quick() -> Self {
        Self {
            quick: true,
            rounds: 2,
            long_rounds: 1,
            warm_cycles: 30,
            cold_cycles: 15,
            window: Duration::from_millis(400),
            contest_window: Duration::from_millis(700),
            short_window: Duration::from_millis(400),
            sizes: vec![1, 4, 16],
            handovers: handovers([5, 3, 2]),
            takeovers: 1,
            held_for: Duration::from_secs(10),
            held_locks: 10_000,
            far_rounds: 1,
            far_cycles: 6,
            far_handovers: 3,
            far_window: Duration::from_millis(800),
        }
    }
}

fn handovers(counts: [usize; 3]) -> Vec<(Holding, usize)> {
    let holdings = [
        Holding::About(Duration::from_millis(20)),
        Holding::About(Duration::from_millis(200)),
        Holding::UpTo(Duration::from_secs(1)),
    ];
    holdings.into_iter().zip(counts).collect()
}

impl Holding {
    pub fn draw(self) -> Duration {
        match self {
            Self::About(duration) => duration.mul_f64(0.75 + 0.5 * fastrand::f64()),
            Self::UpTo(limit) => limit.mul_f64(fastrand::f64()),
        }
    }
}

impl std::fmt::Display for Holding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::About(duration) => write!(f, "about {} ms", duration.as_millis()),
            Self::UpTo(limit) => write!(f, "0 to {} ms", limit.as_millis()),
        }
    }
}
