//! Nobody is let in while a holder trusts its lease, as long as the rates of clocks differ by no
//! more than 13 %: whatever their readings, the delays of requests, and the answers that are lost.
//!
//! Real time is counted in nanoseconds; nobody can read it. The holder, the contender and the store
//! have a clock each.

use std::cell::Cell;
use std::time::Duration;

use leaselock::clock::{Boot, Moment, Wall};
use leaselock::protocol::expiry::{
    Evidence, Observations, Rule, Sessions, StoreTime, Verdict, holder_validity, judge, remaining,
};
use leaselock::record::Record;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::cases;
use crate::made::ttl;

/// The slowest clock; the fastest runs this much faster at most.
const SLOWEST: u64 = 1_000_000;
const MARGIN: u64 = 130_000;

/// A clock that runs evenly, at so many parts in a million of real time.
#[derive(Clone, Copy, Debug)]
struct Runs {
    rate: u64,
    at_start: u64,
}

impl Runs {
    fn reads(self, real: u64) -> Duration {
        let passed = u128::from(real) * u128::from(self.rate) / 1_000_000;
        Duration::from_nanos(self.at_start + passed as u64)
    }

    /// When it first shows this.
    fn when(self, reading: Duration) -> u64 {
        let passed = reading.as_nanos().saturating_sub(u128::from(self.at_start));
        (passed * 1_000_000).div_ceil(u128::from(self.rate)) as u64
    }
}

/// A write of the holder; the first one acquires.
#[derive(Clone, Copy, Debug)]
struct Write {
    sent: u64,
    landed: u64,
    /// When the holder learns of it, if ever.
    answered: Option<u64>,
}

/// A read of the contender.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// When the store looked the record up.
    at_store: u64,
    received: u64,
}

/// The clocks that a store stamps with.
#[derive(Clone, Copy, Debug)]
struct Stamps {
    clock: Runs,
    /// How far the clock of the machine that tells the time is ahead of the one that stamps
    /// objects, or behind it.
    apart: i64,
    resolution: u64,
    /// What the contender adds for both.
    margin: Duration,
}

impl Stamps {
    fn stamp(self, real: u64, apart: i64) -> Wall {
        let nanos = self.clock.reads(real).as_nanos() as i64 + apart;
        let nanos = nanos - nanos.rem_euclid(self.resolution as i64);
        Wall::from_micros(nanos / 1000)
    }
}

#[derive(Clone, Debug)]
struct Scene {
    ttl: Duration,
    holder: Runs,
    /// When the holder's wall clock is set, and by how many seconds.
    jump: (u64, i64),
    contender: Runs,
    store: Option<Stamps>,
    writes: Vec<Write>,
    looks: Vec<Look>,
}

impl Scene {
    fn holder_at(&self, real: u64) -> Moment {
        let boot = self.holder.reads(real);
        let set = if real >= self.jump.0 { self.jump.1 * 1_000_000 } else { 0 };
        Moment { boot: Boot::new(boot), wall: Wall::from_micros(boot.as_micros() as i64 + set) }
    }

    /// How long the holder trusts its lease then; zero as well if it has ever been over before.
    fn trust(&self, real: u64) -> Duration {
        let left = |sent, now| remaining(self.ttl, self.holder_at(sent), self.holder_at(now));
        let mut sent = self.writes[0].sent;
        for write in &self.writes[1..] {
            let Some(answered) = write.answered.filter(|answered| *answered <= real) else {
                continue;
            };
            if left(sent, answered).is_zero() {
                return Duration::ZERO;
            }
            sent = write.sent;
        }
        left(sent, real)
    }

    /// What is on record at some time, by the number of the write.
    fn on_record(&self, real: u64) -> Option<usize> {
        self.writes.iter().rposition(|write| write.landed <= real)
    }

    /// Plays it through and tells by which rule the contender was let in, if it was.
    ///
    /// # Errors
    /// It was let in while the holder trusted its lease for so long.
    fn play(&self, record: &Record) -> Result<Option<Rule>, Duration> {
        let mut record = record.clone();
        let mut observations = Observations::default();
        for look in &self.looks {
            let Some(number) = self.on_record(look.at_store) else { continue };
            record.holders[0].renewals = number as u64;
            let received = Boot::new(self.contender.reads(look.received));
            observations.note(&record, received);
            let store = self.store.map(|stamps| StoreTime {
                at_least: stamps.stamp(look.at_store, stamps.apart),
                at: received,
                last_modified: stamps.stamp(self.writes[number].landed, 0),
                margin: stamps.margin,
            });
            let mut real = look.received;
            // As soon as the contender may write, it does, without another look. That its write is
            // refused if the holder's has landed meanwhile is the store's part.
            let rule = loop {
                let boot = Boot::new(self.contender.reads(real));
                let now = Moment { boot, wall: Wall::from_micros(0) };
                let sessions = &Sessions::NONE;
                let evidence =
                    Evidence { now, observations: &observations, store, max_skew: None, sessions };
                match judge(&record.holders[0], &evidence) {
                    Verdict::Expired(rule) => break rule,
                    Verdict::AliveUntil(end) => {
                        real = self.contender.when(end.since_origin()).max(real + 1);
                    }
                }
            };
            if self.on_record(real) == Some(number) {
                let trust = self.trust(real);
                return if trust.is_zero() { Ok(Some(rule)) } else { Err(trust) };
            }
        }
        Ok(None)
    }
}

fn runs() -> impl Strategy<Value = Runs> {
    let rate = prop_oneof![
        2 => Just(SLOWEST),
        2 => Just(SLOWEST + MARGIN),
        1 => SLOWEST..=SLOWEST + MARGIN,
    ];
    let at_start = 1_000_000_000_000_000..2_000_000_000_000_000_u64;
    (rate, at_start).prop_map(|(rate, at_start)| Runs { rate, at_start })
}

/// Front ends and storage stamp by themselves, or one machine does.
fn stamps() -> impl Strategy<Value = Stamps> {
    let second = 1_000_000_000_i64;
    let http = (runs(), -2 * second..=2 * second).prop_map(|(clock, apart)| Stamps {
        clock,
        apart,
        resolution: 1_000_000_000,
        margin: Duration::from_secs(3),
    });
    let own = (runs(), prop::sample::select(vec![1000, 4_000_000, 10_000_000])).prop_map(
        |(clock, resolution)| Stamps { clock, apart: 0, resolution, margin: Duration::ZERO },
    );
    prop_oneof![http, own]
}

/// Often nothing, rarely longer than the lease.
fn delay(ttl: u64) -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 2 => 0..ttl / 10, 1 => 0..ttl * 3 / 2]
}

fn writes(ttl: u64) -> impl Strategy<Value = Vec<Write>> {
    let pause = prop_oneof![ttl / 4..ttl / 2, 0..ttl];
    let write = (pause, delay(ttl), delay(ttl), prop::bool::weighted(0.8));
    vec(write, 1..5).prop_map(|plan| {
        let mut real = 0;
        plan.into_iter()
            .map(|(pause, there, back, heard)| {
                let sent = real + pause;
                let landed = sent + there;
                // One write at a time: the next comes after this one's answer, or its failure.
                real = landed + back;
                Write { sent, landed, answered: heard.then_some(real) }
            })
            .collect()
    })
}

fn looks(ttl: u64) -> impl Strategy<Value = Vec<Look>> {
    let pause = prop_oneof![2 => 0..ttl / 5, 1 => 0..ttl * 2];
    vec((pause, delay(ttl), delay(ttl)), 1..12).prop_map(|plan| {
        let mut real = 0;
        plan.into_iter()
            .map(|(pause, there, back)| {
                let at_store = real + pause + there;
                real = at_store + back;
                Look { at_store, received: real }
            })
            .collect()
    })
}

fn scene() -> impl Strategy<Value = Scene> {
    ttl().prop_flat_map(|ttl| {
        let nanos = ttl.as_nanos() as u64;
        let jump = (0..nanos * 3, prop_oneof![Just(0), -100_000..100_000_i64]);
        let store = prop::option::of(stamps());
        (runs(), jump, runs(), store, writes(nanos), looks(nanos)).prop_map(
            move |(holder, jump, contender, store, writes, looks)| Scene {
                ttl,
                holder,
                jump,
                contender,
                store,
                writes,
                looks,
            },
        )
    })
}

/// A record with a holder of this TTL.
fn record(ttl: Duration) -> Record {
    let held = include_str!("../golden/held.json");
    let mut record = Record::decode(held.as_bytes()).expect("is a record");
    record.holders[0].ttl = ttl;
    record
}

#[test]
fn whoever_is_let_in_comes_after_the_holder_has_stopped() {
    let config = Config { source_file: Some(file!()), ..cases(3000) };
    let (by_observation, by_store) = (Cell::new(0), Cell::new(0));
    let outcome = TestRunner::new(config).run(&scene(), |scene| {
        match scene.play(&record(scene.ttl)) {
            Ok(Some(Rule::Observation)) => by_observation.set(by_observation.get() + 1),
            Ok(Some(Rule::StoreClock)) => by_store.set(by_store.get() + 1),
            Ok(_) => {}
            Err(trust) => {
                prop_assert!(false, "the holder trusts its lease for another {:?}", trust);
            }
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let (by_observation, by_store) = (by_observation.get(), by_store.get());
    assert!(by_observation > 300 && by_store > 300, "{by_observation} and {by_store} of 3000");
}

/// The worst case: the holder's clock is the slowest, everybody else's the fastest, and nothing
/// takes any time.
fn worst(faster: u64, store: Option<Stamps>) -> Result<Option<Rule>, Duration> {
    let at_start = 1_000_000_000_000_000;
    let fast = Runs { rate: SLOWEST + faster, at_start };
    let ttl = Duration::from_secs(3600);
    let scene = Scene {
        ttl,
        holder: Runs { rate: SLOWEST, at_start },
        jump: (0, 0),
        contender: fast,
        store: store.map(|stamps| Stamps { clock: fast, ..stamps }),
        writes: vec![Write { sent: 0, landed: 0, answered: Some(0) }],
        looks: vec![Look { at_store: 0, received: 0 }],
    };
    scene.play(&record(ttl))
}

#[test]
fn clocks_that_differ_by_more_than_the_margin_are_told_apart() {
    let stamps = Stamps {
        clock: Runs { rate: SLOWEST, at_start: 0 },
        apart: 0,
        resolution: 1_000_000,
        margin: Duration::ZERO,
    };
    for store in [None, Some(stamps)] {
        assert!(matches!(worst(MARGIN, store), Ok(Some(_))), "13 % are within the margin");
        let trust = worst(140_000, store).expect_err("14 % are not");
        assert!(trust < holder_validity(Duration::from_secs(3600)) / 50, "{trust:?}");
    }
    // What the margin of three seconds is for.
    let second = 1_000_000_000;
    let apart = Stamps { apart: 2 * second, resolution: 1_000_000_000, ..stamps };
    let sloppy = Stamps { margin: Duration::ZERO, ..apart };
    let late = Look { at_store: 3590 * second as u64, received: 3590 * second as u64 };
    let let_in = |stamps: Stamps| {
        let clock = Runs { rate: SLOWEST, at_start: 999_999_999 };
        let even = Runs { rate: SLOWEST, at_start: 0 };
        let write = Write { sent: 0, landed: 0, answered: Some(0) };
        let ttl = Duration::from_secs(1);
        let scene = Scene {
            ttl,
            holder: even,
            jump: (0, 0),
            contender: even,
            store: Some(Stamps { clock, ..stamps }),
            writes: vec![write],
            looks: vec![Look { at_store: 1, received: 1 }, late],
        };
        scene.play(&record(ttl))
    };
    assert!(let_in(sloppy).is_err(), "a second of rounding and two of difference");
    assert_eq!(
        let_in(Stamps { margin: Duration::from_secs(3), ..apart }),
        Ok(Some(Rule::Observation))
    );
}
