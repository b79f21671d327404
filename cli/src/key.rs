//! What `run` runs CMD under: whatever can be held, or the key of work that is run once.

use leaselock::{
    Attempt, DoneInfo, Lock, LockGuard, LockInfo, Once, Release, Run, RwLock, Semaphore, Start,
    WriteAttempt, WriteGuard,
};

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
}

/// What is had for it.
#[derive(Debug)]
pub(crate) enum Tenure {
    Lock(LockGuard),
    Run(Run),
}

/// What came of asking for it.
#[derive(Debug)]
pub(crate) enum Answer {
    Ours(Tenure),
    Busy(Box<LockInfo>),
    Done(Box<DoneInfo>),
}

impl Key {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Lock(lock) | Self::Fair(lock) => lock.name(),
            Self::Shared(lock) | Self::Exclusive(lock) => lock.name(),
            Self::Permits(semaphore, _) => semaphore.name(),
            Self::Once(once) => once.key(),
        }
    }

    /// How many permits CMD has, if it has any.
    pub(crate) fn permits(&self) -> Option<u32> {
        match self {
            Self::Permits(_, permits) => Some(*permits),
            _ => None,
        }
    }

    /// Whether a session of this process stands behind it, which has to be ended when all is done: it
    /// outlives what was held under it.
    pub(crate) fn needs_session(&self) -> bool {
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
        }
    }

    pub(crate) async fn inspect(&self) -> leaselock::Result<LockInfo> {
        match self {
            Self::Lock(lock) | Self::Fair(lock) => lock.inspect().await,
            Self::Shared(lock) | Self::Exclusive(lock) => lock.inspect().await,
            Self::Permits(semaphore, _) => semaphore.inspect().await,
            Self::Once(once) => once.inspect().await,
        }
    }
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

impl Tenure {
    pub(crate) fn guard(&self) -> &LockGuard {
        match self {
            Self::Lock(guard) => guard,
            Self::Run(run) => run.guard(),
        }
    }

    /// Gives it back; what is to be run once has failed then.
    pub(crate) async fn give_back(self) -> leaselock::Result<Release> {
        match self {
            Self::Lock(guard) => guard.release().await,
            Self::Run(run) => run.give_back().await,
        }
    }
}
