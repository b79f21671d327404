//! A store of locks, and what else locks come from.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream::BoxStream;
use leaselock::{LockInfo, Quorum};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::convert::{self, Seconds};
use crate::forks::{Native, Slot};
use crate::gathering::{Barrier, Latch};
use crate::lock::{Kind, Lock, Recipe, Terms, with};
use crate::once::Once;
use crate::{errors, wait};

/// What a store is opened with, to open it again in a process that was forked.
#[derive(Clone, Debug)]
struct Opening {
    url: String,
    options: BTreeMap<String, String>,
    prefix: Option<String>,
    check: bool,
}

impl Opening {
    fn open(&self, py: Python<'_>) -> PyResult<leaselock::Store> {
        let mut builder = leaselock::Store::builder(&self.url)
            .options(self.options.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            .check_preconditions(self.check);
        if let Some(prefix) = &self.prefix {
            builder = builder.prefix(prefix);
        }
        wait::call(py, builder.open())
    }
}

/// Opens the store at `url`. Nothing is sent before a lock is used.
#[pyfunction]
#[pyo3(signature = (url, options, prefix, check))]
pub(crate) fn open(
    py: Python<'_>,
    url: String,
    options: BTreeMap<String, String>,
    prefix: Option<String>,
    check: bool,
) -> PyResult<Store> {
    let opening = Opening { url, options, prefix, check };
    let store = opening.open(py)?;
    Ok(Store { opening, store: Slot::new(store) })
}

/// Where a lock comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    Store(Py<Store>),
    Session(Py<Session>),
    Quorum(Vec<Py<Store>>),
}

impl Origin {
    /// The store; of several, the first.
    pub(crate) fn store(&self, py: Python<'_>) -> PyResult<leaselock::Store> {
        match self {
            Self::Store(store) => store.get().live(py),
            Self::Session(session) => session.get().store.get().live(py),
            Self::Quorum(stores) => match stores.first() {
                Some(store) => store.get().live(py),
                None => Err(PyValueError::new_err("a quorum needs stores")),
            },
        }
    }

    pub(crate) fn quorum(&self, py: Python<'_>) -> PyResult<Quorum> {
        let Self::Quorum(stores) = self else {
            return Err(PyValueError::new_err("a quorum needs stores"));
        };
        let stores: PyResult<Vec<_>> = stores.iter().map(|store| store.get().live(py)).collect();
        Quorum::new(stores?).map_err(errors::raise)
    }
}

/// A store of locks: a prefix in a bucket, or a directory. Works in threads, in asyncio, and in processes that
/// were forked after it was opened.
#[pyclass(frozen, module = "leaselock", weakref)]
#[derive(Debug)]
pub(crate) struct Store {
    opening: Opening,
    store: Slot<leaselock::Store>,
}

impl Store {
    /// The library's store of this process, if it has been used here.
    fn present(&self) -> Option<leaselock::Store> {
        self.store.lock().get().cloned()
    }

    /// The library's store of this process.
    pub(crate) fn live(&self, py: Python<'_>) -> PyResult<leaselock::Store> {
        if let Some(store) = self.present() {
            return Ok(store);
        }
        // Its connections and its keeper stayed with the parent.
        let opened = self.opening.open(py)?;
        let mut store = self.store.lock();
        if store.get().is_none() {
            *store = Native::new(opened.clone());
        }
        Ok(opened)
    }
}

/// The parameters that locks have in common.
macro_rules! terms {
    ($($field:ident),*) => { Terms { $($field,)* ..Terms::default() } };
}

#[pymethods]
impl Store {
    /// Its URL, without credentials and options.
    #[getter]
    fn url(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.live(py)?.url().to_owned())
    }

    /// The lock called `name`, such as "payments/42". Times are seconds, or timedeltas:
    ///
    /// - ttl: how long the lease lasts without renewal, 1 to 86,400; a crashed holder blocks others so long.
    /// - timeout: how long to wait for it, then `Timeout` is raised; None waits for ever.
    /// - renew_every: how often it is renewed in the background; a third of the TTL.
    /// - keeper: whether it is. Otherwise call `Guard.renew`.
    /// - owner, note: who holds it and why, for people.
    /// - max_hold, min_hold, progress_within: it is lost after so long; stays taken for so long; is lost unless
    ///   `Guard.touch` is called so often.
    /// - payload: a value that JSON has, for others to read.
    /// - fair: wait in a queue, first come, first served.
    /// - local_handover: hand it on inside this process without a request.
    /// - fast: look for a release some 200 times a second while waiting, instead of 30 times in the first minute.
    #[pyo3(signature = (
        name, *, ttl = None, timeout = None, renew_every = None, owner = None, note = None,
        max_hold = None, min_hold = None, progress_within = None, payload = None, fair = false,
        keeper = true, store_clock = true, local_handover = true, fast = false,
        trust_wall_clock = None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn lock(
        slf: Py<Self>,
        name: String,
        ttl: Option<Seconds>,
        timeout: Option<Seconds>,
        renew_every: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        max_hold: Option<Seconds>,
        min_hold: Option<Seconds>,
        progress_within: Option<Seconds>,
        payload: Option<Bound<'_, PyAny>>,
        fair: bool,
        keeper: bool,
        store_clock: bool,
        local_handover: bool,
        fast: bool,
        trust_wall_clock: Option<Seconds>,
    ) -> PyResult<Lock> {
        let payload = payload.as_ref().map(convert::payload).transpose()?;
        let terms = Terms {
            no_keeper: !keeper,
            no_store_clock: !store_clock,
            no_local_handover: !local_handover,
            max_skew: trust_wall_clock,
            fast,
            ..terms!(
                ttl,
                renew_every,
                owner,
                note,
                max_hold,
                min_hold,
                progress_within,
                payload,
                fair
            )
        };
        let recipe = Recipe { name, kind: Kind::Lock, terms };
        Ok(Lock::new(Origin::Store(slf), recipe, timeout))
    }

    /// A lock for readers and writers, as one of the former: held together with other readers.
    #[pyo3(signature = (name, *, ttl = None, timeout = None, owner = None, note = None, max_hold = None))]
    fn read_lock(
        slf: Py<Self>,
        name: String,
        ttl: Option<Seconds>,
        timeout: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        max_hold: Option<Seconds>,
    ) -> Lock {
        let terms = terms!(ttl, owner, note, max_hold);
        Lock::new(Origin::Store(slf), Recipe { name, kind: Kind::Read, terms }, timeout)
    }

    /// A lock for readers and writers, as one of the latter: held alone.
    #[pyo3(signature = (name, *, ttl = None, timeout = None, owner = None, note = None, max_hold = None))]
    fn write_lock(
        slf: Py<Self>,
        name: String,
        ttl: Option<Seconds>,
        timeout: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        max_hold: Option<Seconds>,
    ) -> Lock {
        let terms = terms!(ttl, owner, note, max_hold);
        Lock::new(Origin::Store(slf), Recipe { name, kind: Kind::Write, terms }, timeout)
    }

    /// `permits` of a semaphore that has `limit` of them: the same number for all who use it.
    #[pyo3(signature = (
        name, limit, *, permits = 1, ttl = None, timeout = None, owner = None, note = None,
        max_hold = None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn semaphore(
        slf: Py<Self>,
        name: String,
        limit: u32,
        permits: u32,
        ttl: Option<Seconds>,
        timeout: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        max_hold: Option<Seconds>,
    ) -> Lock {
        let terms = terms!(ttl, owner, note, max_hold);
        let kind = Kind::Permits { limit, permits };
        Lock::new(Origin::Store(slf), Recipe { name, kind, terms }, timeout)
    }

    /// Several locks together: all of them or none. Their order does not matter.
    #[pyo3(signature = (names, *, ttl = None, timeout = None, owner = None, note = None, max_hold = None))]
    fn lock_all(
        slf: Py<Self>,
        names: Vec<String>,
        ttl: Option<Seconds>,
        timeout: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        max_hold: Option<Seconds>,
    ) -> Lock {
        let terms = terms!(ttl, owner, note, max_hold);
        let name = names.join(", ");
        Lock::new(Origin::Store(slf), Recipe { name, kind: Kind::All(names), terms }, timeout)
    }

    /// Leadership: acquired by one candidate at a time. Its token is the term: larger than that of every leader
    /// before.
    #[pyo3(signature = (
        name, *, ttl = None, timeout = None, renew_every = None, owner = None, note = None,
        payload = None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn election(
        slf: Py<Self>,
        name: String,
        ttl: Option<Seconds>,
        timeout: Option<Seconds>,
        renew_every: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        payload: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Lock> {
        let payload = payload.as_ref().map(convert::payload).transpose()?;
        let terms = terms!(ttl, renew_every, owner, note, payload);
        Ok(Lock::new(Origin::Store(slf), Recipe { name, kind: Kind::Seat, terms }, timeout))
    }

    /// Work that is run once under `key`, whoever asks for it: `store.once("pay/42").run(pay)`, or before a
    /// function, whose arguments the key may name: `@store.once("pay/{order}")`. ttl, timeout, owner, note and
    /// max_hold as of `lock`; retention: for how many seconds it is not run again, None for ever.
    #[pyo3(signature = (key, **terms))]
    fn once(
        slf: Py<Self>,
        py: Python<'_>,
        key: String,
        terms: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let terms = terms.unwrap_or_else(|| PyDict::new(py));
        Ok(py.import("leaselock._once")?.getattr("Once")?.call1((slf, key, terms))?.unbind())
    }

    /// The native part of `once`.
    #[pyo3(signature = (
        key, *, ttl = None, timeout = None, retention = None, owner = None, note = None,
        max_hold = None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn start_once(
        slf: Py<Self>,
        key: String,
        ttl: Option<Seconds>,
        timeout: Option<Seconds>,
        retention: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        max_hold: Option<Seconds>,
    ) -> Once {
        let terms = terms!(ttl, owner, note, max_hold);
        Once { store: slf, key, terms, retention, timeout }
    }

    /// A session: one lease for thousands of locks, closed at the end of a `with` block.
    #[pyo3(signature = (*, ttl = None, renew_every = None, owner = None))]
    fn session(
        slf: Py<Self>,
        py: Python<'_>,
        ttl: Option<Seconds>,
        renew_every: Option<Seconds>,
        owner: Option<String>,
    ) -> PyResult<Session> {
        let terms = terms!(ttl, renew_every, owner);
        let builder = with!(slf.get().live(py)?.session(), terms; ttl renew_every; owner);
        let session = wait::call(py, builder.open())?;
        Ok(Session { store: slf, session: Slot::new(session) })
    }

    /// Opens when `needed` different members have arrived, and stays open.
    fn latch(slf: Py<Self>, name: String, needed: u32) -> Latch {
        Latch { store: slf, name, needed }
    }

    /// Opens whenever `parties` members have arrived, round after round.
    fn barrier(slf: Py<Self>, name: String, parties: u32) -> Barrier {
        Barrier { store: slf, name, parties }
    }

    /// Every lock whose name starts with `prefix`: an iterator of dicts as `leaselock show --json` prints them.
    #[pyo3(signature = (prefix = ""))]
    fn list(&self, py: Python<'_>, prefix: &str) -> PyResult<Found> {
        let found = self.live(py)?.list(prefix).boxed();
        Ok(Found(Slot::new(found)))
    }

    /// Reads an object at a path from the store's root: bytes, or None.
    fn read_object<'py>(
        &self,
        py: Python<'py>,
        path: String,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let objects = self.live(py)?.objects();
        let object = wait::call(py, async move { objects.read(path).await })?;
        Ok(object.map(|object| PyBytes::new(py, object.bytes())))
    }

    /// Whether the store can hold locks, step by step: a dict as `leaselock doctor --json` prints it.
    fn diagnose(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let store = self.live(py)?;
        let diagnosis = wait::call(py, async move { store.diagnose().await })?;
        convert::value(py, &diagnosis.to_json())
    }

    /// Gives back everything that is held by it in this process, and ends what is under way. It can do nothing
    /// after that.
    fn shutdown(&self, py: Python<'_>) -> PyResult<()> {
        // What was never used here holds nothing.
        let Some(store) = self.present() else { return Ok(()) };
        wait::wait(py, async move { store.shutdown().await }).map(drop)
    }

    fn __repr__(&self) -> String {
        match self.present() {
            Some(store) => format!("<leaselock.Store {:?}>", store.url()),
            None => "<leaselock.Store>".to_owned(),
        }
    }
}

/// Locks, one after the other.
#[pyclass(frozen, module = "leaselock")]
pub(crate) struct Found(Slot<BoxStream<'static, leaselock::Result<LockInfo>>>);

#[pymethods]
impl Found {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let taken = self.0.lock().take();
        let Some(mut found) = taken else { return Ok(None) };
        let next = wait::wait(py, found.next())?;
        *self.0.lock() = Native::new(found);
        let info = next.transpose().map_err(errors::raise)?;
        info.map(|info| convert::value(py, &info.to_json())).transpose()
    }
}

/// One lease for any number of locks of this process; lost together.
#[pyclass(frozen, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Session {
    store: Py<Store>,
    session: Slot<leaselock::Session>,
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
}

#[pymethods]
impl Session {
    /// Whether it is held, and with it everything that is held under it.
    #[getter]
    fn is_held(&self) -> bool {
        self.session().is_ok_and(|session| session.is_held())
    }

    /// The lock called `name`, held under this session.
    #[pyo3(signature = (name, *, timeout = None, owner = None, note = None))]
    fn lock(
        slf: Py<Self>,
        name: String,
        timeout: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
    ) -> Lock {
        let recipe = Recipe { name, kind: Kind::Lock, terms: terms!(owner, note) };
        Lock::new(Origin::Session(slf), recipe, timeout)
    }

    /// `permits` of a semaphore, held under this session.
    #[pyo3(signature = (name, limit, *, permits = 1, timeout = None, owner = None, note = None))]
    fn semaphore(
        slf: Py<Self>,
        name: String,
        limit: u32,
        permits: u32,
        timeout: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
    ) -> Lock {
        let kind = Kind::Permits { limit, permits };
        let recipe = Recipe { name, kind, terms: terms!(owner, note) };
        Lock::new(Origin::Session(slf), recipe, timeout)
    }

    /// Gives back everything that is held under it, and ends it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let session = self.session.lock().take();
        let Some(session) = session else { return Ok(()) };
        wait::call(py, session.close()).map(drop)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _raised: &Bound<'_, pyo3::types::PyTuple>,
    ) -> PyResult<bool> {
        self.close(py).map(|()| false)
    }
}

/// The lock called `name` on a majority of stores.
#[pyfunction]
#[pyo3(signature = (
    stores, name, *, ttl = None, timeout = None, renew_every = None, owner = None, note = None,
    max_hold = None, payload = None,
))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn quorum(
    py: Python<'_>,
    stores: Vec<Py<Store>>,
    name: String,
    ttl: Option<Seconds>,
    timeout: Option<Seconds>,
    renew_every: Option<Seconds>,
    owner: Option<String>,
    note: Option<String>,
    max_hold: Option<Seconds>,
    payload: Option<Bound<'_, PyAny>>,
) -> PyResult<Lock> {
    let payload = payload.as_ref().map(convert::payload).transpose()?;
    let terms = terms!(ttl, renew_every, owner, note, max_hold, payload);
    let origin = Origin::Quorum(stores);
    // What makes no quorum is told at once.
    origin.quorum(py)?;
    Ok(Lock::new(origin, Recipe { name, kind: Kind::Lock, terms }, timeout))
}
