//! Sessions: one lease of a process, under which any number of locks and permits are held.
//!
//! **Invariants.** What is held under a session is held for exactly as long as the session's own lease
//! is, and is judged by nothing else. The name of a session is used once: a session that has ended
//! never stands again (hazard H25).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::acquire::{Contended, Limit, contend};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::hold::{Hold, LeasePhase, LeaseWatch, LossReason};
use crate::holder::HolderId;
use crate::keeper::{Command, Release};
use crate::lock::Lock;
use crate::name;
use crate::options::{DEFAULT_TTL, LockOptions, request_timeout};
use crate::record::Kind;
use crate::rwlock::RwLock;
use crate::semaphore::Semaphore;

mod implied;
mod leftover;
mod tenant;

pub(crate) use implied::{Implied, session};
use leftover::Leftover;
pub(crate) use tenant::{Place, Tenant};

/// Writes for what is held under one session that are under way at once.
const AT_ONCE: usize = 32;

/// How a session is to be kept: see [`Store::session`](crate::Store::session).
#[derive(Clone, Debug)]
#[must_use = "nothing is opened yet"]
pub struct SessionBuilder {
    client: Arc<Client>,
    options: LockOptions,
}

/// One lease of this process, under which any number of locks and permits are held: ten thousand of
/// them cost one write per interval. Cheap to clone.
///
/// All of them stand and fall with the session: when its lease is lost, so are they. It ends when it
/// is [closed](Self::close), or when the last handle and the last guard are dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> leaselock::Result<()> {
/// # let store = leaselock::open("memory:///").await?;
/// let session = store.session().open().await?;
/// let mut shards = Vec::new();
/// for number in 0..100 {
///     shards.push(session.lock(format!("shards/{number}")).acquire().await?);
/// }
/// assert!(shards.iter().all(|guard| guard.is_held())); // and one lease is renewed
/// session.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it ends with its last handle and the last guard under it"]
pub struct Session {
    client: Arc<Client>,
    open: Arc<OpenSession>,
}

impl SessionBuilder {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self { client, options: LockOptions::default() }
    }

    crate::options::setters! {
        /// How long the session, and with it everything that is held under it, lasts without renewal: 1 s
        /// to 24 h, 30 s unless given, in whole milliseconds.
        ttl(ttl: Duration) { ttl: Some(ttl) }

        /// How often the session is renewed: a third of the TTL unless given.
        renew_every(interval: Duration) { renew_every: Some(interval) }

        /// A label for the session's own record, at most 128 bytes.
        owner(label: impl Into<String>) { owner: label.into() }
    }

    /// Opens the session, with one write.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    ///
    /// # Cancel safety
    /// Cancel safe: a write that is under way is seen to its end in the background and undone.
    pub async fn open(self) -> Result<Session> {
        let open = OpenSession::start(&self.client, &self.options, Limit::Forever).await?;
        Ok(Session { client: self.client, open })
    }
}

impl Session {
    /// The name of the session, which is in the record of whatever is held under it.
    pub fn id(&self) -> HolderId {
        self.open.id
    }

    /// The lock called `name`, to be held under this session: with a TTL that is the session's.
    pub fn lock(&self, name: impl Into<String>) -> Lock {
        Lock::new(Arc::clone(&self.client), name.into()).within(Arc::clone(&self.open))
    }

    /// The lock for readers and writers called `name`, to be held under this session.
    pub fn rwlock(&self, name: impl Into<String>) -> RwLock {
        RwLock::new(Arc::clone(&self.client), name.into()).within(Arc::clone(&self.open))
    }

    /// The semaphore called `name` with `limit` permits, to be held under this session.
    pub fn semaphore(&self, name: impl Into<String>, limit: u32) -> Semaphore {
        Semaphore::new(Arc::clone(&self.client), name.into(), limit).within(Arc::clone(&self.open))
    }

    /// Whether the session's lease is held: judged now, by this process's clocks. Once false it stays
    /// false.
    pub fn is_held(&self) -> bool {
        self.open.hold.is_held()
    }

    /// How long the session lasts for certain if nothing renews it; zero when it has ended.
    pub fn remaining(&self) -> Duration {
        self.open.hold.remaining()
    }

    /// Completes when the session's lease is lost, with the reason; never when it is closed first.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn lost(&self) -> impl Future<Output = LossReason> + Send + 'static {
        self.open.hold.wait_for(|phase| match phase {
            LeasePhase::Lost(reason) => Some(reason.clone()),
            _ => None,
        })
    }

    /// Follows the session's lease: every renewal, the warning, the end.
    pub fn watch(&self) -> LeaseWatch {
        self.open.hold.watch()
    }

    /// Gives back everything that is held under the session, one write each, and then ends it. All
    /// guards are invalid at once. Where it has been closed before, the answer is `Unconfirmed`: that
    /// call has its own.
    ///
    /// # Errors
    /// The store refused, for example because credentials were withdrawn. The lease expires.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop it.
    pub async fn close(self) -> Result<Release> {
        let Self { client, open } = self;
        let closing = {
            let client = Arc::clone(&client);
            async move {
                client.release_all_under(&open.hold).await;
                if let Some(reason) = open.hold.loss() {
                    return Ok(Release::AlreadyLost(reason));
                }
                let (done, answer) = oneshot::channel();
                let _ = open.orders.send(Order::Close { done });
                answer.await.unwrap_or(Ok(Release::Unconfirmed))
            }
        };
        client.call(closing).await
    }
}

/// A session that was opened, for as long as somebody uses it.
pub(crate) struct OpenSession {
    pub(crate) id: HolderId,
    pub(crate) ttl: Duration,
    pub(crate) hold: Arc<Hold>,
    orders: mpsc::UnboundedSender<Order>,
}

/// What is asked of a session's task.
enum Order {
    /// To do this for something that is held under it.
    Obey(Arc<Tenant>, Command),
    Close {
        done: oneshot::Sender<Result<Release>>,
    },
}

impl OpenSession {
    /// Boxed, as who contends for a lock may open a session, and so contend for that.
    pub(crate) fn start<'a>(
        client: &'a Arc<Client>,
        options: &'a LockOptions,
        limit: Limit,
    ) -> BoxFuture<'a, Result<Arc<Self>>> {
        Self::begin(client, options, limit).boxed()
    }

    async fn begin(client: &Arc<Client>, options: &LockOptions, limit: Limit) -> Result<Arc<Self>> {
        let id = HolderId::from_random(client.store.rng().bits());
        let name = id.to_string();
        let contended = contend(client, Kind::Session, &name, options, limit).await?;
        let Contended::Acquired(guard) = contended else {
            // Of this call itself: its first write was answered when the lease was over, and has not
            // been undone yet.
            let message = "the session to wait under was opened too late";
            return Err(Error::new(ErrorKind::Unavailable, message));
        };
        let (orders, received) = mpsc::unbounded_channel();
        let hold = Arc::clone(guard.hold());
        let ttl = options.ttl.unwrap_or(DEFAULT_TTL);
        client.spawn(work(Arc::clone(client), name, guard, received));
        Ok(Arc::new(Self { id, ttl, hold, orders }))
    }

    /// A task that has ended answers nothing.
    pub(crate) fn order(&self, tenant: Arc<Tenant>, command: Command) {
        let _ = self.orders.send(Order::Obey(tenant, command));
    }
}

impl fmt::Debug for OpenSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSession").field("id", &self.id).field("ttl", &self.ttl).finish()
    }
}

/// The task of a session: writes for what is held under it, and ends it when nobody uses it any more.
async fn work(
    client: Arc<Client>,
    name: String,
    guard: LockGuard,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let ended = guard.hold().wait_for(|phase| match phase {
        LeasePhase::Lost(_) | LeasePhase::Released => Some(()),
        LeasePhase::Held | LeasePhase::AtRisk => None,
    });
    let mut ended = std::pin::pin!(ended.fuse());
    let mut working = FuturesUnordered::new();
    // What is not off the record yet ends with the session, if not before.
    let mut clearing = FuturesUnordered::new();
    let mut closing = None;
    loop {
        tokio::select! {
            biased;
            // What was ordered before is answered: from its hold everything knows that it is over.
            () = &mut ended => orders.close(),
            Some(leftover) = working.next(), if !working.is_empty() => {
                if let Some(leftover) = leftover {
                    clearing.push(Leftover::clear(leftover));
                }
            }
            Some(()) = clearing.next(), if !clearing.is_empty() => {}
            order = orders.recv(), if working.len() < AT_ONCE => match order {
                Some(Order::Obey(tenant, command)) => working.push(tenant.obey(command)),
                Some(Order::Close { done }) => {
                    closing = Some(done);
                    orders.close();
                }
                None => break,
            },
        }
    }
    while working.next().await.is_some() {}
    if guard.hold().is_live() {
        let released = guard.release().await;
        if matches!(released, Ok(Release::Released)) {
            forget(&client, &name).await;
        }
        if let Some(done) = closing {
            let _ = done.send(released);
        }
    }
}

/// Deletes the record of a session that has ended: where there is none, there is no session. If the
/// store does not permit it, the record stays, and means the same.
pub(crate) async fn forget(client: &Client, name: &str) {
    if let Ok(key) = name::key_of(Kind::Session, client.store.prefix(), name) {
        client.store.delete(&key, request_timeout(DEFAULT_TTL)).await;
    }
}
