//! Objects on a store, without a fence.

use bytes::Bytes;
use leaselock::fencing;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::call::Call;
use crate::store::Store;
use crate::{convert, errors, gate, messenger};

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

    fn putting_new(&self, path: String, data: &Bound<'_, PyAny>) -> PyResult<Call> {
        let (objects, bytes) = (self.objects(data.py())?, convert::bytes(data)?);
        Ok(Call::done(async move { objects.put_new(path, bytes).await }))
    }

    /// The update, and what `change` has raised in it. It runs `change` where it is polled.
    fn updating(
        &self,
        py: Python<'_>,
        path: String,
        change: Py<PyAny>,
    ) -> PyResult<impl Future<Output = Updated> + use<>> {
        let objects = self.objects(py)?;
        Ok(async move {
            let mut raised = None;
            let change = |old: Option<&Bytes>| {
                let changed = gate::attach(|py| {
                    let old = old.map(|old| PyBytes::new(py, old));
                    let new = change.call1(py, (old,))?;
                    let new = Some(new.bind(py)).filter(|new| !new.is_none());
                    new.map(convert::bytes).transpose()
                });
                // When the interpreter ends nothing is written any more.
                changed?.unwrap_or_else(|error| {
                    raised = Some(error);
                    None
                })
            };
            let updated = objects.update(path, change).await;
            (raised, updated)
        })
    }
}

type Updated = (Option<PyErr>, leaselock::Result<Option<Bytes>>);

fn updated(py: Python<'_>, (raised, updated): Updated) -> PyResult<Py<PyAny>> {
    if let Some(error) = raised {
        return Err(error);
    }
    let now = updated.map_err(errors::raise)?;
    now.map(|now| PyBytes::new(py, &now)).into_py_any(py)
}

#[pymethods]
impl Objects {
    /// Reads an object at a path from the store's root: bytes, or None.
    fn read(&self, py: Python<'_>, path: String) -> PyResult<Py<PyAny>> {
        self.reading(py, path)?.wait(py)
    }

    /// As `read`; a coroutine.
    fn read_async(&self, py: Python<'_>, path: String) -> PyResult<Py<PyAny>> {
        self.reading(py, path)?.start(py)
    }

    /// Creates an object, without a lock. Raises `AlreadyExists` when there is one.
    fn put_new(
        &self,
        py: Python<'_>,
        path: String,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.putting_new(path, data)?.wait(py)
    }

    /// As `put_new`; a coroutine.
    fn put_new_async(
        &self,
        py: Python<'_>,
        path: String,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.putting_new(path, data)?.start(py)
    }

    /// Changes an object without a lock: calls `change` with what is in it, bytes or None, and writes the bytes
    /// that it returns, unless somebody has written in between; then again. Where `change` returns None nothing
    /// is written. Returns what was written. Raises `Conflict` when others are always faster.
    ///
    /// Writes under a fence and these do not go together: use one or the other.
    fn update(&self, py: Python<'_>, path: String, change: Py<PyAny>) -> PyResult<Py<PyAny>> {
        Call::new(self.updating(py, path, change)?, updated).wait(py)
    }

    /// As `update`; a coroutine. `change` is none, and called in a thread of its own.
    fn update_async(&self, py: Python<'_>, path: String, change: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let updating = messenger::see_apart(self.updating(py, path, change)?);
        let ended = || errors::over("the interpreter ends");
        Call::new(updating, move |py, seen| updated(py, seen.ok_or_else(ended)?)).start(py)
    }
}
