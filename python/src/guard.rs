//! What is held.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use leaselock::fencing::Objects;
use leaselock::{
    AllGuard, Leadership, LeasePhase, LeaseWatch, LockGuard, Payload, Release, WriteGuard,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::fence::Fence;
use crate::forks::{Native, Slot};
use crate::{convert, errors, messenger, wait};

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

    fn phase(&self) -> Option<LeasePhase> {
        self.watch.get().map(|watch| watch.status().phase)
    }

    /// What is held.
    ///
    /// # Errors
    /// It is lost, given back, or another process's.
    fn alive(&self) -> PyResult<Arc<Held>> {
        match self.phase() {
            None => Err(errors::forked(&format!("the guard of {}", self.name))),
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

    /// The release; nothing is to be done where it has been given back before.
    fn releasing(&self) -> PyResult<BoxFuture<'static, leaselock::Result<Release>>> {
        if self.phase().is_none() {
            return Err(errors::forked(&format!("the guard of {}", self.name)));
        }
        let held = self.held.lock().take();
        Ok(async move {
            match held.map(Arc::try_unwrap) {
                Some(Ok(held)) => held.release().await,
                // Another thread renews it right now, and gives it back when it has done so.
                Some(Err(_)) => Ok(Release::Unconfirmed),
                None => Ok(Release::Released),
            }
        }
        .boxed())
    }

    /// Gives it back at the end of a block, which may have raised.
    pub(crate) fn leave(&self, py: Python<'_>, raised: bool) -> PyResult<bool> {
        match self.release(py) {
            // What went wrong in the block matters more.
            Err(_) if raised => Ok(false),
            released => released.map(|_| false),
        }
    }

    /// As [`leave`](Self::leave); an awaitable.
    pub(crate) fn leave_async(&self, py: Python<'_>, raised: bool) -> PyResult<Py<PyAny>> {
        messenger::start(py, self.releasing()?, move |py, release| match released(release) {
            // What went wrong in the block matters more.
            Err(_) if raised => Ok(py.None()),
            released => released.map(|_| py.None()),
        })
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

    /// Renews the lease now, with one write: for programs that turned the keeper off.
    fn renew(&self, py: Python<'_>) -> PyResult<()> {
        let held = self.alive_one("renew")?;
        wait::call(py, renew(held, None))
    }

    /// As `renew`; an awaitable.
    fn renew_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let held = self.alive_one("renew")?;
        messenger::start(py, renew(held, None), nothing)
    }

    /// Sets the lock's payload, a value that JSON has, for others to read: with one write that also renews.
    fn set_payload(&self, py: Python<'_>, payload: &Bound<'_, PyAny>) -> PyResult<()> {
        let payload = convert::payload(payload)?;
        let held = self.alive_one("set_payload")?;
        wait::call(py, renew(held, Some(payload)))
    }

    /// As `set_payload`; an awaitable.
    fn set_payload_async(&self, py: Python<'_>, payload: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let payload = convert::payload(payload)?;
        let held = self.alive_one("set_payload")?;
        messenger::start(py, renew(held, Some(payload)), nothing)
    }

    /// Gives the lock back, with one write. Whether that was confirmed: otherwise the lock becomes free when
    /// the lease ends. Raises `Lost` when it had been lost before; twice is no error.
    pub(crate) fn release(&self, py: Python<'_>) -> PyResult<bool> {
        released(wait::wait(py, self.releasing()?)?)
    }

    /// As `release`; an awaitable.
    fn release_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        messenger::start(py, self.releasing()?, |py, release| {
            Ok(released(release)?.into_pyobject(py)?.to_owned().into_any().unbind())
        })
    }

    /// Calls `callback` with the reason when the lease is lost, in a thread of leaselock's; never when it is
    /// released first. It should be quick: set an event, log, stop the work.
    fn on_lost(&self, callback: Py<PyAny>) -> PyResult<()> {
        let mut watch = self.alive()?.watch();
        messenger::spawn(async move {
            let mut phase = watch.status().phase;
            let reason = loop {
                match phase {
                    LeasePhase::Lost(reason) => break reason.to_string(),
                    LeasePhase::Held | LeasePhase::AtRisk => {}
                    // Given back.
                    _ => return,
                }
                phase = watch.changed().await.phase;
            };
            Python::try_attach(|py| {
                if let Err(error) = callback.call1(py, (reason,)) {
                    error.write_unraisable(py, Some(callback.bind(py)));
                }
            });
        });
        Ok(())
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
    fn downgrade(&self, py: Python<'_>) -> PyResult<Self> {
        let is_writer = matches!(*self.alive_one("downgrade")?, Held::Write(_));
        let held = if is_writer { self.held.lock().take() } else { None };
        let Some(Held::Write(guard)) = held.and_then(Arc::into_inner) else {
            return Err(PyTypeError::new_err(
                "only a writer that nobody renews right now can be a reader",
            ));
        };
        let reader = wait::call(py, guard.downgrade())?;
        Ok(Self::new(self.name.clone(), self.objects.clone(), Held::Lock(reader)))
    }

    /// Leaves the lease on record for another process: see `Lock.resume`. Returns a dict with name, holder,
    /// token, ttl (seconds) and deadline (seconds since 1970, by this machine's wall clock).
    fn detach(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.alive_one("detach")?;
        let held = self.held.lock().take();
        let Some(Held::Lock(guard)) = held.and_then(Arc::into_inner) else {
            return Err(errors::over("only a lock that nobody renews right now can be left"));
        };
        let left = wait::call(py, guard.detach())?;
        let dict = pyo3::types::PyDict::new(py);
        dict.set_item("name", &left.name)?;
        dict.set_item("holder", left.holder.to_string())?;
        dict.set_item("token", left.token.get())?;
        dict.set_item("ttl", left.ttl.as_secs_f64())?;
        let deadline = left.deadline.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        dict.set_item("deadline", deadline.as_secs_f64())?;
        Ok(dict.into_any().unbind())
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
    ) -> PyResult<bool> {
        self.leave(py, !exc_type.is_none())
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

async fn renew(held: Arc<Held>, payload: Option<Payload>) -> leaselock::Result<()> {
    match (held.one(), payload) {
        (Some(guard), Some(payload)) => guard.set_payload(payload).await,
        (Some(guard), None) => guard.renew().await,
        (None, _) => Ok(()),
    }
}

/// `None`, or what was raised.
pub(crate) fn nothing(py: Python<'_>, result: leaselock::Result<()>) -> PyResult<Py<PyAny>> {
    result.map(|()| py.None()).map_err(errors::raise)
}
