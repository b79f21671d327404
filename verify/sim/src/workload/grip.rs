//! A lock, or the election of its name.

use std::ops::Deref;
use std::time::Duration;

use leaselock::{Election, Leadership, Lock, LockGuard, Release, Result};

/// What is wanted.
pub(super) enum Wanted {
    Lock(Lock),
    Seat(Election),
}

/// What is held.
pub(super) enum Grip {
    Guard(LockGuard),
    Seat(Leadership),
}

impl Wanted {
    pub(super) async fn acquire(&self) -> Result<Grip> {
        match self {
            Self::Lock(lock) => lock.acquire().await.map(Grip::Guard),
            Self::Seat(election) => election.campaign().await.map(Grip::Seat),
        }
    }

    pub(super) async fn try_acquire(&self) -> Result<Option<Grip>> {
        Ok(match self {
            Self::Lock(lock) => lock.try_acquire().await?.acquired().map(Grip::Guard),
            Self::Seat(election) => election.try_campaign().await?.elected().map(Grip::Seat),
        })
    }

    pub(super) async fn acquire_timeout(&self, limit: Duration) -> Result<Option<Grip>> {
        Ok(match self {
            Self::Lock(lock) => lock.acquire_timeout(limit).await?.acquired().map(Grip::Guard),
            Self::Seat(election) => {
                election.campaign_timeout(limit).await?.elected().map(Grip::Seat)
            }
        })
    }
}

impl Grip {
    pub(super) async fn release(self) -> Result<Release> {
        match self {
            Self::Guard(guard) => guard.release().await,
            Self::Seat(leadership) => leadership.resign().await,
        }
    }
}

impl Deref for Grip {
    type Target = LockGuard;

    fn deref(&self) -> &LockGuard {
        match self {
            Self::Guard(guard) => guard,
            Self::Seat(leadership) => leadership.guard(),
        }
    }
}
