//! Who decides what happens next on one store: by its seed, and by what there is to be hit.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::arena::{Arena, Mischief, Target};
use crate::clock;
use crate::emulators::{Emulators, Memory, memory_of};
use crate::weather::{Sky, Weather};

/// How often it looks at what is due.
const TICK: Duration = Duration::from_millis(20);
/// How long a target is looked for before something else is done.
const SEARCH: Duration = Duration::from_secs(2);
/// Connections are cut as often as that while they are cut at all.
const CUTS: Duration = Duration::from_millis(150);
/// A process frozen until its successor is in goes on at the latest after so many TTLs, and then
/// some for polls and restarts.
const FROZEN: (u32, Duration) = (2, Duration::from_secs(6));

/// The director of one store.
#[derive(Debug)]
pub(crate) struct Director<'a> {
    pub(crate) arena: &'a Arena,
    /// None for a directory.
    pub(crate) weather: Option<&'a Weather>,
    pub(crate) emulators: &'a Emulators<'a>,
    pub(crate) over: &'a AtomicBool,
    /// What is done to runs, each once before one comes again.
    pub(crate) mischief: &'static [Mischief],
    /// Between two restarts of the emulator, about.
    pub(crate) restarts: Duration,
}

/// Somebody who was frozen.
#[derive(Debug)]
struct Frozen {
    user: usize,
    /// Mostly: that is when its late work must be refused.
    worker_first: bool,
    /// Not before that …
    earliest: Instant,
    /// … and when a successor is in, or at the latest then.
    latest: Instant,
}

/// What is due when.
#[derive(Debug)]
struct Due {
    mischief: Instant,
    search: Instant,
    sky: Instant,
    cut: Instant,
    restart: Instant,
}

impl<'a> Director<'a> {
    /// Directs until it is over; then the weather clears up, and everybody goes on.
    pub(crate) fn direct<'scope>(&'scope self, scope: &'scope Scope<'scope, 'a>, seed: u64)
    where
        'a: 'scope,
    {
        let mut rng = Rng::with_seed(seed);
        let begun = clock::now();
        let mut frozen: Vec<Frozen> = Vec::new();
        let mut program = VecDeque::new();
        let mut skies = VecDeque::new();
        let mut restarting: Option<ScopedJoinHandle<'_, ()>> = None;
        let mut calm = true;
        let mut due = Due {
            mischief: begun + Duration::from_millis(1_500),
            search: begun,
            sky: begun + Duration::from_secs(4),
            cut: begun,
            restart: begun + self.restarts / 2,
        };
        while !self.over.load(Ordering::SeqCst) {
            let now = clock::now();
            frozen.retain(|one| !self.thaw_if_due(one, now));
            if now >= due.mischief {
                refill(&mut program, self.mischief, &mut rng);
                if due.search < due.mischief {
                    due.search = now + SEARCH;
                }
                if let Some(next) = self.strike(program[0], &mut rng, &mut frozen) {
                    program.pop_front();
                    due.mischief = now + next;
                } else if now > due.search {
                    // Later.
                    program.rotate_left(1);
                    due.search = now + SEARCH;
                }
            }
            if let Some(weather) = self.weather {
                let is_restarting = restarting.as_ref().is_some_and(|thread| !thread.is_finished());
                // One after the other, so that each shows.
                if is_restarting {
                    due.sky = due.sky.max(now + Duration::from_secs(1));
                }
                if now >= due.sky {
                    refill(&mut skies, &Sky::BAD, &mut rng);
                    let bad = calm.then(|| skies.pop_front()).flatten();
                    calm = bad.is_none();
                    weather.turn(bad.unwrap_or(Sky::Calm));
                    let (least, most) = if calm { (3_000, 6_000) } else { (1_500, 3_000) };
                    due.sky = now + Duration::from_millis(rng.u64(least..most));
                }
                if now >= due.cut {
                    weather.passes();
                    due.cut = now + CUTS;
                }
                if now >= due.restart && calm && !is_restarting {
                    due.restart = now + self.restarts.mul_f64(0.8 + 0.4 * rng.f64());
                    let pause = rng.f64() * 2.0;
                    restarting = Some(scope.spawn(move || self.restart(weather, pause)));
                }
            }
            std::thread::sleep(TICK);
        }
        for one in &frozen {
            self.arena.thaw(one.user, one.worker_first);
        }
        if let Some(weather) = self.weather {
            weather.turn(Sky::Calm);
        }
    }

    /// Answers how long to wait for the next one; `None` when there was nobody to do it to.
    fn strike(
        &self,
        mischief: Mischief,
        rng: &mut Rng,
        frozen: &mut Vec<Frozen>,
    ) -> Option<Duration> {
        // Some hit those who wait, where more than one thing is done.
        let anybody = matches!(mischief, Mischief::KillWrapper | Mischief::FreezeWrapper)
            && self.mischief.len() > 1;
        let holding = !anybody || rng.u8(..4) > 0;
        let target = self.arena.target(holding, rng.usize(..))?;
        if !self.arena.strike(target, mischief) {
            return None;
        }
        self.arena.tally.did(mischief.name());
        if mischief.is_freeze() {
            frozen.push(freeze(mischief, target, rng));
        }
        Some(Duration::from_millis(rng.u64(400..1_200)))
    }

    fn thaw_if_due(&self, frozen: &Frozen, now: Instant) -> bool {
        let due = now >= frozen.earliest
            && (now >= frozen.latest || self.arena.is_succeeded(frozen.user));
        if due {
            self.arena.thaw(frozen.user, frozen.worker_first);
        }
        due
    }

    fn restart(&self, weather: &Weather, pause: f64) {
        let backend = self.arena.backend;
        if weather.hide() {
            if let Err(error) = self.emulators.restart(backend, pause) {
                self.arena.tally.violation(format!("{backend} did not come back: {error}"));
            }
            if memory_of(backend) == Memory::Loses {
                self.arena.records_lost();
            }
            self.arena.tally.numbers().restarts += 1;
        }
        weather.show();
    }
}

fn freeze(mischief: Mischief, target: Target, rng: &mut Rng) -> Frozen {
    let now = clock::now();
    let (earliest, latest) = match mischief {
        // Past the TTL, whatever the others do.
        Mischief::FreezeWrapper => {
            let time = target.ttl.mul_f64(1.1 + 0.5 * rng.f64());
            (now + time, now + time)
        }
        // It goes on holding the lock: its wrapper renews.
        Mischief::FreezeWorker => {
            let time = target.ttl.mul_f64(0.2 + rng.f64());
            (now + time, now + time)
        }
        _ => (now + target.ttl, now + target.ttl * FROZEN.0 + FROZEN.1),
    };
    Frozen { user: target.user, worker_first: rng.u8(..5) > 0, earliest, latest }
}

/// Every one of `all` comes once before one comes again.
fn refill<T: Copy>(queue: &mut VecDeque<T>, all: &[T], rng: &mut Rng) {
    if queue.is_empty() {
        queue.extend(all);
        rng.shuffle(queue.make_contiguous());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_program() {
        let program = |seed| {
            let (mut queue, mut rng) = (VecDeque::new(), Rng::with_seed(seed));
            refill(&mut queue, &Mischief::ALL, &mut rng);
            queue
        };
        assert_eq!(program(1), program(1));
        assert_ne!(program(1), program(2));
        let mut all: Vec<_> = program(1).into();
        all.sort_unstable();
        assert_eq!(all, Mischief::ALL);
    }
}
