//! Work that is run once.

use leaselock::Start;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::convert::{self, Seconds};
use crate::forks::Slot;
use crate::lock::{Terms, with};
use crate::store::Store;
use crate::{errors, wait};

/// Work that is run once under a key, whoever asks for it: the first runs it under a lease and records its
/// result, the others get the result.
#[pyclass(frozen, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Once {
    pub(crate) store: Py<Store>,
    pub(crate) key: String,
    pub(crate) terms: Terms,
    pub(crate) retention: Option<Seconds>,
    pub(crate) timeout: Option<Seconds>,
}

impl Once {
    fn once(&self, py: Python<'_>) -> PyResult<leaselock::Once> {
        let once = self.store.get().live(py)?.once(&self.key);
        let once = with!(once, self.terms; ttl max_hold; owner note);
        Ok(match self.retention {
            Some(Seconds(time)) => once.retention(time),
            None => once,
        })
    }
}

#[pymethods]
impl Once {
    /// The key.
    #[getter]
    fn key(&self) -> &str {
        &self.key
    }

    /// Begins to run the work, or tells that it was done: returns a `Run`, or a dict with result, token and
    /// at. Raises `Timeout` when somebody else runs it for longer.
    fn start(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (once, timeout) = (self.once(py)?, self.timeout);
        let started = wait::call(py, async move {
            match timeout {
                Some(Seconds(time)) => once.start_timeout(time).await,
                None => once.start().await,
            }
        })?;
        match started {
            Start::Run(run) => {
                let run = Run { key: self.key.clone(), run: Slot::new(run) };
                Ok(Py::new(py, run)?.into_any())
            }
            Start::Done(done) => {
                let dict = pyo3::types::PyDict::new(py);
                dict.set_item("result", convert::value(py, &done.result.to_json())?)?;
                dict.set_item("token", done.token.get())?;
                dict.set_item("at", done.at)?;
                Ok(dict.into_any().unbind())
            }
            Start::Running(info) => {
                let by = info.holders.first().map(|holder| holder.owner.to_string());
                let by = by.unwrap_or_else(|| "somebody".to_owned());
                Err(errors::timeout(&self.key, &format!("{by} runs it")))
            }
        }
    }

    /// What the record says, with one read: a dict as `leaselock show --once --json` prints it.
    fn inspect(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let once = self.once(py)?;
        let info = wait::call(py, async move { once.inspect().await })?;
        convert::value(py, &info.to_json())
    }

    fn __repr__(&self) -> String {
        format!("<leaselock.Once {:?}>", self.key)
    }
}

/// A run that is under way. Dropping it gives the key back: the work is run again.
#[pyclass(frozen, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Run {
    key: String,
    run: Slot<leaselock::Run>,
}

impl Run {
    fn take(&self) -> PyResult<leaselock::Run> {
        let run = self.run.lock().take();
        run.ok_or_else(|| PyRuntimeError::new_err(format!("the run of {} is over", self.key)))
    }
}

#[pymethods]
impl Run {
    /// Whether the lease is held under which it runs.
    #[getter]
    fn is_held(&self) -> bool {
        let run = self.run.lock();
        run.get().is_some_and(|run| run.guard().is_held())
    }

    /// The fencing token of this run.
    #[getter]
    fn token(&self) -> PyResult<u64> {
        let run = self.run.lock();
        let run = run.get().ok_or_else(|| errors::over("the run is over"))?;
        Ok(run.guard().token().get())
    }

    /// Records the result, a value that JSON has: the work is not run again. Raises `Lost` when the lease was
    /// lost before, and `Unconfirmed` when it is not known whether it was recorded.
    fn finish(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let result = convert::payload(result)?;
        let run = self.take()?;
        wait::call(py, async move { run.finish(&result).await })
    }

    /// The work has failed: it may be run again at once.
    fn give_back(&self, py: Python<'_>) -> PyResult<()> {
        let run = self.take()?;
        wait::call(py, async move { run.give_back().await }).map(drop)
    }
}
