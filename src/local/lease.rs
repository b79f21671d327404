//! What is handed on: a lease with its keeper, or an entry under a session.

use std::sync::Arc;

use crate::guard::{Keeping, LockGuard};
use crate::hold::Hold;
use crate::keeper::{Command, Kept, Reserved};
use crate::session::Tenant;

/// What keeps a lease that several hold by, one after the other.
#[derive(Clone, Debug)]
pub(super) enum Lease {
    /// Its own keeper.
    Keeper(Arc<Kept>),
    /// A session's task: whoever acquired it waited in the queue.
    Session(Arc<Tenant>),
}

impl Lease {
    /// Nothing, if it is none that can be handed on.
    pub(super) fn of(guard: &LockGuard) -> Option<Self> {
        match guard.keeping() {
            Keeping::Keeper(kept) => Some(Self::Keeper(Arc::clone(kept))),
            Keeping::Session(tenant) => Some(Self::Session(Arc::clone(tenant))),
            Keeping::Seat(_) | Keeping::Joint(_) => None,
        }
    }

    pub(super) fn hold(&self) -> &Arc<Hold> {
        match self {
            Self::Keeper(kept) => kept.hold(),
            Self::Session(tenant) => &tenant.hold,
        }
    }

    /// The tokens that were reserved when it was acquired.
    pub(super) fn reserved(&self) -> Reserved {
        match self {
            Self::Keeper(kept) => kept.reserved(),
            Self::Session(tenant) => tenant.reserved,
        }
    }

    /// Has it done; with `here`, as far as it goes without waiting on this thread.
    pub(super) fn order(&self, command: Command, here: bool) {
        match self {
            Self::Keeper(kept) => kept.order(command, here),
            Self::Session(tenant) => tenant.order(command),
        }
    }

    /// Whether somebody has to listen for its loss: nobody looks at the clocks for an entry under a session.
    pub(super) fn has_to_be_watched(&self) -> bool {
        matches!(self, Self::Session(_))
    }
}

/// By identity.
impl PartialEq for Lease {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.hold(), other.hold())
    }
}
