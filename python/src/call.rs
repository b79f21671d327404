//! A call of the library: waited for here, or awaited in asyncio.

use futures::future::{BoxFuture, FutureExt};
use pyo3::prelude::*;

use crate::{errors, messenger, wait};

/// What a call has come to, to be told by who has the interpreter's lock.
pub(crate) type Told = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// A call that is ready: every method that waits makes one and [waits](Self::wait) for it, and its twin for
/// asyncio makes the same and [starts](Self::start) it.
#[must_use = "nothing is done before it is waited for or started"]
pub(crate) struct Call(BoxFuture<'static, Told>);

impl Call {
    /// Does `work`; `tell` makes of its output what Python gets.
    pub(crate) fn new<T: Send + 'static>(
        work: impl Future<Output = T> + Send + 'static,
        tell: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Self {
        Self(
            async move {
                let output = work.await;
                Box::new(move |py: Python<'_>| tell(py, output)) as Told
            }
            .boxed(),
        )
    }

    /// The same, where the library's errors are raised.
    pub(crate) fn of<T: Send + 'static>(
        work: impl Future<Output = leaselock::Result<T>> + Send + 'static,
        tell: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Self {
        Self::new(work, |py, result| tell(py, result.map_err(errors::raise)?))
    }

    /// The same, where there is nothing to be told but errors.
    pub(crate) fn done<T: Send + 'static>(
        work: impl Future<Output = leaselock::Result<T>> + Send + 'static,
    ) -> Self {
        Self::of(work, |py, _| Ok(py.None()))
    }

    /// Waits for it on the calling thread, with an ear for Ctrl-C.
    ///
    /// # Errors
    /// What went wrong, or what a signal handler raises.
    pub(crate) fn wait(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        wait::wait(py, self.0)?(py)
    }

    /// Starts it: an `asyncio.Future`. Cancelling that drops the work.
    ///
    /// # Errors
    /// No event loop is running here.
    pub(crate) fn start(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        messenger::start(py, self.0)
    }
}
