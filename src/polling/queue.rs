//! A queue whose every member looks as [`Polls`] tells it to, in simulated time. Whoever notices late that
//! the lock is its own makes the tenures longer that the others go by: they would look later, and so on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Expected, Look, Polling, Polls};
use crate::clock::{Boot, Moment};
use crate::holder::HolderId;
use crate::record::MAX_HISTORY;
use crate::rng::{Randomness, SeededRandomness};

/// What each takes to give the lock back, and again until the next one can see that it has it.
const REQUEST: Duration = Duration::from_millis(1);

type Hold = fn(&SeededRandomness) -> Duration;

/// One lock that everybody wants again as soon as it has been left.
struct Queue {
    now: Boot,
    rng: Arc<SeededRandomness>,
    hold: Hold,
    /// Who holds it, though that one may not know, and since when.
    holder: u128,
    since: Boot,
    history: VecDeque<Duration>,
    tickets: u128,
    waiting: VecDeque<u128>,
    members: BTreeMap<u128, Member>,
    /// What happens next, and whom it concerns.
    events: BTreeMap<(Boot, u128), Event>,
    acquired: u32,
    looks: u32,
}

/// Who has a ticket.
struct Member {
    polls: Polls,
    looks: u32,
    /// Whom it has seen to hold the lock, and since when.
    seen: (u128, Boot),
}

enum Event {
    Look(Look),
    Release,
}

impl Queue {
    fn of(members: u32, hold: Hold, seed: u64) -> Self {
        let now = Boot::new(Duration::from_secs(1000));
        let mut queue = Self {
            now,
            rng: Arc::new(SeededRandomness::new(seed)),
            hold,
            holder: 0,
            since: now,
            history: VecDeque::new(),
            tickets: 0,
            waiting: VecDeque::new(),
            members: BTreeMap::new(),
            events: BTreeMap::from([((now, 0), Event::Release)]),
            acquired: 0,
            looks: 0,
        };
        for _ in 0..members {
            queue.take_a_ticket();
        }
        queue
    }

    fn take_a_ticket(&mut self) {
        self.tickets += 1;
        let rng = Arc::clone(&self.rng) as Arc<dyn Randomness>;
        let polls = Polls::new(Polling::new(), rng);
        let member = Member { polls, looks: 0, seen: (self.holder, self.now) };
        self.waiting.push_back(self.tickets);
        self.see(self.tickets, member);
    }

    /// What it sees tells it when to look next.
    fn see(&mut self, id: u128, mut member: Member) {
        if member.seen.0 != self.holder {
            member.seen = (self.holder, self.now);
        }
        let mut holds: Vec<_> = self.history.iter().copied().collect();
        holds.sort_unstable();
        let ahead = self.waiting.iter().take_while(|waiting| **waiting != id).count();
        let ahead = Some(u32::try_from(ahead).unwrap());
        let holder = HolderId::from_random(self.holder);
        let expected = Expected { holder, holds, ahead, rivals: 0, beat: None, session: None };
        let now = Moment { boot: self.now, ..Moment::default() };
        member.polls.expect(expected, member.seen.1, now);
        let (next, at) = member.polls.next(self.now);
        self.events.insert((next, id), Event::Look(at));
        self.members.insert(id, member);
    }

    fn step(&mut self) {
        let ((at, id), event) = self.events.pop_first().unwrap();
        self.now = at;
        match event {
            Event::Release => {
                self.history.push_back(at.since(self.since));
                if self.history.len() > MAX_HISTORY {
                    self.history.pop_front();
                }
                self.holder = self.waiting.pop_front().unwrap();
                self.now = at.plus(REQUEST);
                self.since = self.now;
                self.take_a_ticket();
            }
            Event::Look(look) => {
                let mut member = self.members.remove(&id).unwrap();
                member.polls.look(at, look);
                member.looks += 1;
                if self.holder != id {
                    return self.see(id, member);
                }
                self.acquired += 1;
                self.looks += member.looks;
                let done = at.plus((self.hold)(&self.rng) + REQUEST);
                self.events.insert((done, id), Event::Release);
            }
        }
    }

    /// How many acquisitions there are, and how many looks they have taken.
    fn run(&mut self, time: Duration) -> (u32, u32) {
        let end = self.now.plus(time);
        (self.acquired, self.looks) = (0, 0);
        while self.now < end {
            self.step();
        }
        (self.acquired, self.looks)
    }
}

#[test]
fn a_queue_keeps_moving_for_few_looks() {
    // How long each holds the lock, in milliseconds on average, and of a hundred acquisitions that would be
    // possible if nobody had to look, how many there have to be.
    let holds: [(u64, Hold, u64); 8] = [
        (0, |_| Duration::ZERO, 40),
        (5, |_| Duration::from_millis(5), 70),
        (20, |_| Duration::from_millis(20), 75),
        (100, |_| Duration::from_millis(100), 70),
        (500, |_| Duration::from_millis(500), 50),
        (10, |rng| rng.up_to(Duration::from_millis(20)), 70),
        (100, |rng| rng.up_to(Duration::from_millis(200)), 60),
        (500, |rng| rng.up_to(Duration::from_secs(1)), 50),
    ];
    for (mean, hold, least) in holds {
        for members in [2, 8, 16] {
            for seed in 0..4 {
                let mut queue = Queue::of(members, hold, seed);
                queue.run(Duration::from_secs(10));
                let (acquired, looks) = queue.run(Duration::from_secs(30));
                let possible = 30_000 / (mean + 2);
                let what = format!("{members} that hold it for {mean} ms, seed {seed}");
                let share = u64::from(acquired) * 100 / possible;
                assert!(share >= least, "{what}: {share} of 100");
                let each = f64::from(looks) / f64::from(acquired);
                assert!(each <= 8.0, "{what}: {each} looks each");
            }
        }
    }
}
