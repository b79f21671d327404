//! The schedule of faults: an explicit list, so that faults can be taken out one by one.

use std::fmt;
use std::time::Duration;

use rand::rngs::SmallRng;

use crate::clock::Time;
use crate::plan::Plan;
use crate::rng::Draw;

/// One fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) when: When,
    pub(crate) what: What,
}

/// When a fault comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// At this time.
    At(Time),
    /// So long after a process's write of a lock, counted from zero, has landed.
    Landed { process: usize, nth: u64, after: Duration },
    /// With a process's write of a lock, counted from zero.
    Write { process: usize, nth: u64 },
    /// With a process's read of a lock, counted from zero.
    Read { process: usize, nth: u64 },
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// The process dies, and is started again after this time if at all.
    Crash { process: usize, restart: Option<Duration> },
    /// The process is stopped; its clocks go on.
    Pause { process: usize, length: Duration },
    /// The machine is frozen: its monotonic clock stands still, the wall clock catches up.
    Freeze { process: usize, length: Duration },
    /// Somebody sets the process's wall clock, by microseconds.
    Jump { process: usize, micros: i64 },
    /// The process shuts its stores down and ends, and is started again after this time.
    ShutDown { process: usize, restart: Duration },
    /// A person deletes a record.
    Delete { lock: usize },
    /// An operator breaks a lease, from this process.
    Break { process: usize, lock: usize, force: bool },
    /// Requests travel badly for a while: of this process, or of all.
    Weather { process: Option<usize>, length: Duration, weather: Weather },
    /// The same of requests to one of the stores of a quorum.
    Down { place: usize, length: Duration, weather: Weather },
    /// What happens to one request.
    Fate(Fate),
}

/// Some weather, of some requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spell {
    pub(crate) until: Time,
    /// Only of this process.
    pub(crate) process: Option<usize>,
    /// Only of this store.
    pub(crate) place: Option<usize>,
    pub(crate) weather: Weather,
}

impl Spell {
    /// Whether it concerns a request of this process for something under this key.
    pub(crate) fn hits(&self, now: Time, process: usize, key: &str) -> bool {
        self.until > now
            && self.process.is_none_or(|whose| whose == process)
            && self.place.is_none_or(|place| Plan::place_of(key) == Some(place))
    }
}

/// How requests travel in a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nothing gets through in either direction.
    Cut,
    /// Requests arrive, answers do not.
    Mute,
    /// The store refuses with 429 or 503, so many in a hundred.
    Storm(u32),
    /// The store denies access.
    Denied,
    /// Answers turn into 5xx after the commit, so many in a hundred.
    Flaky(u32),
    /// Requests need up to so much longer to arrive.
    Slow(Duration),
    /// Requests are sent twice on the way, so many in a hundred.
    Twice(u32),
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is lost on the way.
    Lost,
    /// It arrives; the answer is lost.
    Unanswered,
    /// It arrives so much later.
    Late(Duration),
    /// The answer needs so much longer.
    SlowAnswer(Duration),
    /// It fails before anything is applied.
    Before(Failure),
    /// It is applied, then it fails.
    After(Failure),
    /// It fails at once and arrives so much later all the same.
    Ghost(Failure, Duration),
    /// It arrives twice, so far apart; the answer is about the second copy, or about the first.
    Twice { apart: Duration, second: bool },
}

/// How a request is said to have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// 429, 5xx, a reset connection.
    Generic,
    /// 409, as `object_store` reports it.
    Exists,
    /// 412.
    Precondition,
    /// 403.
    Denied,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.when {
            When::At(at) => write!(f, "at {:.3} s: ", at.as_secs_f64())?,
            When::Landed { process, nth, after } => {
                write!(f, "{:.3} s after p{process}'s write {nth} landed: ", after.as_secs_f64())?;
            }
            When::Write { process, nth } => write!(f, "p{process}'s write {nth}: ")?,
            When::Read { process, nth } => write!(f, "p{process}'s read {nth}: ")?,
        }
        match self.what {
            What::Fate(fate) => write!(f, "{fate:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// The faults of a plan.
pub(crate) fn schedule(plan: &Plan, rng: &mut SmallRng) -> Vec<Fault> {
    let most = rng.one_of(&[2, 6, 10, 16]);
    let mut faults: Vec<_> = (0..=rng.below(most)).map(|_| draw(plan, rng)).collect();
    // Without it a slow holder and a fast contender would rarely meet at the end of a lease.
    for _ in 0..rng.one_of(&[0, 1, 1, 2]) {
        faults.push(isolation(plan, rng));
    }
    faults
}

/// Operators who break what is held under sessions.
pub(crate) fn of_family(plan: &Plan, rng: &mut SmallRng) -> Vec<Fault> {
    let most = if plan.family.is_some() { rng.one_of(&[0, 0, 1, 3]) } else { 0 };
    let break_one = |rng: &mut SmallRng| {
        let process = rng.below(plan.processes.len());
        let lock = plan.first_of_family() + rng.below(plan.members().len());
        let what = What::Break { process, lock, force: rng.chance(40) };
        Fault { when: When::At(rng.up_to(plan.length)), what }
    };
    (0..most).map(|_| break_one(rng)).collect()
}

/// Stores of a quorum that fail for a while, mostly one after the other.
pub(crate) fn of_quorum(plan: &Plan, rng: &mut SmallRng) -> Vec<Fault> {
    let most = if plan.quorum { rng.one_of(&[0, 2, 4, 8]) } else { 0 };
    let overlapping = rng.chance(20);
    let mut at = Duration::ZERO;
    let mut faults = Vec::new();
    for _ in 0..most {
        let length = length(plan, rng);
        let weather = match rng.below(8) {
            0..=2 => Weather::Cut,
            3 | 4 => Weather::Mute,
            5 => Weather::Storm(rng.one_of(&[70, 100])),
            6 => Weather::Flaky(rng.one_of(&[60, 100])),
            _ => Weather::Slow(length),
        };
        let begins = at + rng.up_to(plan.length / most);
        if !overlapping {
            at = begins + length;
        }
        let place = rng.below(Plan::PLACES.len());
        faults.push(Fault { when: When::At(begins), what: What::Down { place, length, weather } });
    }
    faults
}

fn draw(plan: &Plan, rng: &mut SmallRng) -> Fault {
    let process = rng.below(plan.processes.len());
    let at = rng.up_to(plan.length);
    let nth = early(rng);
    match rng.below(20) {
        0..=4 => {
            Fault { when: When::Write { process, nth }, what: What::Fate(write_fate(plan, rng)) }
        }
        5 => Fault { when: When::Read { process, nth }, what: What::Fate(read_fate(plan, rng)) },
        6..=11 => Fault {
            when: When::Landed { process, nth, after: after_landing(plan, process, rng) },
            what: blow(plan, process, rng),
        },
        12..=13 => Fault { when: When::At(at), what: blow(plan, process, rng) },
        14 => Fault { when: When::At(at), what: What::Delete { lock: rng.below(plan.locks) } },
        15 => {
            let (lock, force) = (rng.below(plan.locks), rng.chance(50));
            Fault { when: When::At(at), what: What::Break { process, lock, force } }
        }
        _ => Fault { when: When::At(at), what: weather(plan, rng) },
    }
}

/// The first writes are the most interesting ones: later ones are much alike.
fn early(rng: &mut SmallRng) -> u64 {
    let limit = rng.one_of(&[2, 6, 20]);
    rng.below(limit) as u64
}

/// A length that matters to a lease.
fn length(plan: &Plan, rng: &mut SmallRng) -> Duration {
    let (least, most) = rng.one_of(&[(0.05, 0.4), (0.4, 0.9), (0.85, 1.15), (1.0, 3.0)]);
    rng.between(plan.ttl.mul_f64(least), plan.ttl.mul_f64(most))
}

/// At once, some time later, or just before or after a holder's deadline.
fn after_landing(plan: &Plan, process: usize, rng: &mut SmallRng) -> Duration {
    let deadline = plan.ttl.mul_f64(0.9 * 1_000_000.0 / plan.processes[process].rate as f64);
    match rng.below(5) {
        0 | 1 => Duration::ZERO,
        2 => rng.up_to(plan.ttl / 3),
        3 => deadline.saturating_sub(rng.up_to(plan.ttl / 20)),
        _ => deadline + rng.up_to(plan.ttl / 10),
    }
}

/// What befalls a process.
fn blow(plan: &Plan, process: usize, rng: &mut SmallRng) -> What {
    let length = length(plan, rng);
    match rng.below(10) {
        0 | 1 => What::Crash { process, restart: rng.chance(70).then_some(length) },
        2 | 3 => What::Pause { process, length },
        4 => What::Freeze { process, length },
        5 if plan.habits.max_skew.is_none() => What::Jump { process, micros: jump(plan, rng) },
        6 if rng.chance(40) => What::ShutDown { process, restart: length },
        7 => What::Weather { process: Some(process), length, weather: Weather::Mute },
        _ => What::Weather { process: Some(process), length, weather: Weather::Cut },
    }
}

fn jump(plan: &Plan, rng: &mut SmallRng) -> i64 {
    let far = Duration::from_secs(86_400);
    let limit = rng.one_of(&[plan.ttl / 2, plan.ttl * 2, far]);
    let by = rng.up_to(limit).as_micros() as i64;
    if rng.chance(50) { by } else { -by }
}

fn weather(plan: &Plan, rng: &mut SmallRng) -> What {
    let process = rng.chance(60).then(|| rng.below(plan.processes.len()));
    let weather = match rng.below(7) {
        0 => Weather::Cut,
        1 => Weather::Mute,
        2 => Weather::Storm(rng.one_of(&[30, 70, 100])),
        3 => Weather::Flaky(rng.one_of(&[20, 60, 100])),
        4 => Weather::Slow(length(plan, rng)),
        5 => Weather::Denied,
        _ => Weather::Twice(rng.one_of(&[30, 100])),
    };
    What::Weather { process, length: length(plan, rng), weather }
}

/// Whoever has the fastest clock reads slowly while the holder with the slowest one renews its lease for
/// the last time: a read that began before may be the first to show that.
pub(crate) fn of_slow_reader(plan: &Plan, rng: &mut SmallRng) -> Vec<Fault> {
    let fastest = (0..plan.processes.len()).max_by_key(|process| plan.processes[*process].rate);
    let lost = isolation(plan, rng);
    let When::Landed { process, nth, .. } = lost.when else { return Vec::new() };
    if !rng.chance(50) || nth == 0 || fastest == Some(process) {
        return Vec::new();
    }
    let weather = Weather::Slow(plan.ttl / 7);
    let what = What::Weather { process: fastest, length: plan.ttl * 2 / 3, weather };
    let before = When::Landed { process, nth: nth - 1, after: Duration::ZERO };
    vec![Fault { when: before, what }, lost]
}

/// A holder loses its connection right after a write has landed, for longer than its lease: while
/// somebody else waits, the two clocks run a race.
fn isolation(plan: &Plan, rng: &mut SmallRng) -> Fault {
    let slowest = (0..plan.processes.len()).min_by_key(|process| plan.processes[*process].rate);
    let process = slowest.unwrap_or_default();
    let nth = early(rng);
    // Mostly once the answer has come: before that, the holder would not count the write.
    let soon = plan.latency.least + plan.latency.spread * rng.one_of(&[0, 2, 3, 3, 3]);
    let after = if rng.chance(70) { soon } else { rng.up_to(plan.ttl / 6) };
    let length = rng.between(plan.ttl, plan.ttl * 2);
    let weather = if rng.chance(80) { Weather::Cut } else { Weather::Mute };
    Fault {
        when: When::Landed { process, nth, after },
        what: What::Weather { process: Some(process), length, weather },
    }
}

fn write_fate(plan: &Plan, rng: &mut SmallRng) -> Fate {
    let failure = failure(rng);
    let later = length(plan, rng);
    match rng.below(10) {
        0 => Fate::Lost,
        1 => Fate::Unanswered,
        2 | 3 => Fate::Late(later),
        4 => Fate::Before(failure),
        5 => Fate::After(failure),
        6 | 7 => Fate::Ghost(failure, later / rng.one_of(&[1, 10, 100])),
        8 => Fate::SlowAnswer(later),
        _ => {
            let limit = rng.one_of(&[Duration::from_millis(5), plan.ttl / 10, plan.ttl]);
            Fate::Twice { apart: rng.up_to(limit), second: rng.chance(75) }
        }
    }
}

fn read_fate(plan: &Plan, rng: &mut SmallRng) -> Fate {
    let later = length(plan, rng).min(plan.ttl / 7);
    match rng.below(5) {
        0 => Fate::Lost,
        1 => Fate::Unanswered,
        2 => Fate::Late(later),
        3 => Fate::SlowAnswer(later),
        _ => Fate::Before(rng.one_of(&[Failure::Generic, Failure::Denied])),
    }
}

fn failure(rng: &mut SmallRng) -> Failure {
    use Failure::{Denied, Exists, Generic, Precondition};
    rng.one_of(&[Generic, Generic, Generic, Exists, Exists, Precondition, Precondition, Denied])
}
