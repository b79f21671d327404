//! Everything that is the same for all processes: true time, the store, the way there, the referee.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use leaselock::clock::{Boot, Moment};
use rand::rngs::SmallRng;
use tokio::sync::oneshot;

use crate::Options;
use crate::clock::{Dial, EPOCH, Time};
use crate::counts::Counts;
use crate::events::{Event, Events};
use crate::faults::{Failure, Fault, Weather, What, When};
use crate::objects::{Answer, Objects, Operation, Reply, failure};
use crate::plan::Plan;
use crate::referee::Referee;
use crate::rng::{Draw, stream};
use crate::route::{Back, Route, plain};
use crate::trace::{Kind, Trace};

/// The world, as everybody in it has it. There is one thread, so nobody ever waits for it.
pub(crate) type Shared = Arc<Mutex<World>>;

pub(crate) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// After which time a store's client gives up a listing: the library sets no limit of its own.
const LISTING: Duration = Duration::from_secs(30);
/// Readings of the clock within one instant that no working program makes.
const SPINNING: u64 = 200_000;
/// How long after something went wrong with a request a process is not expected to be in time.
const RECOVERY: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) now: Time,
    pub(crate) events: Events,
    pub(crate) machines: Vec<Machine>,
    pub(crate) objects: Objects,
    pub(crate) referee: Referee,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    /// Faults have ended, and everybody shall finish.
    quiet: bool,
    /// Users who wait for that, by their numbers: tokio's channels would wake them in any order.
    quiet_wakers: BTreeMap<usize, Waker>,
    kept: Vec<bool>,
    requests: BTreeMap<u64, Request>,
    weather: Vec<(Time, Option<usize>, Weather)>,
    sent: u64,
    readings: u64,
}

/// What a process runs on.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) dial: Dial,
    pub(crate) state: State,
    pub(crate) incarnation: u32,
    /// Until when nobody may expect that it is in time with the store.
    pub(crate) troubled: Time,
    /// When something last happened to its clocks, or to it.
    pub(crate) disturbed: Option<Time>,
    /// Users who have not finished.
    pub(crate) users: usize,
    /// The process is being shut down.
    pub(crate) shutting_down: bool,
    /// It has been.
    pub(crate) shut_down: bool,
    /// After which time it is started again then.
    pub(crate) restart: Option<Duration>,
    sleepers: BTreeMap<(Boot, u64), Waker>,
    next_sleeper: u64,
    wake_at: Option<Time>,
    writes: u64,
    reads: u64,
    rng: SmallRng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Paused,
    Dead,
}

#[derive(Debug)]
struct Request {
    process: usize,
    incarnation: u32,
    operation: Operation,
    /// How many of its kind the process had sent before.
    nth: u64,
    route: Route,
    sent: Time,
    answer: Option<oneshot::Sender<Reply>>,
    /// Copies that are still on their way.
    coming: usize,
    /// Whether a copy of it was applied.
    applied: bool,
}

impl World {
    pub(crate) fn new(plan: Arc<Plan>, options: &Options) -> Self {
        let zero = Duration::ZERO;
        let store = plan.store.clone();
        let store_clock = Dial::new(zero, store.rate, zero, EPOCH + store.wall_offset);
        let kept = (0..plan.faults.len())
            .map(|number| options.keep.as_ref().is_none_or(|keep| keep.contains(&number)))
            .collect();
        let machines =
            (0..plan.processes.len()).map(|number| Machine::new(&plan, number)).collect();
        let mut world = Self {
            objects: Objects::new(store, store_clock, options.sabotage),
            referee: Referee::new(&plan, options),
            trace: Trace::new(options.timeline),
            now: zero,
            events: Events::default(),
            machines,
            counts: Counts::default(),
            quiet: false,
            quiet_wakers: BTreeMap::new(),
            kept,
            requests: BTreeMap::new(),
            weather: Vec::new(),
            sent: 0,
            readings: 0,
            plan,
        };
        for (number, fault) in world.plan.clone().faults.iter().enumerate() {
            if let (When::At(at), true) = (fault.when, world.kept[number]) {
                world.events.add(at, Event::Fault(number));
            }
        }
        world.events.add(world.plan.length, Event::Quiet);
        world
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(crate) fn note(
        &mut self,
        process: Option<usize>,
        kind: Kind,
        text: impl FnOnce() -> String,
    ) {
        self.trace.note(self.now, process, kind, text);
    }

    // Clocks and sleepers.

    pub(crate) fn read_clock(&mut self, process: usize) -> Moment {
        self.readings += 1;
        assert!(self.readings < SPINNING, "process {process} spins without waiting for anything");
        self.machines[process].dial.moment(self.now)
    }

    /// Takes note of a sleeper; returns its number.
    pub(crate) fn sleep(
        &mut self,
        process: usize,
        until: Boot,
        number: Option<u64>,
        waker: &Waker,
    ) -> u64 {
        let machine = &mut self.machines[process];
        let number = number.unwrap_or_else(|| {
            machine.next_sleeper += 1;
            machine.next_sleeper
        });
        machine.sleepers.insert((until, number), waker.clone());
        number
    }

    pub(crate) fn forget_sleep(
        &mut self,
        process: usize,
        until: Boot,
        number: u64,
    ) -> Option<Waker> {
        self.machines[process].sleepers.remove(&(until, number))
    }

    /// Those of a process who have slept long enough.
    pub(crate) fn slept_enough(&mut self, process: usize) -> Vec<Waker> {
        self.readings = 0;
        let machine = &mut self.machines[process];
        let now = machine.dial.boot(self.now);
        let mut wakers = Vec::new();
        while let Some(entry) = machine.sleepers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            wakers.push(entry.remove());
        }
        wakers
    }

    /// Sees to it that a process runs again when its next sleeper has slept long enough.
    pub(crate) fn plan_wake(&mut self, process: usize) {
        let late = self.plan.processes[process].lateness;
        let machine = &mut self.machines[process];
        let Some(((until, _), _)) = machine.sleepers.first_key_value() else { return };
        let due = machine.dial.when(*until).max(self.now);
        // Timers are late, never early; but not by more each time they are looked at.
        if machine.wake_at.is_some_and(|at| at > self.now && at >= due && at <= due + late) {
            return;
        }
        let at = due + machine.rng.up_to(late);
        machine.wake_at = Some(at);
        self.events.add(at, Event::Wake(process));
    }

    /// Whether a wake-up that was planned is still the right one.
    pub(crate) fn is_to_wake(&mut self, process: usize) -> bool {
        let machine = &mut self.machines[process];
        let right = machine.wake_at == Some(self.now);
        if right {
            machine.wake_at = None;
        }
        right && machine.state == State::Running
    }

    // Processes.

    pub(crate) fn start(&mut self, process: usize) -> u32 {
        let now = self.now;
        let machine = &mut self.machines[process];
        machine.state = State::Running;
        machine.dial.thaw(now);
        machine.incarnation += 1;
        machine.disturbed = None;
        machine.shutting_down = false;
        machine.shut_down = false;
        machine.wake_at = None;
        let incarnation = machine.incarnation;
        self.note(Some(process), Kind::Alive, || format!("starts ({incarnation})"));
        incarnation
    }

    /// The process dies. What is returned must be dropped while the world is not locked.
    #[must_use]
    pub(crate) fn kill(&mut self, process: usize) -> Vec<Waker> {
        let machine = &mut self.machines[process];
        machine.state = State::Dead;
        machine.users = 0;
        machine.shutting_down = false;
        let sleepers = std::mem::take(&mut machine.sleepers);
        self.note(Some(process), Kind::Dead, || "dies".into());
        self.referee.process_died(process);
        sleepers.into_values().collect()
    }

    pub(crate) fn stop(&mut self, process: usize, length: Duration, frozen: bool) {
        let now = self.now;
        let machine = &mut self.machines[process];
        if machine.state != State::Running {
            return;
        }
        machine.state = State::Paused;
        machine.disturbed = Some(now + length);
        machine.troubled = machine.troubled.max(now + length + RECOVERY);
        if frozen {
            machine.dial.freeze(now);
            self.counts.add("freezes");
        } else {
            self.counts.add("pauses");
        }
        let incarnation = self.machines[process].incarnation;
        self.events.add(now + length, Event::Resume { process, incarnation });
        let how = if frozen { "is frozen" } else { "is stopped" };
        self.note(Some(process), Kind::Paused, || how.into());
    }

    /// The process goes on; whether it had been stopped.
    pub(crate) fn resume(&mut self, process: usize) -> bool {
        let now = self.now;
        let machine = &mut self.machines[process];
        if machine.state != State::Paused {
            return false;
        }
        machine.state = State::Running;
        machine.wake_at = None;
        machine.disturbed = Some(now);
        machine.dial.thaw(now);
        self.note(Some(process), Kind::Resumed, || "goes on".into());
        true
    }

    /// Somebody sets the wall clock. Only forward where the machine is also frozen at some time: a
    /// pause that neither clock counts is outside the promise.
    pub(crate) fn jump(&mut self, process: usize, micros: i64) {
        let is_frozen_once = self.plan.faults.iter().any(
            |fault| matches!(fault.what, What::Freeze { process: whose, .. } if whose == process),
        );
        let micros = if is_frozen_once { micros.abs() } else { micros };
        self.machines[process].dial.jump(micros);
        self.machines[process].disturbed = Some(self.now);
        self.counts.add("wall clock jumps");
        self.note(Some(process), Kind::Fault, || format!("wall clock set by {micros} us"));
    }

    // Requests.

    /// Sends a request on its way; its answer will come through what is returned.
    pub(crate) fn send(
        &mut self,
        process: usize,
        incarnation: u32,
        operation: Operation,
    ) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        let machine = &self.machines[process];
        if machine.state == State::Dead || machine.incarnation != incarnation {
            return receiver;
        }
        self.sent += 1;
        let number = self.sent;
        let (route, nth) = self.route(process, &operation);
        self.note(Some(process), Kind::Sent, || describe(number, &operation, nth, &route));
        for (copy, there) in route.copies.iter().enumerate() {
            self.events.add(self.now + *there, Event::Arrive { request: number, copy });
        }
        if let Back::Failed { failure: how, after } = route.back {
            let reply = Err(failure(how, &operation.key().into()));
            self.events.add(self.now + after, Event::Answer { request: number, reply });
        }
        self.count_route(&route);
        let request = Request {
            process,
            incarnation,
            operation,
            nth,
            sent: self.now,
            answer: Some(sender),
            coming: route.copies.len(),
            applied: false,
            route,
        };
        self.requests.insert(number, request);
        receiver
    }

    fn count_route(&mut self, route: &Route) {
        self.counts.add("requests");
        match route.back {
            Back::Nothing if route.copies.is_empty() => self.counts.add("requests lost"),
            Back::Nothing => self.counts.add("answers lost"),
            Back::Failed { .. } if route.copies.is_empty() => self.counts.add("errors before"),
            Back::Failed { .. } => self.counts.add("errors after"),
            Back::Of { .. } => {}
        }
    }

    /// The way of a new request, and how many of its kind the process had sent before.
    fn route(&mut self, process: usize, operation: &Operation) -> (Route, u64) {
        let plan = Arc::clone(&self.plan);
        let machine = &mut self.machines[process];
        let writes = matches!(operation, Operation::Put { .. });
        let mut nth = 0;
        if operation.is_of_a_lock() {
            let count = if writes { &mut machine.writes } else { &mut machine.reads };
            nth = *count;
            *count += 1;
        }
        let mut rng = stream(plan.seed, &[3, process as u64, writes.into(), nth, self.sent]);
        if self.is_quiet() {
            return (plain(&plan.latency.calm(plan.ttl), &mut rng), nth);
        }
        let mut route = plain(&plan.latency, &mut rng);
        for (_, _, weather) in self.weather.iter().filter(|(until, whose, _)| {
            *until > self.now && whose.is_none_or(|whose| whose == process)
        }) {
            route = route.through(*weather, &plan.latency, &mut rng);
        }
        if operation.is_of_a_lock() {
            for (number, fault) in plan.faults.iter().enumerate() {
                let hit = match fault.when {
                    When::Write { process: whose, nth: which } => {
                        writes && (whose, which) == (process, nth)
                    }
                    When::Read { process: whose, nth: which } => {
                        !writes && (whose, which) == (process, nth)
                    }
                    _ => false,
                };
                if let (true, true, What::Fate(fate)) = (hit, self.kept[number], fault.what) {
                    route = route.suffering(fate);
                }
            }
        }
        if let Operation::List { .. } = operation {
            route = route.of_a_client_with_patience(LISTING);
        }
        if !route.plain || is_slow(&route, plan.ttl) {
            let machine = &mut self.machines[process];
            machine.troubled = machine.troubled.max(self.now + RECOVERY);
        }
        (route, nth)
    }

    /// A copy of a request reaches the store.
    pub(crate) fn arrive(&mut self, number: u64, copy: usize) {
        let Some(request) = self.requests.get_mut(&number) else { return };
        request.coming -= 1;
        if copy > 0 {
            self.counts.add("requests duplicated");
        }
        let (process, incarnation) = (request.process, request.incarnation);
        let (sent, nth, operation) = (request.sent, request.nth, request.operation.clone());
        let given_up = request.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
            || self.machines[process].incarnation != incarnation;
        let mut rng = stream(self.plan.seed, &[4, number, copy as u64]);
        let skew = self.plan.store.skew;
        let ahead = rng.up_to(skew * 2).as_micros() as i64 - skew.as_micros() as i64;
        if self.referee.is_from_before_a_deletion(&operation, sent) {
            // The documented limit: such a create may land with an old token. It gets lost here.
            self.counts.add("creates from before a deletion");
            self.note(Some(process), Kind::Lost, || format!("#{number} from before a deletion"));
            return;
        }
        let before = self.objects.get(operation.key()).map(|object| object.body.clone());
        let reply = self.objects.serve(&operation, self.now, ahead);
        self.count_landing(&operation, &reply, number, given_up);
        let fate = match &reply {
            Ok(_) => Kind::Applied,
            Err(_) => Kind::Refused,
        };
        self.note(Some(process), fate, || format!("#{number}.{copy} {}", outcome(&reply)));
        if let (Operation::Put { body, .. }, Ok(_)) = (&operation, &reply)
            && operation.is_of_a_lock()
        {
            let key = operation.key().to_owned();
            self.landed(process, nth, &key, before.as_ref(), body);
        }
        if let (Operation::Delete { .. }, true) = (&operation, operation.is_of_a_lock()) {
            self.referee.violate(self.now, "the protocol never deletes a record", || {
                format!("p{process} sent a deletion of {}", operation.key())
            });
        }
        self.answer_of(number, copy, reply);
    }

    fn count_landing(&mut self, operation: &Operation, reply: &Reply, number: u64, given_up: bool) {
        let Some(request) = self.requests.get_mut(&number) else { return };
        if !matches!(operation, Operation::Put { .. }) || !operation.is_of_a_lock() {
            return;
        }
        match (reply, request.applied) {
            (Ok(_), _) => {
                request.applied = true;
                if given_up {
                    self.counts.add("late writes that landed");
                }
            }
            (Err(_), true) => self.counts.add("copies refused after their own commit"),
            (Err(_), false) if given_up => self.counts.add("late writes that were refused"),
            (Err(_), false) => self.counts.add("writes refused"),
        }
    }

    /// A write of a lock has landed.
    fn landed(
        &mut self,
        process: usize,
        nth: u64,
        key: &str,
        before: Option<&Bytes>,
        body: &Bytes,
    ) {
        self.referee.landed(self.now, process, key, before, body, &self.machines, &mut self.events);
        self.counts.merge(self.referee.take_counts());
        let plan = Arc::clone(&self.plan);
        for (number, Fault { when, .. }) in plan.faults.iter().enumerate() {
            if let When::Landed { process: whose, nth: which, after } = *when
                && (whose, which) == (process, nth)
                && self.kept[number]
                && !self.is_quiet()
            {
                self.events.add(self.now + after, Event::Fault(number));
            }
        }
    }

    fn answer_of(&mut self, number: u64, copy: usize, reply: Reply) {
        let Some(request) = self.requests.get(&number) else { return };
        let process = request.process;
        let lists = matches!(request.operation, Operation::List { .. });
        let Back::Of { copy: wanted, after } = request.route.back else { return };
        if wanted != copy {
            return;
        }
        let muted = |(until, whose, weather): &(Time, Option<usize>, Weather)| {
            *until > self.now
                && whose.is_none_or(|whose| whose == process)
                && matches!(weather, Weather::Cut | Weather::Mute)
        };
        if self.weather.iter().any(muted) && !self.is_quiet() {
            self.counts.add("answers lost");
            let machine = &mut self.machines[process];
            machine.troubled = machine.troubled.max(self.now + RECOVERY);
            self.note(Some(process), Kind::Lost, || format!("the answer to #{number}"));
            if lists {
                let reply = Err(failure(Failure::Generic, &"".into()));
                self.events.add(self.now + LISTING, Event::Answer { request: number, reply });
            }
            return;
        }
        self.events.add(self.now + after, Event::Answer { request: number, reply });
    }

    /// An answer reaches its process; what must be done with it once the world is not locked.
    pub(crate) fn answer(&mut self, number: u64) -> Option<(usize, oneshot::Sender<Reply>)> {
        let request = self.requests.get_mut(&number)?;
        let (process, incarnation) = (request.process, request.incarnation);
        let sender = request.answer.take()?;
        let machine = &self.machines[process];
        if machine.incarnation != incarnation || machine.state == State::Dead {
            return None;
        }
        self.note(Some(process), Kind::Answered, || format!("#{number}"));
        Some((process, sender))
    }

    pub(crate) fn begin_weather(
        &mut self,
        process: Option<usize>,
        length: Duration,
        weather: Weather,
    ) {
        self.weather.push((self.now + length, process, weather));
        self.counts.add(match weather {
            Weather::Cut | Weather::Mute => "outages",
            Weather::Storm(_) | Weather::Flaky(_) => "storms of errors",
            Weather::Denied => "times of denied access",
            Weather::Slow(_) => "slow times",
            Weather::Twice(_) => "times of repetition",
        });
        self.note(process, Kind::Fault, || {
            format!("{weather:?} for {:.3} s", length.as_secs_f64())
        });
    }

    /// Remembers who waits for the end of all faults; whether it has come.
    pub(crate) fn awaits_quiet(&mut self, user: usize, waker: &Waker) -> bool {
        if !self.quiet {
            self.quiet_wakers.insert(user, waker.clone());
        }
        self.quiet
    }

    /// All faults end. Who waits for it is to be woken while the world is not locked.
    #[must_use]
    pub(crate) fn become_quiet(&mut self) -> BTreeMap<usize, Waker> {
        self.weather.clear();
        self.events.hurry(self.now + Duration::from_secs(1));
        self.quiet = true;
        self.note(None, Kind::Fault, || "all faults end".into());
        std::mem::take(&mut self.quiet_wakers)
    }
}

impl Machine {
    fn new(plan: &Plan, number: usize) -> Self {
        let process = &plan.processes[number];
        let wall = EPOCH + process.wall_offset;
        Self {
            dial: Dial::new(Duration::ZERO, process.rate, process.boot, wall),
            state: State::Dead,
            incarnation: 0,
            troubled: Duration::ZERO,
            disturbed: None,
            users: 0,
            shutting_down: false,
            shut_down: false,
            restart: None,
            sleepers: BTreeMap::new(),
            next_sleeper: 0,
            wake_at: None,
            writes: 0,
            reads: 0,
            rng: stream(plan.seed, &[5, number as u64]),
        }
    }
}

/// Whether even without a fault it takes so long that retries may be needed.
fn is_slow(route: &Route, ttl: Duration) -> bool {
    let there = route.copies.iter().max().copied().unwrap_or_default();
    let back = match route.back {
        Back::Of { after, .. } | Back::Failed { after, .. } => after,
        Back::Nothing => Duration::ZERO,
    };
    there + back > (ttl / 8).min(Duration::from_secs(1))
}

fn describe(number: u64, operation: &Operation, nth: u64, route: &Route) -> String {
    let what = match operation {
        Operation::Put { mode, body, .. } => {
            let mode = if *mode == object_store::PutMode::Create { "create" } else { "update" };
            format!("{mode} {nth} ({})", crate::referee::summary(body))
        }
        Operation::Get { if_none_match, .. } => {
            format!("{} {nth}", if if_none_match.is_some() { "poll" } else { "get" })
        }
        Operation::Delete { .. } => "delete".to_owned(),
        Operation::List { .. } => "list".to_owned(),
    };
    let copies: Vec<_> =
        route.copies.iter().map(|copy| format!("{:.3}", copy.as_secs_f64())).collect();
    format!("#{number} {what} {} -> [{}] {:?}", operation.key(), copies.join(" "), route.back)
}

fn outcome(reply: &Reply) -> String {
    match reply {
        Ok(Answer::Written { e_tag }) => {
            format!("written {}", if e_tag.len() > 12 { "" } else { e_tag })
        }
        Ok(Answer::Found { body, .. }) => format!("found {}", crate::referee::summary(body)),
        Ok(_) => "done".to_owned(),
        Err(object_store::Error::NotModified { .. }) => "not modified".to_owned(),
        Err(object_store::Error::NotFound { .. }) => "absent".to_owned(),
        Err(error) => format!("refused: {error:?}").chars().take(60).collect(),
    }
}
