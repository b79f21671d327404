//! What can be acquired, and how.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use leaselock::{
    Attempt, AttemptAll, Campaign, Election, FencingToken, LockAll, LockInfo, LockState, Payload,
    QuorumInfo, QuorumLock, Result, RwLock, Semaphore, WriteAttempt,
};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::call::Call;
use crate::convert::{self, Seconds};
use crate::guard::Held;
use crate::options::Polling;
use crate::store::Origin;

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
pub(crate) type Answer = std::result::Result<Held, String>;

impl Wanted {
    pub(crate) fn ask(self, limit: Limit) -> BoxFuture<'static, Result<Answer>> {
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

    /// What the record says.
    ///
    /// # Errors
    /// These are several locks.
    pub(crate) fn inspecting(self) -> PyResult<Call> {
        let of_one = match self {
            Self::Lock(lock) => async move { lock.inspect().await }.boxed(),
            Self::Read(lock) | Self::Write(lock) => async move { lock.inspect().await }.boxed(),
            Self::Permits(semaphore, _) => async move { semaphore.inspect().await }.boxed(),
            Self::Seat(election) => async move { election.inspect().await }.boxed(),
            Self::Quorum(lock) => {
                return Ok(Call::of(async move { lock.inspect().await }, of_majority));
            }
            Self::All(_) => return Err(PyTypeError::new_err("inspect the locks one by one")),
        };
        Ok(Call::of(of_one, |py, info| convert::value(py, &info.to_json())))
    }
}

/// What the records of all stores say: a dict.
fn of_majority(py: Python<'_>, info: QuorumInfo) -> PyResult<Py<PyAny>> {
    let members = PyList::empty(py);
    for member in info.members {
        let (lock, problem) = match member.answer {
            Ok(lock) => (Some(convert::value(py, &lock.to_json())?), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        let dict = PyDict::new(py);
        dict.set_item("url", member.url)?;
        dict.set_item("lock", lock)?;
        dict.set_item("problem", problem)?;
        members.append(dict)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("name", info.name)?;
    dict.set_item("state", info.state.map(LockState::as_str))?;
    dict.set_item("token", info.token.map(FencingToken::get))?;
    dict.set_item("holder", info.holder.map(|holder| holder.owner.to_string()))?;
    dict.set_item("members", members)?;
    dict.into_py_any(py)
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
    pub(crate) no_queue: bool,
    pub(crate) trust_wall_clock: Option<Seconds>,
    pub(crate) polling: Option<Polling>,
}

/// Sets on a builder what was given of the named terms: first those that are Python's types, then those that
/// are the library's.
macro_rules! with {
    ($builder:expr, $terms:expr; $($ours:ident)*; $($value:ident)*) => {{
        let mut builder = $builder;
        $(if let Some(ours) = $terms.$ours {
            builder = builder.$ours(ours.0);
        })*
        $(if let Some(value) = $terms.$value.clone() {
            builder = builder.$value(value);
        })*
        builder
    }};
}

/// Terms of which some are given, under their names.
macro_rules! terms {
    ($($field:ident),*) => {
        $crate::recipe::Terms { $($field,)* ..$crate::recipe::Terms::default() }
    };
}

pub(crate) use {terms, with};

impl Recipe {
    /// Whether what is acquired may be left to another process.
    pub(crate) fn is_detachable(&self) -> bool {
        matches!(self.kind, Kind::Lock) && self.terms.no_keeper
    }

    pub(crate) fn is_of_several(&self, origin: &Origin) -> bool {
        matches!(self.kind, Kind::All(_)) || matches!(origin, Origin::Quorum(_))
    }

    pub(crate) fn wanted(&self, origin: &Origin, py: Python<'_>) -> PyResult<Wanted> {
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
                Wanted::Permits(with!(semaphore, terms; ttl max_hold polling; owner note), *permits)
            }
            Kind::All(names) => {
                let all = origin.store(py)?.lock_all(names);
                Wanted::All(with!(all, terms; ttl max_hold; owner note))
            }
            Kind::Seat => Wanted::Seat(self.election(origin, py)?),
        })
    }

    pub(crate) fn election(&self, origin: &Origin, py: Python<'_>) -> PyResult<Election> {
        let election = origin.store(py)?.election(&self.name);
        Ok(with!(election, self.terms; ttl renew_every; owner note payload))
    }

    fn lock(&self, origin: &Origin, py: Python<'_>) -> PyResult<leaselock::Lock> {
        let lock = match origin {
            Origin::Session(session) => session.get().session()?.lock(&self.name),
            _ => origin.store(py)?.lock(&self.name),
        };
        let terms = &self.terms;
        let lock = with!(
            lock, terms;
            ttl renew_every max_hold min_hold progress_within polling trust_wall_clock;
            owner note payload
        );
        let lock = lock
            .keeper(!terms.no_keeper)
            .store_clock(!terms.no_store_clock)
            .local_handover(!terms.no_local_handover)
            .queue_when_overtaken(!terms.no_queue);
        Ok(if terms.fair { lock.fair() } else { lock })
    }

    fn rwlock(&self, origin: &Origin, py: Python<'_>) -> PyResult<RwLock> {
        let lock = match origin {
            Origin::Session(session) => session.get().session()?.rwlock(&self.name),
            _ => origin.store(py)?.rwlock(&self.name),
        };
        Ok(with!(lock, self.terms; ttl max_hold polling; owner note))
    }
}
