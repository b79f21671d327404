//! What `run` runs CMD under: whatever can be held, or the key of work that is run once.

use leaselock::{
    Attempt, AttemptAll, DoneInfo, Lock, LockAll, LockInfo, LockState, Once, QuorumLock, RwLock,
    Semaphore, Start, WriteAttempt, WriteGuard,
};

use crate::people;
use crate::tenure::Tenure;
use crate::waiting::Patience;

/// What is asked for, and how.
#[derive(Debug)]
pub(crate) enum Key {
    Lock(Lock),
    /// In the order of arrival.
    Fair(Lock),
    Shared(RwLock),
    Exclusive(RwLock),
    /// So many permits.
    Permits(Semaphore, u32),
    Once(Once),
    /// Several locks, and each of them.
    All(LockAll, Vec<Lock>),
    /// One lock on several stores.
    Quorum(QuorumLock),
}

/// What came of asking for it.
#[derive(Debug)]
pub(crate) enum Answer {
    Ours(Tenure),
    Busy(Box<LockInfo>),
    Done(Box<DoneInfo>),
}

impl Key {
    /// The name, or several.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Lock(lock) | Self::Fair(lock) => lock.name().to_owned(),
            Self::Shared(lock) | Self::Exclusive(lock) => lock.name().to_owned(),
            Self::Permits(semaphore, _) => semaphore.name().to_owned(),
            Self::Once(once) => once.key().to_owned(),
            Self::All(locks, _) => locks.names().collect::<Vec<_>>().join(", "),
            Self::Quorum(lock) => lock.name().to_owned(),
        }
    }

    /// How many permits CMD has, if it has any.
    pub(crate) fn permits(&self) -> Option<u32> {
        match self {
            Self::Permits(_, permits) => Some(*permits),
            _ => None,
        }
    }

    /// Whether something of it may be under way when CMD has ended and it was given back: the end of
    /// the session that stood behind it, or what was begun at a slower store of a quorum.
    pub(crate) fn lingers(&self) -> bool {
        !matches!(self, Self::Lock(_) | Self::Once(_))
    }

    pub(crate) async fn ask(&self, patience: Patience) -> leaselock::Result<Answer> {
        match self {
            Self::Lock(lock) | Self::Fair(lock) => attempt(lock, patience).await.map(Answer::from),
            Self::Shared(lock) => read(lock, patience).await.map(Answer::from),
            Self::Exclusive(lock) => write(lock, patience).await.map(Answer::from),
            Self::Permits(semaphore, permits) => {
                take(semaphore, *permits, patience).await.map(Answer::from)
            }
            Self::Once(once) => Ok(match start(once, patience).await? {
                Start::Run(run) => Answer::Ours(Tenure::Run(run)),
                Start::Done(done) => Answer::Done(done),
                Start::Running(info) => Answer::Busy(info),
            }),
            Self::All(locks, _) => Ok(match all(locks, patience).await? {
                AttemptAll::Acquired(guard) => Answer::Ours(Tenure::All(guard)),
                AttemptAll::Held(info) => Answer::Busy(info),
            }),
            Self::Quorum(lock) => majority(lock, patience).await.map(Answer::from),
        }
    }

    /// One line about whom it waits for.
    pub(crate) async fn situation(&self) -> leaselock::Result<String> {
        let info = match self {
            Self::Lock(lock) | Self::Fair(lock) => lock.inspect().await?,
            Self::Shared(lock) | Self::Exclusive(lock) => lock.inspect().await?,
            Self::Permits(semaphore, _) => semaphore.inspect().await?,
            Self::Once(once) => once.inspect().await?,
            Self::All(_, each) => {
                return Ok(somebody_elses(each)
                    .await?
                    .unwrap_or_else(|| format!("{} were free a moment ago", self.name())));
            }
            Self::Quorum(lock) => return Ok(people::situation_of_quorum(&lock.inspect().await?)),
        };
        Ok(people::situation(&info))
    }
}

/// The situation of the first lock that somebody else holds.
async fn somebody_elses(locks: &[Lock]) -> leaselock::Result<Option<String>> {
    for lock in locks {
        let info = lock.inspect().await?;
        let held = matches!(info.state, LockState::Held | LockState::Expired);
        if held && !info.holders.iter().any(|holder| people::is_this_process(&holder.owner)) {
            return Ok(Some(people::situation(&info)));
        }
    }
    Ok(None)
}

impl From<Attempt> for Answer {
    fn from(attempt: Attempt) -> Self {
        match attempt {
            Attempt::Acquired(guard) => Self::Ours(Tenure::Lock(guard)),
            Attempt::Held(info) => Self::Busy(info),
        }
    }
}

async fn attempt(lock: &Lock, patience: Patience) -> leaselock::Result<Attempt> {
    match patience {
        Patience::Not => lock.try_acquire().await,
        Patience::AtMost(time) => lock.acquire_timeout(time).await,
        Patience::ForEver => lock.acquire().await.map(Attempt::Acquired),
    }
}

async fn read(lock: &RwLock, patience: Patience) -> leaselock::Result<Attempt> {
    match patience {
        Patience::Not => lock.try_read().await,
        Patience::AtMost(time) => lock.read_timeout(time).await,
        Patience::ForEver => lock.read().await.map(Attempt::Acquired),
    }
}

async fn write(lock: &RwLock, patience: Patience) -> leaselock::Result<Attempt> {
    let attempt = match patience {
        Patience::Not => lock.try_write().await?,
        Patience::AtMost(time) => lock.write_timeout(time).await?,
        Patience::ForEver => WriteAttempt::Acquired(lock.write().await?),
    };
    Ok(match attempt {
        WriteAttempt::Acquired(guard) => Attempt::Acquired(WriteGuard::into_guard(guard)),
        WriteAttempt::Held(info) => Attempt::Held(info),
    })
}

async fn take(
    semaphore: &Semaphore,
    permits: u32,
    patience: Patience,
) -> leaselock::Result<Attempt> {
    match patience {
        Patience::Not => semaphore.try_acquire_many(permits).await,
        Patience::AtMost(time) => semaphore.acquire_many_timeout(permits, time).await,
        Patience::ForEver => semaphore.acquire_many(permits).await.map(Attempt::Acquired),
    }
}

async fn start(once: &Once, patience: Patience) -> leaselock::Result<Start> {
    match patience {
        Patience::Not => once.try_start().await,
        Patience::AtMost(time) => once.start_timeout(time).await,
        Patience::ForEver => once.start().await,
    }
}

async fn all(locks: &LockAll, patience: Patience) -> leaselock::Result<AttemptAll> {
    match patience {
        Patience::Not => locks.try_acquire().await,
        Patience::AtMost(time) => locks.acquire_timeout(time).await,
        Patience::ForEver => locks.acquire().await.map(AttemptAll::Acquired),
    }
}

async fn majority(lock: &QuorumLock, patience: Patience) -> leaselock::Result<Attempt> {
    match patience {
        Patience::Not => lock.try_acquire().await,
        Patience::AtMost(time) => lock.acquire_timeout(time).await,
        Patience::ForEver => lock.acquire().await.map(Attempt::Acquired),
    }
}
