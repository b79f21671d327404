//! What is held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use leaselock::fencing::Objects;
use leaselock::{AllGuard, Leadership, LeasePhase, LeaseWatch, LockGuard, Release, WriteGuard};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call::Call;
use crate::fence::Fence;
use crate::forks::{Native, Slot};
use crate::{convert, errors, messenger};

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
    watch: Native<LeaseWatch>,
    held: Slot<Arc<Held>>,
}

impl Guard {
    pub(crate) fn new(name: String, objects: Objects, held: Held) -> Self {
        Self {
            name,
            tokens: held.tokens(),
            id: held.one().map(|guard| guard.id().to_string()),
            objects,
            watch: Native::new(held.watch()),
            held: Slot::new(Arc::new(held)),
        }
    }

    fn forked(&self) -> PyErr {
        errors::forked(&format!("the guard of {}", self.name))
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
            Some(_) => self
                .held
                .lock()
                .get()
                .cloned()
                .ok_or_else(|| errors::over(&format!("{} has been given back", self.name))),
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

    /// Gives it back; nothing is to be done where that has been done before.
    fn give_back(&self) -> PyResult<impl Future<Output = leaselock::Result<Release>> + use<>> {
        if self.phase().is_none() {
            return Err(self.forked());
        }
        let held = self.held.lock().take();
        Ok(async move {
            match held.map(Arc::try_unwrap) {
                Some(Ok(held)) => held.release().await,
                // Another thread renews it right now, and gives it back when it has done so.
                Some(Err(_)) => Ok(Release::Unconfirmed),
                None => Ok(Release::Released),
            }
        })
    }

    fn releasing(&self) -> PyResult<Call> {
        Ok(Call::new(self.give_back()?, |py, release| released(release)?.into_py_any(py)))
    }

    /// Gives it back at the end of a block, which may have raised.
    pub(crate) fn leaving(&self, raised: bool) -> PyResult<Call> {
        Ok(Call::new(self.give_back()?, move |py, release| match released(release) {
            // What went wrong in the block matters more.
            Err(_) if raised => Ok(py.None()),
            released => released.map(|_| py.None()),
        }))
    }

    fn renewing(&self) -> PyResult<Call> {
        let held = self.alive_one("renew")?;
        Ok(Call::done(async move {
            match held.one() {
                Some(guard) => guard.renew().await,
                None => Ok(()),
            }
        }))
    }

    fn setting_payload(&self, payload: &Bound<'_, PyAny>) -> PyResult<Call> {
        let payload = convert::payload(payload)?;
        let held = self.alive_one("set_payload")?;
        Ok(Call::done(async move {
            match held.one() {
                Some(guard) => guard.set_payload(payload).await,
                None => Ok(()),
            }
        }))
    }

    fn downgrading(&self) -> PyResult<Call> {
        let is_writer = matches!(*self.alive_one("downgrade")?, Held::Write(_));
        let held = if is_writer { self.held.lock().take() } else { None };
        let Some(Held::Write(guard)) = held.and_then(Arc::into_inner) else {
            return Err(PyTypeError::new_err(
                "only a writer that nobody renews right now can be a reader",
            ));
        };
        let (name, objects) = (self.name.clone(), self.objects.clone());
        Ok(Call::of(guard.downgrade(), |py, reader| {
            Self::new(name, objects, Held::Lock(reader)).into_py_any(py)
        }))
    }

    fn detaching(&self) -> PyResult<Call> {
        self.alive_one("detach")?;
        let held = self.held.lock().take();
        let Some(Held::Lock(guard)) = held.and_then(Arc::into_inner) else {
            return Err(errors::over("only a lock that nobody renews right now can be left"));
        };
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

/// How a release ended: whether it is known to be free.
fn released(release: leaselock::Result<Release>) -> PyResult<bool> {
    match release {
        Ok(Release::Released) => Ok(true),
        Ok(Release::Unconfirmed) => Ok(false),
        Ok(Release::AlreadyLost(reason)) => Err(errors::lost(&reason)),
        Err(error) => Err(errors::raise(error)),
    }
}

/// Why a lease was lost, if it was.
pub(crate) fn loss(watch: &LeaseWatch) -> Option<String> {
    match watch.status().phase {
        LeasePhase::Lost(reason) => Some(reason.to_string()),
        _ => None,
    }
}

/// The end of a lease: why it was lost, or nothing when it was given back first.
pub(crate) async fn end(mut watch: LeaseWatch) -> Option<String> {
    let mut phase = watch.status().phase;
    loop {
        match phase {
            LeasePhase::Held | LeasePhase::AtRisk => phase = watch.changed().await.phase,
            LeasePhase::Lost(reason) => return Some(reason.to_string()),
            _ => return None,
        }
    }
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
    fn is_held(&self) -> bool {
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
        loss(self.watch.get()?)
    }

    /// Renews the lease now, with one write: for programs that turned the keeper off.
    fn renew(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.renewing()?.wait(py)
    }

    /// As `renew`; an awaitable.
    fn renew_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.renewing()?.start(py)
    }

    /// Sets the lock's payload, a value that JSON has, for others to read: with one write that also renews.
    fn set_payload(&self, py: Python<'_>, payload: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.setting_payload(payload)?.wait(py)
    }

    /// As `set_payload`; an awaitable.
    fn set_payload_async(&self, py: Python<'_>, payload: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.setting_payload(payload)?.start(py)
    }

    /// Gives the lock back, with one write. Whether that was confirmed: otherwise the lock becomes free when
    /// the lease ends. Raises `Lost` when it had been lost before; twice is no error.
    fn release(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.releasing()?.wait(py)
    }

    /// As `release`; an awaitable.
    fn release_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.releasing()?.start(py)
    }

    /// Calls `callback` with the reason when the lease is lost, in a thread of leaselock's; never when it is
    /// released first. It should be quick: set an event, log, stop the work.
    fn on_lost(&self, callback: Py<PyAny>) -> PyResult<()> {
        let end = end(self.alive()?.watch());
        messenger::spawn(async move {
            let Some(reason) = end.await else { return };
            Python::try_attach(|py| {
                if let Err(error) = callback.call1(py, (reason,)) {
                    error.write_unraisable(py, Some(callback.bind(py)));
                }
            });
        });
        Ok(())
    }

    /// Waits until the lease is lost, and returns why; None when it was given back first.
    fn lost_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let watch = self.watch.get().cloned().ok_or_else(|| self.forked())?;
        Call::new(end(watch), |py, reason| reason.into_py_any(py)).start(py)
    }

    /// Awaits `work` and returns what it returns; it is cancelled when the lease is lost, and `Lost` raised.
    fn run_async(slf: Py<Self>, py: Python<'_>, work: Py<PyAny>) -> PyResult<Py<PyAny>> {
        Ok(py.import("leaselock._asyncio")?.call_method1("run", (slf, work))?.unbind())
    }

    /// Writes objects with this guard's token, so that the store refuses what an earlier holder may still
    /// send. Of several locks, `name` says whose.
    #[pyo3(signature = (name = None))]
    fn fence(&self, name: Option<&str>) -> PyResult<Fence> {
        let held = self.alive()?;
        let fence = match (&*held, name) {
            (Held::All(guard), Some(name)) => guard.fence(name, &self.objects),
            (held, None) => held.one().map(|guard| guard.fence(&self.objects)),
            (held, Some(name)) => held
                .one()
                .filter(|guard| guard.name() == name)
                .map(|guard| guard.fence(&self.objects)),
        };
        fence.map(Fence::new).ok_or_else(|| {
            let names: Vec<_> = self.tokens.keys().map(String::as_str).collect();
            let message = format!("name one of the locks: {}", names.join(", "));
            PyValueError::new_err(message)
        })
    }

    /// A writer becomes a reader, without a gap in which another could write: the guard of the reader. This one
    /// is over.
    fn downgrade(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.downgrading()?.wait(py)
    }

    /// As `downgrade`; an awaitable.
    fn downgrade_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.downgrading()?.start(py)
    }

    /// Leaves the lease on record for another process: see `Lock.resume`. Returns a dict with name, holder,
    /// token, ttl (seconds) and deadline (seconds since 1970, by this machine's wall clock).
    fn detach(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.detaching()?.wait(py)
    }

    /// As `detach`; an awaitable.
    fn detach_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.detaching()?.start(py)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
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
