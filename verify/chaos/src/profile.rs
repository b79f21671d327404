//! What the sections of a store are: each is something else that is held.

use std::time::Duration;

use fastrand::Rng;

/// What is held while a section's worker works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Profile {
    /// A lock.
    #[default]
    Lock,
    /// A lock under which work is run once, with a result that is kept for some time.
    Once,
    /// A lock that is waited for in a queue.
    Fair,
    /// A lock for readers and writers.
    Rows,
    /// A semaphore.
    Permits,
    /// An election: who was lost campaigns again, in the same process.
    Lead,
    /// Two locks at once, of which one is also contended for alone.
    Both,
}

/// How long results of work that is run once are kept.
const RETENTION: Duration = Duration::from_secs(2);
/// Permits of the semaphore.
const LIMIT: u32 = 2;
/// Sections that are in play at once on a store, one after the other: the plain one comes twice.
const ROTA: [[Profile; 2]; 4] = [
    [Profile::Lock, Profile::Once],
    [Profile::Fair, Profile::Rows],
    [Profile::Permits, Profile::Lead],
    [Profile::Lock, Profile::Both],
];

impl Profile {
    pub(crate) const ALL: [Self; 7] =
        [Self::Lock, Self::Once, Self::Fair, Self::Rows, Self::Permits, Self::Lead, Self::Both];
    /// Sections that are in play at once.
    pub(crate) const AT_ONCE: usize = 2;
    /// Turns until everything has been in play.
    pub(crate) const TURNS: u32 = ROTA.len() as u32;

    /// What is in play in this turn, at one of the places at once.
    pub(crate) fn in_turn(turn: usize, place: usize) -> Self {
        ROTA[turn % ROTA.len()][place]
    }

    /// Its section's number.
    pub(crate) fn section(self) -> usize {
        Self::ALL.iter().position(|one| *one == self).unwrap_or_default()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Once => "once",
            Self::Fair => "fair",
            Self::Rows => "rows",
            Self::Permits => "permits",
            Self::Lead => "lead",
            Self::Both => "both",
        }
    }

    pub(crate) fn retention(self) -> Option<Duration> {
        (self == Self::Once).then_some(RETENTION)
    }

    /// How many permits there are: of a lock one, and of a lock for readers and writers as many as
    /// there may be readers.
    pub(crate) fn limit(self) -> u32 {
        match self {
            Self::Lock | Self::Once | Self::Fair | Self::Lead | Self::Both => 1,
            Self::Rows => u32::MAX,
            Self::Permits => LIMIT,
        }
    }

    /// How many permits a run is to have: a writer has all.
    pub(crate) fn draw(self, rng: &mut Rng) -> u32 {
        match self {
            Self::Lock | Self::Once | Self::Fair | Self::Lead | Self::Both => 1,
            Self::Rows if rng.u8(..10) < 4 => self.limit(),
            Self::Rows => 1,
            Self::Permits if rng.u8(..10) < 2 => LIMIT,
            Self::Permits => 1,
        }
    }

    /// How many records whoever waits watches one after the other, each until it is seen to have run out:
    /// what is held under a session, and the session; or one lock and then the next.
    pub(crate) fn looks(self) -> u32 {
        match self {
            Self::Lock | Self::Once | Self::Lead => 1,
            Self::Fair | Self::Rows | Self::Permits | Self::Both => 2,
        }
    }

    /// Whether a process whose lease was lost asks for it again.
    pub(crate) fn asks_again(self) -> bool {
        self == Self::Lead
    }

    /// Whether a run is to have the lock that is not contended for alone, too.
    pub(crate) fn draw_another(self, rng: &mut Rng) -> bool {
        self == Self::Both && rng.u8(..10) < 6
    }

    /// The subcommand of `leaselock`.
    pub(crate) fn subcommand(self) -> &'static str {
        match self {
            Self::Lead => "elect",
            _ => "run",
        }
    }

    /// What says so to that subcommand, with so many permits, or another lock.
    pub(crate) fn arguments(self, permits: u32, another: bool) -> Vec<String> {
        let name = format!("chaos/{}", self.name());
        match self {
            Self::Lock | Self::Lead => vec![name],
            // The other one is the first to be taken: while this one is waited for, it is held.
            Self::Both if another => vec![format!("{name}/2"), format!("{name}/1")],
            Self::Both => vec![format!("{name}/2")],
            Self::Once => {
                let retention = format!("{}ms", RETENTION.as_millis());
                vec!["--once".to_owned(), name, "--retention".to_owned(), retention]
            }
            Self::Fair => vec!["--fair".to_owned(), name],
            Self::Rows if permits == self.limit() => vec!["--exclusive".to_owned(), name],
            Self::Rows => vec!["--shared".to_owned(), name],
            Self::Permits => {
                let (limit, permits) = (LIMIT.to_string(), permits.to_string());
                ["--limit", &limit, "--permits", &permits, &name].map(str::to_owned).to_vec()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_locks_are_taken_before_the_one_that_is_contended_for_alone() {
        let both = Profile::Both.arguments(1, true);
        assert_eq!(Profile::Both.arguments(1, false), [both.iter().max().unwrap().clone()]);
    }

    #[test]
    fn everything_comes_in_turn_and_nothing_twice_at_once() {
        let mut seen = Vec::new();
        for turn in 0..Profile::TURNS as usize {
            let now: Vec<_> = (0..Profile::AT_ONCE).map(|n| Profile::in_turn(turn, n)).collect();
            assert_ne!(now[0], now[1]);
            seen.extend(now);
        }
        assert!(Profile::ALL.iter().all(|profile| seen.contains(profile)));
    }
}
