//! What a seed makes of the world: who takes part, on what clocks, at what distance.

use std::time::Duration;

use leaselock::record::Kind;
use rand::rngs::SmallRng;

use crate::Options;
use crate::clock::{Dial, EPOCH, Rate};
use crate::faults::{self, Fault};
use crate::rng::{Draw, stream};

/// Everything about a run that is decided before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) locks: usize,
    /// Work that is run once, besides.
    pub(crate) once: Option<OncePlan>,
    /// Queues, readers and writers, a semaphore and sessions, besides.
    pub(crate) family: Option<FamilyPlan>,
    /// Whether there is a lock over three stores, besides.
    pub(crate) quorum: bool,
    /// Whether some of those who want a lock campaign in the election of its name.
    pub(crate) elections: bool,
    /// Whether some want both locks at once.
    pub(crate) together: bool,
    /// Whether many users of one store want its locks again and again.
    pub(crate) crowd: Option<CrowdPlan>,
    /// For how many members a latch and a barrier wait, if they are there besides.
    pub(crate) gathering: Option<u32>,
    /// Whether some leave their leases on record and go on with them.
    pub(crate) leaves: bool,
    /// Whether holders write a table that is fenced.
    pub(crate) table: bool,
    /// The TTL that times are compared with.
    pub(crate) ttl: Duration,
    pub(crate) processes: Vec<ProcessPlan>,
    pub(crate) store: StorePlan,
    pub(crate) latency: Latency,
    /// When faults end and everybody must be served.
    pub(crate) length: Duration,
    pub(crate) habits: Habits,
    pub(crate) faults: Vec<Fault>,
}

/// Work that is run once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OncePlan {
    /// For how long its results are kept.
    pub(crate) retention: Option<Duration>,
}

/// Users who come in a crowd.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrowdPlan {
    /// In a hundred, how often they take a lock as one of the crowd.
    pub(crate) share: u32,
    /// How long they hold it then at most, but for some.
    pub(crate) brief: Duration,
}

/// What is held under sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FamilyPlan {
    /// How many permits its semaphore begins with.
    pub(crate) permits: u32,
    /// In a hundred, how many acquisitions are several under a session of their own.
    pub(crate) sessions: u32,
}

/// One of what is held under sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    /// A lock that most wait for in a queue.
    Queue,
    /// A lock that nobody queues for.
    Shelf,
    /// A lock for readers and writers.
    Rows,
    /// A semaphore.
    Permits,
}

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct ProcessPlan {
    pub(crate) rate: Rate,
    /// How far its wall clock is off, in microseconds.
    pub(crate) wall_offset: i64,
    /// What its monotonic clock shows at the beginning.
    pub(crate) boot: Duration,
    pub(crate) ttl: Duration,
    /// Stores opened by it: each remembers for itself.
    pub(crate) handles: usize,
    /// Users of each handle.
    pub(crate) users: usize,
    /// Whether locks go from one to the next inside it.
    pub(crate) hands_over: bool,
    /// How late its timers fire at most.
    pub(crate) lateness: Duration,
}

/// The store.
#[derive(Clone, Debug)]
pub(crate) struct StorePlan {
    pub(crate) rate: Rate,
    pub(crate) wall_offset: i64,
    /// Stamps have whole seconds.
    pub(crate) whole_seconds: bool,
    /// How far the clocks of its machines are off at most.
    pub(crate) skew: Duration,
    /// ETags are digests of the bodies, not numbers.
    pub(crate) digests: bool,
    /// Conditional reads of an unchanged object are answered with the object.
    pub(crate) ignores_if_none_match: bool,
    /// The library checks it before the first write.
    pub(crate) checked: bool,
}

/// How long requests travel, one way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    /// The shortest.
    pub(crate) least: Duration,
    /// The usual spread.
    pub(crate) spread: Duration,
    /// In a hundred, how many take up to ten times as long.
    pub(crate) tail: u32,
}

impl Latency {
    /// Latency that no request is too slow for.
    pub(crate) fn calm(self, ttl: Duration) -> Self {
        let most = ttl / 60;
        Self { least: self.least.min(most), spread: self.spread.min(most), tail: 0 }
    }
}

/// How the users behave, in parts of a hundred.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) store_clock: u32,
    pub(crate) manual: u32,
    pub(crate) min_hold: u32,
    pub(crate) max_hold: u32,
    pub(crate) progress: u32,
    /// Users trust each other's wall clocks up to this difference.
    pub(crate) max_skew: Option<Duration>,
    /// How long a user holds a lock at most.
    pub(crate) hold: Duration,
    /// How long a user does without the lock at most.
    pub(crate) rest: Duration,
    /// How long a user works between two looks at its guard, at most.
    pub(crate) look: Duration,
}

/// The ratio of the fastest clock's rate to the slowest one's: `docs/PROTOCOL.md` promises safety
/// below 1.02 / 0.9 = 1.133.
const WITHIN: (Rate, Rate) = (113, 100);
const SLOWEST: Rate = 920_000;
const FASTEST: Rate = 1_080_000;
const DAY: i64 = 86_400_000_000;

impl Plan {
    pub(crate) fn of_seed(seed: u64, options: &Options) -> Self {
        let mut rng = stream(seed, &[1]);
        let seconds = rng.one_of(&[1, 2, 3, 5, 10, 10, 10, 20, 20, 30, 30, 60]);
        let ttl = Duration::from_secs(seconds);
        let trusting = rng.chance(5) && !options.rates_beyond;
        let rates = Rates::draw(&mut rng, options.rates_beyond, trusting);
        let max_skew = trusting.then(|| rng.between(ttl / 10, ttl * 2));
        let processes = processes(&mut rng, &rates, ttl, max_skew);
        let store = store(&mut rng, &rates);
        let latency = latency(&mut rng, ttl);
        let turns = if seconds < 10 { 10 } else { 6 };
        let length = (ttl * turns).clamp(Duration::from_secs(12), Duration::from_secs(200));
        let habits = habits(&mut rng, ttl, max_skew);
        let mut plan = Self {
            seed,
            locks: if rng.chance(80) { 1 } else { 2 },
            once: once(&mut stream(seed, &[8]), ttl),
            family: family(&mut stream(seed, &[10])),
            quorum: stream(seed, &[12]).chance(15),
            elections: stream(seed, &[15]).chance(10),
            together: false,
            crowd: None,
            gathering: None,
            leaves: stream(seed, &[19]).chance(30),
            table: stream(seed, &[9]).chance(30),
            ttl,
            processes,
            store,
            latency,
            length,
            habits,
            faults: Vec::new(),
        };
        plan.together = plan.locks > 1 && stream(seed, &[16]).chance(50);
        plan.let_in_crowd(&mut stream(seed, &[17]));
        plan.gathering = gathering(&mut stream(seed, &[14]), &plan);
        plan.faults = faults::schedule(&plan, &mut stream(seed, &[2]));
        plan.faults.extend(faults::of_family(&plan, &mut stream(seed, &[11])));
        plan.faults.extend(faults::of_quorum(&plan, &mut stream(seed, &[13])));
        plan.faults.extend(faults::of_slow_reader(&plan, &mut stream(seed, &[18])));
        plan
    }

    /// Only where there is nothing besides plain locks: those who come in a crowd are many. Elsewhere
    /// some do without handing over.
    fn let_in_crowd(&mut self, rng: &mut SmallRng) {
        let plain = self.once.is_none() && self.family.is_none() && !self.quorum;
        let plan = CrowdPlan {
            share: rng.one_of(&[50, 90, 100]),
            brief: Duration::from_millis(rng.one_of(&[2, 10, 50, 200])),
        };
        self.crowd = (plain && rng.chance(40)).then_some(plan);
        for process in &mut self.processes {
            let (users, hands_over) = (rng.one_of(&[2, 3, 5]), rng.chance(50));
            process.hands_over = hands_over;
            if self.crowd.is_some() && rng.chance(70) {
                process.users = users;
            }
        }
    }

    /// The cast, to read.
    pub(crate) fn cast(&self) -> Vec<String> {
        let mut cast = vec![format!("TTL {:?}, {:?}, {:?}", self.ttl, self.latency, self.habits)];
        cast.push(format!("{:?}", self.store));
        cast.extend(
            self.processes.iter().enumerate().map(|(n, process)| format!("p{n} {process:?}")),
        );
        cast
    }

    /// The object that holders of the first lock write.
    pub(crate) const TABLE: &'static str = "table/manifest";

    /// What is run once is called.
    pub(crate) const ONCE: &'static str = "delta";

    /// The lock over three stores is called.
    pub(crate) const QUORUM: &'static str = "vote";

    /// The stores that it lies on, by the prefixes of their keys.
    pub(crate) const PLACES: [&'static str; 3] = ["east", "north", "west"];

    /// Which of them a key belongs to.
    pub(crate) fn place_of(key: &str) -> Option<usize> {
        let (place, _) = key.split_once('/')?;
        Self::PLACES.iter().position(|one| *one == place)
    }

    /// The number of the lock over three stores, among everything that is contended for.
    pub(crate) fn of_quorum(&self) -> usize {
        self.first_of_family() + self.members().len()
    }

    /// Everything that is contended for; what lies on three stores takes its time, and so does
    /// waiting for the others.
    pub(crate) fn keys(&self) -> usize {
        let quorum = if self.quorum { Self::PLACES.len() } else { 0 };
        self.of_quorum() + quorum + if self.gathering.is_some() { 6 } else { 0 }
    }

    /// What is held under sessions, in the order in which whoever wants several asks for them.
    pub(crate) fn members(&self) -> &'static [Member] {
        if self.family.is_some() { &Member::ALL } else { &[] }
    }

    /// The number of the first of them, among everything that is contended for.
    pub(crate) fn first_of_family(&self) -> usize {
        self.locks + usize::from(self.once.is_some())
    }

    /// What a lock is called.
    pub(crate) fn name(lock: usize) -> &'static str {
        ["alpha", "beta/gamma"][lock]
    }

    /// What is called like this that has the number `which` and can be broken.
    pub(crate) fn name_of(&self, which: usize) -> &'static str {
        match self.members().get(which.wrapping_sub(self.first_of_family())) {
            Some(member) => member.name(),
            None => Self::name(which),
        }
    }

    /// The longest that a lease can last on anybody's clock.
    pub(crate) fn longest_ttl(&self) -> Duration {
        self.processes.iter().map(|process| process.ttl).max().unwrap_or_default()
    }

    /// The longest usual time for a request and its answer.
    pub(crate) fn round_trip(&self) -> Duration {
        (self.latency.least + self.latency.spread * 10) * 2
    }

    /// So much time by the slowest clock, in true time.
    pub(crate) fn by_the_slowest(&self, time: Duration) -> Duration {
        let slowest = self.processes.iter().map(|process| process.rate).min().unwrap_or(1_000_000);
        time.mul_f64(1_000_000.0 / slowest as f64)
    }
}

impl Member {
    pub(crate) const ALL: [Self; 4] = [Self::Queue, Self::Shelf, Self::Rows, Self::Permits];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queue => "desk/queue",
            Self::Shelf => "desk/shelf",
            Self::Rows => "rows",
            Self::Permits => "permits",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Queue | Self::Shelf => Kind::Lock,
            Self::Rows => Kind::RwLock,
            Self::Permits => Kind::Semaphore,
        }
    }
}

impl StorePlan {
    /// The store's clock, which nobody ever sets.
    pub(crate) fn dial(&self) -> Dial {
        Dial::new(Duration::ZERO, self.rate, Duration::ZERO, EPOCH + self.wall_offset)
    }
}

/// From numbers of its own: a world without it is as if it did not exist.
fn once(rng: &mut SmallRng, ttl: Duration) -> Option<OncePlan> {
    let second = Duration::from_secs(1);
    let retention = match rng.below(4) {
        0 => None,
        1 => Some(second),
        _ => Some(second.max(rng.up_to(ttl))),
    };
    // As a record carries it.
    let whole = |time: Duration| Duration::from_millis(time.as_millis() as u64);
    rng.chance(25).then_some(OncePlan { retention: retention.map(whole) })
}

/// From numbers of its own, too.
fn family(rng: &mut SmallRng) -> Option<FamilyPlan> {
    let plan = FamilyPlan { permits: rng.one_of(&[2, 3]), sessions: rng.one_of(&[0, 20, 50]) };
    rng.chance(25).then_some(plan)
}

/// Only where there is nothing besides plain locks.
fn gathering(rng: &mut SmallRng, plan: &Plan) -> Option<u32> {
    let plain = plan.once.is_none() && plan.family.is_none() && !plan.quorum;
    let plain = plain && plan.crowd.is_none();
    let members = rng.one_of(&[2, 3]).min(plan.processes.len() as u32);
    (plain && rng.chance(20)).then_some(members)
}

struct Rates {
    least: Rate,
    most: Rate,
    spread: bool,
}

impl Rates {
    fn draw(rng: &mut SmallRng, beyond: bool, exact: bool) -> Self {
        if beyond {
            return Self { least: SLOWEST, most: FASTEST, spread: true };
        }
        let least = rng.one_of(&[SLOWEST, 940_000, FASTEST * WITHIN.1 / WITHIN.0]);
        Self { least, most: least * WITHIN.0 / WITHIN.1, spread: !exact && rng.chance(75) }
    }

    fn one(&self, rng: &mut SmallRng) -> Rate {
        if !self.spread {
            return 1_000_000;
        }
        let middle =
            rng.between(Duration::from_micros(self.least), Duration::from_micros(self.most));
        rng.one_of(&[self.least, self.least, self.most, self.most, middle.as_micros() as Rate])
    }
}

fn processes(
    rng: &mut SmallRng,
    rates: &Rates,
    ttl: Duration,
    max_skew: Option<Duration>,
) -> Vec<ProcessPlan> {
    let count = rng.one_of(&[2, 2, 3, 3, 4]);
    (0..count)
        .map(|_| ProcessPlan {
            rate: rates.one(rng),
            wall_offset: match max_skew {
                Some(skew) => rng.up_to(skew).as_micros() as i64,
                None => wall_offset(rng),
            },
            boot: rng.between(Duration::from_secs(1), Duration::from_secs(90_000)),
            ttl: if rng.chance(15) { ttl * 2 } else { ttl },
            handles: if rng.chance(20) { 2 } else { 1 },
            users: if rng.chance(20) { 2 } else { 1 },
            hands_over: true,
            lateness: rng.one_of(&[Duration::ZERO, Duration::from_millis(3)]),
        })
        .collect()
}

fn wall_offset(rng: &mut SmallRng) -> i64 {
    match rng.below(4) {
        0 => 0,
        1 => rng.up_to(Duration::from_secs(10)).as_micros() as i64 - 5_000_000,
        2 => DAY,
        _ => rng.up_to(Duration::from_secs(2 * 86_400)).as_micros() as i64 - DAY,
    }
}

fn store(rng: &mut SmallRng, rates: &Rates) -> StorePlan {
    StorePlan {
        rate: rates.one(rng),
        wall_offset: rng.up_to(Duration::from_secs(2)).as_micros() as i64,
        whole_seconds: rng.chance(60),
        skew: if rng.chance(30) { Duration::from_secs(1) } else { Duration::ZERO },
        digests: rng.chance(50),
        ignores_if_none_match: rng.chance(15),
        checked: rng.chance(10),
    }
}

fn latency(rng: &mut SmallRng, ttl: Duration) -> Latency {
    let millis = rng.one_of(&[1, 5, 20, 50]);
    let usual = Duration::from_millis(millis).min(ttl / 60);
    let spread = match rng.below(4) {
        // Reads and writes that cross each other, and time out.
        0 => ttl.min(Duration::from_secs(30)) / 8,
        1 => ttl.min(Duration::from_secs(30)) / 16,
        _ => usual,
    };
    Latency { least: usual / 2, spread, tail: if rng.chance(50) { 2 } else { 0 } }
}

fn habits(rng: &mut SmallRng, ttl: Duration, max_skew: Option<Duration>) -> Habits {
    Habits {
        store_clock: rng.one_of(&[0, 50, 100, 100]),
        manual: rng.one_of(&[0, 0, 20, 60]),
        min_hold: rng.one_of(&[0, 0, 0, 30]),
        max_hold: rng.one_of(&[0, 0, 10]),
        progress: rng.one_of(&[0, 0, 10]),
        max_skew,
        hold: ttl.mul_f64(rng.one_of(&[0.3, 1.0, 3.0])),
        rest: ttl.mul_f64(rng.one_of(&[0.02, 0.5, 1.5])),
        look: ttl.mul_f64(rng.one_of(&[0.1, 0.25, 0.6])),
    }
}
