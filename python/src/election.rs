//! Who leads.

use std::time::UNIX_EPOCH;

use futures::StreamExt;
use leaselock::Leader;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call::Call;
use crate::convert;
use crate::items::Items;
use crate::lock::Lock;

/// An election: the lock of that name, whose holder leads and whose token is the term.
#[pyclass(frozen, extends = Lock, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Election;

impl Election {
    fn asking(slf: &Bound<'_, Self>) -> PyResult<Call> {
        let election = slf.as_super().get().election(slf.py())?;
        Ok(Call::of(async move { election.leader().await }, told))
    }
}

#[pymethods]
impl Election {
    /// Who leads, with one read: a dict with term, id, owner, payload and since (seconds since 1970, by the
    /// leader's wall clock), or None.
    fn leader(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::asking(slf)?.wait(slf.py())
    }

    /// As `leader`; a coroutine.
    fn leader_async(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::asking(slf)?.start(slf.py())
    }

    /// Follows who leads, for `for` and `async for`: the present leader as `leader` tells it, then every change.
    /// A store that does not answer for 30 s raises `Unavailable`; the next step goes on.
    fn observe(slf: &Bound<'_, Self>) -> PyResult<Items> {
        let election = slf.as_super().get().election(slf.py())?;
        Ok(Items::new(election.observe().boxed(), told))
    }

    /// Campaigns, and awaits `work(guard)` as the leader: it is cancelled when the leadership is lost, and begun
    /// anew in the next term that is won. Returns what it returns. It waits for ever to be elected, whatever the
    /// election's timeout; a store that does not answer for 30 s meanwhile raises `Unavailable`. For asyncio.
    fn lead_async(slf: Py<Self>, py: Python<'_>, work: Py<PyAny>) -> PyResult<Py<PyAny>> {
        Ok(py.import("leaselock._asyncio")?.call_method1("lead", (slf, work))?.unbind())
    }
}

fn told(py: Python<'_>, leader: Option<Leader>) -> PyResult<Py<PyAny>> {
    let Some(leader) = leader else { return Ok(py.None()) };
    let payload = leader.payload.map(|payload| convert::value(py, &payload.to_json()));
    let since = leader.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let dict = PyDict::new(py);
    dict.set_item("term", leader.term.get())?;
    dict.set_item("id", leader.id.to_string())?;
    dict.set_item("owner", leader.owner.to_string())?;
    dict.set_item("payload", payload.transpose()?)?;
    dict.set_item("since", since.as_secs_f64())?;
    dict.into_py_any(py)
}
