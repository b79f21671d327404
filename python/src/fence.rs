//! Objects that are written under a token.

use std::collections::BTreeMap;
use std::sync::Arc;

use leaselock::fencing;
use object_store::{Attribute, Attributes};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::Mutex;

use crate::call::Call;
use crate::forks::Native;
use crate::{convert, errors};

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

    fn putting_new(&self, path: String, data: &Bound<'_, PyAny>) -> PyResult<Call> {
        let (fence, bytes) = (self.fence()?, convert::bytes(data)?);
        Ok(Call::done(async move { fence.put_new(path, bytes).await }))
    }

    fn putting_fenced(&self, path: String, data: &Bound<'_, PyAny>) -> PyResult<Call> {
        let (fence, bytes) = (self.fence()?, convert::bytes(data)?);
        Ok(Call::done(async move { fence.put_fenced(path, bytes).await }))
    }

    fn claiming(&self, path: String) -> PyResult<Call> {
        let fence = self.fence()?;
        let work = async move { fence.claim(path).await };
        Ok(Call::of(work, |py, claimed| Claimed::new(claimed).into_py_any(py)))
    }
}

/// What an object gets besides its content.
///
/// # Errors
/// It is no header that objects have.
pub(crate) fn attributes(
    headers: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
) -> PyResult<Attributes> {
    let mut attributes = Attributes::new();
    for (name, value) in headers {
        let attribute = header(&name).ok_or_else(|| {
            let known: Vec<_> = HEADERS.iter().map(|(name, _)| *name).collect();
            let known = known.join(", ");
            let message =
                format!("objects have no header {name:?}, but {known}; metadata has other names");
            PyValueError::new_err(message)
        })?;
        attributes.insert(attribute, value.into());
    }
    for (name, value) in metadata {
        attributes.insert(Attribute::Metadata(name.into()), value.into());
    }
    Ok(attributes)
}

const HEADERS: [(&str, Attribute); 5] = [
    ("Cache-Control", Attribute::CacheControl),
    ("Content-Disposition", Attribute::ContentDisposition),
    ("Content-Encoding", Attribute::ContentEncoding),
    ("Content-Language", Attribute::ContentLanguage),
    ("Content-Type", Attribute::ContentType),
];

fn header(name: &str) -> Option<Attribute> {
    let found = HEADERS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, attribute)| attribute)
}

#[pymethods]
impl Fence {
    /// The token that is written.
    #[getter]
    fn token(&self) -> PyResult<u64> {
        Ok(self.fence()?.token().get())
    }

    /// Creates an object. Raises `AlreadyExists` when there is one.
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

    /// Writes an object over whatever an earlier holder has written. Raises `Fenced` when a later one has.
    fn put_fenced(
        &self,
        py: Python<'_>,
        path: String,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.putting_fenced(path, data)?.wait(py)
    }

    /// As `put_fenced`; a coroutine.
    fn put_fenced_async(
        &self,
        py: Python<'_>,
        path: String,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.putting_fenced(path, data)?.start(py)
    }

    /// Claims an object for this holder: from here on the store refuses those before. Returns a `Claimed`.
    fn claim(&self, py: Python<'_>, path: String) -> PyResult<Py<PyAny>> {
        self.claiming(path)?.wait(py)
    }

    /// As `claim`; a coroutine.
    fn claim_async(&self, py: Python<'_>, path: String) -> PyResult<Py<PyAny>> {
        self.claiming(path)?.start(py)
    }
}

/// An object that was claimed: what was in it, to be replaced.
#[pyclass(frozen, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Claimed {
    path: String,
    token: u64,
    /// Locked while it is written.
    claimed: Native<Arc<Mutex<fencing::Claimed>>>,
}

impl Claimed {
    fn new(claimed: fencing::Claimed) -> Self {
        Self {
            path: claimed.path().to_string(),
            token: claimed.token().get(),
            claimed: Native::new(Arc::new(Mutex::new(claimed))),
        }
    }

    fn claimed(&self) -> PyResult<&Arc<Mutex<fencing::Claimed>>> {
        self.claimed.get().ok_or_else(|| errors::forked("what was claimed"))
    }

    fn putting(&self, data: &Bound<'_, PyAny>) -> PyResult<Call> {
        let (claimed, bytes) = (Arc::clone(self.claimed()?), convert::bytes(data)?);
        Ok(Call::done(async move { claimed.lock().await.put(bytes).await }))
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

    /// What is in it: bytes, or None before the first write. Raises `RuntimeError` while it is being written.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let claimed = self.claimed()?.try_lock().map_err(|_| {
            PyRuntimeError::new_err(format!("{} is being written right now", self.path))
        })?;
        Ok(claimed.bytes().map(|bytes| PyBytes::new(py, bytes)))
    }

    /// Replaces what is in it. Raises `Fenced` when a later holder has claimed it since.
    fn put(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.putting(data)?.wait(py)
    }

    /// As `put`; a coroutine.
    fn put_async(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.putting(data)?.start(py)
    }
}
