//! One simulated process: a runtime that runs until it has nothing to do, and dies when dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures::task::AtomicWaker;
use leaselock::{Quorum, Runtime as LibraryRuntime, Store};
use tokio::runtime::{Builder, Runtime};

use crate::clock::SimClock;
use crate::plan::Plan;
use crate::rng::number;
use crate::store::SimStore;
use crate::world::{Shared, lock};

/// A process that lives.
#[derive(Debug)]
pub(crate) struct Process {
    runtime: Runtime,
    idle: Arc<Idle>,
    pub(crate) stores: Vec<Store>,
    /// The locks over three stores, one for each of the stores, and what they lie on.
    pub(crate) quorums: Vec<Quorum>,
    members: Vec<Store>,
    /// The operator's.
    operator: Option<Store>,
    pub(crate) clock: SimClock,
    pub(crate) incarnation: u32,
}

/// Learns that a runtime has nothing left to run.
#[derive(Debug, Default)]
struct Idle {
    parked: AtomicBool,
    waker: AtomicWaker,
}

impl Process {
    /// Starts a process and opens its stores.
    pub(crate) fn start(world: &Shared, process: usize) -> Self {
        let (incarnation, plan) = {
            let mut locked = lock(world);
            (locked.start(process), Arc::clone(&locked.plan))
        };
        let idle = Arc::<Idle>::default();
        let hook = Arc::clone(&idle);
        let runtime = Builder::new_current_thread()
            .on_thread_park(move || {
                hook.parked.store(true, Ordering::Relaxed);
                hook.waker.wake();
            })
            .build()
            .expect("a runtime without drivers needs nothing from the system");
        let clock = SimClock { world: Arc::clone(world), process };
        let handles = plan.processes[process].handles;
        let (stores, quorums, members) = (Vec::new(), Vec::new(), Vec::new());
        let mut started =
            Self { runtime, idle, stores, quorums, members, operator: None, clock, incarnation };
        started.stores =
            (0..handles).map(|handle| started.open(&plan, handle as u64, None, false)).collect();
        if plan.quorum {
            (0..handles).for_each(|handle| started.open_quorum(&plan, handle as u64));
        }
        started
    }

    fn open_quorum(&mut self, plan: &Plan, handle: u64) {
        let place = |place: usize| {
            self.open(plan, 100 + handle * 10 + place as u64, Some(Plan::PLACES[place]), false)
        };
        let members: Vec<_> = (0..Plan::PLACES.len()).map(place).collect();
        self.members.extend(members.iter().cloned());
        self.quorums.push(Quorum::new(members).expect("three stores"));
    }

    /// Everything that is to be shut down.
    pub(crate) fn all_stores(&self) -> Vec<Store> {
        self.stores.iter().chain(&self.members).cloned().collect()
    }

    /// The store as an operator opens it, whose writes can be told from everybody else's.
    pub(crate) fn operator(&mut self) -> Store {
        if let Some(store) = &self.operator {
            return store.clone();
        }
        let plan = Arc::clone(&lock(&self.clock.world).plan);
        let store = self.open(&plan, self.stores.len() as u64, None, true);
        self.operator.insert(store).clone()
    }

    fn open(
        &self,
        plan: &Plan,
        handle: u64,
        prefix: Option<&'static str>,
        operator: bool,
    ) -> Store {
        let (process, incarnation) = (self.clock.process, self.incarnation);
        let world = Arc::clone(&self.clock.world);
        let objects = SimStore { world, process, incarnation, operator };
        let numbers = [6, process as u64, incarnation.into(), handle];
        let opening = Store::from_object_store(Arc::new(objects))
            .clock(self.clock.shared())
            .seed(number(plan.seed, &numbers))
            .check_preconditions(plan.store.checked)
            .runtime(LibraryRuntime::Current)
            .prefix(prefix.unwrap_or_default())
            .open();
        self.runtime.block_on(opening).expect("opening sends nothing and has valid options")
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// Runs until everything waits for the world.
    pub(crate) fn run(&self) {
        self.idle.parked.store(false, Ordering::Relaxed);
        self.runtime.block_on(std::future::poll_fn(|context| {
            self.idle.waker.register(context.waker());
            if self.idle.parked.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
        }));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The runtime has the hook, which has the waker, which has the runtime.
        drop(self.idle.waker.take());
    }
}
