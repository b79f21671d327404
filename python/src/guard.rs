//! What is held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use leaselock::fencing::Objects;
use leaselock::{AllGuard, Leadership, LeasePhase, LeaseWatch, LockGuard, Release, WriteGuard};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::sync::RwLock;

use crate::call::Call;
use crate::fence::Fence;
use crate::forks::{Native, Slot};
use crate::{convert, errors, fence, lease};

/// A guard of the library.
#[derive(Debug)]
pub(crate) enum Held {
    Lock(LockGuard),
    Write(WriteGuard),
    All(AllGuard),
    Seat(Leadership),
}

impl Held {
    /// The guard of one lock, or else of several.
    fn one_or_all(&self) -> Result<&LockGuard, &AllGuard> {
        match self {
            Self::Lock(guard) => Ok(guard),
            Self::Write(guard) => Ok(guard),
            Self::Seat(leadership) => Ok(leadership.guard()),
            Self::All(guard) => Err(guard),
        }
    }

    fn one(&self) -> Option<&LockGuard> {
        self.one_or_all().ok()
    }

    fn watch(&self) -> LeaseWatch {
        self.one_or_all().map_or_else(AllGuard::watch, LockGuard::watch)
    }

    fn remaining(&self) -> f64 {
        self.one_or_all().map_or_else(AllGuard::remaining, LockGuard::remaining).as_secs_f64()
    }

    fn tokens(&self) -> BTreeMap<String, u64> {
        match self.one_or_all() {
            Ok(guard) => BTreeMap::from([(guard.name().to_owned(), guard.token().get())]),
            Err(guard) => {
                let tokens = guard.tokens().into_iter();
                tokens.map(|(name, token)| (name.to_owned(), token.get())).collect()
            }
        }
    }

    async fn release(self) -> leaselock::Result<Release> {
        match self {
            Self::Lock(guard) => guard.release().await,
            Self::Write(guard) => guard.release().await,
            Self::Seat(leadership) => leadership.resign().await,
            Self::All(guard) => guard.release().await,
        }
    }
}

/// A lock that is held, for as long as `is_held` says so.
#[pyclass(frozen, weakref, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Guard {
    name: String,
    tokens: BTreeMap<String, u64>,
    id: Option<String>,
    objects: Objects,
    /// Whether it may be left to another process.
    is_detachable: bool,
    watch: Native<LeaseWatch>,
    held: Slot<Arc<Held>>,
    /// Read by who renews it; who gives it back waits for them.
    renewals: Arc<RwLock<()>>,
    /// Whether it is known to have been given back.
    given_back: Arc<AtomicBool>,
}

impl Guard {
    pub(crate) fn new(name: String, objects: Objects, held: Held, is_detachable: bool) -> Self {
        Self {
            is_detachable,
            name,
            tokens: held.tokens(),
            id: held.one().map(|guard| guard.id().to_string()),
            objects,
            watch: Native::new(held.watch()),
            held: Slot::new(Arc::new(held)),
            renewals: Arc::default(),
            given_back: Arc::default(),
        }
    }

    fn over(&self) -> PyErr {
        given_back(&self.name)
    }

    fn forked(&self) -> PyErr {
        errors::forked(&format!("the guard of {}", self.name))
    }

    fn watch(&self) -> PyResult<LeaseWatch> {
        self.watch.get().cloned().ok_or_else(|| self.forked())
    }

    fn phase(&self) -> Option<LeasePhase> {
        self.watch.get().map(|watch| watch.status().phase)
    }

    /// What is held.
    ///
    /// # Errors
    /// It is lost, given back, or another process's.
    fn alive(&self) -> PyResult<Arc<Held>> {
        match self.phase() {
            None => Err(self.forked()),
            Some(LeasePhase::Lost(reason)) => Err(errors::lost(&reason)),
            Some(_) => self.held.lock().get().cloned().ok_or_else(|| self.over()),
        }
    }

    /// # Errors
    /// As of [`alive`](Self::alive); several locks are not one.
    fn alive_one(&self, what: &str) -> PyResult<Arc<Held>> {
        let held = self.alive()?;
        if held.one().is_some() {
            return Ok(held);
        }
        let message = format!("{what} is for one lock, and this guard is of several");
        Err(PyTypeError::new_err(message))
    }

    /// What is held, to be made something else of. It stays where that cannot be.
    fn take_alone(&self) -> PyResult<Held> {
        let mut slot = self.held.lock();
        let taken = slot.take().map(Arc::try_unwrap);
        match taken {
            Some(Ok(held)) => Ok(held),
            Some(Err(shared)) => {
                *slot = Native::new(shared);
                let message = format!("{} is being renewed right now: try again", self.name);
                Err(PyRuntimeError::new_err(message))
            }
            None => Err(self.over()),
        }
    }

    /// Gives it back. Where that has been done before, it is told again how that ended.
    fn give_back(&self) -> PyResult<impl Future<Output = leaselock::Result<Release>> + use<>> {
        let phase = self.phase().ok_or_else(|| self.forked())?;
        let held = self.held.lock().take();
        let (renewals, given_back) = (Arc::clone(&self.renewals), Arc::clone(&self.given_back));
        Ok(async move {
            let Some(mut shared) = held else {
                return Ok(match phase {
                    LeasePhase::Lost(reason) => Release::AlreadyLost(reason),
                    _ if given_back.load(Ordering::Relaxed) => Release::Released,
                    _ => Release::Unconfirmed,
                });
            };
            let _alone = renewals.write().await;
            let held = loop {
                match Arc::try_unwrap(shared) {
                    Ok(held) => break held,
                    // Another thread asks it something.
                    Err(still) => shared = still,
                }
                tokio::task::yield_now().await;
            };
            let release = held.release().await;
            given_back.store(matches!(release, Ok(Release::Released)), Ordering::Relaxed);
            release
        })
    }

    fn releasing(&self) -> PyResult<Call> {
        Ok(Call::new(self.give_back()?, |py, release| lease::released(release)?.into_py_any(py)))
    }

    /// Gives it back at the end of a block, which may have raised: what went wrong in there matters more.
    pub(crate) fn leaving(&self, raised: bool) -> PyResult<Call> {
        let release = match self.give_back() {
            Err(_) if raised => return Ok(Call::done(async { Ok(()) })),
            release => release?,
        };
        Ok(Call::new(release, move |py, release| lease::left(py, release, raised)))
    }

    /// Has the guard of one lock renewed.
    fn renewing<F>(
        &self,
        what: &str,
        renew: impl FnOnce(Arc<Held>) -> F + Send + 'static,
    ) -> PyResult<Call>
    where
        F: Future<Output = leaselock::Result<()>> + Send,
    {
        // Not kept from being given back by a call that nobody waits for.
        let held = Arc::downgrade(&self.alive_one(what)?);
        let (renewals, name) = (Arc::clone(&self.renewals), self.name.clone());
        let work = async move {
            let _renewing = renewals.read().await;
            Some(renew(held.upgrade()?).await)
        };
        Ok(Call::new(work, move |py, renewed| match renewed {
            Some(renewed) => renewed.map(|()| py.None()).map_err(errors::raise),
            None => Err(given_back(&name)),
        }))
    }

    fn renewing_now(&self) -> PyResult<Call> {
        self.renewing("renew", async |held| match held.one() {
            Some(guard) => guard.renew().await,
            None => Ok(()),
        })
    }

    fn setting_payload(&self, payload: &Bound<'_, PyAny>) -> PyResult<Call> {
        let payload = convert::payload(payload)?;
        self.renewing("set_payload", async |held| match held.one() {
            Some(guard) => guard.set_payload(payload).await,
            None => Ok(()),
        })
    }

    fn downgrading(&self) -> PyResult<Call> {
        if !matches!(*self.alive_one("downgrade")?, Held::Write(_)) {
            return Err(PyTypeError::new_err("only a writer becomes a reader"));
        }
        let Held::Write(guard) = self.take_alone()? else { return Err(self.over()) };
        let (name, objects) = (self.name.clone(), self.objects.clone());
        Ok(Call::of(guard.downgrade(), |py, reader| {
            Self::new(name, objects, Held::Lock(reader), false).into_py_any(py)
        }))
    }

    fn detaching(&self) -> PyResult<Call> {
        self.alive_one("detach")?;
        if !self.is_detachable {
            return Err(PyTypeError::new_err(
                "only a lock that nothing renews can be left: acquire it with keeper=False",
            ));
        }
        let Held::Lock(guard) = self.take_alone()? else { return Err(self.over()) };
        Ok(Call::of(guard.detach(), |py, left| {
            let dict = PyDict::new(py);
            dict.set_item("name", &left.name)?;
            dict.set_item("holder", left.holder.to_string())?;
            dict.set_item("token", left.token.get())?;
            dict.set_item("ttl", left.ttl.as_secs_f64())?;
            let deadline = left.deadline.duration_since(UNIX_EPOCH).unwrap_or_default();
            dict.set_item("deadline", deadline.as_secs_f64())?;
            dict.into_py_any(py)
        }))
    }
}

fn given_back(name: &str) -> PyErr {
    errors::over(&format!("{name} has been given back"))
}

#[pymethods]
impl Guard {
    /// The lock's name; of several, with a comma between them.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// The fencing token: larger than that of every acquisition before. None for several locks.
    #[getter]
    fn token(&self) -> Option<u64> {
        let mut tokens = self.tokens.values();
        tokens.next().copied().filter(|_| self.id.is_some())
    }

    /// The fencing token of each lock, by its name.
    #[getter]
    fn tokens(&self) -> BTreeMap<String, u64> {
        self.tokens.clone()
    }

    /// The identity of this acquisition, a UUID. None for several locks.
    #[getter]
    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether the lock is held: judged now, by this process's clocks, without a request. Once false it
    /// stays false.
    #[getter]
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.phase(), Some(LeasePhase::Held | LeasePhase::AtRisk))
    }

    /// Whether half of the TTL has passed without a renewal: time to stop starting new work.
    #[getter]
    fn is_at_risk(&self) -> bool {
        matches!(self.phase(), Some(LeasePhase::AtRisk))
    }

    /// How many seconds the lock is held for certain if nothing renews it; 0 when it is lost.
    #[getter]
    fn remaining(&self) -> f64 {
        self.held.lock().get().map_or(0.0, |held| held.remaining())
    }

    /// Raises `Lost` unless the lock is held: for loops.
    fn check(&self) -> PyResult<()> {
        self.alive().map(drop)
    }

    /// Reports progress: see `progress_within`.
    fn touch(&self) -> PyResult<()> {
        let held = self.alive_one("touch")?;
        if let Some(guard) = held.one() {
            guard.touch();
        }
        Ok(())
    }

    /// Why the lease was lost; None while it is held, and when it was given back.
    #[getter]
    fn loss(&self) -> Option<String> {
        lease::loss(self.watch.get()?)
    }

    /// Renews the lease now, with one write: for programs that turned the keeper off.
    fn renew(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.renewing_now()?.wait(py)
    }

    /// As `renew`; a coroutine.
    fn renew_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.renewing_now()?.start(py)
    }

    /// Sets the lock's payload, a value that JSON has, for others to read: with one write that also renews.
    fn set_payload(&self, py: Python<'_>, payload: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.setting_payload(payload)?.wait(py)
    }

    /// As `set_payload`; a coroutine.
    fn set_payload_async(&self, py: Python<'_>, payload: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.setting_payload(payload)?.start(py)
    }

    /// Gives the lock back, with one write. Whether that was confirmed: otherwise the lock becomes free when
    /// the lease ends. Raises `Lost` when it had been lost before; twice is no error.
    fn release(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.releasing()?.wait(py)
    }

    /// As `release`; a coroutine.
    fn release_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.releasing()?.start(py)
    }

    /// Calls `callback` with the reason when the lease is lost, in a thread of its own; never when it is
    /// released first. Until then the lease is held by whatever the callback refers to, this guard for example.
    fn on_lost(&self, callback: Bound<'_, PyAny>) -> PyResult<()> {
        convert::ensure_plain_function(&callback)?;
        lease::call_at_end(self.alive()?.watch(), callback.unbind());
        Ok(())
    }

    /// Waits until the lease is lost, and returns why; None when it was given back first.
    fn lost_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        lease::ended(self.watch()?).start(py)
    }

    /// Waits until the lease is at risk, as `is_at_risk` tells, and returns True; False when it ended first.
    fn at_risk_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        lease::endangered(self.watch()?).start(py)
    }

    /// Awaits `work` and returns what it returns; it is cancelled when the lease is lost, and `Lost` raised.
    fn run_async(slf: Py<Self>, py: Python<'_>, work: Py<PyAny>) -> PyResult<Py<PyAny>> {
        Ok(py.import("leaselock._asyncio")?.call_method1("run", (slf, work))?.unbind())
    }

    /// Writes objects with this guard's token, so that the store refuses what an earlier holder may still
    /// send. Of several locks, `name` says whose. Objects that it makes get `headers`, such as
    /// `{"Content-Type": "application/json"}`, and `metadata` of one's own; those that exist keep theirs.
    #[pyo3(signature = (name = None, *, headers = None, metadata = None))]
    fn fence(
        &self,
        name: Option<&str>,
        headers: Option<BTreeMap<String, String>>,
        metadata: Option<BTreeMap<String, String>>,
    ) -> PyResult<Fence> {
        let held = self.alive()?;
        let attributes =
            fence::attributes(headers.unwrap_or_default(), metadata.unwrap_or_default())?;
        let fence = match (&*held, name) {
            (Held::All(guard), Some(name)) => guard.fence(name, &self.objects),
            (held, None) => held.one().map(|guard| guard.fence(&self.objects)),
            (held, Some(name)) => held
                .one()
                .filter(|guard| guard.name() == name)
                .map(|guard| guard.fence(&self.objects)),
        };
        let fence = fence.ok_or_else(|| {
            let names: Vec<_> = self.tokens.keys().map(String::as_str).collect();
            let message = format!("name one of the locks: {}", names.join(", "));
            PyValueError::new_err(message)
        })?;
        Ok(Fence::new(fence.attributes(attributes)))
    }

    /// A writer becomes a reader, without a gap in which another could write: the guard of the reader. This one
    /// is over.
    fn downgrade(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.downgrading()?.wait(py)
    }

    /// As `downgrade`; a coroutine.
    fn downgrade_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.downgrading()?.start(py)
    }

    /// Leaves the lease on record for another process: see `Lock.resume`. Returns a dict with name, holder,
    /// token, ttl (seconds) and deadline (seconds since 1970, by this machine's wall clock).
    fn detach(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.detaching()?.wait(py)
    }

    /// As `detach`; a coroutine.
    fn detach_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.detaching()?.start(py)
    }

    fn __enter__(slf: Py<Self>) -> PyResult<Py<Self>> {
        slf.get().alive()?;
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
        self.leaving(!exc_type.is_none())?.wait(py)
    }

    fn __aenter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        slf.get().alive()?;
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
        self.leaving(!exc_type.is_none())?.start(py)
    }

    fn __repr__(&self) -> String {
        let token =
            self.token().map_or_else(|| format!("{:?}", self.tokens), |token| token.to_string());
        let phase = match self.phase() {
            None => "another process's".to_owned(),
            Some(LeasePhase::Held) => "held".to_owned(),
            Some(LeasePhase::AtRisk) => "held, at risk".to_owned(),
            Some(LeasePhase::Released) => "released".to_owned(),
            Some(LeasePhase::Lost(reason)) => format!("lost: {reason}"),
            Some(_) => "over".to_owned(),
        };
        format!("<leaselock.Guard {:?} token {token}, {phase}>", self.name)
    }
}
