//! Whatever can be acquired.

use std::sync::{Mutex, MutexGuard, PoisonError};

use leaselock::HolderId;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::admin::{self, Order};
use crate::call::Call;
use crate::convert::Seconds;
use crate::errors;
use crate::guard::{Guard, Held};
use crate::recipe::{Answer, Limit, Recipe, Wanted};
use crate::store::Origin;

/// A lock, and how it is to be held: a context manager, for `with` and `async with`. Made by a `Store`, a
/// `Session` or a `Quorum`; nothing is written before it is acquired.
#[pyclass(frozen, subclass, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Lock {
    origin: Origin,
    recipe: Recipe,
    timeout: Option<Seconds>,
    /// What is held by `with`, and which thread, or asyncio task, has entered it.
    entered: Mutex<Vec<(usize, Py<Guard>)>>,
}

impl Lock {
    pub(crate) fn new(origin: Origin, recipe: Recipe, timeout: Option<Seconds>) -> Self {
        Self { origin, recipe, timeout, entered: Mutex::default() }
    }

    fn entered(&self) -> MutexGuard<'_, Vec<(usize, Py<Guard>)>> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, who: usize, guard: Py<Guard>) {
        self.entered().push((who, guard));
    }

    /// What is to be given back by who leaves a block: what it has entered last. A block may be left by another
    /// thread or task than entered it, as generators are; then what is held is given back.
    fn pop(&self, who: Option<usize>) -> PyResult<Py<Guard>> {
        let mut entered = self.entered();
        let place = entered.iter().rposition(|(by, _)| Some(*by) == who);
        let place = place.or_else(|| entered.iter().rposition(|(_, guard)| guard.get().is_held()));
        match place.or(entered.len().checked_sub(1)) {
            Some(place) => Ok(entered.remove(place).1),
            None => Err(PyRuntimeError::new_err("it is left and has not been entered")),
        }
    }

    /// The limit of a call: its own, or the lock's.
    fn limit(&self, timeout: Option<Seconds>, forever: bool) -> Limit {
        if forever { Limit::Forever } else { Limit::of(timeout.or(self.timeout)) }
    }

    fn wanted(&self, py: Python<'_>) -> PyResult<Wanted> {
        self.recipe.wanted(&self.origin, py)
    }

    /// A call that comes to a guard, by `made` of the answer.
    fn asking(
        slf: &Bound<'_, Self>,
        limit: Limit,
        made: fn(&Self, Python<'_>, Answer) -> PyResult<Py<PyAny>>,
    ) -> PyResult<Call> {
        let work = slf.get().wanted(slf.py())?.ask(limit);
        let slf = slf.clone().unbind();
        Ok(Call::of(work, move |py, answer| made(slf.get(), py, answer)))
    }

    fn guard(&self, py: Python<'_>, held: Held) -> PyResult<Py<PyAny>> {
        let objects = self.origin.store(py)?.objects();
        Guard::new(self.recipe.name.clone(), objects, held, self.recipe.is_detachable())
            .into_py_any(py)
    }

    /// The guard, or `Timeout`.
    fn acquired(&self, py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
        match answer {
            Ok(held) => self.guard(py, held),
            Err(holder) => Err(errors::timeout(&self.recipe.name, &holder)),
        }
    }

    /// The guard, or `None`.
    fn tried(&self, py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
        answer.map_or_else(|_| Ok(py.None()), |held| self.guard(py, held))
    }

    fn acquiring(slf: &Bound<'_, Self>, timeout: Option<Seconds>, forever: bool) -> PyResult<Call> {
        Self::asking(slf, slf.get().limit(timeout, forever), Self::acquired)
    }

    fn trying(slf: &Bound<'_, Self>) -> PyResult<Call> {
        Self::asking(slf, Limit::Once, Self::tried)
    }

    fn plain(&self, py: Python<'_>, what: &str) -> PyResult<leaselock::Lock> {
        match self.wanted(py)? {
            Wanted::Lock(lock) => Ok(lock),
            _ => Err(PyTypeError::new_err(format!("only a lock of its own can {what}"))),
        }
    }

    /// What leads, where this is an election.
    pub(crate) fn election(&self, py: Python<'_>) -> PyResult<leaselock::Election> {
        self.recipe.election(&self.origin, py)
    }

    fn resizing(&self, py: Python<'_>, limit: u32) -> PyResult<Call> {
        let Wanted::Permits(semaphore, _) = self.wanted(py)? else {
            return Err(PyTypeError::new_err("only a semaphore can be resized"));
        };
        Ok(Call::done(async move { semaphore.resize(limit).await }))
    }

    fn resuming(slf: &Bound<'_, Self>, holder: &str) -> PyResult<Call> {
        let (lock, holder) = (slf.get().plain(slf.py(), "be resumed")?, parse_holder(holder)?);
        let slf = slf.clone().unbind();
        let work = async move { lock.resume(holder).await };
        Ok(Call::of(work, move |py, guard| slf.get().guard(py, Held::Lock(guard))))
    }

    fn releasing_detached(&self, py: Python<'_>, holder: &str) -> PyResult<Call> {
        let (lock, holder) = (self.plain(py, "be left")?, parse_holder(holder)?);
        Ok(Call::done(async move { lock.release_detached(holder).await }))
    }

    fn breaking(&self, py: Python<'_>, order: &Order) -> PyResult<Call> {
        let order = order.ready()?;
        if self.recipe.is_of_several(&self.origin) {
            let message = "break the locks one by one, and those of a quorum at each of its stores";
            return Err(PyTypeError::new_err(message));
        }
        let lock = self.origin.store(py)?.lock(&self.recipe.name);
        Ok(Call::of(async move { lock.break_lease(order).await }, admin::told))
    }
}

#[pymethods]
impl Lock {
    /// The lock's name; of several, with a comma between them.
    #[getter]
    fn name(&self) -> &str {
        &self.recipe.name
    }

    /// Acquires the lock and returns a `Guard`. Waits as long as somebody else holds it: at most `timeout`
    /// seconds, then it raises `Timeout`. Unless given, the lock's own; `forever` waits without end.
    #[pyo3(signature = (timeout = None, *, forever = false))]
    fn acquire(
        slf: &Bound<'_, Self>,
        timeout: Option<Seconds>,
        forever: bool,
    ) -> PyResult<Py<PyAny>> {
        Self::acquiring(slf, timeout, forever)?.wait(slf.py())
    }

    /// As `acquire`; a coroutine. Cancelling it gives the lock back if it was acquired.
    #[pyo3(signature = (timeout = None, *, forever = false))]
    fn acquire_async(
        slf: &Bound<'_, Self>,
        timeout: Option<Seconds>,
        forever: bool,
    ) -> PyResult<Py<PyAny>> {
        Self::acquiring(slf, timeout, forever)?.start(slf.py())
    }

    /// Acquires the lock if it is free, and returns a `Guard`; or None.
    fn try_acquire(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::trying(slf)?.wait(slf.py())
    }

    /// As `try_acquire`; a coroutine.
    fn try_acquire_async(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::trying(slf)?.start(slf.py())
    }

    /// What the record says, with one read: a dict as `leaselock show --json` prints it. Of a quorum: name,
    /// state, token, holder, and what each of the stores says.
    fn inspect(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.wanted(py)?.inspecting()?.wait(py)
    }

    /// As `inspect`; a coroutine.
    fn inspect_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.wanted(py)?.inspecting()?.start(py)
    }

    /// Gives a semaphore another limit. Nobody is put out; all who use it have to name the new one from now on.
    fn resize(&self, py: Python<'_>, limit: u32) -> PyResult<Py<PyAny>> {
        self.resizing(py, limit)?.wait(py)
    }

    /// As `resize`; a coroutine.
    fn resize_async(&self, py: Python<'_>, limit: u32) -> PyResult<Py<PyAny>> {
        self.resizing(py, limit)?.start(py)
    }

    /// Goes on with a lease that another process has left by `Guard.detach`; its holder's id is all that is
    /// asked for.
    fn resume(slf: &Bound<'_, Self>, holder: &str) -> PyResult<Py<PyAny>> {
        Self::resuming(slf, holder)?.wait(slf.py())
    }

    /// As `resume`; a coroutine.
    fn resume_async(slf: &Bound<'_, Self>, holder: &str) -> PyResult<Py<PyAny>> {
        Self::resuming(slf, holder)?.start(slf.py())
    }

    /// Gives back a lease that another process has left. Twice is no error.
    fn release_detached(&self, py: Python<'_>, holder: &str) -> PyResult<Py<PyAny>> {
        self.releasing_detached(py, holder)?.wait(py)
    }

    /// As `release_detached`; a coroutine.
    fn release_detached_async(&self, py: Python<'_>, holder: &str) -> PyResult<Py<PyAny>> {
        self.releasing_detached(py, holder)?.start(py)
    }

    /// Ends somebody else's lease, for operators: `expect` is the token of the holder that was looked at.
    /// Without one it needs `force`: whoever holds it. Reason and name are kept in the history. Returns a dict:
    /// token, and the id and the owner of the holder who was put out.
    #[pyo3(signature = (*, expect = None, force = false, reason = None, by = None))]
    fn break_lease(
        &self,
        py: Python<'_>,
        expect: Option<u64>,
        force: bool,
        reason: Option<String>,
        by: Option<String>,
    ) -> PyResult<Py<PyAny>> {
        self.breaking(py, &Order { expect, force, reason, by })?.wait(py)
    }

    /// As `break_lease`; a coroutine.
    #[pyo3(signature = (*, expect = None, force = false, reason = None, by = None))]
    fn break_lease_async(
        &self,
        py: Python<'_>,
        expect: Option<u64>,
        force: bool,
        reason: Option<String>,
        by: Option<String>,
    ) -> PyResult<Py<PyAny>> {
        self.breaking(py, &Order { expect, force, reason, by })?.start(py)
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<Py<Guard>> {
        let py = slf.py();
        let guard = Self::acquire(slf, None, false)?.bind(py).cast::<Guard>()?.clone().unbind();
        slf.get().push(thread(py)?, guard.clone_ref(py));
        Ok(guard)
    }

    #[pyo3(signature = (exc_type, _exc, _traceback))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: &Bound<'_, PyAny>,
        _exc: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.pop(thread(py).ok())?.get().leaving(!exc_type.is_none())?.wait(py)
    }

    fn __aenter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(py.import("leaselock._asyncio")?.call_method1("enter", (slf,))?.unbind())
    }

    /// The running task has entered its block.
    fn _entered(&self, guard: Py<Guard>, py: Python<'_>) -> PyResult<()> {
        self.push(task(py)?, guard);
        Ok(())
    }

    #[pyo3(signature = (exc_type, _exc, _traceback))]
    fn __aexit__(
        &self,
        py: Python<'_>,
        exc_type: &Bound<'_, PyAny>,
        _exc: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.pop(task(py).ok())?.get().leaving(!exc_type.is_none())?.start(py)
    }

    fn __repr__(&self) -> String {
        format!("<leaselock.Lock {:?}>", self.recipe.name)
    }
}

fn parse_holder(text: &str) -> PyResult<HolderId> {
    text.parse()
        .map_err(|error: leaselock::ParseHolderIdError| PyValueError::new_err(error.to_string()))
}

/// The calling thread.
fn thread(py: Python<'_>) -> PyResult<usize> {
    py.import("threading")?.call_method0("get_ident")?.extract()
}

/// The running asyncio task.
fn task(py: Python<'_>) -> PyResult<usize> {
    Ok(py.import("asyncio")?.call_method0("current_task")?.as_ptr() as usize)
}
