//! A joint lease: one guard made of several, of which so many as are needed have to be held.
//!
//! **Invariants.**
//! - The whole is never held by fewer members than are needed, each within its own validity: its
//!   [`Hold`] asks theirs before it says anything, so this does not hang on when a task runs. The task
//!   here only sees to it that whoever *waits* for a change is woken.
//! - The end of the whole is sticky. A member that joins later does not revive it.
//! - Only members write, each by its own keeper. The whole has no record and sends no request, so no
//!   shutdown has to wait for it; a shutdown gives back its members, each on its own store.
//! - All members have the same TTL, and the same clocks.
//!
//! `ttl`, renewal and the owner are the members'. The longest hold is the whole's, counted from when it
//! was complete: members have none.
//!
//! **Hazards.** A whole that is lost may leave members that are held, and work that is winding down.
//! They are kept until the guard is dropped, for as long as a lease would have lasted at most, and then
//! given back: each of them is right about *itself*, so that a late release does nobody harm, and
//! nobody else enters what they guard before the work had the time that any lost lease gives it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::client::Client;
use crate::clock::{Boot, Clock, LOOK};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::{Keeping, LockGuard};
use crate::hold::{Hold, LeasePhase, LeaseWatch, LossReason};
use crate::holder::HolderId;
use crate::keeper::{Command, Release, lost};
use crate::options::Terms;
use crate::protocol::expiry::holder_validity;
use crate::record::Payload;
use crate::token::FencingToken;

/// What is made of several guards.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) name: String,
    pub(crate) id: HolderId,
    pub(crate) token: FencingToken,
    pub(crate) terms: Terms,
    /// How many members have to be held.
    pub(crate) needed: usize,
    pub(crate) giving_back: GivingBack,
}

/// In which order members are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivingBack {
    /// The last that was acquired first, one after the other.
    Reversed,
    /// All at once. What is answered does not wait for more than decide it.
    AtOnce,
}

/// Where members go in that are acquired later.
pub(crate) type Joining = mpsc::UnboundedSender<LockGuard>;

impl Whole {
    /// The guard of the whole. It may have been lost already, if a member has.
    pub(crate) fn of(self, client: &Client, members: Vec<LockGuard>) -> (LockGuard, Joining) {
        let clock = Arc::clone(client.store.clock());
        let holds = members.iter().map(|member| Arc::clone(member.hold())).collect();
        let hold = Hold::of_parts(
            self.name,
            self.id,
            self.token,
            &self.terms,
            Arc::clone(&clock),
            (self.needed, holds),
        );
        let hold = Arc::new(hold);
        let (sender, commands) = mpsc::unbounded_channel();
        let (joining, joins) = mpsc::unbounded_channel();
        let joint = Joint {
            hold: Arc::clone(&hold),
            clock,
            ttl: self.terms.ttl,
            needed: self.needed,
            giving_back: self.giving_back,
            changes: members.iter().map(|member| change(member.watch())).collect(),
            members,
            commands,
            joins,
        };
        client.spawn_apart(joint.run());
        (LockGuard::new(hold, Keeping::Joint(sender)), joining)
    }
}

/// The task that follows the members and does for them all what the guard asks.
struct Joint {
    hold: Arc<Hold>,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    needed: usize,
    giving_back: GivingBack,
    /// In the order in which they were acquired.
    members: Vec<LockGuard>,
    /// The next change of each member that has not ended.
    changes: FuturesUnordered<BoxFuture<'static, LeaseWatch>>,
    commands: mpsc::UnboundedReceiver<Command>,
    joins: mpsc::UnboundedReceiver<LockGuard>,
}

impl Joint {
    async fn run(mut self) {
        // Answers of members to renewals that the guard has asked for.
        let mut renewals = FuturesUnordered::new();
        let mut given_up: Option<Boot> = None;
        loop {
            self.hold.settle();
            let now = self.clock.now().boot;
            let wake = if self.hold.is_live() {
                self.hold.next_event().min(now.plus(LOOK))
            } else {
                let end = *given_up.get_or_insert(now.plus(holder_validity(self.ttl)));
                if now >= end || self.changes.is_empty() || self.is_shut_down() {
                    return self.wind_up().await;
                }
                end.min(now.plus(LOOK))
            };
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Renew { payload, done, .. }) => {
                        renewals.push(self.renew(payload).map(|result| {
                            // The caller may have stopped waiting.
                            let _ = done.send(result);
                        }));
                    }
                    Some(Command::Release { done, .. }) => {
                        let result = self.release().await;
                        if let Err(error) = &result {
                            tracing::warn!(lock = %self.hold.name, %error, "the release failed");
                        }
                        if let Some(done) = done {
                            let _ = done.send(result);
                        }
                        return;
                    }
                    Some(Command::Finish { done, .. }) => {
                        let message = "work that is run once has a single lease";
                        let _ = done.send(Err(Error::new(ErrorKind::Internal, message)));
                    }
                    // Nothing that is handed on is made of others.
                    Some(Command::Reserve { .. }) => {}
                    Some(Command::Downgrade { done }) => {
                        let message = "only a lock for readers and writers can be downgraded";
                        let _ = done.send(Err(Error::new(ErrorKind::Internal, message)));
                    }
                    None => return self.wind_up().await,
                },
                Some(member) = self.joins.recv() => {
                    self.changes.push(change(member.watch()));
                    self.hold.admit(Arc::clone(member.hold()));
                    // Those that are over have nothing to give back.
                    self.members.retain(|member| member.hold().is_live());
                    self.members.push(member);
                }
                Some(watch) = self.changes.next() => {
                    if is_live(&watch.status().phase) {
                        self.changes.push(change(watch));
                    }
                }
                Some(()) = renewals.next() => {}
                () = self.clock.sleep_until(wake) => {}
            }
        }
    }

    /// Renews every member. Done when so many have been renewed as are needed; the others go on.
    fn renew(
        &self,
        payload: Option<Box<Payload>>,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let (hold, needed) = (Arc::clone(&self.hold), self.needed);
        let answers: FuturesUnordered<_> =
            self.members.iter().map(|member| member.start_to_renew(payload.clone())).collect();
        async move {
            let (mut answers, mut renewed, mut failed) = (answers, 0, None);
            while renewed < needed {
                match answers.next().await {
                    Some(Ok(Ok(()))) => renewed += 1,
                    Some(Ok(Err(error))) => failed = failed.or(Some(error)),
                    // A keeper that is gone.
                    Some(Err(_)) => {}
                    None => break,
                }
            }
            hold.settle();
            if let Some(reason) = hold.loss() {
                return Err(lost(&reason));
            }
            if renewed >= needed {
                return Ok(());
            }
            let message = format!("{renewed} members were renewed, of which {needed} are needed");
            let error = Error::new(ErrorKind::Unavailable, message);
            Err(match failed {
                Some(cause) => error.caused_by(cause),
                None => error,
            })
        }
    }

    /// Whether it was given back not by its guard, but by the shutdown of members' stores.
    fn is_shut_down(&self) -> bool {
        let live = self.members.iter().filter(|member| member.hold().is_live()).count();
        self.hold.loss().is_none() && live < self.needed
    }

    /// Gives back what is left of a whole that was lost or shut down.
    async fn wind_up(mut self) {
        let result = self.release().await;
        tracing::debug!(lock = %self.hold.name, ?result, "gave back what was left");
        if let Ok(Command::Release { done: Some(done), .. }) = self.commands.try_recv() {
            let _ = done.send(result);
        }
    }

    /// Gives every member back. The whole has ended before.
    async fn release(&mut self) -> Result<Release> {
        let mut tally = Tally::new(self.needed, self.members.len());
        let members = std::mem::take(&mut self.members);
        match self.giving_back {
            GivingBack::Reversed => {
                for member in members.into_iter().rev() {
                    tally.count(member.release().await);
                }
            }
            GivingBack::AtOnce => {
                let mut answers: FuturesUnordered<_> =
                    members.into_iter().map(LockGuard::release).collect();
                // Dropping the rest stops no release that has begun, and all begin at once.
                while !tally.is_decided()
                    && let Some(answer) = answers.next().await
                {
                    tally.count(answer);
                }
            }
        }
        tally.outcome()
    }
}

/// A whole must not seem to be kept by a task that is gone, even if it never ran.
impl Drop for Joint {
    fn drop(&mut self) {
        self.hold.end(LossReason::KeeperStopped);
    }
}

/// What became of the members' releases.
///
/// The whole is released when so many members have confirmed it as it needed to be held: whoever wants
/// it next finds enough of them free. It had been lost before if so many had lost their entry that the
/// rest were too few. Otherwise it is not known.
struct Tally {
    needed: usize,
    /// Members that have not answered.
    open: usize,
    released: usize,
    unconfirmed: usize,
    lost: Option<LossReason>,
    error: Option<Error>,
}

impl Tally {
    fn new(needed: usize, members: usize) -> Self {
        Self { needed, open: members, released: 0, unconfirmed: 0, lost: None, error: None }
    }

    fn count(&mut self, answer: Result<Release>) {
        self.open -= 1;
        match answer {
            Ok(Release::Released) => self.released += 1,
            Ok(Release::AlreadyLost(reason)) => self.lost = self.lost.take().or(Some(reason)),
            Ok(Release::Unconfirmed) => self.unconfirmed += 1,
            Err(error) => {
                self.unconfirmed += 1;
                self.error = self.error.take().or(Some(error));
            }
        }
    }

    fn is_decided(&self) -> bool {
        self.released >= self.needed
    }

    fn outcome(self) -> Result<Release> {
        if self.is_decided() {
            return Ok(Release::Released);
        }
        match (self.lost, self.error) {
            (Some(reason), _) if self.released + self.unconfirmed < self.needed => {
                Ok(Release::AlreadyLost(reason))
            }
            (_, Some(error)) => Err(error),
            _ => Ok(Release::Unconfirmed),
        }
    }
}

/// Completes with the watch when the member has changed; never once it has ended and that was told.
fn change(mut watch: LeaseWatch) -> BoxFuture<'static, LeaseWatch> {
    Box::pin(async move {
        // What had ended before it was watched does not change any more.
        if is_live(&watch.status().phase) {
            watch.changed().await;
        }
        watch
    })
}

fn is_live(phase: &LeasePhase) -> bool {
    matches!(phase, LeasePhase::Held | LeasePhase::AtRisk)
}
