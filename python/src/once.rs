//! Work that is run once.

use leaselock::{LeaseWatch, Start};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::admin::{self, Order};
use crate::call::Call;
use crate::convert::{self, Seconds};
use crate::forks::Slot;
use crate::recipe::{Terms, with};
use crate::store::Store;
use crate::{errors, lease};

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

    fn starting(&self, py: Python<'_>) -> PyResult<Call> {
        let (once, timeout) = (self.once(py)?, self.timeout);
        let work = async move {
            match timeout {
                Some(Seconds(time)) => once.start_timeout(time).await,
                None => once.start().await,
            }
        };
        let key = self.key.clone();
        Ok(Call::of(work, move |py, start| match start {
            Start::Run(run) => Run { key, run: Slot::new(run) }.into_py_any(py),
            Start::Done(done) => {
                let dict = PyDict::new(py);
                dict.set_item("result", convert::value(py, &done.result.to_json())?)?;
                dict.set_item("token", done.token.get())?;
                dict.set_item("at", done.at)?;
                dict.into_py_any(py)
            }
            Start::Running(info) => {
                let by = info.holders.first().map(|holder| holder.owner.to_string());
                let by = by.unwrap_or_else(|| "somebody".to_owned());
                Err(errors::timeout(&key, &format!("{by} runs it")))
            }
        }))
    }

    fn inspecting(&self, py: Python<'_>) -> PyResult<Call> {
        let once = self.once(py)?;
        let work = async move { once.inspect().await };
        Ok(Call::of(work, |py, info| convert::value(py, &info.to_json())))
    }

    fn forgetting(&self, py: Python<'_>, order: &Order) -> PyResult<Call> {
        let (once, order) = (self.once(py)?, order.ready()?);
        Ok(Call::of(async move { once.forget(order).await }, admin::told))
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
        self.starting(py)?.wait(py)
    }

    /// As `start`; a coroutine.
    fn start_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.starting(py)?.start(py)
    }

    /// What the record says, with one read: a dict as `leaselock show --once --json` prints it.
    fn inspect(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.inspecting(py)?.wait(py)
    }

    /// As `inspect`; a coroutine.
    fn inspect_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.inspecting(py)?.start(py)
    }

    /// Ends a run that is under way, or forgets a result.
    #[pyo3(signature = (*, expect = None, force = false, reason = None, by = None))]
    fn forget(
        &self,
        py: Python<'_>,
        expect: Option<u64>,
        force: bool,
        reason: Option<String>,
        by: Option<String>,
    ) -> PyResult<Py<PyAny>> {
        self.forgetting(py, &Order { expect, force, reason, by })?.wait(py)
    }

    /// As `forget`; a coroutine.
    #[pyo3(signature = (*, expect = None, force = false, reason = None, by = None))]
    fn forget_async(
        &self,
        py: Python<'_>,
        expect: Option<u64>,
        force: bool,
        reason: Option<String>,
        by: Option<String>,
    ) -> PyResult<Py<PyAny>> {
        self.forgetting(py, &Order { expect, force, reason, by })?.start(py)
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
    fn over(&self) -> PyErr {
        if self.run.lock().is_ours() {
            errors::over(&format!("the run of {} is over", self.key))
        } else {
            errors::forked(&format!("the run of {}", self.key))
        }
    }

    fn watch(&self) -> PyResult<LeaseWatch> {
        let watch = self.run.lock().get().map(|run| run.guard().watch());
        watch.ok_or_else(|| self.over())
    }

    fn finishing(&self, result: &Bound<'_, PyAny>) -> PyResult<Call> {
        let result = convert::result(result)?;
        let run = self.run.lock().take();
        let run = run.ok_or_else(|| self.over())?;
        Ok(Call::done(async move { run.finish(&result).await }))
    }

    fn giving_back(&self) -> Call {
        let run = self.run.lock().take();
        Call::done(async move {
            match run {
                Some(run) => run.give_back().await.map(drop),
                None => Ok(()),
            }
        })
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
        let token = self.run.lock().get().map(|run| run.guard().token().get());
        token.ok_or_else(|| self.over())
    }

    /// Why its lease was lost; None while it is held.
    #[getter]
    fn loss(&self) -> PyResult<Option<String>> {
        Ok(lease::loss(&self.watch()?))
    }

    /// Raises `Lost` unless the lease is held under which it runs.
    fn check(&self) -> PyResult<()> {
        lease::check(&self.watch()?)
    }

    /// Waits until its lease is lost, and returns why; None when the run has ended first.
    fn lost_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        lease::ended(self.watch()?).start(py)
    }

    /// Records the result, a value that JSON has: the work is not run again. Raises `Lost` when the lease was
    /// lost before, and `Unconfirmed` when it is not known whether it was recorded.
    fn finish(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.finishing(result)?.wait(py)
    }

    /// As `finish`; a coroutine.
    fn finish_async(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.finishing(result)?.start(py)
    }

    /// The work has failed: it may be run again at once. Where it is over already, nothing is done.
    fn give_back(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.giving_back().wait(py)
    }

    /// As `give_back`; a coroutine.
    fn give_back_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.giving_back().start(py)
    }
}
