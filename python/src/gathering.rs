//! Latches and barriers.

use leaselock::{Arrival, Passed, Result, Waited};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::{self, Seconds};
use crate::store::Store;
use crate::{errors, messenger, wait};

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
}

#[pymethods]
impl Latch {
    /// Arrives, without waiting; may be repeated. Returns a dict: epoch, arrived, needed, open.
    fn arrive(&self, py: Python<'_>, member: String) -> PyResult<Py<PyAny>> {
        let latch = self.latch(py)?;
        told(py, wait::call(py, async move { latch.arrive(member).await })?)
    }

    /// Waits until it is open. Raises `Timeout` after so many seconds. Returns the epoch that has passed.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<u64> {
        let latch = self.latch(py)?;
        let waited = wait::wait(py, async move { wait_for(&latch, timeout).await })?;
        passed(&self.name, waited)
    }

    /// As `wait`; an awaitable.
    #[pyo3(signature = (timeout = None))]
    fn wait_async(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        let (latch, name) = (self.latch(py)?, self.name.clone());
        messenger::start(py, async move { wait_for(&latch, timeout).await }, move |py, waited| {
            Ok(passed(&name, waited)?.into_pyobject(py)?.into_any().unbind())
        })
    }

    /// Who has arrived: a dict as `leaselock latch show --json` prints it.
    fn inspect(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let latch = self.latch(py)?;
        let info = wait::call(py, async move { latch.inspect().await })?;
        convert::value(py, &info.to_json())
    }

    /// Closes it and begins the next epoch, in which nobody has arrived; returns that.
    fn reset(&self, py: Python<'_>) -> PyResult<u64> {
        let latch = self.latch(py)?;
        wait::call(py, async move { latch.reset().await })
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
}

#[pymethods]
impl Barrier {
    /// Arrives, and waits until all have; raises `Timeout` after so many seconds. With `epoch`, a round that
    /// has passed returns at once. Returns the epoch that has passed.
    #[pyo3(signature = (member, timeout = None, *, epoch = None))]
    fn wait(
        &self,
        py: Python<'_>,
        member: String,
        timeout: Option<Seconds>,
        epoch: Option<u64>,
    ) -> PyResult<u64> {
        let barrier = self.barrier(py)?;
        let waited =
            wait::wait(py, async move { wait_at(&barrier, member, epoch, timeout).await })?;
        passed(&self.name, waited)
    }

    /// As `wait`; an awaitable.
    #[pyo3(signature = (member, timeout = None, *, epoch = None))]
    fn wait_async(
        &self,
        py: Python<'_>,
        member: String,
        timeout: Option<Seconds>,
        epoch: Option<u64>,
    ) -> PyResult<Py<PyAny>> {
        let (barrier, name) = (self.barrier(py)?, self.name.clone());
        let work = async move { wait_at(&barrier, member, epoch, timeout).await };
        messenger::start(py, work, move |py, waited| {
            Ok(passed(&name, waited)?.into_pyobject(py)?.into_any().unbind())
        })
    }

    /// Who has arrived: a dict as `leaselock barrier show --json` prints it.
    fn inspect(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let barrier = self.barrier(py)?;
        let info = wait::call(py, async move { barrier.inspect().await })?;
        convert::value(py, &info.to_json())
    }
}

fn told(py: Python<'_>, arrival: Arrival) -> PyResult<Py<PyAny>> {
    let dict = PyDict::new(py);
    dict.set_item("epoch", arrival.epoch)?;
    dict.set_item("arrived", arrival.arrived)?;
    dict.set_item("needed", arrival.needed)?;
    dict.set_item("open", arrival.is_open)?;
    Ok(dict.into_any().unbind())
}

async fn wait_for(latch: &leaselock::Latch, timeout: Option<Seconds>) -> Result<Waited> {
    match timeout {
        Some(Seconds(time)) => latch.wait_timeout(time).await,
        None => latch.wait().await.map(Waited::Passed),
    }
}

async fn wait_at(
    barrier: &leaselock::Barrier,
    member: String,
    epoch: Option<u64>,
    timeout: Option<Seconds>,
) -> Result<Waited> {
    match (timeout, epoch) {
        (Some(Seconds(time)), None) => barrier.wait_timeout(member, time).await,
        (Some(Seconds(time)), Some(epoch)) => barrier.wait_at_timeout(epoch, member, time).await,
        (None, None) => barrier.wait(member).await.map(Waited::Passed),
        (None, Some(epoch)) => barrier.wait_at(epoch, member).await.map(Waited::Passed),
    }
}

fn passed(name: &str, waited: Result<Waited>) -> PyResult<u64> {
    match waited.map_err(errors::raise)? {
        Waited::Passed(Passed { epoch, .. }) => Ok(epoch),
        Waited::TimedOut(info) => {
            let missing = format!("{} of {} have arrived", info.arrived, info.needed);
            Err(errors::timeout(name, &missing))
        }
    }
}
