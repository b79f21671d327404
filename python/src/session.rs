//! One lease for many locks.

use leaselock::{LeaseWatch, Release};
use pyo3::prelude::*;

use crate::call::Call;
use crate::convert::{self, Seconds};
use crate::forks::{Native, Slot};
use crate::lock::Lock;
use crate::options::Polling;
use crate::recipe::{Kind, Recipe, terms};
use crate::store::{Origin, Store};
use crate::{errors, lease};

/// One lease for any number of locks of this process; lost together.
#[pyclass(frozen, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) store: Py<Store>,
    id: String,
    watch: Native<LeaseWatch>,
    session: Slot<leaselock::Session>,
}

impl Session {
    pub(crate) fn new(store: Py<Store>, session: leaselock::Session) -> Self {
        let (id, watch) = (session.id().to_string(), Native::new(session.watch()));
        Self { store, id, watch, session: Slot::new(session) }
    }

    fn watch(&self) -> PyResult<LeaseWatch> {
        self.watch.get().cloned().ok_or_else(|| errors::forked("the session"))
    }

    pub(crate) fn session(&self) -> PyResult<leaselock::Session> {
        let session = self.session.lock();
        match (session.get(), session.is_ours()) {
            (Some(session), _) => Ok(session.clone()),
            (None, true) => Err(errors::over("the session is closed")),
            (None, false) => Err(errors::forked("the session")),
        }
    }

    /// Ends it; nothing is to be done where that has been done before. `raised`: at the end of a block that has,
    /// where what went wrong matters more.
    fn closing(&self, raised: bool) -> Call {
        let session = self.session.lock().take();
        let work = async move {
            match session {
                Some(session) => session.close().await,
                None => Ok(Release::Released),
            }
        };
        Call::new(work, move |py, release| lease::left(py, release, raised))
    }
}

#[pymethods]
impl Session {
    /// Whether it is held, and with it everything that is held under it.
    #[getter]
    fn is_held(&self) -> bool {
        self.session().is_ok_and(|session| session.is_held())
    }

    /// The identity of its lease, a UUID.
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    /// Why its lease was lost; None while it is held, and when it was closed.
    #[getter]
    fn loss(&self) -> Option<String> {
        lease::loss(self.watch.get()?)
    }

    /// Raises `Lost` unless it is held: for loops.
    fn check(&self) -> PyResult<()> {
        lease::check(&self.watch()?)?;
        self.session().map(drop)
    }

    /// Calls `callback` with the reason when it is lost, in a thread of its own; never when it is closed first.
    fn on_lost(&self, callback: Bound<'_, PyAny>) -> PyResult<()> {
        convert::ensure_plain_function(&callback)?;
        lease::call_at_end(self.watch()?, callback.unbind());
        Ok(())
    }

    /// Waits until it is lost, and returns why; None when it was closed first. For asyncio.
    fn lost_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        lease::ended(self.watch()?).start(py)
    }

    /// How many seconds it is held for certain if nothing renews it; 0 when it is lost or closed.
    #[getter]
    fn remaining(&self) -> f64 {
        self.session().map_or(0.0, |session| session.remaining().as_secs_f64())
    }

    /// The lock called `name`, held under this session.
    #[pyo3(signature = (name, *, timeout = None, owner = None, note = None, polling = None))]
    fn lock(
        slf: Py<Self>,
        name: String,
        timeout: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        polling: Option<Polling>,
    ) -> Lock {
        let terms = terms!(owner, note, polling);
        Lock::new(Origin::Session(slf), Recipe { name, kind: Kind::Lock, terms }, timeout)
    }

    /// A lock for readers and writers, as one of the former, held under this session.
    #[pyo3(signature = (name, *, timeout = None, owner = None, note = None, polling = None))]
    fn read_lock(
        slf: Py<Self>,
        name: String,
        timeout: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        polling: Option<Polling>,
    ) -> Lock {
        let terms = terms!(owner, note, polling);
        Lock::new(Origin::Session(slf), Recipe { name, kind: Kind::Read, terms }, timeout)
    }

    /// A lock for readers and writers, as one of the latter, held under this session.
    #[pyo3(signature = (name, *, timeout = None, owner = None, note = None, polling = None))]
    fn write_lock(
        slf: Py<Self>,
        name: String,
        timeout: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        polling: Option<Polling>,
    ) -> Lock {
        let terms = terms!(owner, note, polling);
        Lock::new(Origin::Session(slf), Recipe { name, kind: Kind::Write, terms }, timeout)
    }

    /// `permits` of a semaphore, held under this session.
    #[pyo3(signature = (
        name, limit, *, permits = 1, timeout = None, owner = None, note = None, polling = None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn semaphore(
        slf: Py<Self>,
        name: String,
        limit: u32,
        permits: u32,
        timeout: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        polling: Option<Polling>,
    ) -> Lock {
        let kind = Kind::Permits { limit, permits };
        let recipe = Recipe { name, kind, terms: terms!(owner, note, polling) };
        Lock::new(Origin::Session(slf), recipe, timeout)
    }

    /// Gives back everything that is held under it, and ends it. Raises `Lost` when it had been lost before.
    fn close(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.closing(false).wait(py)
    }

    /// As `close`; a coroutine.
    fn close_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.closing(false).start(py)
    }

    fn __enter__(slf: Py<Self>) -> PyResult<Py<Self>> {
        slf.get().check()?;
        Ok(slf)
    }

    #[pyo3(signature = (exc_type, _exc, _traceback))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: &Bound<'_, PyAny>,
        _exc: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.closing(!exc_type.is_none()).wait(py)
    }

    fn __aenter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        slf.get().check()?;
        Ok(py.import("leaselock._asyncio")?.call_method1("entered", (slf,))?.unbind())
    }

    #[pyo3(signature = (exc_type, _exc, _traceback))]
    fn __aexit__(
        &self,
        py: Python<'_>,
        exc_type: &Bound<'_, PyAny>,
        _exc: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.closing(!exc_type.is_none()).start(py)
    }
}
