//! Holding by a lease that others have held by before, and will after.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::bench::{Answer, Bench};
use super::lease::Lease;
use crate::client::{Client, Registration};
use crate::error::Result;
use crate::guard::{Keeping, LockGuard, WeakKeeping};
use crate::hold::Hold;
use crate::holder::HolderId;
use crate::keeper::{After, Command, Release};
use crate::record::Kind;
use crate::token::FencingToken;

/// What a guard has of a lease that is handed on, until it leaves it.
pub(crate) struct Seat {
    client: Arc<Client>,
    bench: Arc<Bench>,
    /// The lease, which several hold by, one after the other.
    lease: Lease,
    /// Lives on in what was asked for and is not done yet.
    asked: Arc<()>,
    left: AtomicBool,
    /// Lives as long as the guard.
    _registration: Registration,
}

impl Seat {
    /// A guard for whoever holds by `lease` from now on.
    pub(super) fn guard(
        client: &Arc<Client>,
        bench: &Arc<Bench>,
        lease: Lease,
        id: HolderId,
        token: FencingToken,
    ) -> LockGuard {
        let hold = Arc::new(Hold::handed_on(lease.hold(), id, token));
        tracing::debug!(lock = %hold.name, %token, holder = %id, "holds by a lease of this process");
        let seat = Arc::new_cyclic(|seat| {
            let weak = WeakKeeping::Seat(seat.clone());
            let _registration = client.register(Kind::Lock, Arc::clone(&hold), weak);
            let (client, bench) = (Arc::clone(client), Arc::clone(bench));
            let (asked, left) = (Arc::default(), AtomicBool::new(false));
            Self { client, bench, lease, asked, left, _registration }
        });
        LockGuard::new(hold, Keeping::Seat(seat))
    }

    /// Drops a guard that nobody has had.
    pub(super) fn vacate(guard: LockGuard) {
        if let Keeping::Seat(seat) = guard.keeping() {
            seat.left.store(true, Ordering::Relaxed);
        }
    }

    /// Does what its guard asks for; with `here`, as far as that goes at once on this thread.
    pub(crate) fn order(&self, command: Command, here: bool) {
        match command {
            Command::Release { done, .. } => self.leave(done, here),
            // What one holder has asked for is done before the next one holds.
            Command::Renew { payload, done, .. } => {
                let after = Some(After::new(Arc::clone(&self.asked)));
                self.lease.order(Command::Renew { payload, done, after }, here);
            }
            other => self.lease.order(other, here),
        }
    }

    fn leave(&self, to: Option<oneshot::Sender<Result<Release>>>, here: bool) {
        if !self.left.swap(true, Ordering::Relaxed) {
            let busy = Arc::strong_count(&self.asked) > 1;
            self.bench.go_on(&self.client, &self.lease, Answer { to, here, busy });
        }
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// A guard that was lost asks for nothing any more when it is dropped.
impl Drop for Seat {
    fn drop(&mut self) {
        self.leave(None, false);
    }
}
