//! Objects that are written under a token.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use leaselock::fencing;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::forks::{Native, Slot};
use crate::guard::nothing;
use crate::{errors, messenger, wait};

/// Writes objects with a guard's token, so that the store refuses what an earlier holder may still send.
#[pyclass(frozen, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Fence(Native<Arc<fencing::Fence>>);

impl Fence {
    pub(crate) fn new(fence: fencing::Fence) -> Self {
        Self(Native::new(Arc::new(fence)))
    }

    fn fence(&self) -> PyResult<Arc<fencing::Fence>> {
        self.0.get().cloned().ok_or_else(|| errors::forked("the fence"))
    }

    fn putting(
        &self,
        path: String,
        data: &[u8],
        new: bool,
    ) -> PyResult<BoxFuture<'static, leaselock::Result<()>>> {
        let (fence, bytes) = (self.fence()?, Bytes::copy_from_slice(data));
        Ok(async move {
            match new {
                true => fence.put_new(path, bytes).await,
                false => fence.put_fenced(path, bytes).await,
            }
        }
        .boxed())
    }
}

#[pymethods]
impl Fence {
    /// The token that is written.
    #[getter]
    fn token(&self) -> PyResult<u64> {
        Ok(self.fence()?.token().get())
    }

    /// Creates an object. Raises `Conflict` when there is one.
    fn put_new(&self, py: Python<'_>, path: String, data: &[u8]) -> PyResult<()> {
        wait::call(py, self.putting(path, data, true)?)
    }

    /// As `put_new`; an awaitable.
    fn put_new_async(&self, py: Python<'_>, path: String, data: &[u8]) -> PyResult<Py<PyAny>> {
        messenger::start(py, self.putting(path, data, true)?, nothing)
    }

    /// Writes an object over whatever an earlier holder has written. Raises `Fenced` when a later one has.
    fn put_fenced(&self, py: Python<'_>, path: String, data: &[u8]) -> PyResult<()> {
        wait::call(py, self.putting(path, data, false)?)
    }

    /// As `put_fenced`; an awaitable.
    fn put_fenced_async(&self, py: Python<'_>, path: String, data: &[u8]) -> PyResult<Py<PyAny>> {
        messenger::start(py, self.putting(path, data, false)?, nothing)
    }

    /// Claims an object for this holder: from here on the store refuses those before. Returns a `Claimed`.
    fn claim(&self, py: Python<'_>, path: String) -> PyResult<Claimed> {
        let fence = self.fence()?;
        wait::call(py, async move { fence.claim(path).await }).map(Claimed::new)
    }

    /// As `claim`; an awaitable.
    fn claim_async(&self, py: Python<'_>, path: String) -> PyResult<Py<PyAny>> {
        let fence = self.fence()?;
        messenger::start(py, async move { fence.claim(path).await }, |py, claimed| {
            let claimed = claimed.map(Claimed::new).map_err(errors::raise)?;
            Ok(Py::new(py, claimed)?.into_any())
        })
    }
}

/// An object that was claimed: what was in it, to be replaced.
#[pyclass(frozen, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Claimed {
    path: String,
    token: u64,
    claimed: Slot<fencing::Claimed>,
}

impl Claimed {
    fn new(claimed: fencing::Claimed) -> Self {
        Self {
            path: claimed.path().to_string(),
            token: claimed.token().get(),
            claimed: Slot::new(claimed),
        }
    }
}

#[pymethods]
impl Claimed {
    /// The object's path.
    #[getter]
    fn path(&self) -> &str {
        &self.path
    }

    /// The token under which it was claimed.
    #[getter]
    fn token(&self) -> u64 {
        self.token
    }

    /// What is in it: bytes, or None before the first write.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let claimed = self.claimed.lock();
        Some(PyBytes::new(py, claimed.get()?.bytes()?))
    }

    /// Replaces what is in it. Raises `Fenced` when a later holder has claimed it since.
    fn put(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        let taken = self.claimed.lock().take();
        let Some(mut claimed) = taken else {
            return Err(PyRuntimeError::new_err(
                "another thread writes it, or it is another process's",
            ));
        };
        let bytes = Bytes::copy_from_slice(data);
        let put = wait::wait(py, async {
            let put = claimed.put(bytes).await;
            (claimed, put)
        })?;
        let (claimed, put) = put;
        *self.claimed.lock() = Native::new(claimed);
        put.map_err(errors::raise)
    }
}
