//! How a candidate fares, for a liveness probe.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::guard::LockGuard;
use crate::hold::{LeasePhase, LeaseWatch, LossReason};
use crate::token::FencingToken;

/// How a candidate fares: see [`Election::health`](crate::Election::health). `Display` says it in a few
/// words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It does not lead, and does not believe to.
    Following,
    /// It leads, and its lease is renewed in time.
    Leading {
        /// Its term.
        term: FencingToken,
    },
    /// It leads, but half of the TTL has passed without an acknowledged renewal.
    AtRisk {
        /// Its term.
        term: FencingToken,
    },
    /// It does not lead any more, but what it did as a leader has not let go yet: its
    /// [`Leadership`](crate::Leadership) still exists.
    Lost {
        /// The term that is over.
        term: FencingToken,
        /// Why it is over.
        reason: LossReason,
    },
}

impl Health {
    /// Whether a probe should say that all is well: not [`AtRisk`](Self::AtRisk) or
    /// [`Lost`](Self::Lost).
    pub fn is_healthy(&self) -> bool {
        matches!(self, Self::Following | Self::Leading { .. })
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Following => f.write_str("does not lead"),
            Self::Leading { term } => write!(f, "leads with term {term}"),
            Self::AtRisk { term } => write!(f, "leads with term {term}, but cannot renew it"),
            Self::Lost { term, reason } => {
                write!(f, "has lost term {term} and not let go of it: {reason}")
            }
        }
    }
}

/// The leaderships that were won through one election and still exist.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Vec<Taken>>);

#[derive(Debug)]
struct Taken {
    term: FencingToken,
    watch: LeaseWatch,
}

/// A place among them, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    term: FencingToken,
}

impl Seats {
    pub(super) fn take(self: &Arc<Self>, guard: &LockGuard) -> Seat {
        let term = guard.token();
        self.taken().push(Taken { term, watch: guard.watch() });
        Seat { seats: Arc::clone(self), term }
    }

    /// The first that is unhealthy, or else the last.
    pub(super) fn health(&self) -> Health {
        let mut health = Health::Following;
        for Taken { term, watch } in self.taken().iter() {
            if health.is_healthy() {
                health = of(*term, watch.status().phase);
            }
        }
        health
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Taken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of(term: FencingToken, phase: LeasePhase) -> Health {
    match phase {
        LeasePhase::Held => Health::Leading { term },
        LeasePhase::AtRisk => Health::AtRisk { term },
        LeasePhase::Lost(reason) => Health::Lost { term, reason },
        LeasePhase::Released => Health::Following,
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().retain(|taken| taken.term != self.term);
    }
}
