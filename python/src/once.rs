//! Work that is run once.

use std::sync::{Mutex, PoisonError};

use leaselock::Start;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::convert::{self, Seconds};
use crate::forks::Native;
use crate::lock::{Limit, Terms};
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
        let mut once = self.store.get().live(py)?.once(&self.key);
        if let Some(Seconds(ttl)) = self.terms.ttl {
            once = once.ttl(ttl);
        }
        if let Some(owner) = &self.terms.owner {
            once = once.owner(owner);
        }
        if let Some(note) = &self.terms.note {
            once = once.note(note);
        }
        if let Some(Seconds(limit)) = self.terms.max_hold {
            once = once.max_hold(limit);
        }
        if let Some(Seconds(time)) = self.retention {
            once = once.retention(time);
        }
        Ok(once)
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
        let (once, limit) = (self.once(py)?, Limit::of(self.timeout));
        let started = wait::wait(py, async move {
            match limit {
                Limit::Once => once.try_start().await,
                Limit::AtMost(time) => once.start_timeout(time).await,
                Limit::Forever => once.start().await,
            }
        })?;
        match started.map_err(|error| errors::raise(&error))? {
            Start::Run(run) => {
                let run = Run { key: self.key.clone(), run: Mutex::new(Native::new(run)) };
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
        let info = wait::wait(py, async move { once.inspect().await })?;
        convert::value(py, &info.map_err(|error| errors::raise(&error))?.to_json())
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
    run: Mutex<Native<leaselock::Run>>,
}

impl Run {
    fn take(&self) -> PyResult<leaselock::Run> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        run.ok_or_else(|| PyRuntimeError::new_err(format!("the run of {} is over", self.key)))
    }
}

#[pymethods]
impl Run {
    /// Whether the lease is held under which it runs.
    #[getter]
    fn is_held(&self) -> bool {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.get().is_some_and(|run| run.guard().is_held())
    }

    /// The fencing token of this run.
    #[getter]
    fn token(&self) -> PyResult<u64> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        let run = run.get().ok_or_else(|| errors::over("the run is over"))?;
        Ok(run.guard().token().get())
    }

    /// Records the result, a value that JSON has: the work is not run again. Raises `Lost` when the lease was
    /// lost before, and `Unconfirmed` when it is not known whether it was recorded.
    fn finish(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let result = convert::payload(result)?;
        let run = self.take()?;
        let finished = wait::wait(py, async move { run.finish(&result).await })?;
        finished.map_err(|error| errors::raise(&error))
    }

    /// The work has failed: it may be run again at once.
    fn give_back(&self, py: Python<'_>) -> PyResult<()> {
        let run = self.take()?;
        let given_back = wait::wait(py, async move { run.give_back().await })?;
        given_back.map(drop).map_err(|error| errors::raise(&error))
    }
}
