//! A call of the library: waited for here, or awaited in asyncio.

use std::sync::{Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::{errors, messenger, wait};

/// What a call has come to, to be told by who has the interpreter's lock.
pub(crate) type Told = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// A call that is ready: every method that waits makes one and [waits](Self::wait) for it, and its twin for
/// asyncio makes the same and answers [a coroutine](Self::start).
#[must_use = "nothing is done before it is waited for or awaited"]
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

    /// A coroutine that does it when it is awaited. Cancelling that drops the work.
    pub(crate) fn start(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let call = Awaited(Mutex::new(Some(self.0)));
        Ok(py.import("leaselock._asyncio")?.call_method1("awaited", (call,))?.unbind())
    }
}

/// A call that a coroutine does.
#[pyclass(frozen, module = "leaselock")]
pub(crate) struct Awaited(Mutex<Option<BoxFuture<'static, Told>>>);

#[pymethods]
impl Awaited {
    /// Begins it: an `asyncio.Future`. Once.
    fn begin(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let call = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let call = call.ok_or_else(|| PyRuntimeError::new_err("it has begun before"))?;
        messenger::start(py, call)
    }
}
