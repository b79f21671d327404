//! The guard of a lock that was acquired.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::acquire::shut_down;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::fencing::{Fence, Objects};
use crate::hold::{Hold, LeasePhase, LeaseWatch, LossReason};
use crate::holder::HolderId;
use crate::keeper::{Command, Entry, Kept, Release, lost};
use crate::local::Seat;
use crate::protocol::once::Finish;
use crate::record::{Kind, Payload};
use crate::session::Tenant;
use crate::token::FencingToken;

/// A lock that is held, for as long as [`is_held`](Self::is_held) says so.
///
/// A keeper renews the lease in the background. When it cannot, the guard says so *before* anybody
/// else may take over: [`is_held`](Self::is_held) turns false, [`lost`](Self::lost) completes, and
/// [`run`](Self::run) drops its work.
///
/// **What a guard cannot do** is to stop a process that was paused between asking it and acting.
/// [`fence`](Self::fence) makes an object store refuse what such a process sends; to anything else
/// pass [`token`](Self::token) along and let the receiver refuse smaller ones.
///
/// Dropping the guard releases the lock in the background, in and outside a runtime, on a best
/// effort: a process that exits at once may leave it to expire. Call [`release`](Self::release), or
/// [`Store::shutdown`](crate::Store::shutdown) before exiting, to know.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard {
    hold: Arc<Hold>,
    keeping: Keeping,
}

/// Who writes for an acquisition.
#[derive(Debug)]
pub(crate) enum Keeping {
    /// The keeper, for a lease of its own.
    Keeper(Arc<Kept>),
    /// The task of the session under which it is held.
    Session(Arc<Tenant>),
    /// The lease by which others in this process hold before and after.
    Seat(Arc<Seat>),
    /// The task that keeps a lease made of others.
    Joint(mpsc::UnboundedSender<Command>),
}

/// The same, from where nothing is to be kept alive.
#[derive(Debug)]
pub(crate) enum WeakKeeping {
    Keeper(Weak<Kept>),
    Session(Weak<Tenant>),
    Seat(Weak<Seat>),
}

impl Keeping {
    /// Needs no runtime here (hazard H15). Where the keeper is gone the command is dropped, and with
    /// it the sender of the answer.
    pub(crate) fn order(&self, command: Command) {
        match self {
            Self::Keeper(kept) => kept.order(command, false),
            Self::Session(tenant) => tenant.order(command),
            Self::Seat(seat) => seat.order(command, false),
            Self::Joint(task) => drop(task.send(command)),
        }
    }

    /// The lease, if it is the acquisition's own and nobody else's.
    pub(crate) fn own(&self) -> Option<&Arc<Kept>> {
        match self {
            Self::Keeper(kept) => Some(kept),
            Self::Session(_) | Self::Seat(_) | Self::Joint(_) => None,
        }
    }

    /// As [`order`](Self::order), for a caller that waits: what can be done at once is done here.
    fn order_here(&self, command: Command) {
        match self {
            Self::Keeper(kept) => kept.order(command, true),
            Self::Seat(seat) => seat.order(command, true),
            _ => self.order(command),
        }
    }
}

impl WeakKeeping {
    pub(crate) fn upgrade(&self) -> Option<Keeping> {
        match self {
            Self::Keeper(kept) => kept.upgrade().map(Keeping::Keeper),
            Self::Session(tenant) => tenant.upgrade().map(Keeping::Session),
            Self::Seat(seat) => seat.upgrade().map(Keeping::Seat),
        }
    }
}

impl LockGuard {
    pub(crate) fn new(hold: Arc<Hold>, keeping: Keeping) -> Self {
        Self { hold, keeping }
    }

    /// Held under the lease of `entry`, to which a keeper sees from now on.
    pub(crate) fn kept(client: &Arc<Client>, kind: Kind, entry: Entry) -> Self {
        let hold = Arc::clone(&entry.hold);
        let kept = Kept::begin(client, entry, |kept| {
            // Where the lease is handed on, its first holder will be registered in its place, by the
            // same id: until then a shutdown must find it too.
            client.register(kind, Arc::clone(&hold), WeakKeeping::Keeper(kept.clone()))
        });
        Self::new(hold, Keeping::Keeper(kept))
    }

    pub(crate) fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }

    pub(crate) fn keeping(&self) -> &Keeping {
        &self.keeping
    }

    /// The lock's name.
    pub fn name(&self) -> &str {
        &self.hold.name
    }

    /// The fencing token of this acquisition: larger than that of every earlier one.
    pub fn token(&self) -> FencingToken {
        self.hold.token
    }

    /// The identity of this acquisition.
    pub fn id(&self) -> HolderId {
        self.hold.id
    }

    /// Whether the lock is held: judged now, by this process's clocks, without asking the store.
    /// Once false it stays false. Does not allocate.
    pub fn is_held(&self) -> bool {
        self.hold.is_held()
    }

    /// How long the lock is held for certain if nothing renews it; zero when it is lost.
    pub fn remaining(&self) -> Duration {
        self.hold.remaining()
    }

    /// Completes when the lease is lost, with the reason; never when it is released first.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn lost(&self) -> impl Future<Output = LossReason> + Send + 'static {
        self.hold.wait_for(|phase| match phase {
            LeasePhase::Lost(reason) => Some(reason.clone()),
            _ => None,
        })
    }

    /// Completes when the lease is at risk or lost: half of its TTL has passed without an
    /// acknowledged renewal, and the keeper goes on trying. Time to stop starting new work.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn at_risk(&self) -> impl Future<Output = ()> + Send + 'static {
        self.hold.wait_for(|phase| match phase {
            LeasePhase::AtRisk | LeasePhase::Lost(_) => Some(()),
            LeasePhase::Held | LeasePhase::Released => None,
        })
    }

    /// Follows the lease: every renewal, the warning, the end.
    pub fn watch(&self) -> LeaseWatch {
        self.hold.watch()
    }

    /// Writes objects with this guard's token, so that the store refuses what an earlier holder may
    /// still send: see [`fencing`](crate::fencing).
    pub fn fence(&self, objects: &Objects) -> Fence {
        Fence::new(objects.clone(), Arc::clone(&self.hold))
    }

    /// Reports progress: see [`Lock::progress_within`](crate::Lock::progress_within).
    pub fn touch(&self) {
        self.hold.touch();
    }

    /// Renews the lease now, with one write: for programs whose threads freeze between calls and
    /// that turned the keeper off.
    ///
    /// # Errors
    /// [`Lost`](crate::ErrorKind::Lost) when the lease is lost, for good. Any other error: it was not renewed
    /// this time, and the lease goes on until its deadline.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the write; the keeper sees to its end.
    pub async fn renew(&self) -> Result<()> {
        self.ask_to_renew(None).await
    }

    /// Sets the lock's payload for others to read, with one write that also renews the lease.
    ///
    /// # Errors
    /// As [`renew`](Self::renew).
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the write; the keeper sees to its end.
    pub async fn set_payload(&self, payload: Payload) -> Result<()> {
        self.ask_to_renew(Some(payload)).await
    }

    /// Asks the keeper for a renewal, whose answer comes unless the keeper is gone.
    pub(crate) fn start_to_renew(
        &self,
        payload: Option<Box<Payload>>,
    ) -> oneshot::Receiver<Result<()>> {
        let (done, answer) = oneshot::channel();
        self.keeping.order_here(Command::Renew { payload, done, after: None });
        answer
    }

    async fn ask_to_renew(&self, payload: Option<Payload>) -> Result<()> {
        match self.start_to_renew(payload.map(Box::new)).await {
            Ok(result) => result,
            Err(_) => Err(lost(&self.hold.loss().unwrap_or(LossReason::KeeperStopped))),
        }
    }

    /// Runs `work` while the lock is held and drops it the moment the lease is lost.
    ///
    /// # Errors
    /// [`Lost`](crate::ErrorKind::Lost) when the lease was lost before the work was done.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work; the guard stays.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let output = tokio::select! {
            biased;
            reason = self.lost() => return Err(lost(&reason)),
            output = work => output,
        };
        // Work that never yielded may have outlived the lease.
        if self.is_held() {
            return Ok(output);
        }
        Err(lost(&self.hold.loss().unwrap_or(LossReason::Expired)))
    }

    /// Gives the lock back, with one write. The guard is invalid at once; what comes back is what
    /// the store said, after retries for as long as the lease would have lasted.
    ///
    /// # Errors
    /// The store refused, for example because credentials were withdrawn. The lease expires.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the release; only its outcome goes unseen.
    pub async fn release(self) -> Result<Release> {
        if let Err(reason) = self.hold.begin_release() {
            return Ok(Release::AlreadyLost(reason));
        }
        let (done, answer) = oneshot::channel();
        self.keeping.order_here(Command::Release { done: Some(done), after: None });
        answer.await.unwrap_or(Ok(Release::Unconfirmed))
    }

    /// Turns a writer's guard into a reader's.
    pub(crate) async fn downgrade(&self) -> Result<()> {
        let (done, answer) = oneshot::channel();
        self.keeping.order_here(Command::Downgrade { done });
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(lost(&self.hold.loss().unwrap_or(LossReason::KeeperStopped))),
        }
    }

    /// Gives the lease up for good by recording what the work has come to.
    pub(crate) async fn finish(self, finish: Finish) -> Result<()> {
        let live = self.hold.is_live();
        self.hold.begin_release().map_err(|reason| lost(&reason))?;
        if !live {
            // A shutdown has given the lease back.
            return Err(shut_down());
        }
        let (done, answer) = oneshot::channel();
        self.keeping.order_here(Command::Finish { finish: Box::new(finish), done });
        answer.await.unwrap_or_else(|_| {
            let message = "the task that records the result of the work has ended early";
            Err(Error::new(ErrorKind::Unconfirmed, message))
        })
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.hold.is_live() && self.hold.begin_release().is_ok() {
            self.keeping.order(Command::Release { done: None, after: None });
        }
    }
}
