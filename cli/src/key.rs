//! What `run` runs CMD under: a lock, or the key of work that is run once.

use leaselock::{Attempt, DoneInfo, Lock, LockGuard, LockInfo, Once, Release, Run, Start};

use crate::waiting::Patience;

/// A key of either kind.
#[derive(Debug)]
pub(crate) enum Key {
    Lock(Lock),
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
            Self::Lock(lock) => lock.name(),
            Self::Once(once) => once.key(),
        }
    }

    pub(crate) async fn ask(&self, patience: Patience) -> leaselock::Result<Answer> {
        match self {
            Self::Lock(lock) => Ok(match attempt(lock, patience).await? {
                Attempt::Acquired(guard) => Answer::Ours(Tenure::Lock(guard)),
                Attempt::Held(info) => Answer::Busy(info),
            }),
            Self::Once(once) => Ok(match start(once, patience).await? {
                Start::Run(run) => Answer::Ours(Tenure::Run(run)),
                Start::Done(done) => Answer::Done(done),
                Start::Running(info) => Answer::Busy(info),
            }),
        }
    }

    pub(crate) async fn inspect(&self) -> leaselock::Result<LockInfo> {
        match self {
            Self::Lock(lock) => lock.inspect().await,
            Self::Once(once) => once.inspect().await,
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
