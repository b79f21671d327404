//! Objects on a store, without a fence.

use bytes::Bytes;
use leaselock::fencing;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::call::Call;
use crate::errors;
use crate::store::Store;

/// Objects on a store: paths begin at its root. Those that are written under a guard are written by its `fence`.
#[pyclass(frozen, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Objects {
    pub(crate) store: Py<Store>,
}

impl Objects {
    fn objects(&self, py: Python<'_>) -> PyResult<fencing::Objects> {
        Ok(self.store.get().live(py)?.objects())
    }

    fn reading(&self, py: Python<'_>, path: String) -> PyResult<Call> {
        let objects = self.objects(py)?;
        Ok(Call::of(async move { objects.read(path).await }, |py, object| {
            object.map(|object| PyBytes::new(py, object.bytes())).into_py_any(py)
        }))
    }

    fn putting_new(&self, py: Python<'_>, path: String, data: &[u8]) -> PyResult<Call> {
        let (objects, bytes) = (self.objects(py)?, Bytes::copy_from_slice(data));
        Ok(Call::done(async move { objects.put_new(path, bytes).await }))
    }

    fn updating(&self, py: Python<'_>, path: String, change: Py<PyAny>) -> PyResult<Call> {
        let objects = self.objects(py)?;
        let work = async move {
            let mut raised = None;
            // On the thread that waits, or the messenger's: both may wait for the interpreter's lock.
            let change = |old: Option<&Bytes>| {
                let changed = Python::try_attach(|py| {
                    let old = old.map(|old| PyBytes::new(py, old));
                    change.call1(py, (old,))?.extract::<Option<Vec<u8>>>(py)
                });
                // When the interpreter ends nothing is written any more.
                changed?.unwrap_or_else(|error| {
                    raised = Some(error);
                    None
                })
            };
            let updated = objects.update(path, change).await;
            (raised, updated)
        };
        Ok(Call::new(work, |py, (raised, updated)| match raised {
            Some(error) => Err(error),
            None => {
                let now = updated.map_err(errors::raise)?;
                now.map(|now| PyBytes::new(py, &now)).into_py_any(py)
            }
        }))
    }
}

#[pymethods]
impl Objects {
    /// Reads an object at a path from the store's root: bytes, or None.
    fn read(&self, py: Python<'_>, path: String) -> PyResult<Py<PyAny>> {
        self.reading(py, path)?.wait(py)
    }

    /// As `read`; an awaitable.
    fn read_async(&self, py: Python<'_>, path: String) -> PyResult<Py<PyAny>> {
        self.reading(py, path)?.start(py)
    }

    /// Creates an object, without a lock. Raises `AlreadyExists` when there is one.
    fn put_new(&self, py: Python<'_>, path: String, data: &[u8]) -> PyResult<Py<PyAny>> {
        self.putting_new(py, path, data)?.wait(py)
    }

    /// As `put_new`; an awaitable.
    fn put_new_async(&self, py: Python<'_>, path: String, data: &[u8]) -> PyResult<Py<PyAny>> {
        self.putting_new(py, path, data)?.start(py)
    }

    /// Changes an object without a lock: calls `change` with what is in it, bytes or None, and writes the bytes
    /// that it returns, unless somebody has written in between; then again. Where `change` returns None nothing
    /// is written. Returns what was. Raises `Conflict` when others are always faster.
    ///
    /// Writes under a fence and these do not go together: use one or the other.
    fn update(&self, py: Python<'_>, path: String, change: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.updating(py, path, change)?.wait(py)
    }

    /// As `update`; an awaitable. `change` is no coroutine, and called in a thread of leaselock's.
    fn update_async(&self, py: Python<'_>, path: String, change: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.updating(py, path, change)?.start(py)
    }
}
