//! The network between the commands and one store: a faulty proxy whose mood changes.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leaselock_test_support::proxy::{Fault, FaultProxy, RequestView, draw};

use crate::arena::Arena;
use crate::clock;

/// What the network is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sky {
    Calm,
    /// The store answers most requests with 503, some after having done what they ask for.
    Storm,
    /// Writes are carried out, and their answers lost in every way.
    LostAnswers,
    /// Requests and answers come late, some much later than they are waited for.
    Delays,
    /// Connections are cut and reset all the time.
    Cuts,
    /// The store cannot be reached at all.
    Outage,
}

impl Sky {
    const ALL: [Self; 6] =
        [Self::Calm, Self::Storm, Self::LostAnswers, Self::Delays, Self::Cuts, Self::Outage];
    /// The bad ones.
    pub(crate) const BAD: [Self; 5] =
        [Self::Storm, Self::LostAnswers, Self::Delays, Self::Cuts, Self::Outage];

    fn fault(self, request: &RequestView, drawn: u64) -> Fault {
        let (chance, which) = (drawn % 100, (drawn >> 32) as usize);
        let delay = Duration::from_millis(50 + (drawn >> 40) % 1_500);
        let lost = [
            Fault::CommitThenClose,
            Fault::CommitThenReset,
            Fault::CommitThenHalfHead,
            Fault::CommitThenHalfBody,
            Fault::CommitThenHalfClose,
            Fault::CommitThenStatus(500),
        ];
        match self {
            Self::Storm if chance < 50 => Fault::Status(503),
            Self::Storm if chance < 65 => Fault::CommitThenStatus(503),
            Self::LostAnswers if request.is_conditional_put && chance < 70 => {
                lost[which % lost.len()].clone()
            }
            Self::Delays if chance < 25 => Fault::DelayBefore(delay),
            Self::Delays if chance < 50 => Fault::CommitThenDelay(delay),
            Self::Cuts if chance < 15 => Fault::CloseBefore,
            Self::Cuts if chance < 30 => Fault::ResetBefore,
            _ => Fault::Pass,
        }
    }
}

/// The network of one store.
#[derive(Debug)]
pub(crate) struct Weather {
    proxy: FaultProxy,
    arena: Arc<Arena>,
    now: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sky: Sky,
    /// The store is being restarted.
    hidden: bool,
}

impl Weather {
    /// Calm weather in front of the store at `url`, and the URL that leads through it.
    pub(crate) fn new(url: &str, arena: Arc<Arena>, seed: u64) -> (Self, String) {
        let (proxy, through) = FaultProxy::in_front_of(url);
        let now = Arc::new(AtomicUsize::new(0));
        proxy.plan({
            let (now, arena) = (Arc::clone(&now), Arc::clone(&arena));
            let seen = AtomicU64::new(0);
            move |request| {
                let sky = Sky::ALL[now.load(Ordering::SeqCst) % Sky::ALL.len()];
                let fault = sky.fault(request, draw(seed, seen.fetch_add(1, Ordering::SeqCst)));
                if fault != Fault::Pass {
                    arena.tally.fault(fault.name());
                }
                fault
            }
        });
        let state = Mutex::new(State { sky: Sky::Calm, hidden: false });
        (Self { proxy, arena, now, state }, through)
    }

    /// The weather changes.
    pub(crate) fn turn(&self, sky: Sky) {
        let mut state = self.state();
        if sky == Sky::Outage {
            self.arena.tally.fault("Outage");
        }
        state.sky = sky;
        self.apply(&state);
    }

    /// Call it every now and then.
    pub(crate) fn passes(&self) {
        if self.state().sky == Sky::Cuts {
            self.arena.tally.fault("Cut");
            self.proxy.cut_all();
        }
    }

    /// Nobody reaches the store any more. Answers whether everything that was on its way to the
    /// store has landed.
    ///
    /// An emulator that is killed in the middle of a write may keep half of it: that is a store's
    /// promise broken, and not what is tried here. Clients cannot tell the difference: their
    /// connections are cut in the middle of their requests.
    pub(crate) fn hide(&self) -> bool {
        let mut state = self.state();
        state.hidden = true;
        self.apply(&state);
        drop(state);
        clock::wait_until(Duration::from_secs(10), || self.proxy.in_flight() == 0)
    }

    /// The store can be reached again, if the weather lets it.
    pub(crate) fn show(&self) {
        let mut state = self.state();
        state.hidden = false;
        self.apply(&state);
    }

    fn apply(&self, state: &State) {
        let position = Sky::ALL.iter().position(|sky| *sky == state.sky).unwrap_or(0);
        self.arena.disturb(state.hidden || state.sky != Sky::Calm);
        self.now.store(position, Ordering::SeqCst);
        self.proxy.refuse(state.hidden || state.sky == Sky::Outage);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
