//! What comes one after the other.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;
use tokio::sync::Mutex;

use crate::call::{Call, Told};
use crate::errors;
use crate::forks::Native;

/// What comes one after the other: for `for`, and for `async for`.
#[pyclass(frozen, module = "leaselock")]
pub(crate) struct Items(Native<Arc<Mutex<BoxStream<'static, Told>>>>);

impl Items {
    pub(crate) fn new<T: Send + 'static>(
        items: BoxStream<'static, leaselock::Result<T>>,
        tell: fn(Python<'_>, T) -> PyResult<Py<PyAny>>,
    ) -> Self {
        let told = items.map(move |item| {
            Box::new(move |py: Python<'_>| tell(py, item.map_err(errors::raise)?)) as Told
        });
        Self(Native::new(Arc::new(Mutex::new(told.boxed()))))
    }

    /// The next; `end` is raised when there is none.
    fn following(&self, end: fn() -> PyErr) -> PyResult<Call> {
        let items = self.0.get().cloned().ok_or_else(|| errors::forked("the iterator"))?;
        let work = async move { items.lock().await.next().await };
        Ok(Call::new(work, move |py, item| item.ok_or_else(end)?(py)))
    }
}

#[pymethods]
impl Items {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.following(|| PyStopIteration::new_err(()))?.wait(py)
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.following(|| PyStopAsyncIteration::new_err(()))?.start(py)
    }
}
