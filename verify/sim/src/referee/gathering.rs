//! A latch and a barrier: who has arrived, and what those who ask are told.
//!
//! Who may have arrived is known from the calls, not from the record: a member counts in an epoch at
//! most if a call arrived in its name while that epoch was present.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use leaselock::record::{Kind, Record};
use leaselock::{ErrorKind, GatheringInfo};

use super::Referee;
use crate::clock::Time;
use crate::plan::Plan;
use crate::world::World;

/// Where members gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    Latch,
    Barrier,
}

/// What a call is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// To arrive in somebody's name: in this epoch, or in whichever is present.
    Arrive(String, Option<u64>),
    /// To wait, or to look.
    Look,
    Reset,
}

/// What a call was told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Passed(u64),
    /// The epoch has not passed, and so many have arrived.
    Waiting(u64, u32),
    Seen(GatheringInfo),
    /// Which epoch is present after a reset.
    Present(u64),
}

/// Everything about the latch and the barrier.
#[derive(Debug)]
pub(super) struct Gatherings {
    needed: usize,
    places: BTreeMap<Spot, Place>,
    visits: Vec<Visit>,
    /// Which round of the barrier each member is to go around next: what it keeps with its work.
    rounds: BTreeMap<usize, u64>,
    /// After which everybody has gone around often enough.
    last_round: Option<u64>,
}

#[derive(Debug)]
struct Place {
    record: Option<Record>,
    /// Every epoch that has begun.
    epochs: Vec<Epoch>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Epoch {
    began: Time,
    passed: Option<Time>,
    ended: Option<Time>,
}

/// One call.
#[derive(Debug)]
struct Visit {
    spot: Spot,
    process: usize,
    errand: Errand,
    began: Time,
    /// The epoch that was present then.
    found: u64,
    ended: Option<Time>,
}

impl Spot {
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        [Self::Latch, Self::Barrier].into_iter().find(|spot| key == spot.key())
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Latch => "shards",
            Self::Barrier => "rounds",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Latch => "shards.lock",
            Self::Barrier => "rounds.lock",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Latch => Kind::Latch,
            Self::Barrier => Kind::Barrier,
        }
    }
}

impl Gatherings {
    pub(super) fn new(plan: &Plan) -> Self {
        let place = || Place { record: None, epochs: vec![Epoch::default()] };
        Self {
            needed: plan.gathering.unwrap_or(1) as usize,
            places: [Spot::Latch, Spot::Barrier].map(|spot| (spot, place())).into(),
            visits: Vec::new(),
            rounds: BTreeMap::new(),
            last_round: None,
        }
    }

    fn present(&self, spot: Spot) -> u64 {
        self.places[&spot].epochs.len() as u64 - 1
    }

    fn epoch(&self, spot: Spot, number: u64) -> Option<Epoch> {
        self.places[&spot].epochs.get(number as usize).copied()
    }

    /// Whether a member is on record.
    fn has(&self, spot: Spot, member: &str) -> bool {
        let record = self.places[&spot].record.as_ref();
        let gathering = record.and_then(|record| record.gathering.as_ref());
        gathering.is_some_and(|gathering| gathering.has(member))
    }

    /// Who may have arrived in an epoch.
    fn here(&self, spot: Spot, number: u64) -> BTreeSet<&str> {
        let Some(epoch) = self.epoch(spot, number) else { return BTreeSet::new() };
        let visits = self.visits.iter().filter(|visit| visit.spot == spot);
        visits
            .filter(|visit| epoch.ended.is_none_or(|ended| visit.began <= ended))
            .filter(|visit| visit.ended.is_none_or(|ended| ended >= epoch.began))
            .filter_map(|visit| match &visit.errand {
                Errand::Arrive(member, about) => {
                    about.is_none_or(|about| about == number).then_some(member.as_str())
                }
                _ => None,
            })
            .collect()
    }

    /// Whether somebody may be ending this epoch.
    fn is_reset(&self, spot: Spot, number: u64) -> bool {
        let began = self.epoch(spot, number).map(|epoch| epoch.began).unwrap_or_default();
        self.visits.iter().any(|visit| {
            visit.spot == spot
                && visit.errand == Errand::Reset
                && visit.ended.is_none_or(|ended| ended >= began)
        })
    }
}

impl Referee {
    /// A call begins; its number.
    pub(crate) fn visit_begins(
        &mut self,
        now: Time,
        process: usize,
        spot: Spot,
        errand: Errand,
    ) -> usize {
        let found = self.gatherings.present(spot);
        let visit = Visit { spot, process, errand, began: now, found, ended: None };
        self.gatherings.visits.push(visit);
        self.gatherings.visits.len() - 1
    }

    /// A process has died, and nobody hears what its calls come to.
    pub(crate) fn visitors_died(&mut self, now: Time, process: usize) {
        let visits = self.gatherings.visits.iter_mut();
        for visit in visits.filter(|visit| visit.process == process && visit.ended.is_none()) {
            visit.ended = Some(now);
        }
    }

    /// Which round a member of the barrier is to go around next.
    pub(crate) fn round_of(&self, member: usize) -> u64 {
        self.gatherings.rounds.get(&member).copied().unwrap_or_default()
    }

    /// A member has gone around.
    pub(crate) fn round_is_done(&mut self, member: usize, round: u64) {
        let next = self.gatherings.rounds.entry(member).or_default();
        *next = (*next).max(round + 1);
    }

    /// The round that ends it for everybody: as many as anybody has begun, and one more.
    pub(crate) fn last_round(&mut self) -> u64 {
        let present = self.gatherings.present(Spot::Barrier);
        *self.gatherings.last_round.get_or_insert(present + 1)
    }

    /// A write of the latch or the barrier has landed: an arrival, or the end of an epoch.
    pub(super) fn gathering_landed(&mut self, now: Time, process: usize, spot: Spot, body: &Bytes) {
        let promise = "every record that the library writes is readable";
        let record = match Record::decode_of(spot.kind(), body) {
            Ok(record) if record.kind == spot.kind() => record,
            other => return self.violate(now, promise, || format!("p{process}: {other:?}")),
        };
        let Some(after) = record.gathering.clone() else {
            return self.violate(now, promise, || format!("p{process}: {record:?}"));
        };
        let all = &self.gatherings;
        let (needed, number) = (all.needed, all.present(spot));
        let before = all.places[&spot].record.as_ref();
        let token = before.map_or(record.token.get(), |record| record.token.get());
        let was = before.and_then(|record| record.gathering.as_ref());
        let same_series = was.is_none_or(|was| was.series == after.series);
        let names = |gathering: &leaselock::record::Gathering| -> Vec<String> {
            gathering.arrived.iter().map(|arrived| arrived.member.clone()).collect()
        };
        let there = was.map(names).unwrap_or_default();
        let here: BTreeSet<String> =
            all.here(spot, number).into_iter().map(str::to_owned).collect();
        let arrived = names(&after);
        let next = after.epoch == number + 1 && arrived.is_empty();
        let comes = after.epoch == number
            && arrived.len() == there.len() + 1
            && arrived.starts_with(&there)
            && arrived.last().is_some_and(|member| !there.contains(member));
        let reset = next && spot == Spot::Latch && all.is_reset(spot, number);
        let around = next && spot == Spot::Barrier && there.len() + 1 == needed;
        let passes = around || comes && spot == Spot::Latch && arrived.len() == needed;
        let words = || format!("p{process}: {there:?} in {number}, then {arrived:?} {after:?}");
        let fault = if !same_series {
            Some("a series of epochs goes on")
        } else if !(comes || reset || around) {
            Some("an epoch changes by an arrival or by its end")
        } else if !arrived.iter().chain(&there).all(|member| here.contains(member)) {
            Some("nobody is on record who has not arrived")
        } else if passes && here.len() < needed {
            Some("an epoch passes when enough different members have arrived")
        } else if record.token.get() != token + u64::from(passes) {
            Some("the token grows by one for every epoch that passes")
        } else {
            None
        };
        if let Some(promise) = fault {
            self.violate(now, promise, words);
        }
        let place = self.gatherings.places.get_mut(&spot).expect("there are both");
        let was_open = place.epochs.last().is_some_and(|epoch| epoch.passed.is_some());
        if let Some(epoch) = place.epochs.last_mut() {
            epoch.passed = epoch.passed.or(passes.then_some(now));
            epoch.ended = next.then_some(now);
        }
        if next {
            place.epochs.push(Epoch { began: now, passed: None, ended: None });
        }
        place.record = Some(record);
        self.counts.add(match (spot, next, passes) {
            (Spot::Barrier, true, _) => "rounds of a barrier",
            (Spot::Latch, true, _) if was_open => "latches reset while open",
            (Spot::Latch, true, _) => "latches reset before they opened",
            (Spot::Latch, false, true) => "latches opened",
            _ => "arrivals on record",
        });
    }

    fn told(&mut self, now: Time, number: usize, told: &Told, quiet: bool) {
        let all = &self.gatherings;
        let Visit { spot, process, ref errand, began, found, .. } = all.visits[number];
        let (needed, present) = (all.needed, all.present(spot));
        let about = match errand {
            Errand::Arrive(_, about) => *about,
            _ => None,
        };
        let passed = |number| all.epoch(spot, number).and_then(|epoch| epoch.passed);
        let here = |number| all.here(spot, number).len();
        let (word, fault) = match told {
            Told::Passed(epoch) => {
                let right = passed(*epoch).is_some() && here(*epoch) >= needed;
                let of_it = about.map_or(*epoch >= found, |about| about == *epoch);
                let long = passed(*epoch).is_some_and(|at| at < began) && spot == Spot::Barrier;
                let word = if long { "of a round long past" } else { "that an epoch has passed" };
                let promise = "nobody is told that an epoch has passed before it has";
                (word, (!right || !of_it).then_some(promise))
            }
            Told::Waiting(epoch, arrived) => {
                // What has passed is heard of at the next look, which ends every wait.
                let heard = Duration::from_secs(1) + self.round_trip * 4;
                let since = if quiet { began.max(now.saturating_sub(heard)) } else { began };
                let shut = passed(*epoch).is_none_or(|at| at >= since);
                let of_it = about.map_or(*epoch >= found, |about| about == *epoch);
                let few = *arrived as usize <= here(*epoch);
                let counts = match errand {
                    Errand::Arrive(member, _) if *epoch == present => all.has(spot, member),
                    _ => true,
                };
                let promise = match counts {
                    true => "what has opened stays open, and whoever asks is told",
                    false => "who is told that it has arrived is on record",
                };
                let right = shut && of_it && few && counts;
                ("that an epoch goes on", (!right).then_some(promise))
            }
            Told::Seen(info) => {
                let there = all.here(spot, info.epoch);
                let right = (found..=present).contains(&info.epoch)
                    && (!info.is_open || passed(info.epoch).is_some())
                    && info.members.iter().all(|member| there.contains(member.member.as_str()));
                ("what is there", (!right).then_some("what is looked at was there"))
            }
            Told::Present(epoch) => {
                let right = (found..=present).contains(epoch);
                ("of a reset", (!right).then_some("what is looked at was there"))
            }
        };
        let missing = match told {
            // Nobody is a round ahead of somebody who has not begun it.
            Told::Passed(epoch) if spot == Spot::Barrier => here(*epoch) < needed,
            _ => false,
        };
        self.counts.add(&format!("visits told {word}"));
        let words = || format!("p{process} at the {spot:?}: {told:?}; epoch {present} is present");
        if missing {
            self.violate(now, "nobody is a round ahead of an absent member", words);
        } else if let Some(promise) = fault {
            self.violate(now, promise, words);
        }
    }
}

impl World {
    /// A call has ended; nobody heard how, where nothing is told.
    pub(crate) fn visit_ends(&mut self, number: usize, told: Option<Result<&Told, ErrorKind>>) {
        let (now, quiet) = (self.now, self.is_quiet());
        let all = &mut self.referee.gatherings;
        let Visit { spot, process, found, .. } = all.visits[number];
        all.visits[number].ended = Some(now);
        let reset = spot == Spot::Latch && all.present(spot) > found;
        match told {
            None => self.count("visits dropped"),
            Some(Ok(told)) => self.referee.told(now, number, told, quiet),
            Some(Err(ErrorKind::EpochMismatch { .. })) if reset => {
                self.count("visits told that their epoch is gone");
            }
            Some(Err(kind)) => {
                if kind == ErrorKind::Unconfirmed {
                    self.count("visits unconfirmed");
                }
                self.judge_error(process, "a gathering", kind);
            }
        }
    }
}
