//! The critical section under one lock, and what is wrong in it.
//!
//! A worker enters with its fencing token, works for a while, and leaves; or it is seen to be dead.
//! The referee refuses every token that is smaller than the largest it has seen: that is what
//! fencing is for, and by itself it is no fault of the lock.
//!
//! An **overlap** is that somebody enters with a larger token while the process of an earlier one,
//! which has entered and not left, is *alive* and *guarded*. Alive means that the kernel has not
//! reported its end, whether or not it was about to do anything. Guarded means that at every
//! instant of its run the wrapper or the watchdog was able to run: `leaselock run` promises that
//! each of the two alone ends the child before the lease does. Nothing is promised where both were
//! frozen or killed: such a worker may live on, and its work is to be refused by its token.
//!
//! An overlap is also, by the same reasoning, a first appearance with a token that is not the
//! largest any more, of a run that nobody has disturbed.
//!
//! A section may be one that **several may be in**: readers, or whoever has a permit. Then it is an overlap
//! that more are inside, alive and guarded, than there is room for. A token refuses late work only
//! where somebody with a larger one held everything: of readers, or of permits, larger tokens say
//! nothing about who is gone. Whoever had to be gone for others to have room is refused by name here.
//!
//! A section may be an **election**: a run whose lease was lost asks again, and its workers enter one after
//! the other. Then it is a violation, besides, if its tokens do not rise.
//!
//! A section may be one of **two locks** that are held at once, or this one alone. As nobody holds the
//! other one alone, exclusion here is exclusion there; its tokens must rise too.
//!
//! A section may be **work that is run once**, with a result that is kept for some time. Then it is a
//! violation, besides, if somebody enters before that time has passed since the end of work whose
//! wrapper said that the result is recorded.
//!
//! Where a store has lost its records (an emulator that was killed and came back empty), a run that
//! acquired before the loss is not a party to an overlap: exclusion is not promised while somebody
//! deletes a held record. Tokens must rise all the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use leaselock_history::{History, NotLinearizable};

use crate::profile::Profile;

/// What is known of a run besides what its worker says.
pub(crate) trait Witness {
    /// Whether the worker's process has ended.
    fn is_dead(&self, user: usize) -> bool;
    /// Whether there was an instant at which neither wrapper nor watchdog could run.
    fn was_unguarded(&self, user: usize) -> bool;
    /// Whether anything was done to the run's processes.
    fn was_disturbed(&self, user: usize) -> bool;
}

/// The referee's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    /// The token is smaller than the largest seen, or its run is over.
    Refused,
}

/// What was seen in a section.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) acquisitions: u64,
    /// Pieces of work accepted.
    pub(crate) work: u64,
    /// Entries and pieces of work refused because of their tokens.
    pub(crate) stale: u64,
    /// Workers that were alive, as they may be, when a successor entered: frozen together with
    /// both of their guards, or left without them.
    pub(crate) outlived: u64,
    /// Those whose record the store had lost.
    pub(crate) after_loss: u64,
    pub(crate) overlaps: u64,
    /// Entries of a run that had entered before.
    pub(crate) again: u64,
    /// Entries with another lock.
    pub(crate) both: u64,
    /// Entries beside somebody who was inside, as there was room.
    pub(crate) together: u64,
    /// Results that were recorded, and runs that found one and did not work.
    pub(crate) recorded: u64,
    pub(crate) already_done: u64,
    pub(crate) violations: Vec<String>,
    /// From a crash to the next entry, the longest; and of those with a calm network the one that
    /// came closest to its bound or went farthest beyond.
    pub(crate) crashes: u64,
    pub(crate) longest_wait: Duration,
    pub(crate) calm: Option<Calm>,
}

/// A wait after a crash while the store answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Calm {
    pub(crate) waited: Duration,
    pub(crate) bound: Duration,
}

impl Calm {
    /// How far beyond the bound, in microseconds; negative before it.
    pub(crate) fn beyond(&self) -> i128 {
        let micros = |time: Duration| i128::try_from(time.as_micros()).unwrap_or(i128::MAX);
        micros(self.waited) - micros(self.bound)
    }
}

/// Entries that are remembered: more than there can be within a retention.
const ENTRIES: usize = 16;

/// A holder was killed.
#[derive(Clone, Copy, Debug)]
struct Crash {
    token: u64,
    at: Instant,
    bound: Duration,
    /// Which calm it happened in.
    calm: Option<u64>,
}

#[derive(Debug)]
struct Inside {
    token: u64,
    permits: u32,
    /// Its successor is in: it cannot hold the lock any more.
    over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// For so many permits.
    Waiting(u32),
    Answered,
}

/// One section.
#[derive(Debug, Default)]
pub(crate) struct Section {
    name: String,
    profile: Profile,
    largest: u64,
    /// The largest token of somebody who held everything: smaller ones are void.
    barrier: u64,
    /// How many permits every token that was seen stands for.
    given: BTreeMap<u64, u32>,
    asked: BTreeMap<usize, Asked>,
    /// Who had begun when the store last lost its records.
    before_loss: BTreeSet<usize>,
    /// When that was, in microseconds since 1970.
    lost_at: u64,
    inside: BTreeMap<usize, Inside>,
    /// With which tokens those have entered last whose wrappers have not ended.
    entered: BTreeMap<usize, u64>,
    /// The largest token of the other lock.
    other: u64,
    crash: Option<Crash>,
    /// When work ended, by runs whose wrappers have not, and when the last entries were.
    left: BTreeMap<usize, Instant>,
    entries: VecDeque<(u64, Instant)>,
    /// The end of the last work that is known to be recorded.
    done: Option<(usize, Instant)>,
    history: History,
    pub(crate) seen: Seen,
}

impl Section {
    pub(crate) fn new(name: &str, profile: Profile) -> Self {
        Self { name: name.to_owned(), profile, ..Self::default() }
    }

    pub(crate) fn profile(&self) -> Profile {
        self.profile
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A run begins, which wants so many permits: its wrapper is about to be started.
    pub(crate) fn begins(&mut self, user: usize, permits: u32) {
        self.asked.insert(user, Asked::Waiting(permits));
        self.history.acquiring(user);
    }

    /// A run's wrapper has ended. Its worker cannot enter any more.
    pub(crate) fn is_over(&mut self, user: usize) {
        if let Some(Asked::Waiting(_)) = self.asked.remove(&user) {
            self.history.acquired(user, None);
        }
        self.entered.remove(&user);
    }

    /// The worker of `user` has ended, and its wrapper has asked for the lock again.
    pub(crate) fn asks_again(&mut self, user: usize) {
        self.ends(user);
        if let Some(asked) = self.asked.get_mut(&user).filter(|asked| **asked == Asked::Answered) {
            *asked = Asked::Waiting(1);
            self.history.acquiring(user);
        }
    }

    pub(crate) fn enter(
        &mut self,
        user: usize,
        token: u64,
        witness: &impl Witness,
        calm: Option<u64>,
        now: Instant,
    ) -> Verdict {
        let Some(&Asked::Waiting(permits)) = self.asked.get(&user) else {
            // Its wrapper was killed, and it itself is about to be.
            return Verdict::Refused;
        };
        self.asked.insert(user, Asked::Answered);
        let before = self.entered.get(&user).copied();
        if let Some(before) = before.filter(|before| token <= *before) {
            self.violation(format!("{user} was given token {token} after its own {before}"));
        }
        let is_void = token <= self.barrier || (self.has_all(permits) && token <= self.largest);
        let is_new = self.given.insert(token, permits).is_none();
        if is_void || !is_new {
            self.refuse_entry(user, (token, is_new), witness);
            return Verdict::Refused;
        }
        if !self.make_room(user, (token, permits), witness) {
            self.history.acquired(user, None);
            self.seen.stale += 1;
            return Verdict::Refused;
        }
        self.note_wait(token, calm, now);
        self.largest = self.largest.max(token);
        if self.has_all(permits) {
            self.barrier = token;
        }
        self.entries.push_back((token, now));
        if self.entries.len() > ENTRIES {
            self.entries.pop_front();
        }
        self.check_done();
        self.history.acquired(user, Some(token));
        self.seen.together += u64::from(self.inside.values().any(|other| !other.over));
        self.inside.insert(user, Inside { token, permits, over: false });
        self.seen.acquisitions += 1;
        self.seen.again += u64::from(before.is_some());
        self.entered.insert(user, token);
        Verdict::Accepted
    }

    /// Who has just entered holds the other lock too, with this token.
    pub(crate) fn holds_too(&mut self, user: usize, other: u64, witness: &impl Witness) {
        self.seen.both += 1;
        let largest = self.other;
        if other <= largest && !witness.was_disturbed(user) {
            self.violation(format!("{user} has token {other} of the other lock after {largest}"));
        }
        self.other = largest.max(other);
    }

    /// Whether nobody holds it beside one with so many permits.
    fn has_all(&self, permits: u32) -> bool {
        permits >= self.profile.limit()
    }

    fn refuse_entry(&mut self, user: usize, (token, is_new): (u64, bool), witness: &impl Witness) {
        self.history.acquired(user, None);
        self.seen.stale += 1;
        let largest = self.largest;
        if !is_new {
            self.violation(format!("token {token} was given to {user}, and before to another"));
        } else if self.is_from_before_the_loss(user, token) {
            self.seen.after_loss += 1;
        } else if !witness.was_disturbed(user) {
            self.seen.overlaps += 1;
            self.violation(format!(
                "{user} entered with token {token} after {largest}, though nobody disturbed it"
            ));
        }
    }

    /// Those who must not be there any more when somebody enters with this token: the earliest, until
    /// there is room. That may be who enters, late. Answers whether it may.
    fn make_room(
        &mut self,
        user: usize,
        (token, permits): (u64, u32),
        witness: &impl Witness,
    ) -> bool {
        let others = self.inside.iter().filter(|(_, inside)| !inside.over);
        let mut others: Vec<_> = others.map(|(other, inside)| (inside.token, *other)).collect();
        others.sort_unstable();
        for (_, other) in &others {
            if witness.is_dead(*other) {
                self.ends(*other);
            }
        }
        for (its_token, other) in others {
            if self.has_room(permits) {
                return true;
            }
            if its_token > token && witness.was_disturbed(user) {
                self.seen.outlived += 1;
                return false;
            }
            if self.is_from_before_the_loss(other, its_token) {
                self.seen.after_loss += 1;
                self.loses(other);
            } else if witness.was_unguarded(other) {
                self.seen.outlived += 1;
                self.loses(other);
            }
        }
        if !self.has_room(permits) {
            let inside = self.inside.iter().filter(|(_, inside)| !inside.over);
            let inside =
                inside.map(|(other, inside)| format!("{other} with token {}", inside.token));
            let inside = inside.collect::<Vec<_>>().join(", ");
            self.seen.overlaps += 1;
            self.violation(format!(
                "token {token} entered while there was inside, alive and guarded: {inside}"
            ));
        }
        true
    }

    /// Whether somebody with so many permits fits beside those who are inside.
    fn has_room(&self, permits: u32) -> bool {
        let inside = self.inside.values().filter(|inside| !inside.over);
        let held: u64 = inside.map(|inside| u64::from(inside.permits)).sum();
        held + u64::from(permits) <= u64::from(self.profile.limit())
    }

    /// Both marks are needed: the first token after a loss is the store's time then, in
    /// microseconds, so a smaller one of a run that began earlier was given before.
    fn is_from_before_the_loss(&self, user: usize, token: u64) -> bool {
        self.before_loss.contains(&user) && token < self.lost_at
    }

    pub(crate) fn work(&mut self, user: usize, witness: &impl Witness) -> Verdict {
        let Some(inside) = self.inside.get(&user) else { return Verdict::Refused };
        let (token, over) = (inside.token, inside.over);
        if !over && token >= self.barrier {
            self.history.trusted(user, token);
            self.seen.work += 1;
            return Verdict::Accepted;
        }
        self.seen.stale += 1;
        // Who was seen to overlap is not reported twice; who is dead has sent this before.
        if over || witness.is_dead(user) {
            self.ends(user);
        }
        Verdict::Refused
    }

    /// A worker leaves, or its connection has ended: it cannot do anything any more.
    pub(crate) fn ends(&mut self, user: usize) {
        let Some(inside) = self.inside.remove(&user) else { return };
        if !inside.over {
            self.history.ending(user, inside.token);
        }
        self.history.ended(user);
    }

    /// A worker has done all of its work and says so.
    pub(crate) fn leaves(&mut self, user: usize, now: Instant) {
        if self.inside.contains_key(&user) {
            self.left.insert(user, now);
        }
        self.ends(user);
    }

    /// The wrapper of `user` has ended in success: its work was done and is recorded, or it had been
    /// done before. Answers whether it worked.
    pub(crate) fn succeeded(&mut self, user: usize) -> bool {
        let Some(left) = self.left.remove(&user) else {
            self.seen.already_done += 1;
            return false;
        };
        if self.profile.retention().is_some() {
            self.seen.recorded += 1;
            self.done = Some((user, left));
            self.check_done();
        }
        true
    }

    /// Nobody may have entered while the last result was kept.
    fn check_done(&mut self) {
        let (Some(retention), Some((user, left))) = (self.profile.retention(), self.done) else {
            return;
        };
        let entries = self.entries.iter();
        let mut after = entries.map(|(token, at)| (*token, at.saturating_duration_since(left)));
        let early = after.find(|(_, after)| !after.is_zero() && *after < retention);
        if let Some((token, after)) = early.filter(|_| !self.before_loss.contains(&user)) {
            self.violation(format!(
                "token {token} entered {after:?} after {user} had ended work that is kept as done \
                 for {retention:?}"
            ));
            self.done = None;
        }
    }

    /// It is alive, but cannot rely on the lock any more.
    fn loses(&mut self, user: usize) {
        if let Some(inside) = self.inside.get_mut(&user) {
            inside.over = true;
            self.history.ending(user, inside.token);
        }
    }

    /// The wrapper of `user` was killed, and cannot give the lock back. The next one is to enter
    /// within `bound`.
    pub(crate) fn crashed(&mut self, user: usize, bound: Duration, calm: Option<u64>, at: Instant) {
        // Where there is room besides, others do not wait for this one.
        let inside = self.inside.get(&user).filter(|inside| inside.token == self.largest);
        if let Some(inside) = inside.filter(|inside| self.has_all(inside.permits)) {
            self.crash = Some(Crash { token: inside.token, at, bound, calm });
            self.seen.crashes += 1;
        }
    }

    fn note_wait(&mut self, token: u64, calm: Option<u64>, now: Instant) {
        let Some(crash) = self.crash.take().filter(|crash| crash.token < token) else { return };
        let waited = now.saturating_duration_since(crash.at);
        self.seen.longest_wait = self.seen.longest_wait.max(waited);
        if crash.calm.is_some() && crash.calm == calm {
            let this = Calm { waited, bound: crash.bound };
            if self.seen.calm.is_none_or(|before| this.beyond() > before.beyond()) {
                self.seen.calm = Some(this);
            }
        }
    }

    /// The store has lost its records; `wall_micros` is a time after that, and before the store can
    /// be used again.
    pub(crate) fn records_lost(&mut self, wall_micros: u64) {
        self.lost_at = wall_micros;
        self.before_loss = self.asked.keys().chain(self.inside.keys()).copied().collect();
    }

    /// Whether that is who has entered with this token.
    pub(crate) fn is_inside(&self, user: usize, token: u64) -> bool {
        self.inside.get(&user).is_some_and(|inside| inside.token == token)
    }

    /// Who is inside and may hold it.
    pub(crate) fn holders(&self) -> Vec<usize> {
        let may_hold = |inside: &Inside| !inside.over && inside.token >= self.barrier;
        let holders = self.inside.iter().filter(|(_, inside)| may_hold(inside));
        holders.map(|(user, _)| *user).collect()
    }

    /// Whether somebody with a larger token has entered since `user` did.
    pub(crate) fn is_succeeded(&self, user: usize) -> bool {
        self.inside.get(&user).is_some_and(|inside| inside.token < self.largest)
    }

    /// How much of what users saw there is to be checked.
    pub(crate) fn events(&self) -> usize {
        self.history.len()
    }

    /// What checks whether what users saw can have happened.
    pub(crate) fn check(&self) -> impl FnOnce() -> Result<(), NotLinearizable> + Send + 'static {
        let (history, limit, given) =
            (self.history.clone(), self.profile.limit(), self.given.clone());
        move || match limit {
            1 => history.check(),
            _ => history.check_shared(limit, |token| given.get(&token).copied().unwrap_or(limit)),
        }
    }

    pub(crate) fn violation(&mut self, text: String) {
        self.seen.violations.push(format!("{}: {text}", self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// Everybody is alive, guarded and undisturbed but those named.
    #[derive(Default)]
    struct Known {
        dead: Vec<usize>,
        unguarded: Vec<usize>,
        disturbed: Vec<usize>,
    }

    impl Witness for Known {
        fn is_dead(&self, user: usize) -> bool {
            self.dead.contains(&user)
        }

        fn was_unguarded(&self, user: usize) -> bool {
            self.unguarded.contains(&user)
        }

        fn was_disturbed(&self, user: usize) -> bool {
            self.disturbed.contains(&user)
        }
    }

    fn two_begin() -> Section {
        begin(Profile::Lock, &[1, 1])
    }

    /// Runs from 1 on, for so many permits each.
    fn begin(profile: Profile, permits: &[u32]) -> Section {
        let mut section = Section::new("test", profile);
        for (number, permits) in permits.iter().enumerate() {
            section.begins(number + 1, *permits);
        }
        section
    }

    fn enter(section: &mut Section, user: usize, token: u64, known: &Known) -> Verdict {
        section.enter(user, token, known, None, clock::now())
    }

    fn faults(section: &Section) -> (u64, usize, bool) {
        let seen = &section.seen;
        (seen.overlaps, seen.violations.len(), section.check()().is_err())
    }

    #[test]
    fn nobody_enters_while_a_result_is_kept() {
        let second = Duration::from_secs(1);
        for (after, told_late, violations) in
            [(second, false, 1), (second, true, 1), (second * 3, false, 0), (second * 3, true, 0)]
        {
            let mut section = begin(Profile::Once, &[1, 1]);
            assert_eq!(enter(&mut section, 1, 10, &Known::default()), Verdict::Accepted);
            let left = clock::now() + second;
            section.leaves(1, left);
            let is_next = |section: &mut Section| {
                section.enter(2, 11, &Known::default(), None, left + after);
            };
            if told_late {
                is_next(&mut section);
            }
            assert!(section.succeeded(1));
            if !told_late {
                is_next(&mut section);
            }
            assert!(!section.succeeded(1), "it has not worked again");
            assert_eq!(section.seen.violations.len(), violations, "{after:?}");
            assert_eq!((section.seen.recorded, section.seen.already_done), (1, 1));
        }
    }

    #[test]
    fn one_after_the_other_is_clean() {
        let (mut section, known) = (two_begin(), Known::default());
        assert_eq!(enter(&mut section, 1, 7, &known), Verdict::Accepted);
        assert_eq!(section.work(1, &known), Verdict::Accepted);
        section.ends(1);
        section.is_over(1);
        assert_eq!(enter(&mut section, 2, 8, &known), Verdict::Accepted);
        assert_eq!(section.work(2, &known), Verdict::Accepted);
        assert_eq!(faults(&section), (0, 0, false));
    }

    #[test]
    fn two_alive_and_guarded_are_an_overlap() {
        let (mut section, known) = (two_begin(), Known::default());
        enter(&mut section, 1, 7, &known);
        section.work(1, &known);
        enter(&mut section, 2, 8, &known);
        assert_eq!(faults(&section), (1, 1, true));
        assert_eq!(section.work(1, &known), Verdict::Refused);
        assert_eq!(section.seen.stale, 1);
    }

    #[test]
    fn a_dead_one_is_no_overlap_and_neither_is_one_without_guards() {
        let mut section = two_begin();
        enter(&mut section, 1, 7, &Known::default());
        let known = Known { dead: vec![1], ..Known::default() };
        enter(&mut section, 2, 8, &known);
        assert_eq!(faults(&section), (0, 0, false));

        let mut section = two_begin();
        enter(&mut section, 1, 7, &Known::default());
        section.work(1, &Known::default());
        let known = Known { unguarded: vec![1], ..Known::default() };
        enter(&mut section, 2, 8, &known);
        assert_eq!(section.work(1, &known), Verdict::Refused, "by its token");
        assert_eq!(section.work(2, &known), Verdict::Accepted);
        assert_eq!(faults(&section), (0, 0, false));
        assert_eq!((section.seen.outlived, section.seen.stale), (1, 1));
    }

    #[test]
    fn a_late_entry_needs_an_excuse() {
        for disturbed in [true, false] {
            let mut section = two_begin();
            let known =
                Known { disturbed: if disturbed { vec![1] } else { vec![] }, ..Known::default() };
            enter(&mut section, 2, 8, &known);
            section.ends(2);
            assert_eq!(enter(&mut section, 1, 7, &known), Verdict::Refused);
            let count = u64::from(!disturbed);
            assert_eq!(faults(&section), (count, usize::from(!disturbed), false));
        }
    }

    #[test]
    fn a_token_twice_is_a_violation() {
        let mut section = two_begin();
        let known = Known { dead: vec![1], disturbed: vec![1, 2], ..Known::default() };
        enter(&mut section, 1, 7, &known);
        section.ends(1);
        assert_eq!(enter(&mut section, 2, 7, &known), Verdict::Refused);
        assert_eq!(section.seen.violations.len(), 1);
    }

    #[test]
    fn who_acquired_before_a_loss_is_excused_and_nobody_else() {
        let known = Known::default();
        let mut section = two_begin();
        enter(&mut section, 1, 700, &known);
        section.records_lost(1_000);
        enter(&mut section, 2, 1_001, &known);
        assert_eq!(faults(&section), (0, 0, false));
        assert_eq!(section.seen.after_loss, 1);
        section.begins(3, 1);
        enter(&mut section, 3, 1_002, &known);
        assert_eq!(section.seen.overlaps, 1, "1,001 was given after the loss");

        let mut section = two_begin();
        enter(&mut section, 1, 2_000, &known);
        section.ends(1);
        section.records_lost(2_100);
        section.begins(3, 1);
        assert_eq!(enter(&mut section, 3, 1_500, &known), Verdict::Refused);
        assert_eq!(section.seen.violations.len(), 1, "tokens must rise");
    }

    #[test]
    fn a_worker_whose_command_is_gone_is_not_let_in() {
        let (mut section, known) = (two_begin(), Known::default());
        section.is_over(1);
        assert_eq!(enter(&mut section, 1, 7, &known), Verdict::Refused);
        assert_eq!(faults(&section), (0, 0, false));
    }

    #[test]
    fn a_wait_after_a_crash_is_measured_in_calm() {
        let (mut section, known) = (two_begin(), Known { dead: vec![1], ..Known::default() });
        let start = clock::now();
        let bound = Duration::from_secs(5);
        section.enter(1, 7, &known, Some(3), start);
        section.crashed(1, bound, Some(3), start);
        section.enter(2, 8, &known, Some(3), start + Duration::from_secs(2));
        let calm = Calm { waited: Duration::from_secs(2), bound };
        assert_eq!(section.seen.calm, Some(calm));
        section.crashed(2, bound, Some(3), start);
        section.begins(3, 1);
        section.enter(3, 9, &Known { dead: vec![2], ..known }, Some(4), start + bound * 2);
        assert_eq!((section.seen.calm, section.seen.longest_wait), (Some(calm), bound * 2));
        assert_eq!(section.seen.crashes, 2);
    }

    #[test]
    fn readers_are_together_and_a_writer_is_not() {
        let (all, known) = (Profile::Rows.limit(), Known::default());
        let mut section = begin(Profile::Rows, &[1, 1, all]);
        assert_eq!(enter(&mut section, 2, 8, &known), Verdict::Accepted);
        // Its worker took longer to start.
        assert_eq!(enter(&mut section, 1, 7, &known), Verdict::Accepted);
        assert_eq!((section.work(1, &known), section.seen.together), (Verdict::Accepted, 1));
        assert_eq!(section.holders(), [1, 2]);
        section.ends(1);
        assert_eq!(faults(&section), (0, 0, false));
        let gone = Known { unguarded: vec![2], ..Known::default() };
        let mut late = begin(Profile::Rows, &[1, 1, all]);
        enter(&mut late, 2, 8, &known);
        enter(&mut late, 3, 9, &gone);
        assert_eq!(late.work(2, &known), Verdict::Refused, "by its token");
        assert_eq!((faults(&late), late.seen.outlived), ((0, 0, false), 1));
        enter(&mut section, 3, 9, &known);
        assert_eq!(faults(&section), (1, 1, true));
        section.begins(4, 1);
        enter(&mut section, 4, 6, &known);
        assert_eq!(section.seen.overlaps, 2, "a reader from before the writer");
    }

    #[test]
    fn there_is_room_for_as_many_as_there_are_permits() {
        let known = Known::default();
        let mut section = begin(Profile::Permits, &[1, 1, 1, 2]);
        enter(&mut section, 2, 8, &known);
        enter(&mut section, 1, 7, &known);
        assert_eq!(faults(&section), (0, 0, false));
        let gone = Known { unguarded: vec![1], ..Known::default() };
        assert_eq!(enter(&mut section, 3, 9, &gone), Verdict::Accepted);
        assert_eq!(section.work(1, &gone), Verdict::Refused, "it had to be gone");
        assert_eq!((faults(&section), section.seen.outlived), ((0, 0, false), 1));
        enter(&mut section, 4, 10, &known);
        assert_eq!(faults(&section), (1, 1, true));
        let mut section = begin(Profile::Permits, &[1, 1, 1]);
        for user in 1..=3 {
            enter(&mut section, user, user as u64, &known);
        }
        assert_eq!(faults(&section), (1, 1, true));
    }

    #[test]
    fn a_leader_that_was_lost_leads_again_with_a_larger_token() {
        let mut section = begin(Profile::Lead, &[1, 1]);
        let known = Known { dead: vec![2], disturbed: vec![1], ..Known::default() };
        enter(&mut section, 1, 7, &known);
        assert_eq!(enter(&mut section, 1, 8, &known), Verdict::Refused, "it has not asked again");
        section.asks_again(1);
        enter(&mut section, 2, 9, &known);
        assert_eq!(enter(&mut section, 1, 10, &known), Verdict::Accepted);
        assert!(section.is_inside(1, 10) && !section.is_inside(1, 7), "the former is gone");
        assert_eq!((faults(&section), section.seen.again), ((0, 0, false), 1));
        section.asks_again(1);
        assert_eq!(enter(&mut section, 1, 6, &known), Verdict::Refused);
        assert_eq!(section.seen.violations.len(), 1, "its terms must rise");
        section.is_over(1);
        section.asks_again(1);
        assert_eq!(enter(&mut section, 1, 11, &known), Verdict::Refused, "it has ended");
    }

    #[test]
    fn a_leader_that_leads_again_beside_another_overlaps() {
        let (mut section, known) = (begin(Profile::Lead, &[1, 1]), Known::default());
        enter(&mut section, 1, 7, &known);
        section.asks_again(1);
        enter(&mut section, 2, 8, &known);
        enter(&mut section, 1, 9, &known);
        assert_eq!(faults(&section), (1, 1, true));
    }

    #[test]
    fn tokens_of_the_other_lock_rise_too() {
        for (disturbed, violations) in [(vec![], 1), (vec![3], 0)] {
            let known = Known { disturbed, ..Known::default() };
            let mut section = begin(Profile::Both, &[1, 1, 1]);
            for (user, token, other) in [(1, 7, Some(4)), (2, 8, None), (3, 9, Some(3))] {
                enter(&mut section, user, token, &known);
                if let Some(other) = other {
                    section.holds_too(user, other, &known);
                }
                section.ends(user);
            }
            assert_eq!(faults(&section), (0, violations, false));
            assert_eq!(section.seen.both, 2);
        }
    }

    #[test]
    fn who_comes_late_and_finds_no_room_needs_an_excuse() {
        for disturbed in [true, false] {
            let mut section = begin(Profile::Permits, &[1, 1, 1]);
            let known =
                Known { disturbed: if disturbed { vec![1] } else { vec![] }, ..Known::default() };
            enter(&mut section, 2, 8, &known);
            enter(&mut section, 3, 9, &known);
            let refused = enter(&mut section, 1, 7, &known) == Verdict::Refused;
            assert_eq!(refused, disturbed);
            assert_eq!(
                faults(&section),
                (u64::from(!disturbed), usize::from(!disturbed), !disturbed)
            );
        }
    }
}
