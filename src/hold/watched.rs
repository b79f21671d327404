//! A value that those who wait hear of when it changes. As `tokio::sync::watch`, in a sixth of its
//! memory: there may be thousands of leases, and few of them are waited for.

use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub(super) struct Watched<T> {
    place: Mutex<Place<T>>,
    changed: Notify,
}

struct Place<T> {
    value: T,
    changes: u64,
}

/// The value, which nobody changes meanwhile.
pub(super) struct Borrowed<'a, T>(MutexGuard<'a, Place<T>>);

impl<T> Watched<T> {
    pub(super) fn new(value: T) -> Self {
        Self { place: Mutex::new(Place { value, changes: 0 }), changed: Notify::new() }
    }

    pub(super) fn borrow(&self) -> Borrowed<'_, T> {
        Borrowed(self.lock())
    }

    /// Changes it; `change` says whether it is worth telling, which is what is returned.
    pub(super) fn modify(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let mut place = self.lock();
        let told = change(&mut place.value);
        place.changes += u64::from(told);
        drop(place);
        if told {
            self.changed.notify_waiters();
        }
        told
    }

    /// How often it was changed, for [`changed_since`](Self::changed_since).
    pub(super) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Waits until it has been changed more often than that.
    ///
    /// # Cancel safety
    /// Cancel safe: it has no effect.
    pub(super) async fn changed_since(&self, seen: u64) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before looking: a change in between is heard of.
            changed.as_mut().enable();
            if self.changes() != seen {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place<T>> {
        // A panic in between leaves a value as good as any: it is changed in one piece.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for Borrowed<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().value.fmt(f)
    }
}
