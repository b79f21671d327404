//! A store of locks, and what else locks come from.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use leaselock::Quorum;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call::Call;
use crate::convert::{self, Seconds};
use crate::election::Election;
use crate::forks::{Native, Slot};
use crate::gathering::{Barrier, Latch};
use crate::items::Items;
use crate::lock::Lock;
use crate::objects::Objects;
use crate::once::Once;
use crate::options::{Polling, WakeHints};
use crate::recipe::{Kind, Recipe, Terms, terms, with};
use crate::session::Session;
use crate::{errors, gate, wait};

/// How long the end of the interpreter may be held up, by stores and by callbacks each.
const LONGEST_END: Duration = Duration::from_secs(5);

/// What a store is opened with, to open it again in a process that was forked.
#[derive(Clone, Debug)]
struct Opening {
    url: String,
    options: BTreeMap<String, String>,
    prefix: Option<String>,
    check: bool,
    wake_hints: Option<WakeHints>,
}

impl Opening {
    fn open(&self, py: Python<'_>) -> PyResult<leaselock::Store> {
        let mut builder = leaselock::Store::builder(&self.url)
            .options(self.options.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            .check_preconditions(self.check);
        if let Some(prefix) = &self.prefix {
            builder = builder.prefix(prefix);
        }
        if let Some(WakeHints(hints)) = self.wake_hints {
            builder = builder.wake_hints(hints);
        }
        wait::wait(py, builder.open())?.map_err(errors::raise)
    }
}

/// Opens the store at `url`. Nothing is sent before a lock is used.
#[pyfunction]
#[pyo3(signature = (url, options, prefix, check, wake_hints))]
pub(crate) fn open(
    py: Python<'_>,
    url: String,
    options: BTreeMap<String, String>,
    prefix: Option<String>,
    check: bool,
    wake_hints: Option<WakeHints>,
) -> PyResult<Store> {
    let opening = Opening { url, options, prefix, check, wake_hints };
    let store = opening.open(py)?;
    Ok(Store { opening, store: Slot::new(store) })
}

/// Gives back what is held by these stores, and lets no thread of the package into Python any more: for the end
/// of the interpreter. A store that does not answer is not waited for.
#[pyfunction]
pub(crate) fn end(py: Python<'_>, stores: Vec<Py<Store>>) -> PyResult<()> {
    let stores = stores.iter().filter_map(|store| store.get().present());
    let shutdowns = join_all(stores.map(|store| async move { store.shutdown().await }));
    let ended = wait::wait_at_most(py, shutdowns, LONGEST_END).map(drop);
    gate::close(py, LONGEST_END);
    ended
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
        // Another thread may have been faster.
        let first = store.get().cloned();
        if first.is_none() {
            *store = Native::new(opened.clone());
        }
        Ok(first.unwrap_or(opened))
    }

    fn opening_session(slf: &Bound<'_, Self>, terms: &Terms) -> PyResult<Call> {
        let builder = with!(slf.get().live(slf.py())?.session(), terms; ttl renew_every; owner);
        let store = slf.clone().unbind();
        Ok(Call::of(builder.open(), move |py, session| {
            Session::new(store, session).into_py_any(py)
        }))
    }

    fn diagnosing(&self, py: Python<'_>) -> PyResult<Call> {
        let store = self.live(py)?;
        let work = async move { store.diagnose().await };
        Ok(Call::of(work, |py, diagnosis| convert::value(py, &diagnosis.to_json())))
    }

    fn shutting_down(&self) -> Call {
        // What was never used here holds nothing.
        let store = self.present();
        Call::done(async move {
            if let Some(store) = store {
                store.shutdown().await;
            }
            Ok(())
        })
    }
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
    /// - queue_when_overtaken: take a ticket, as a fair lock does, when another who came later has got it.
    /// - polling: how often to look for a release while waiting, a `Polling`.
    /// - store_clock: go by the store's clock where it can be learned.
    /// - trust_wall_clock: how far wall clocks differ at most: then leases that ended are taken over sooner.
    #[pyo3(signature = (
        name, *, ttl = None, timeout = None, renew_every = None, owner = None, note = None,
        max_hold = None, min_hold = None, progress_within = None, payload = None, fair = false,
        keeper = true, store_clock = true, local_handover = true, queue_when_overtaken = true,
        polling = None, trust_wall_clock = None,
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
        queue_when_overtaken: bool,
        polling: Option<Polling>,
        trust_wall_clock: Option<Seconds>,
    ) -> PyResult<Lock> {
        let payload = payload.as_ref().map(convert::payload).transpose()?;
        let terms = Terms {
            no_keeper: !keeper,
            no_store_clock: !store_clock,
            no_local_handover: !local_handover,
            no_queue: !queue_when_overtaken,
            ..terms!(
                ttl,
                renew_every,
                owner,
                note,
                max_hold,
                min_hold,
                progress_within,
                payload,
                fair,
                polling,
                trust_wall_clock
            )
        };
        let recipe = Recipe { name, kind: Kind::Lock, terms };
        Ok(Lock::new(Origin::Store(slf), recipe, timeout))
    }

    /// A lock for readers and writers, as one of the former: held together with other readers.
    #[pyo3(signature = (
        name, *, ttl = None, timeout = None, owner = None, note = None, max_hold = None,
        polling = None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn read_lock(
        slf: Py<Self>,
        name: String,
        ttl: Option<Seconds>,
        timeout: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        max_hold: Option<Seconds>,
        polling: Option<Polling>,
    ) -> Lock {
        let terms = terms!(ttl, owner, note, max_hold, polling);
        Lock::new(Origin::Store(slf), Recipe { name, kind: Kind::Read, terms }, timeout)
    }

    /// A lock for readers and writers, as one of the latter: held alone.
    #[pyo3(signature = (
        name, *, ttl = None, timeout = None, owner = None, note = None, max_hold = None,
        polling = None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn write_lock(
        slf: Py<Self>,
        name: String,
        ttl: Option<Seconds>,
        timeout: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        max_hold: Option<Seconds>,
        polling: Option<Polling>,
    ) -> Lock {
        let terms = terms!(ttl, owner, note, max_hold, polling);
        Lock::new(Origin::Store(slf), Recipe { name, kind: Kind::Write, terms }, timeout)
    }

    /// `permits` of a semaphore that has `limit` of them: the same number for all who use it.
    #[pyo3(signature = (
        name, limit, *, permits = 1, ttl = None, timeout = None, owner = None, note = None,
        max_hold = None, polling = None,
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
        polling: Option<Polling>,
    ) -> Lock {
        let terms = terms!(ttl, owner, note, max_hold, polling);
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
        py: Python<'_>,
        name: String,
        ttl: Option<Seconds>,
        timeout: Option<Seconds>,
        renew_every: Option<Seconds>,
        owner: Option<String>,
        note: Option<String>,
        payload: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<Election>> {
        let payload = payload.as_ref().map(convert::payload).transpose()?;
        let terms = terms!(ttl, renew_every, owner, note, payload);
        let lock = Lock::new(Origin::Store(slf), Recipe { name, kind: Kind::Seat, terms }, timeout);
        Py::new(py, PyClassInitializer::from(lock).add_subclass(Election))
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
        slf: &Bound<'_, Self>,
        ttl: Option<Seconds>,
        renew_every: Option<Seconds>,
        owner: Option<String>,
    ) -> PyResult<Py<PyAny>> {
        Self::opening_session(slf, &terms!(ttl, renew_every, owner))?.wait(slf.py())
    }

    /// As `session`; a coroutine: `async with await store.session_async() as session:`.
    #[pyo3(signature = (*, ttl = None, renew_every = None, owner = None))]
    fn session_async(
        slf: &Bound<'_, Self>,
        ttl: Option<Seconds>,
        renew_every: Option<Seconds>,
        owner: Option<String>,
    ) -> PyResult<Py<PyAny>> {
        Self::opening_session(slf, &terms!(ttl, renew_every, owner))?.start(slf.py())
    }

    /// Opens when `needed` different members have arrived, and stays open.
    fn latch(slf: Py<Self>, name: String, needed: u32) -> Latch {
        Latch { store: slf, name, needed }
    }

    /// Opens whenever `parties` members have arrived, round after round.
    fn barrier(slf: Py<Self>, name: String, parties: u32) -> Barrier {
        Barrier { store: slf, name, parties }
    }

    /// Objects on the store, such as those that are written under a fence.
    fn objects(slf: Py<Self>) -> Objects {
        Objects { store: slf }
    }

    /// The names of all locks that start with `prefix`, for `for` and `async for`, by listing alone.
    #[pyo3(signature = (prefix = ""))]
    fn names(&self, py: Python<'_>, prefix: &str) -> PyResult<Items> {
        let found = self.live(py)?.names(prefix).boxed();
        Ok(Items::new(found, |py, name| name.into_py_any(py)))
    }

    /// Every lock whose name starts with `prefix`, for `for` and `async for`: dicts as `leaselock show --json`
    /// prints them.
    #[pyo3(signature = (prefix = ""))]
    fn list(&self, py: Python<'_>, prefix: &str) -> PyResult<Items> {
        let found = self.live(py)?.list(prefix).boxed();
        Ok(Items::new(found, |py, info| convert::value(py, &info.to_json())))
    }

    /// Whether the store can hold locks, step by step: a dict as `leaselock doctor --json` prints it.
    fn diagnose(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.diagnosing(py)?.wait(py)
    }

    /// As `diagnose`; a coroutine.
    fn diagnose_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.diagnosing(py)?.start(py)
    }

    /// Gives back everything that is held by it in this process, and ends what is under way. It can do nothing
    /// after that.
    fn shutdown(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.shutting_down().wait(py)
    }

    /// As `shutdown`; a coroutine.
    fn shutdown_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.shutting_down().start(py)
    }

    fn __repr__(&self) -> String {
        match self.present() {
            Some(store) => format!("<leaselock.Store {:?}>", store.url()),
            None => "<leaselock.Store>".to_owned(),
        }
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
