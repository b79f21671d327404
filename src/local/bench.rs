//! Where those wait who want one lock, and what becomes of its lease.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::lease::Lease;
use super::waiting::Waiting;
use super::{Lead, Place, Seat};
use crate::client::Client;
use crate::clock::Boot;
use crate::error::Result;
use crate::guard::LockGuard;
use crate::hold::{LeasePhase, LossReason};
use crate::holder::HolderId;
use crate::keeper::{After, Command, Release, Reserved, Reserving};
use crate::protocol::handover::{Next, Turn};
use crate::token::FencingToken;

/// Where whoever gives the lock back hears how that went, and whether it waits for that: then what can
/// be done at once is done on its thread.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) to: Option<oneshot::Sender<Result<Release>>>,
    pub(super) here: bool,
    /// Whether something else that it has asked for is not done yet.
    pub(super) busy: bool,
}

/// One lock, wanted on the same terms.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) place: Place,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Waiter>,
    /// How many have waited.
    numbers: u64,
    has: Has,
    /// How many tokens a lease needs, going by the last.
    needed: u64,
    /// Nobody gets in any more.
    retired: bool,
}

/// Who has the lock, as far as this bench is concerned.
#[derive(Debug, Default)]
enum Has {
    #[default]
    Nobody,
    /// Somebody contends for it at the store, or it is being given back.
    Lead,
    Lease(Leased),
}

/// A lease that is handed on.
#[derive(Debug)]
struct Leased {
    /// Whoever holds does so by this guard, which nobody sees.
    _guard: LockGuard,
    lease: Lease,
    turn: Turn,
    /// Whether somebody will tell when it is lost.
    watched: bool,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    call: oneshot::Sender<Called>,
}

/// What somebody in the queue is called to.
#[derive(Debug)]
pub(super) enum Called {
    /// To hold the lock.
    Holds(LockGuard),
    /// To contend at the store for all who wait.
    Leads(Lead),
    /// To see for itself.
    Alone,
}

/// What somebody finds who comes to a bench.
#[derive(Debug)]
pub(super) enum Entered {
    Leads(Lead),
    Waits(Waiting),
    /// Somebody is there, and there is no time to wait.
    Busy,
}

/// What has to be done about a lease, once the bench is not locked any more.
enum Step {
    /// It is over, or was before.
    Over(Option<Leased>),
    HandOver(Waiter, FencingToken),
    Reserve(u64),
    /// … after a pause, if there are others whose turn it is.
    GiveBack(Leased, bool),
}

impl Bench {
    pub(super) fn new(place: Place) -> Self {
        Self { place, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets somebody in, unless the bench is not used any more.
    pub(super) fn enter(self: &Arc<Self>, client: &Arc<Client>, once: bool) -> Option<Entered> {
        let mut state = self.state();
        if state.retired {
            return None;
        }
        if matches!(state.has, Has::Nobody) {
            state.has = Has::Lead;
            return Some(Entered::Leads(Lead::new(client, self, None)));
        }
        if once {
            return Some(Entered::Busy);
        }
        state.numbers += 1;
        let number = state.numbers;
        let (sender, call) = oneshot::channel();
        state.queue.push_back(Waiter { number, call: sender });
        let unwatched = match &mut state.has {
            Has::Lease(leased) if !leased.watched => {
                leased.watched = true;
                Some(leased.lease.clone())
            }
            _ => None,
        };
        drop(state);
        if let Some(lease) = unwatched {
            self.watch(client, lease);
        }
        Some(Entered::Waits(Waiting { bench: Arc::clone(self), number, call }))
    }

    fn watch(self: &Arc<Self>, client: &Arc<Client>, lease: Lease) {
        let watching = Watching { client: Arc::clone(client), bench: Arc::clone(self), lease };
        client.spawn_apart(watch(watching));
    }

    pub(super) fn leave_queue(&self, number: u64) {
        let mut state = self.state();
        // Numbers only rise.
        let place = state.queue.binary_search_by_key(&number, |waiter| waiter.number);
        let waiter = place.ok().and_then(|place| state.queue.remove(place));
        drop(state);
        drop(waiter);
    }

    /// How many tokens whoever contends now should reserve.
    pub(super) fn to_reserve(&self) -> u64 {
        let state = self.state();
        if state.queue.is_empty() { 0 } else { state.needed }
    }

    /// The lock was acquired at the store, for everybody here: whoever has done it holds it first.
    pub(super) fn seat_first(
        self: &Arc<Self>,
        client: &Arc<Client>,
        guard: LockGuard,
    ) -> LockGuard {
        let Some(lease) = Lease::of(&guard) else {
            self.pass_on(client, None);
            return guard;
        };
        let (id, token) = (guard.id(), guard.token());
        let now = client.store.clock().now().boot;
        let reserved = lease.reserved();
        let turn = Turn::new(token, reserved.up_to, reserved.contested, now);
        let mut state = self.state();
        let watched = lease.has_to_be_watched() || !state.queue.is_empty();
        let of_all = lease.clone();
        state.has = Has::Lease(Leased { _guard: guard, lease: of_all, turn, watched });
        drop(state);
        if watched {
            self.watch(client, lease.clone());
        }
        Seat::guard(client, self, lease, id, token)
    }

    /// The present holder of a lease does not need it any more, or it cannot have it any longer, or
    /// tokens were reserved: on to the next.
    pub(super) fn go_on(self: &Arc<Self>, client: &Arc<Client>, lease: &Lease, mut answer: Answer) {
        let now = client.store.clock().now().boot;
        loop {
            let step = self.next(lease, now, answer.busy);
            if matches!(step, Step::HandOver(..) | Step::Reserve(_)) {
                answer.say(Release::Released);
            }
            match step {
                Step::HandOver(waiter, token) => {
                    let id = HolderId::from_random(client.store.rng().bits());
                    let guard = Seat::guard(client, self, lease.clone(), id, token);
                    match waiter.call.send(Called::Holds(guard)) {
                        // It has gone in this moment: its token is nobody's.
                        Err(Called::Holds(guard)) => Seat::vacate(guard),
                        _ => return,
                    }
                }
                Step::Reserve(more) => {
                    let (client, bench) = (Arc::clone(client), Arc::clone(self));
                    let of = lease.clone();
                    let done = Reserving::new(move |reserved| {
                        bench.has_reserved(&client, &of, reserved);
                    });
                    return lease.order(Command::Reserve { more, done }, answer.here);
                }
                Step::GiveBack(leased, pausing) => {
                    let lead = Lead::new(client, self, pausing.then(|| Lead::pause(client)));
                    return leased.give_back(lead, answer);
                }
                Step::Over(leased) => {
                    let reason = lease.hold().loss().unwrap_or(LossReason::Expired);
                    answer.say(Release::AlreadyLost(reason));
                    if leased.is_some() {
                        self.pass_on(client, None);
                    }
                    return;
                }
            }
        }
    }

    fn next(&self, lease: &Lease, now: Boot, busy: bool) -> Step {
        let mut state = self.state();
        let State { queue, has, needed, .. } = &mut *state;
        let Some(Leased { turn, .. }) = has.leased(lease) else { return Step::Over(None) };
        if !lease.hold().is_held() {
            return Step::Over(has.take());
        }
        *needed = turn.to_reserve();
        let next = match queue.is_empty() {
            true => Next::GiveBack,
            // Its turn comes after what is not done yet.
            false if busy => Next::Reserve(turn.to_reserve()),
            false => turn.next(now),
        };
        match (next, queue.pop_front()) {
            (Next::HandOver(token), Some(waiter)) => Step::HandOver(waiter, token),
            (Next::Reserve(more), Some(waiter)) => {
                queue.push_front(waiter);
                Step::Reserve(more)
            }
            (_, waiter) => {
                let pausing = waiter.is_some();
                waiter.into_iter().for_each(|waiter| queue.push_front(waiter));
                has.take().map_or(Step::Over(None), |leased| Step::GiveBack(leased, pausing))
            }
        }
    }

    /// The write that was to reserve tokens has ended.
    fn has_reserved(
        self: &Arc<Self>,
        client: &Arc<Client>,
        lease: &Lease,
        reserved: Option<Reserved>,
    ) {
        let mut state = self.state();
        let given_up = match (state.has.leased(lease), reserved) {
            (Some(leased), Some(reserved)) => {
                leased.turn.has_reserved(reserved.up_to, reserved.contested);
                None
            }
            (Some(_), None) => state.has.take(),
            (None, _) => None,
        };
        drop(state);
        match given_up {
            Some(leased) => leased.give_back(Lead::new(client, self, None), Answer::default()),
            None => self.go_on(client, lease, Answer::default()),
        }
    }

    /// Whoever contended for all does not any more.
    pub(super) fn pass_on(self: &Arc<Self>, client: &Arc<Client>, not_before: Option<Boot>) {
        loop {
            let mut state = self.state();
            let Some(waiter) = state.queue.pop_front() else {
                state.has = Has::Nobody;
                drop(state);
                return client.local.tidy(self);
            };
            drop(state);
            match waiter.call.send(Called::Leads(Lead::new(client, self, not_before))) {
                Err(Called::Leads(lead)) => lead.disarm(),
                _ => return,
            }
        }
    }

    /// Nobody leads: all who wait see for themselves.
    pub(super) fn scatter(&self) {
        let mut state = self.state();
        state.has = Has::Nobody;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        for waiter in queue {
            let _ = waiter.call.send(Called::Alone);
        }
    }

    /// Nobody waits any more: the store is shut down.
    pub(super) fn send_away(&self) {
        let queue = std::mem::take(&mut self.state().queue);
        drop(queue);
    }

    /// Closes the bench if nobody uses it.
    pub(super) fn retire(&self) -> bool {
        let mut state = self.state();
        let idle = !state.retired && state.queue.is_empty() && matches!(state.has, Has::Nobody);
        state.retired |= idle;
        idle
    }
}

impl Has {
    /// What there is of this lease, if it is the one.
    fn leased(&mut self, lease: &Lease) -> Option<&mut Leased> {
        match self {
            Self::Lease(leased) if leased.lease == *lease => Some(leased),
            _ => None,
        }
    }

    /// The lease, which is nobody's here from now on, but not anybody's yet.
    fn take(&mut self) -> Option<Leased> {
        match std::mem::replace(self, Self::Lead) {
            Self::Lease(leased) => Some(leased),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Leased {
    /// At the store. Whoever leads next does so when that is done.
    fn give_back(self, lead: Lead, mut answer: Answer) {
        if let Err(reason) = self.lease.hold().begin_release() {
            return answer.say(Release::AlreadyLost(reason));
        }
        let release = Command::Release { done: answer.to.take(), after: Some(After::new(lead)) };
        self.lease.order(release, answer.here);
    }
}

impl Answer {
    fn say(&mut self, release: Release) {
        if let Some(to) = self.to.take() {
            // Nobody may be waiting any more.
            let _ = to.send(Ok(release));
        }
    }
}

/// Waits until a lease is lost and goes on then: its holder may never hear of it.
async fn watch(watching: Watching) {
    let ended = watching.lease.hold().wait_for(|phase| match phase {
        LeasePhase::Lost(_) | LeasePhase::Released => Some(()),
        LeasePhase::Held | LeasePhase::AtRisk => None,
    });
    ended.await;
}

/// Goes on with a lease that has ended; or that ends with the runtime in which it was watched, as
/// nobody else would tell those who wait.
struct Watching {
    client: Arc<Client>,
    bench: Arc<Bench>,
    lease: Lease,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.lease.hold().end(LossReason::KeeperStopped);
        self.bench.go_on(&self.client, &self.lease, Answer::default());
    }
}
