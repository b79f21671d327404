//! Whatever can be acquired.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use leaselock::{
    Attempt, AttemptAll, Break, Campaign, Election, FencingToken, HolderId, LockAll, LockInfo,
    Payload, Polling, QuorumLock, Result, RwLock, Semaphore, WriteAttempt,
};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::convert::{self, Seconds};
use crate::guard::{Guard, Held};
use crate::store::Origin;
use crate::{errors, messenger, wait};

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    Lock(leaselock::Lock),
    Read(RwLock),
    Write(RwLock),
    Permits(Semaphore, u32),
    All(LockAll),
    Quorum(QuorumLock),
    Seat(Election),
}

/// How long to wait for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Once,
    AtMost(Duration),
    Forever,
}

impl Limit {
    pub(crate) fn of(timeout: Option<Seconds>) -> Self {
        timeout.map_or(Self::Forever, |Seconds(time)| Self::AtMost(time))
    }
}

/// It, or who has it.
type Answer = std::result::Result<Held, String>;

impl Wanted {
    fn ask(self, limit: Limit) -> BoxFuture<'static, Result<Answer>> {
        async move {
            match self {
                Self::Lock(lock) => answer(match limit {
                    Limit::Once => lock.try_acquire().await,
                    Limit::AtMost(time) => lock.acquire_timeout(time).await,
                    Limit::Forever => lock.acquire().await.map(Attempt::Acquired),
                }),
                Self::Read(lock) => answer(match limit {
                    Limit::Once => lock.try_read().await,
                    Limit::AtMost(time) => lock.read_timeout(time).await,
                    Limit::Forever => lock.read().await.map(Attempt::Acquired),
                }),
                Self::Write(lock) => {
                    let attempt = match limit {
                        Limit::Once => lock.try_write().await?,
                        Limit::AtMost(time) => lock.write_timeout(time).await?,
                        Limit::Forever => WriteAttempt::Acquired(lock.write().await?),
                    };
                    Ok(match attempt {
                        WriteAttempt::Acquired(guard) => Ok(Held::Write(guard)),
                        WriteAttempt::Held(info) => Err(holder(&info)),
                    })
                }
                Self::Permits(semaphore, permits) => answer(match limit {
                    Limit::Once => semaphore.try_acquire_many(permits).await,
                    Limit::AtMost(time) => semaphore.acquire_many_timeout(permits, time).await,
                    Limit::Forever => semaphore.acquire_many(permits).await.map(Attempt::Acquired),
                }),
                Self::All(locks) => {
                    let attempt = match limit {
                        Limit::Once => locks.try_acquire().await?,
                        Limit::AtMost(time) => locks.acquire_timeout(time).await?,
                        Limit::Forever => AttemptAll::Acquired(locks.acquire().await?),
                    };
                    Ok(match attempt {
                        AttemptAll::Acquired(guard) => Ok(Held::All(guard)),
                        AttemptAll::Held(info) => Err(holder(&info)),
                    })
                }
                Self::Quorum(lock) => answer(match limit {
                    Limit::Once => lock.try_acquire().await,
                    Limit::AtMost(time) => lock.acquire_timeout(time).await,
                    Limit::Forever => lock.acquire().await.map(Attempt::Acquired),
                }),
                Self::Seat(election) => {
                    let campaign = match limit {
                        Limit::Once => election.try_campaign().await?,
                        Limit::AtMost(time) => election.campaign_timeout(time).await?,
                        Limit::Forever => Campaign::Elected(election.campaign().await?),
                    };
                    let elected = campaign.elected();
                    Ok(elected.map(Held::Seat).ok_or_else(|| "somebody else leads".to_owned()))
                }
            }
        }
        .boxed()
    }

    /// What the record says, as JSON.
    fn inspect(self) -> BoxFuture<'static, Result<Option<String>>> {
        async move {
            let info = match self {
                Self::Lock(lock) => lock.inspect().await,
                Self::Read(lock) | Self::Write(lock) => lock.inspect().await,
                Self::Permits(semaphore, _) => semaphore.inspect().await,
                Self::Seat(election) => election.inspect().await,
                Self::All(_) | Self::Quorum(_) => return Ok(None),
            };
            info.map(|info| Some(info.to_json()))
        }
        .boxed()
    }
}

fn answer(attempt: Result<Attempt>) -> Result<Answer> {
    Ok(match attempt? {
        Attempt::Acquired(guard) => Ok(Held::Lock(guard)),
        Attempt::Held(info) => Err(holder(&info)),
    })
}

fn holder(info: &LockInfo) -> String {
    match info.holders.first() {
        Some(holder) => format!("{} is held by {}", info.name, holder.owner),
        None => format!("{} is {}", info.name, info.state),
    }
}

/// What is to be acquired, as plain data: it is built anew for each call, so that it works in a process
/// that was forked.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) terms: Terms,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Lock,
    Read,
    Write,
    Permits { limit: u32, permits: u32 },
    All(Vec<String>),
    Seat,
}

/// How it is to be held; what is not given is the library's to choose.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) ttl: Option<Seconds>,
    pub(crate) renew_every: Option<Seconds>,
    pub(crate) owner: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) max_hold: Option<Seconds>,
    pub(crate) min_hold: Option<Seconds>,
    pub(crate) progress_within: Option<Seconds>,
    pub(crate) payload: Option<Payload>,
    pub(crate) fair: bool,
    pub(crate) no_keeper: bool,
    pub(crate) no_store_clock: bool,
    pub(crate) no_local_handover: bool,
    pub(crate) max_skew: Option<Seconds>,
    pub(crate) fast: bool,
}

/// Sets on a builder what was given of the named terms.
macro_rules! with {
    ($builder:expr, $terms:expr; $($time:ident)*; $($value:ident)*) => {{
        let mut builder = $builder;
        $(if let Some(Seconds(time)) = $terms.$time {
            builder = builder.$time(time);
        })*
        $(if let Some(value) = $terms.$value.clone() {
            builder = builder.$value(value);
        })*
        builder
    }};
}

pub(crate) use with;

impl Recipe {
    fn wanted(&self, origin: &Origin, py: Python<'_>) -> PyResult<Wanted> {
        let (name, terms) = (self.name.as_str(), &self.terms);
        Ok(match &self.kind {
            Kind::Lock => match origin {
                Origin::Quorum(_) => {
                    let lock = origin.quorum(py)?.lock(name);
                    Wanted::Quorum(with!(lock, terms; ttl renew_every max_hold; owner note payload))
                }
                _ => Wanted::Lock(self.lock(origin, py)?),
            },
            Kind::Read => Wanted::Read(self.rwlock(origin, py)?),
            Kind::Write => Wanted::Write(self.rwlock(origin, py)?),
            Kind::Permits { limit, permits } => {
                let semaphore = match origin {
                    Origin::Session(session) => session.get().session()?.semaphore(name, *limit),
                    _ => origin.store(py)?.semaphore(name, *limit),
                };
                Wanted::Permits(with!(semaphore, terms; ttl max_hold; owner note), *permits)
            }
            Kind::All(names) => {
                let all = origin.store(py)?.lock_all(names);
                Wanted::All(with!(all, terms; ttl max_hold; owner note))
            }
            Kind::Seat => {
                let election = origin.store(py)?.election(name);
                Wanted::Seat(with!(election, terms; ttl renew_every; owner note payload))
            }
        })
    }

    fn lock(&self, origin: &Origin, py: Python<'_>) -> PyResult<leaselock::Lock> {
        let lock = match origin {
            Origin::Session(session) => session.get().session()?.lock(&self.name),
            _ => origin.store(py)?.lock(&self.name),
        };
        let terms = &self.terms;
        let lock = with!(
            lock, terms;
            ttl renew_every max_hold min_hold progress_within;
            owner note payload
        );
        let lock = lock
            .keeper(!terms.no_keeper)
            .store_clock(!terms.no_store_clock)
            .local_handover(!terms.no_local_handover);
        let lock = match terms.max_skew {
            Some(Seconds(skew)) => lock.trust_wall_clock(skew),
            None => lock,
        };
        let lock = if terms.fast { lock.polling(Polling::fast()) } else { lock };
        Ok(if terms.fair { lock.fair() } else { lock })
    }

    fn rwlock(&self, origin: &Origin, py: Python<'_>) -> PyResult<RwLock> {
        Ok(with!(origin.store(py)?.rwlock(&self.name), self.terms; ttl max_hold; owner note))
    }
}

/// A lock, and how it is to be held: a context manager, for `with` and `async with`. Made by a `Store`, a
/// `Session` or a `Quorum`; nothing is written before it is acquired.
#[pyclass(frozen, module = "leaselock")]
#[derive(Debug)]
pub(crate) struct Lock {
    origin: Origin,
    recipe: Recipe,
    timeout: Option<Seconds>,
    /// What each thread, or asyncio task, holds by `with`: the last is given back first.
    entered: Mutex<HashMap<usize, Vec<Py<Guard>>>>,
}

impl Lock {
    pub(crate) fn new(origin: Origin, recipe: Recipe, timeout: Option<Seconds>) -> Self {
        Self { origin, recipe, timeout, entered: Mutex::default() }
    }

    fn entered(&self) -> MutexGuard<'_, HashMap<usize, Vec<Py<Guard>>>> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, who: usize, guard: Py<Guard>) {
        self.entered().entry(who).or_default().push(guard);
    }

    fn pop(&self, who: usize) -> PyResult<Py<Guard>> {
        let mut entered = self.entered();
        let guards = entered.get_mut(&who);
        let guard = guards.and_then(Vec::pop);
        if entered.get(&who).is_some_and(Vec::is_empty) {
            entered.remove(&who);
        }
        guard.ok_or_else(|| PyRuntimeError::new_err("it is left by who has not entered it"))
    }

    /// The limit of a call: its own, or the lock's.
    fn limit(&self, timeout: Option<Option<Seconds>>) -> Limit {
        Limit::of(timeout.unwrap_or(self.timeout))
    }

    fn guard(&self, py: Python<'_>, held: Held) -> PyResult<Py<Guard>> {
        let objects = self.origin.store(py)?.objects();
        Py::new(py, Guard::new(self.recipe.name.clone(), objects, held))
    }

    /// The guard, or `Timeout`.
    fn acquired(&self, py: Python<'_>, answer: Result<Answer>) -> PyResult<Py<Guard>> {
        match answer.map_err(errors::raise)? {
            Ok(held) => self.guard(py, held),
            Err(holder) => Err(errors::timeout(&self.recipe.name, &holder)),
        }
    }

    /// The guard, or `None`.
    fn tried(&self, py: Python<'_>, answer: Result<Answer>) -> PyResult<Option<Py<Guard>>> {
        let held = answer.map_err(errors::raise)?.ok();
        held.map(|held| self.guard(py, held)).transpose()
    }

    fn ask(&self, py: Python<'_>, limit: Limit) -> PyResult<BoxFuture<'static, Result<Answer>>> {
        Ok(self.recipe.wanted(&self.origin, py)?.ask(limit))
    }

    fn plain(&self, py: Python<'_>, what: &str) -> PyResult<leaselock::Lock> {
        match self.recipe.wanted(&self.origin, py)? {
            Wanted::Lock(lock) => Ok(lock),
            _ => Err(PyTypeError::new_err(format!("only a lock of its own can {what}"))),
        }
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
    /// seconds, then it raises `Timeout`; None waits for ever. Unless given, the lock's own.
    #[pyo3(signature = (timeout = None, *, forever = false))]
    fn acquire(
        slf: &Bound<'_, Self>,
        timeout: Option<Seconds>,
        forever: bool,
    ) -> PyResult<Py<Guard>> {
        let (py, this) = (slf.py(), slf.get());
        let limit = this.limit(given(timeout, forever));
        let answer = wait::wait(py, this.ask(py, limit)?)?;
        this.acquired(py, answer)
    }

    /// As `acquire`; an awaitable. Cancelling it gives the lock back if it was acquired.
    #[pyo3(signature = (timeout = None, *, forever = false))]
    fn acquire_async(
        slf: Py<Self>,
        py: Python<'_>,
        timeout: Option<Seconds>,
        forever: bool,
    ) -> PyResult<Py<PyAny>> {
        let limit = slf.get().limit(given(timeout, forever));
        let work = slf.get().ask(py, limit)?;
        messenger::start(py, work, move |py, answer| Ok(slf.get().acquired(py, answer)?.into_any()))
    }

    /// Acquires the lock if it is free, and returns a `Guard`; or None.
    fn try_acquire(slf: &Bound<'_, Self>) -> PyResult<Option<Py<Guard>>> {
        let (py, this) = (slf.py(), slf.get());
        let answer = wait::wait(py, this.ask(py, Limit::Once)?)?;
        this.tried(py, answer)
    }

    /// As `try_acquire`; an awaitable.
    fn try_acquire_async(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let work = slf.get().ask(py, Limit::Once)?;
        messenger::start(py, work, move |py, answer| {
            Ok(slf.get().tried(py, answer)?.map_or_else(|| py.None(), Py::into_any))
        })
    }

    /// What the record says, with one read: a dict as `leaselock show --json` prints it.
    fn inspect(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let work = self.recipe.wanted(&self.origin, py)?.inspect();
        inspected(py, wait::wait(py, work)?)
    }

    /// As `inspect`; an awaitable.
    fn inspect_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        messenger::start(py, self.recipe.wanted(&self.origin, py)?.inspect(), inspected)
    }

    /// Gives a semaphore another limit. Nobody is put out; all who use it have to name the new one from now on.
    fn resize(&self, py: Python<'_>, limit: u32) -> PyResult<()> {
        let Wanted::Permits(semaphore, _) = self.recipe.wanted(&self.origin, py)? else {
            return Err(PyTypeError::new_err("only a semaphore can be resized"));
        };
        wait::call(py, async move { semaphore.resize(limit).await }).map(drop)
    }

    /// Goes on with a lease that another process has left by `Guard.detach`; its holder's id is all that is
    /// asked for.
    fn resume(slf: &Bound<'_, Self>, holder: &str) -> PyResult<Py<Guard>> {
        let (py, this) = (slf.py(), slf.get());
        let lock = this.plain(py, "be resumed")?;
        let holder = parse_holder(holder)?;
        let guard = wait::call(py, lock.resume(holder))?;
        this.guard(py, Held::Lock(guard))
    }

    /// Gives back a lease that another process has left. Twice is no error.
    fn release_detached(&self, py: Python<'_>, holder: &str) -> PyResult<()> {
        let lock = self.plain(py, "be left")?;
        let holder = parse_holder(holder)?;
        wait::call(py, lock.release_detached(holder))
    }

    /// Ends somebody else's lease, for operators: `expect` is the token of the holder that was looked at.
    /// Without one it needs `force`: whoever holds it. Reason and name are kept in the history.
    #[pyo3(signature = (*, expect = None, force = false, reason = None, by = None))]
    fn break_lease(
        &self,
        py: Python<'_>,
        expect: Option<u64>,
        force: bool,
        reason: Option<String>,
        by: Option<String>,
    ) -> PyResult<()> {
        let order = match (expect.and_then(FencingToken::new), force) {
            (Some(token), _) => Break::expecting(token),
            (None, true) => Break::force(),
            (None, false) => {
                return Err(PyValueError::new_err("expect the holder's token, or force"));
            }
        };
        let order = reason.into_iter().fold(order, Break::reason);
        let order = by.into_iter().fold(order, Break::by);
        let lock = self.origin.store(py)?.lock(&self.recipe.name);
        wait::call(py, lock.break_lease(order)).map(drop)
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<Py<Guard>> {
        let py = slf.py();
        let guard = Self::acquire(slf, None, false)?;
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
    ) -> PyResult<bool> {
        self.pop(thread(py)?)?.get().leave(py, !exc_type.is_none())
    }

    fn __aenter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(py.import("leaselock._block")?.call_method1("enter", (slf,))?.unbind())
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
        self.pop(task(py)?)?.get().leave_async(py, !exc_type.is_none())
    }

    fn __repr__(&self) -> String {
        format!("<leaselock.Lock {:?}>", self.recipe.name)
    }
}

/// A timeout of a call; `forever` overrules the lock's own.
fn given(timeout: Option<Seconds>, forever: bool) -> Option<Option<Seconds>> {
    if forever { Some(None) } else { timeout.map(Some) }
}

fn inspected(py: Python<'_>, info: Result<Option<String>>) -> PyResult<Py<PyAny>> {
    match info.map_err(errors::raise)? {
        Some(json) => convert::value(py, &json),
        None => Err(PyTypeError::new_err("inspect the locks, or the stores, one by one")),
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
