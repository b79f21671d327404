//! Latches and barriers.

use leaselock::{Passed, Result, Waited};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::{self, Seconds};
use crate::lock::Limit;
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
        let arrival = wait::wait(py, async move { latch.arrive(member).await })?;
        let arrival = arrival.map_err(|error| errors::raise(&error))?;
        told(py, arrival.epoch, arrival.arrived, arrival.needed, arrival.is_open)
    }

    /// Waits until it is open. Raises `Timeout` after so many seconds. Returns the epoch that has passed.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<u64> {
        let (latch, limit) = (self.latch(py)?, Limit::of(timeout));
        let waited = wait::wait(py, async move { wait_for(&latch, limit).await })?;
        passed(&self.name, waited)
    }

    /// As `wait`; an awaitable.
    #[pyo3(signature = (timeout = None))]
    fn wait_async(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        let (latch, limit, name) = (self.latch(py)?, Limit::of(timeout), self.name.clone());
        messenger::start(py, async move { wait_for(&latch, limit).await }, move |py, waited| {
            Ok(passed(&name, waited)?.into_pyobject(py)?.into_any().unbind())
        })
    }

    /// Who has arrived: a dict as `leaselock latch show --json` prints it.
    fn inspect(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let latch = self.latch(py)?;
        let info = wait::wait(py, async move { latch.inspect().await })?;
        convert::value(py, &info.map_err(|error| errors::raise(&error))?.to_json())
    }

    /// Closes it and begins the next epoch, in which nobody has arrived; returns that.
    fn reset(&self, py: Python<'_>) -> PyResult<u64> {
        let latch = self.latch(py)?;
        let epoch = wait::wait(py, async move { latch.reset().await })?;
        epoch.map_err(|error| errors::raise(&error))
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
        let (barrier, limit) = (self.barrier(py)?, Limit::of(timeout));
        let waited = wait::wait(py, async move { wait_at(&barrier, member, epoch, limit).await })?;
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
        let (barrier, limit, name) = (self.barrier(py)?, Limit::of(timeout), self.name.clone());
        let work = async move { wait_at(&barrier, member, epoch, limit).await };
        messenger::start(py, work, move |py, waited| {
            Ok(passed(&name, waited)?.into_pyobject(py)?.into_any().unbind())
        })
    }

    /// Who has arrived: a dict as `leaselock barrier show --json` prints it.
    fn inspect(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let barrier = self.barrier(py)?;
        let info = wait::wait(py, async move { barrier.inspect().await })?;
        convert::value(py, &info.map_err(|error| errors::raise(&error))?.to_json())
    }
}

fn told(py: Python<'_>, epoch: u64, arrived: u32, needed: u32, open: bool) -> PyResult<Py<PyAny>> {
    let dict = PyDict::new(py);
    dict.set_item("epoch", epoch)?;
    dict.set_item("arrived", arrived)?;
    dict.set_item("needed", needed)?;
    dict.set_item("open", open)?;
    Ok(dict.into_any().unbind())
}

async fn wait_for(latch: &leaselock::Latch, limit: Limit) -> Result<Waited> {
    match limit {
        Limit::AtMost(time) => latch.wait_timeout(time).await,
        Limit::Once | Limit::Forever => latch.wait().await.map(Waited::Passed),
    }
}

async fn wait_at(
    barrier: &leaselock::Barrier,
    member: String,
    epoch: Option<u64>,
    limit: Limit,
) -> Result<Waited> {
    match (limit, epoch) {
        (Limit::AtMost(time), None) => barrier.wait_timeout(member, time).await,
        (Limit::AtMost(time), Some(epoch)) => barrier.wait_at_timeout(epoch, member, time).await,
        (_, None) => barrier.wait(member).await.map(Waited::Passed),
        (_, Some(epoch)) => barrier.wait_at(epoch, member).await.map(Waited::Passed),
    }
}

fn passed(name: &str, waited: Result<Waited>) -> PyResult<u64> {
    match waited.map_err(|error| errors::raise(&error))? {
        Waited::Passed(Passed { epoch, .. }) => Ok(epoch),
        Waited::TimedOut(info) => {
            let missing = format!("{} of {} have arrived", info.arrived, info.needed);
            Err(errors::timeout(name, &missing))
        }
    }
}
