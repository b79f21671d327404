//! Waiting on the calling thread, without the interpreter's lock, and with an ear for Ctrl-C.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pyo3::prelude::*;

/// How often a waiting thread lets Python look for signals.
const LOOK: Duration = Duration::from_millis(50);

/// Set when the future wants to be polled again.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    ring: Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ring.notify_one();
    }
}

impl Bell {
    /// Whether it was rung within some time.
    fn wait(&self) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) = self
            .ring
            .wait_timeout_while(rung, LOOK, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *rung)
    }
}

/// Waits for `work`, which is dropped when a signal handler raises: what it has begun is seen to its end
/// in the background.
///
/// # Errors
/// What the signal handler raises, `KeyboardInterrupt` for example.
pub(crate) fn wait<T: Send>(py: Python<'_>, work: impl Future<Output = T> + Send) -> PyResult<T> {
    let output = wait_at_most(py, work, Duration::MAX)?;
    Ok(output.expect("no wait takes five hundred thousand million years"))
}

/// The same, for so long at most, give or take [`LOOK`].
///
/// # Errors
/// As of [`wait`].
pub(crate) fn wait_at_most<T: Send>(
    py: Python<'_>,
    work: impl Future<Output = T> + Send,
    limit: Duration,
) -> PyResult<Option<T>> {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut work = pin!(work);
    let mut due = true;
    let mut waited = Duration::ZERO;
    loop {
        let polled = py.detach(|| {
            if due && let Poll::Ready(output) = work.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return Some(output);
            }
            due = bell.wait();
            None
        });
        if polled.is_some() {
            return Ok(polled);
        }
        py.check_signals()?;
        waited = waited.saturating_add(if due { Duration::ZERO } else { LOOK });
        if waited >= limit {
            return Ok(None);
        }
    }
}
