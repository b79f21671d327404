//! Requests: their way to the store, what becomes of them there, and their answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::clock::Time;
use crate::events::Event;
use crate::faults::{Failure, Fault, Spell, Weather, What, When};
use crate::machine::State;
use crate::objects::{Answer, Operation, Reply, failure};
use crate::plan::Plan;
use crate::referee::Writer;
use crate::rng::{Draw, stream};
use crate::route::{Back, Route, plain};
use crate::trace::Kind;
use crate::world::World;

/// After which time a store's client gives up a listing: the library sets no limit of its own.
const LISTING: Duration = Duration::from_secs(30);
/// How long after something went wrong with a request a process is not expected to be in time.
pub(crate) const RECOVERY: Duration = Duration::from_secs(8);

/// A request that was sent.
#[derive(Debug)]
pub(crate) struct Request {
    process: usize,
    incarnation: u32,
    operator: bool,
    operation: Operation,
    /// How many of its kind the process had sent before.
    nth: u64,
    route: Route,
    sent: Time,
    answer: Option<oneshot::Sender<Reply>>,
    /// Whether a copy of it was applied.
    applied: bool,
}

/// A request that is about to be sent.
#[derive(Debug)]
pub(crate) struct Order {
    process: usize,
    incarnation: u32,
    operator: bool,
    operation: Operation,
    answer: oneshot::Sender<Reply>,
}

impl World {
    /// Sends a request on its way; its answer will come through what is returned.
    pub(crate) fn send(
        &mut self,
        process: usize,
        incarnation: u32,
        operator: bool,
        operation: Operation,
    ) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        let machine = &self.machines[process];
        if machine.state != State::Dead && machine.incarnation == incarnation {
            let order = Order { process, incarnation, operator, operation, answer: sender };
            self.outbox.push(order);
        }
        receiver
    }

    /// What was sent in one step goes on its way, in the order of keys: tasks that are woken by the same
    /// channel of tokio's run in any order.
    pub(crate) fn dispatch(&mut self) {
        let mut outbox = std::mem::take(&mut self.outbox);
        outbox.sort_by(|a, b| a.operation.key().cmp(b.operation.key()));
        outbox.into_iter().for_each(|order| self.dispatch_one(order));
    }

    fn dispatch_one(&mut self, order: Order) {
        let Order { process, incarnation, operator, operation, answer } = order;
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
            operator,
            operation,
            nth,
            sent: self.now,
            answer: Some(answer),
            applied: false,
            route,
        };
        self.requests.insert(number, request);
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
        if operation.is_of_interest() {
            let count = if writes { &mut machine.writes } else { &mut machine.reads };
            nth = *count;
            *count += 1;
        }
        let mut rng = stream(plan.seed, &[3, process as u64, writes.into(), nth, self.sent]);
        if self.is_quiet() {
            return (plain(&plan.latency.calm(plan.ttl), &mut rng), nth);
        }
        let mut route = plain(&plan.latency, &mut rng);
        let spells = self.weather.iter();
        for spell in spells.filter(|spell| spell.hits(self.now, process, operation.key())) {
            route = route.through(spell.weather, &plan.latency, &mut rng);
        }
        if operation.is_of_interest() {
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
        let Some(request) = self.requests.get(&number) else { return };
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
        if let (Operation::Put { body, attributes, .. }, Ok(_)) = (&operation, &reply)
            && operation.is_of_interest()
        {
            let key = operation.key().to_owned();
            if key == Plan::TABLE {
                self.referee.table_written(self.now, process, body, attributes);
            }
            let operator = self.requests[&number].operator;
            self.landed((process, operator), nth, &key, before.as_ref(), body);
        }
        if let (Operation::Delete { key }, true) = (&operation, operation.is_of_interest())
            && !self.referee.session_deleted(self.now, process, key.as_ref())
        {
            self.referee.violate(self.now, "the protocol never deletes a record", || {
                format!("p{process} sent a deletion of {}", operation.key())
            });
        }
        self.answer_of(number, copy, reply);
    }

    fn count_landing(&mut self, operation: &Operation, reply: &Reply, number: u64, given_up: bool) {
        let Some(request) = self.requests.get_mut(&number) else { return };
        if !matches!(operation, Operation::Put { .. }) || !operation.is_of_interest() {
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
        (process, operator): (usize, bool),
        nth: u64,
        key: &str,
        before: Option<&Bytes>,
        body: &Bytes,
    ) {
        let writer = Writer { process, operator };
        self.referee.landed(self.now, writer, key, before, body, &self.machines, &mut self.events);
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
        let key = request.operation.key();
        let muted = |spell: &Spell| {
            let silent = matches!(spell.weather, Weather::Cut | Weather::Mute);
            silent && spell.hits(self.now, process, key)
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
