//! What operators ask for: somebody else's lease is ended.

use leaselock::{Break, Broken, FencingToken};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Whose lease, why, and who says so.
pub(crate) struct Order {
    pub(crate) expect: Option<u64>,
    pub(crate) force: bool,
    pub(crate) reason: Option<String>,
    pub(crate) by: Option<String>,
}

impl Order {
    /// # Errors
    /// It does not say whose.
    pub(crate) fn ready(&self) -> PyResult<Break> {
        let order = match (self.expect.map(FencingToken::new), self.force) {
            (Some(Some(token)), _) => Break::expecting(token),
            (None, true) => Break::force(),
            _ => return Err(PyValueError::new_err("expect the holder's token, or force")),
        };
        let order = self.reason.iter().fold(order, Break::reason);
        Ok(self.by.iter().fold(order, Break::by))
    }
}

/// What it has done: a dict.
pub(crate) fn told(py: Python<'_>, broken: Broken) -> PyResult<Py<PyAny>> {
    let dict = PyDict::new(py);
    dict.set_item("token", broken.token.get())?;
    dict.set_item("holder", broken.holder.as_ref().map(|holder| holder.id.to_string()))?;
    dict.set_item("owner", broken.holder.as_ref().map(|holder| holder.owner.to_string()))?;
    dict.set_item("repaired", broken.repaired)?;
    dict.into_py_any(py)
}
