//! The attempts of one call: round after round, with pauses in between.

use std::sync::Arc;

use futures::future::{FutureExt, join_all, select_all};
use tokio::sync::{oneshot, watch};

use super::repair::Repair;
use super::round::{Field, Lost, Round};
use super::{Quorum, restless, too_few};
use crate::acquire::Limit;
use crate::clock::{Boot, timeout};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::info::LockInfo;
use crate::joint::{GivingBack, Whole};
use crate::lock::Attempt;
use crate::name;
use crate::options::{LockOptions, Terms};
use crate::token::FencingToken;
use crate::wait::{Backoff, POLLING, RETRYING};

/// Without an end of its own, waiting gives up when no majority has answered for this long.
const LONGEST_OUTAGE: std::time::Duration = std::time::Duration::from_secs(30);
/// Rounds of a call that does not wait, when others are faster and then do not stay.
const TRIES: u32 = 4;

/// Contends for the lock on every member.
///
/// # Errors
/// The name or the options are invalid, or the task could not do it.
pub(super) async fn contend(
    quorum: &Quorum,
    name: &str,
    options: &LockOptions,
    limit: Limit,
) -> Result<Attempt> {
    let terms = options.check()?;
    let mut members = Vec::with_capacity(quorum.members.len());
    for client in quorum.members.iter() {
        members.push((Arc::clone(client), name::key(client.store.prefix(), name)?));
    }
    // The longest hold is that of the whole.
    let of_member = Terms { max_hold: None, ..terms.clone() };
    let needed = quorum.majority();
    let field = Arc::new(Field { name: name.to_owned(), members, terms: of_member, needed });
    // Dropped with this future: tells the task that nobody waits any more.
    let (_waiting, caller) = watch::channel(());
    let (send, answer) = oneshot::channel();
    let contest = Contest { field, terms, limit, caller };
    // It writes nothing itself, and must not keep one store's shutdown waiting for another.
    quorum.members[0].start_apart(async move {
        // A guard that nobody receives releases itself.
        let _ = send.send(contest.run().await);
    });
    answer.await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Internal, "the task that acquires the lock has ended"))
    })
}

struct Contest {
    field: Arc<Field>,
    /// Of the whole.
    terms: Terms,
    limit: Limit,
    /// Closed when the caller has stopped waiting.
    caller: watch::Receiver<()>,
}

/// What to do after a round that was lost.
enum Next {
    Answer(Result<Attempt>),
    AgainAt(Boot),
}

/// What earlier rounds have come to.
struct Past {
    polling: Backoff,
    /// After rounds that others have won, or nobody.
    retrying: Backoff,
    /// The holder that was seen last.
    seen: Option<FencingToken>,
    failing_since: Option<Boot>,
    tries: u32,
}

impl Contest {
    async fn run(self) -> Result<Attempt> {
        let rng = self.field.members[0].0.store.rng();
        let mut past = Past {
            polling: Backoff::new(POLLING, Arc::clone(rng)),
            retrying: Backoff::new(RETRYING, Arc::clone(rng)),
            seen: None,
            failing_since: None,
            tries: 0,
        };
        let limit = match self.limit {
            Limit::Until(limit) => Some(limit),
            Limit::Once | Limit::Forever => None,
        };
        loop {
            let mut round = Round::begin(Arc::clone(&self.field));
            if self.unless_given_up(round.play(limit)).await? {
                match self.enter(round) {
                    Ok(guard) => return Ok(Attempt::Acquired(guard)),
                    Err(guards) => self.give_back(guards).await?,
                }
                continue;
            }
            let (guards, lost) = round.lost();
            // Entries of ours would be in the way of the next round.
            self.give_back(guards).await?;
            match self.after(lost, &mut past) {
                Next::Answer(answer) => return answer,
                Next::AgainAt(resume) => self.pause(resume).await?,
            }
        }
    }

    /// The guard of a round that was won, unless a member has been lost already.
    fn enter(&self, mut round: Round) -> Result<LockGuard, Vec<LockGuard>> {
        let (guards, late) = round.won();
        let mut holds: Vec<_> = self.field.members.iter().map(|_| None).collect();
        let mut members = Vec::with_capacity(guards.len());
        for (seat, guard) in guards {
            holds[seat] = Some(Arc::clone(guard.hold()));
            members.push(guard);
        }
        let held = members.iter().filter(|member| member.is_held()).count();
        let Some(token) = members.first().map(LockGuard::token) else { return Err(members) };
        if held < self.field.needed {
            return Err(members);
        }
        debug_assert!(members.iter().all(|member| member.token() == token), "one round, one token");
        let whole = Whole {
            name: self.field.name.clone(),
            id: round.id,
            token,
            terms: self.terms.clone(),
            needed: self.field.needed,
            giving_back: GivingBack::AtOnce,
        };
        let client = &self.field.members[0].0;
        let (guard, joining) = whole.of(client, members);
        tracing::info!(lock = %self.field.name, %token, "acquired by a majority");
        let field = Arc::clone(&self.field);
        let repair = Repair::new(field, round, Arc::clone(guard.hold()), holds, &late, joining);
        client.spawn_apart(repair.run());
        Ok(guard)
    }

    fn after(&self, lost: Lost, past: &mut Past) -> Next {
        let now = self.field.clock().now().boot;
        let over = |limit: Boot| now >= limit;
        match lost {
            Lost::Taken(info, end) => {
                past.failing_since = None;
                past.retrying.reset();
                let holder = info.holders.first().map(|holder| holder.token);
                if past.seen != holder {
                    past.seen = holder;
                    past.polling.reset();
                }
                match self.limit {
                    Limit::Once => held(info),
                    Limit::Until(limit) if over(limit) => held(info),
                    // If it ends before the next look would come: take over then.
                    _ => {
                        let look = now.plus(past.polling.next());
                        self.again_at(end.map_or(look, |end| look.min(end)))
                    }
                }
            }
            Lost::Overtaken(info) => {
                past.failing_since = None;
                past.tries += 1;
                match (self.limit, info) {
                    (Limit::Once, Some(info)) => held(info),
                    (Limit::Once, None) if past.tries >= TRIES => {
                        Next::Answer(Err(restless(&self.field.name)))
                    }
                    (Limit::Until(limit), Some(info)) if over(limit) => held(info),
                    (Limit::Until(limit), None) if over(limit) => {
                        Next::Answer(Err(restless(&self.field.name)))
                    }
                    // Others are at it as well: who pauses by chance lets one of them win.
                    _ => self.again_at(now.plus(past.retrying.next())),
                }
            }
            Lost::Unreachable(answered, failures) => {
                let error = too_few(answered, self.field.members.len(), failures);
                let since = *past.failing_since.get_or_insert(now);
                let bearable = match self.limit {
                    Limit::Once => false,
                    Limit::Until(limit) => !over(limit),
                    Limit::Forever => now.since(since) < LONGEST_OUTAGE,
                };
                if bearable && error.kind() == ErrorKind::Unavailable {
                    self.again_at(now.plus(past.retrying.next()))
                } else {
                    Next::Answer(Err(error))
                }
            }
        }
    }

    fn again_at(&self, resume: Boot) -> Next {
        Next::AgainAt(self.limit.cut(resume))
    }

    /// Undoes what a round has entered; waits for it no longer than a request should take.
    async fn give_back(&self, guards: Vec<LockGuard>) -> Result<()> {
        if guards.is_empty() {
            return Ok(());
        }
        let released = join_all(guards.into_iter().map(LockGuard::release));
        let clock = &**self.field.clock();
        // Dropping a release does not stop it.
        let released = timeout(clock, self.field.terms.request_timeout, released);
        self.unless_given_up(released).await.map(drop)
    }

    async fn pause(&self, resume: Boot) -> Result<()> {
        // A store that is shut down is noticed at once; those that were before are none to wait for.
        let open = self.field.members.iter().map(|(client, _)| client.closing());
        let open = open.filter(|closing| !*closing.borrow()).map(|mut closing| {
            async move { closing.wait_for(|closing| *closing).await.is_ok() }.boxed()
        });
        let open: Vec<_> = open.collect();
        let sleep = self.field.clock().sleep_until(resume);
        self.unless_given_up(async move {
            if open.is_empty() {
                return sleep.await;
            }
            tokio::select! {
                biased;
                () = sleep => {}
                _ = select_all(open) => {}
            }
        })
        .await
    }

    async fn unless_given_up<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let mut caller = self.caller.clone();
        tokio::select! {
            biased;
            // Nothing is ever sent: the only change is the sender's end.
            _ = caller.changed() => {
                Err(Error::new(ErrorKind::Internal, "the caller has stopped waiting"))
            }
            output = work => Ok(output),
        }
    }
}

fn held(info: Box<LockInfo>) -> Next {
    Next::Answer(Ok(Attempt::Held(info)))
}
