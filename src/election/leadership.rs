//! What a candidate has that was elected.

use std::time::Duration;

use super::health::Seat;
use crate::acquire::shut_down;
use crate::error::{Error, Result};
use crate::guard::LockGuard;
use crate::hold::{LeasePhase, LossReason};
use crate::keeper::{Release, lost};
use crate::token::FencingToken;

/// The right to lead, for as long as [`is_leader`](Self::is_leader) says so.
///
/// It is renewed in the background. When that fails, it says so *before* anybody else may be elected:
/// [`is_leader`](Self::is_leader) turns false, [`lost`](Self::lost) completes, and [`run`](Self::run)
/// drops its work.
///
/// Dropping it resigns in the background, on a best effort, and so does
/// [`Store::shutdown`](crate::Store::shutdown), which waits for it.
#[derive(Debug)]
#[must_use = "dropping it resigns"]
pub struct Leadership {
    guard: LockGuard,
    _seat: Seat,
}

impl Leadership {
    pub(super) fn new(guard: LockGuard, seat: Seat) -> Self {
        Self { guard, _seat: seat }
    }

    /// The term: larger than that of every leader before. It is the fencing token of the lock; whoever
    /// keeps the largest one it has seen, and refuses smaller ones, obeys no former leader.
    pub fn term(&self) -> FencingToken {
        self.guard.token()
    }

    /// Whether this still is the leader: judged now, by this process's clocks, without asking the
    /// store. Once false it stays false.
    pub fn is_leader(&self) -> bool {
        self.guard.is_held()
    }

    /// How long it leads for certain if nothing renews it; zero when it does not lead any more.
    pub fn remaining(&self) -> Duration {
        self.guard.remaining()
    }

    /// Completes when the leadership is lost, with the reason; never when it is given back first.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn lost(&self) -> impl Future<Output = LossReason> + Send + 'static {
        self.guard.lost()
    }

    /// The guard of the lock: for fenced writes, another payload, warnings.
    pub fn guard(&self) -> &LockGuard {
        &self.guard
    }

    /// Runs `work` while this leads and drops it the moment it does not.
    ///
    /// # Errors
    /// [`Lost`](crate::ErrorKind::Lost) when the leadership was lost before the work was done;
    /// [`ShutDown`](crate::ErrorKind::ShutDown) when a shutdown of the store gave it back.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work; the leadership stays.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let output = tokio::select! {
            biased;
            error = self.ended() => return Err(error),
            output = work => output,
        };
        // Work that never yielded may have outlived the lease.
        if self.is_leader() { Ok(output) } else { Err(self.ended().await) }
    }

    /// Gives the leadership up, with one write, so that the next candidate to look is elected.
    ///
    /// # Errors
    /// The store refused, for example because credentials were withdrawn. The leadership expires.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop what has begun; only its outcome goes unseen.
    pub async fn resign(self) -> Result<Release> {
        self.guard.release().await
    }

    /// Waits until this does not lead any more, and says why.
    async fn ended(&self) -> Error {
        let mut watch = self.guard.watch();
        loop {
            match watch.status().phase {
                LeasePhase::Lost(reason) => return lost(&reason),
                LeasePhase::Released => return shut_down(),
                LeasePhase::Held | LeasePhase::AtRisk => drop(watch.changed().await),
            }
        }
    }
}
