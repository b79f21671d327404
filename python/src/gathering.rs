//! Latches and barriers.

use leaselock::{Arrival, GatheringInfo, Passed, Waited};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call::Call;
use crate::convert::{self, Seconds};
use crate::errors;
use crate::store::Store;

/// Opens when so many different members have arrived, and stays open.
#[pyclass(frozen, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Latch {
    pub(crate) store: Py<Store>,
    pub(crate) name: String,
    pub(crate) needed: u32,
}

impl Latch {
    fn latch(&self, py: Python<'_>) -> PyResult<leaselock::Latch> {
        Ok(self.store.get().live(py)?.latch(&self.name, self.needed))
    }

    fn arriving(&self, py: Python<'_>, member: String) -> PyResult<Call> {
        let latch = self.latch(py)?;
        Ok(Call::of(async move { latch.arrive(member).await }, arrival))
    }

    fn waiting(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Call> {
        let latch = self.latch(py)?;
        let work = async move {
            match timeout {
                Some(Seconds(time)) => latch.wait_timeout(time).await,
                None => latch.wait().await.map(Waited::Passed),
            }
        };
        let name = self.name.clone();
        Ok(Call::of(work, move |py, waited| passed(py, &name, waited)))
    }

    fn inspecting(&self, py: Python<'_>) -> PyResult<Call> {
        let latch = self.latch(py)?;
        Ok(Call::of(async move { latch.inspect().await }, gathering))
    }

    fn resetting(&self, py: Python<'_>, epoch: Option<u64>) -> PyResult<Call> {
        let latch = self.latch(py)?;
        let work = async move {
            match epoch {
                Some(epoch) => latch.reset_from(epoch).await,
                None => latch.reset().await,
            }
        };
        Ok(Call::of(work, |py, epoch| epoch.into_py_any(py)))
    }
}

#[pymethods]
impl Latch {
    /// Arrives, without waiting; may be repeated. Returns a dict: epoch, arrived, needed, open.
    fn arrive(&self, py: Python<'_>, member: String) -> PyResult<Py<PyAny>> {
        self.arriving(py, member)?.wait(py)
    }

    /// As `arrive`; a coroutine.
    fn arrive_async(&self, py: Python<'_>, member: String) -> PyResult<Py<PyAny>> {
        self.arriving(py, member)?.start(py)
    }

    /// Waits until it is open. Raises `Timeout` after so many seconds. Returns the epoch that has passed.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        self.waiting(py, timeout)?.wait(py)
    }

    /// As `wait`; a coroutine.
    #[pyo3(signature = (timeout = None))]
    fn wait_async(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        self.waiting(py, timeout)?.start(py)
    }

    /// Who has arrived: a dict as `leaselock latch show --json` prints it.
    fn inspect(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.inspecting(py)?.wait(py)
    }

    /// As `inspect`; a coroutine.
    fn inspect_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.inspecting(py)?.start(py)
    }

    /// Closes it and begins the next epoch, in which nobody has arrived; returns that. With `epoch`, only if
    /// that is the present one, so that it may be repeated.
    #[pyo3(signature = (*, epoch = None))]
    fn reset(&self, py: Python<'_>, epoch: Option<u64>) -> PyResult<Py<PyAny>> {
        self.resetting(py, epoch)?.wait(py)
    }

    /// As `reset`; a coroutine.
    #[pyo3(signature = (*, epoch = None))]
    fn reset_async(&self, py: Python<'_>, epoch: Option<u64>) -> PyResult<Py<PyAny>> {
        self.resetting(py, epoch)?.start(py)
    }
}

/// Opens whenever all members have arrived, round after round.
#[pyclass(frozen, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Barrier {
    pub(crate) store: Py<Store>,
    pub(crate) name: String,
    pub(crate) parties: u32,
}

impl Barrier {
    fn barrier(&self, py: Python<'_>) -> PyResult<leaselock::Barrier> {
        Ok(self.store.get().live(py)?.barrier(&self.name, self.parties))
    }

    fn arriving(&self, py: Python<'_>, member: String) -> PyResult<Call> {
        let barrier = self.barrier(py)?;
        Ok(Call::of(async move { barrier.arrive(member).await }, arrival))
    }

    fn waiting(
        &self,
        py: Python<'_>,
        member: String,
        timeout: Option<Seconds>,
        epoch: Option<u64>,
    ) -> PyResult<Call> {
        let barrier = self.barrier(py)?;
        let work = async move {
            match (timeout, epoch) {
                (Some(Seconds(time)), None) => barrier.wait_timeout(member, time).await,
                (Some(Seconds(time)), Some(at)) => barrier.wait_at_timeout(at, member, time).await,
                (None, None) => barrier.wait(member).await.map(Waited::Passed),
                (None, Some(at)) => barrier.wait_at(at, member).await.map(Waited::Passed),
            }
        };
        let name = self.name.clone();
        Ok(Call::of(work, move |py, waited| passed(py, &name, waited)))
    }

    fn inspecting(&self, py: Python<'_>) -> PyResult<Call> {
        let barrier = self.barrier(py)?;
        Ok(Call::of(async move { barrier.inspect().await }, gathering))
    }
}

#[pymethods]
impl Barrier {
    /// Arrives, without waiting for the others. Returns a dict: epoch, arrived, needed, open.
    fn arrive(&self, py: Python<'_>, member: String) -> PyResult<Py<PyAny>> {
        self.arriving(py, member)?.wait(py)
    }

    /// As `arrive`; a coroutine.
    fn arrive_async(&self, py: Python<'_>, member: String) -> PyResult<Py<PyAny>> {
        self.arriving(py, member)?.start(py)
    }

    /// Arrives, and waits until all have; raises `Timeout` after so many seconds. With `epoch`, a round that
    /// has passed returns at once. Returns the epoch that has passed.
    #[pyo3(signature = (member, timeout = None, *, epoch = None))]
    fn wait(
        &self,
        py: Python<'_>,
        member: String,
        timeout: Option<Seconds>,
        epoch: Option<u64>,
    ) -> PyResult<Py<PyAny>> {
        self.waiting(py, member, timeout, epoch)?.wait(py)
    }

    /// As `wait`; a coroutine.
    #[pyo3(signature = (member, timeout = None, *, epoch = None))]
    fn wait_async(
        &self,
        py: Python<'_>,
        member: String,
        timeout: Option<Seconds>,
        epoch: Option<u64>,
    ) -> PyResult<Py<PyAny>> {
        self.waiting(py, member, timeout, epoch)?.start(py)
    }

    /// Who has arrived: a dict as `leaselock barrier show --json` prints it.
    fn inspect(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.inspecting(py)?.wait(py)
    }

    /// As `inspect`; a coroutine.
    fn inspect_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.inspecting(py)?.start(py)
    }
}

fn arrival(py: Python<'_>, arrival: Arrival) -> PyResult<Py<PyAny>> {
    let dict = PyDict::new(py);
    dict.set_item("epoch", arrival.epoch)?;
    dict.set_item("arrived", arrival.arrived)?;
    dict.set_item("needed", arrival.needed)?;
    dict.set_item("open", arrival.is_open)?;
    dict.into_py_any(py)
}

fn gathering(py: Python<'_>, info: GatheringInfo) -> PyResult<Py<PyAny>> {
    convert::value(py, &info.to_json())
}

fn passed(py: Python<'_>, name: &str, waited: Waited) -> PyResult<Py<PyAny>> {
    match waited {
        Waited::Passed(Passed { epoch, .. }) => epoch.into_py_any(py),
        Waited::TimedOut(info) => {
            let missing = format!("{} of {} have arrived", info.arrived, info.needed);
            Err(errors::timeout(name, &missing))
        }
    }
}
