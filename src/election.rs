//! Leader election: a lock whose holder leads.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::error::{ErrorKind, Result};
use crate::guard::LockGuard;
use crate::info::LockInfo;
use crate::keeper::Release;
use crate::lock::{Attempt, Lock};
use crate::name;
use crate::record::Payload;

mod health;
mod leadership;
mod observe;

pub use health::Health;
use health::Seats;
pub use leadership::Leadership;
pub use observe::Leader;
use observe::Observer;

/// An election on a store, by name: of all who campaign in it, at most one leads at a time. Cheap to
/// clone; nothing is written before somebody campaigns.
///
/// An election *is* the [lock](Lock) of the same name: its holder leads, and its fencing token is the
/// *term*. `inspect`, `list`, `break_lease` and the command see it as a lock.
///
/// **What is not promised:** that a former leader that was paused has noticed before its successor
/// acts. Pass the [term](Leadership::term) along, or write through
/// [`guard().fence(…)`](LockGuard::fence), and what it still sends is refused.
///
/// **Who never led is never told that it stopped.** The end of a leadership is the end of a
/// [`Leadership`], and only who led has one. (client-go's `OnStoppedLeading` is also called for
/// candidates that never led.)
///
/// ```
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> leaselock::Result<()> {
/// # let store = leaselock::open("memory:///").await?;
/// # async fn reconcile(term: u64) -> &'static str { "told to stop" }
/// let election = store.election("controllers/orders").ttl(Duration::from_secs(15)).owner("worker-7");
/// // Waits to be elected; cut off whenever the leadership is lost, and begun anew after each election.
/// let why = election.lead(async |leadership| reconcile(leadership.term().get()).await).await?;
/// assert_eq!(why, "told to stop");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Election {
    lock: Lock,
    seats: Arc<Seats>,
}

/// What came of a campaign that does not wait for ever.
#[derive(Debug)]
#[must_use = "somebody else may lead"]
pub enum Campaign {
    /// We lead.
    Elected(Leadership),
    /// Somebody else leads; this is what the record says.
    Following(Box<LockInfo>),
}

impl Campaign {
    /// The leadership, if we were elected.
    pub fn elected(self) -> Option<Leadership> {
        match self {
            Self::Elected(leadership) => Some(leadership),
            Self::Following(_) => None,
        }
    }
}

impl Election {
    pub(crate) fn new(client: Arc<Client>, name: String) -> Self {
        // What a former leader has said of itself is not true of the next.
        let nothing = Payload::from_json_str("null").expect("null is a small JSON value");
        Self { lock: Lock::new(client, name).payload(nothing), seats: Arc::default() }
    }

    /// The election's name, which is that of its lock.
    pub fn name(&self) -> &str {
        self.lock.name()
    }

    /// How long a leadership lasts without renewal: see [`Lock::ttl`]. A leader that crashed is
    /// succeeded after about that long.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { lock: self.lock.ttl(ttl), ..self }
    }

    /// How often a leadership is renewed: see [`Lock::renew_every`].
    #[must_use]
    pub fn renew_every(self, interval: Duration) -> Self {
        Self { lock: self.lock.renew_every(interval), ..self }
    }

    /// The candidate's name for the record, at most 128 bytes, so that others can see who leads.
    #[must_use]
    pub fn owner(self, label: impl Into<String>) -> Self {
        Self { lock: self.lock.owner(label), ..self }
    }

    /// Free text for the record, at most 1,024 bytes.
    #[must_use]
    pub fn note(self, text: impl Into<String>) -> Self {
        Self { lock: self.lock.note(text), ..self }
    }

    /// What others may read of this candidate while it leads, such as its address: up to 16 KiB.
    /// Without one, nothing; a former leader's goes when the next is elected. To change it while
    /// leading: [`LockGuard::set_payload`].
    #[must_use]
    pub fn payload(self, payload: Payload) -> Self {
        Self { lock: self.lock.payload(payload), ..self }
    }

    /// Campaigns until elected, for as long as somebody else leads.
    ///
    /// # Errors
    /// As [`Lock::acquire`]: the options or the name are invalid, the store is unfit, denies access,
    /// or has not answered for 30 s, or the record is damaged. A shorter outage ends no campaign.
    ///
    /// # Cancel safety
    /// Cancel safe: if the election is won meanwhile, the candidate resigns in the background.
    pub async fn campaign(&self) -> Result<Leadership> {
        self.lock.acquire().await.map(|guard| self.lead_with(guard))
    }

    /// Leads if nobody else does, without waiting.
    ///
    /// # Errors
    /// As [`campaign`](Self::campaign), but after four failures of the store.
    ///
    /// # Cancel safety
    /// As [`campaign`](Self::campaign).
    pub async fn try_campaign(&self) -> Result<Campaign> {
        self.lock.try_acquire().await.map(|attempt| self.came_of(attempt))
    }

    /// Campaigns for up to `limit`.
    ///
    /// # Errors
    /// As [`campaign`](Self::campaign), but a store that does not answer is tried until `limit`.
    ///
    /// # Cancel safety
    /// As [`campaign`](Self::campaign).
    pub async fn campaign_timeout(&self, limit: Duration) -> Result<Campaign> {
        self.lock.acquire_timeout(limit).await.map(|attempt| self.came_of(attempt))
    }

    /// Campaigns, and runs `work` as the leader. The work is dropped the moment the leadership is
    /// lost; then it campaigns again, and begins the work anew in the next term that it wins. When the
    /// work completes by itself, resigns and returns its output, whatever the store says to the
    /// resignation.
    ///
    /// Work can only be dropped where it awaits: work that blocks its thread runs on, and what it
    /// returns after its leadership was lost is discarded. [`health`](Self::health) tells of it.
    ///
    /// In a spawned task write `async move |leadership| …` with clones of what the work needs: the
    /// compiler does not see that a future is `Send` whose closure borrows from its surroundings.
    ///
    /// # Errors
    /// Of the campaigns only, the first as well as those after a loss: those of
    /// [`campaign`](Self::campaign), [`Unavailable`](ErrorKind::Unavailable) among them when the store
    /// has not answered for 30 s in a row. A candidate that is to outlast that, as client-go's do, calls
    /// again. [`ShutDown`](ErrorKind::ShutDown) when the store is shut down, also while leading: the
    /// work is dropped then.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work and resigns in the background.
    pub async fn lead<T>(&self, mut work: impl AsyncFnMut(&Leadership) -> T) -> Result<T> {
        loop {
            let leadership = self.campaign().await?;
            match leadership.run(work(&leadership)).await {
                Ok(output) => {
                    self.retire(leadership).await;
                    return Ok(output);
                }
                Err(error) if error.kind() == ErrorKind::Lost => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Resigns when the work is done: what it came to is worth more than what the store says now.
    async fn retire(&self, leadership: Leadership) {
        let term = leadership.term();
        match leadership.resign().await {
            Ok(Release::Released) => {}
            Ok(unclear) => {
                tracing::warn!(election = self.name(), %term, ?unclear, "resigned, not for certain");
            }
            Err(error) => {
                tracing::warn!(election = self.name(), %term, %error, "could not resign");
            }
        }
    }

    /// Who leads, with one read; `None` when nobody does. See [`observe`](Self::observe) for when a
    /// leader that crashed is shown as nobody.
    ///
    /// # Errors
    /// The name is invalid, the store does not answer, or the record is damaged.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn leader(&self) -> Result<Option<Leader>> {
        let key = name::key(self.lock.client().store.prefix(), self.name())?;
        let (client, name) = (Arc::clone(self.lock.client()), self.name().to_owned());
        self.lock.client().call(async move { observe::leader(&client, &name, &key).await }).await
    }

    /// Follows who leads: the present leader at once, then every change: another term, another
    /// payload, or `None` when nobody leads any more.
    ///
    /// Polls with conditional reads, 100 ms to 3 s apart with full jitter, and again from 100 ms after a
    /// change; a term that is shorter than that may go unseen. While an item waits to be taken and
    /// another to be sent nothing is polled.
    ///
    /// **A leader that crashed** leads on record until somebody takes over, or until the store's own
    /// clock shows that its lease has ended; no other clock makes it nobody. On a store of yours
    /// ([`Store::from_object_store`](crate::Store::from_object_store)), whose time is not known, only
    /// a successor ends it.
    ///
    /// An error is an item like others, told once: at once, or for a store that does not answer after
    /// 30 s. Nothing is known then of who leads. The stream goes on, and tells who leads as soon as it
    /// is known again. It ends when the store is shut down, and after an invalid name. Dropping it ends
    /// the polling.
    ///
    /// Must be called where [`Runtime::Current`](crate::Runtime::Current) finds its runtime, if that
    /// was chosen.
    pub fn observe(&self) -> impl Stream<Item = Result<Option<Leader>>> + Send + Unpin + use<> {
        // What is not taken grows old: better not to have looked.
        let (send, receive) = mpsc::channel(1);
        let client = self.lock.client();
        match name::key(client.store.prefix(), self.name()) {
            Ok(key) => {
                let name = self.name().to_owned();
                client.spawn(Observer::new(Arc::clone(client), name, key, send).run());
            }
            Err(error) => drop(send.try_send(Err(error))),
        }
        futures::stream::unfold(receive, |mut receive| async move {
            receive.recv().await.map(|item| (item, receive))
        })
        .boxed()
    }

    /// How this candidate fares, for a liveness probe: judged now, by this process's clocks, without a
    /// request. Unhealthy while a [`Leadership`] that was won through this election or a clone of it
    /// exists whose lease is at risk or lost.
    ///
    /// A candidate that lost its leadership and has let go of it is healthy, and so is one that never
    /// led: being restarted would not help them. One that is stuck in what it does as a leader is not.
    pub fn health(&self) -> Health {
        self.seats.health()
    }

    /// What the record says, with one read, as of a lock: holder, payload, the last terms.
    ///
    /// # Errors
    /// As [`Lock::inspect`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn inspect(&self) -> Result<LockInfo> {
        self.lock.inspect().await
    }

    fn came_of(&self, attempt: Attempt) -> Campaign {
        match attempt {
            Attempt::Acquired(guard) => Campaign::Elected(self.lead_with(guard)),
            Attempt::Held(info) => Campaign::Following(info),
        }
    }

    fn lead_with(&self, guard: LockGuard) -> Leadership {
        let seat = self.seats.take(&guard);
        Leadership::new(guard, seat)
    }
}
