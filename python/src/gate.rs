//! The way into Python for threads that are not Python's own.
//!
//! **Invariant.** When the interpreter ends, none of them is in it: a thread that runs Python's code then is ended by
//! the interpreter in the middle of it, which takes the process along.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

static CLOSED: AtomicBool = AtomicBool::new(false);
static INSIDE: AtomicUsize = AtomicUsize::new(0);

/// How often it is looked whether all are outside.
const LOOK: Duration = Duration::from_millis(1);

/// Who is inside, or about to be.
struct Inside;

impl Inside {
    fn enter() -> Option<Self> {
        INSIDE.fetch_add(1, Ordering::SeqCst);
        let inside = Self;
        // Whoever closes it has seen this one, or is seen by it.
        (!CLOSED.load(Ordering::SeqCst)).then_some(inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // Who was inside when it forked is not counted in the child.
        let less = |inside: usize| Some(inside.saturating_sub(1));
        let _ = INSIDE.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }
}

/// Runs something with the interpreter's lock; `None` when the interpreter ends.
pub(crate) fn attach<T>(run: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    let _inside = Inside::enter()?;
    Python::try_attach(run)
}

/// Lets nobody in any more, and waits until all are out, for so long at most.
pub(crate) fn close(py: Python<'_>, limit: Duration) {
    CLOSED.store(true, Ordering::SeqCst);
    py.detach(|| {
        let mut waited = Duration::ZERO;
        while INSIDE.load(Ordering::SeqCst) > 0 && waited < limit {
            thread::sleep(LOOK);
            waited += LOOK;
        }
    });
}

/// In a child, where none of the parent's threads are.
pub(crate) fn forked() {
    INSIDE.store(0, Ordering::SeqCst);
}
