//! The keeper: one task per acquisition. It renews the lease in time, notices when it is lost, and
//! gives it back.
//!
//! **Invariant.** The keeper is the only one that writes for its acquisition: see [`Entry`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::client::Registration;
use crate::clock::Boot;
use crate::error::{Error, ErrorKind, Result};
use crate::hold::LossReason;
use crate::protocol::once::Finish;
use crate::record::Payload;
use crate::wait::{Backoff, RETRYING};

mod entry;

pub(crate) use entry::Entry;
use entry::{End, Last};

/// How a release ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// The lock is free; or, with a minimum hold, it will be when that has passed.
    Released,
    /// The lease had been lost before.
    AlreadyLost(LossReason),
    /// The store did not confirm it in time. The lock becomes free when the lease expires.
    Unconfirmed,
}

/// What a guard asks of its keeper.
#[derive(Debug)]
pub(crate) enum Command {
    Renew {
        payload: Option<Box<Payload>>,
        done: oneshot::Sender<Result<()>>,
    },
    /// Turns a writer into a reader.
    Downgrade {
        done: oneshot::Sender<Result<()>>,
    },
    Release {
        done: Option<oneshot::Sender<Result<Release>>>,
    },
    /// Records what the work has come to, in the place of the holder.
    Finish {
        finish: Box<Finish>,
        done: oneshot::Sender<Result<()>>,
    },
}

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) entry: Entry,
    /// Between a renewal's answer and the next renewal, before jitter; `None` when the user renews.
    pub(crate) renew_every: Option<Duration>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    /// Lives as long as the keeper.
    pub(crate) _registration: Registration,
}

impl Keeper {
    /// Keeps the lease until the guard is gone. What is under way is boxed: a keeper rests most of
    /// its life, and there may be thousands.
    pub(crate) async fn run(mut self) {
        let clock = Arc::clone(self.entry.store.clock());
        let mut backoff = Backoff::new(RETRYING, Arc::clone(self.entry.store.rng()));
        let mut renew_at = self.next_renewal();
        loop {
            let look = self.entry.next_look();
            let wake = renew_at.map_or(look, |at| look.min(at));
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => match Box::pin(self.entry.obey(command)).await {
                        Obeyed::Renewed => renew_at = self.next_renewal(),
                        Obeyed::Stands => {}
                        Obeyed::Ended { .. } => return,
                    },
                    None => return,
                },
                () = clock.sleep_until(wake), if self.entry.hold.is_live() => {
                    self.entry.hold.settle();
                    let due = renew_at.is_some_and(|at| clock.now().boot >= at);
                    if due && self.entry.hold.is_live() {
                        renew_at = match Box::pin(self.entry.renew(None)).await {
                            Ok(()) => {
                                backoff.reset();
                                self.next_renewal()
                            }
                            Err(_) => Some(clock.now().boot.plus(backoff.next())),
                        };
                    }
                }
            }
        }
    }

    /// When the next renewal is due: the interval after the last was sent, give or take a tenth, so
    /// that the keepers of many locks do not march in step.
    fn next_renewal(&self) -> Option<Boot> {
        let every = self.renew_every?;
        let jitter = self.entry.store.rng().up_to(every / 5);
        Some(self.entry.hold.renewed_at().plus(every / 10 * 9).plus(jitter))
    }
}

/// What has come of a command.
pub(crate) enum Obeyed {
    Renewed,
    /// The lease stands as before.
    Stands,
    Ended {
        /// Whether its entry is certainly not on record any more.
        off_record: bool,
    },
}

impl Entry {
    /// Does what a guard asks for. Callers may have stopped waiting for the answer.
    pub(crate) async fn obey(&mut self, command: Command) -> Obeyed {
        match command {
            Command::Renew { payload, done } => {
                let result = self.renew_now(payload.as_deref()).await;
                let renewed = if result.is_ok() { Obeyed::Renewed } else { Obeyed::Stands };
                let _ = done.send(result);
                renewed
            }
            Command::Downgrade { done } => {
                let _ = done.send(self.downgrade().await);
                Obeyed::Stands
            }
            Command::Release { done } => {
                let result = self.release().await;
                let off_record = matches!(result, Ok(Release::Released | Release::AlreadyLost(_)));
                if let Some(done) = done {
                    let _ = done.send(result);
                }
                Obeyed::Ended { off_record }
            }
            Command::Finish { finish, done } => {
                let result = self.finish(&finish).await;
                let off_record = result.is_ok();
                let _ = done.send(result);
                Obeyed::Ended { off_record }
            }
        }
    }

    /// Gives the lock back. The guard has been told before that it does not hold it any more.
    pub(crate) async fn release(&mut self) -> Result<Release> {
        let released = match self.end(End::Release).await {
            Ok(Last::Landed) => Ok(Release::Released),
            Ok(Last::Lost(reason)) => Ok(Release::AlreadyLost(reason)),
            Ok(Last::TooLate) => Ok(Release::Unconfirmed),
            Ok(Last::Unknown(error)) => {
                tracing::warn!(lock = %self.hold.name, %error, "the release is not confirmed");
                Ok(Release::Unconfirmed)
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => Ok(Release::Unconfirmed),
            Err(error) => Err(error),
        };
        if let Err(error) = &released {
            tracing::warn!(lock = %self.hold.name, %error, "the release failed");
        }
        released
    }

    /// Records what the work has come to, if this still is the holder on record.
    pub(crate) async fn finish(&mut self, finish: &Finish) -> Result<()> {
        let finished = match self.end(End::Finish(finish)).await {
            Ok(Last::Landed) => Ok(()),
            Ok(Last::Lost(reason)) => Err(lost(&reason)),
            Ok(Last::TooLate) => Err(lost(&LossReason::Expired)),
            Ok(Last::Unknown(error)) => {
                let message =
                    "the work was done, but it is not known whether its result was recorded";
                Err(Error::new(ErrorKind::Unconfirmed, message).caused_by(error))
            }
            Err(error) => {
                let message = "the work was done, but its result was not recorded";
                Err(Error::new(error.kind(), message).caused_by(error))
            }
        };
        if let Err(error) = &finished {
            tracing::warn!(lock = %self.hold.name, %error, "no result was recorded");
        }
        finished
    }
}

pub(crate) fn lost(reason: &LossReason) -> Error {
    Error::new(ErrorKind::Lost, format!("the lease is lost: {reason}"))
}

/// A lease must not seem to be kept by a keeper that is gone, even if it never ran.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.entry.hold.end(LossReason::KeeperStopped);
    }
}
