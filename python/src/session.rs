//! One lease for many locks.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::call::Call;
use crate::convert::Seconds;
use crate::errors;
use crate::forks::Slot;
use crate::lock::Lock;
use crate::options::Polling;
use crate::recipe::{Kind, Recipe, terms};
use crate::store::{Origin, Store};

/// One lease for any number of locks of this process; lost together.
#[pyclass(frozen, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) store: Py<Store>,
    pub(crate) session: Slot<leaselock::Session>,
}

impl Session {
    pub(crate) fn session(&self) -> PyResult<leaselock::Session> {
        let session = self.session.lock();
        match (session.get(), session.is_ours()) {
            (Some(session), _) => Ok(session.clone()),
            (None, true) => Err(errors::over("the session is closed")),
            (None, false) => Err(errors::forked("the session")),
        }
    }

    /// Ends it; nothing is to be done where that has been done before.
    fn closing(&self) -> Call {
        let session = self.session.lock().take();
        Call::done(async move {
            match session {
                Some(session) => session.close().await.map(drop),
                None => Ok(()),
            }
        })
    }
}

#[pymethods]
impl Session {
    /// Whether it is held, and with it everything that is held under it.
    #[getter]
    fn is_held(&self) -> bool {
        self.session().is_ok_and(|session| session.is_held())
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

    /// Gives back everything that is held under it, and ends it.
    fn close(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.closing().wait(py)
    }

    /// As `close`; an awaitable.
    fn close_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.closing().start(py)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.closing().wait(py)
    }

    fn __aenter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(py.import("leaselock._asyncio")?.call_method1("entered", (slf,))?.unbind())
    }

    #[pyo3(signature = (*_raised))]
    fn __aexit__(&self, py: Python<'_>, _raised: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.closing().start(py)
    }
}
