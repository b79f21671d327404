//! Processes that were forked: what the parent holds is not the child's.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use crate::gate;

/// How often this process or one of its ancestors was forked.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Called in the child, before anything else runs there.
#[pyfunction]
pub(crate) fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    gate::forked();
}

/// Something that belongs to the process that made it: a copy in a child is neither used nor dropped,
/// because the threads are not there that it works with.
#[derive(Debug)]
pub(crate) struct Native<T> {
    forks: u64,
    value: Option<T>,
}

impl<T> Native<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { forks: FORKS.load(Ordering::Relaxed), value: Some(value) }
    }

    /// The value, in the process that made it.
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.is_ours())
    }

    /// Takes the value out, in the process that made it.
    pub(crate) fn take(&mut self) -> Option<T> {
        if self.is_ours() { self.value.take() } else { None }
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.forks == FORKS.load(Ordering::Relaxed)
    }
}

/// The same, where it can be taken out and put in. Locked only by who has the interpreter's lock, so that
/// nobody waits for it, and no other thread has it at a fork.
#[derive(Debug)]
pub(crate) struct Slot<T>(Mutex<Native<T>>);

impl<T> Slot<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(Native::new(value)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Native<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Native<T> {
    fn drop(&mut self) {
        if !self.is_ours() {
            mem::forget(self.value.take());
        }
    }
}
