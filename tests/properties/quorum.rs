//! Thousands of random courses of contenders over several stores, decided by what ships: surveys of
//! some members, proposals of equal tokens, votes that come late or not at all, minorities that are
//! undone, crashes, takeovers, and members that join an acquisition afterwards.
//!
//! Time is left out: whoever is alive renews everywhere, and only the entries of the dead expire.

use std::time::Duration;

use leaselock::clock::{Boot, Moment, Wall};
use leaselock::protocol::expiry::{Evidence, Observations, Sessions, contender_wait};
use leaselock::protocol::lock::{
    Acquire, AcquireDecision, HolderDecision, Own, acquire, release, shut_the_door,
};
use leaselock::protocol::queue::Want;
use leaselock::protocol::quorum::{is_vote, join};
use leaselock::record::{Kind, Record};
use leaselock::{FencingToken, HolderId, Nonce, Owner};

const TTL: Duration = Duration::from_secs(30);

/// A part of the protocol is taken out, to see that its loss is noticed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Without {
    Nothing,
    /// A member votes for a token that it has issued before.
    NewTokens,
    /// A minority is enough.
    Majority,
    /// A contender proposes without having asked anybody.
    Surveys,
}

/// How often what happened.
#[derive(Clone, Debug, Default)]
struct Sometimes {
    acquired: u64,
    /// A proposal that another contender had made as well.
    same_token: u64,
    undone: u64,
    joined: u64,
    joined_behind: u64,
    put_out: u64,
    refused: u64,
    /// An acquisition that kept its majority with other members than it was made with.
    moved: u64,
}

#[derive(Clone, Debug)]
struct Contender {
    /// Of each member: the entry that it believes to have there, or tries to have.
    entries: Vec<Option<HolderId>>,
    floors: Vec<Option<FencingToken>>,
    proposed: Option<FencingToken>,
    /// Members that have voted.
    votes: Vec<usize>,
    acquired: Option<FencingToken>,
}

impl Contender {
    fn new(members: usize) -> Self {
        Self {
            entries: vec![None; members],
            floors: vec![None; members],
            proposed: None,
            votes: Vec::new(),
            acquired: None,
        }
    }
}

struct World {
    without: Without,
    random: fastrand::Rng,
    members: Vec<Option<Record>>,
    contenders: Vec<Contender>,
    /// Identities of those that have crashed.
    dead: Vec<HolderId>,
    last: Option<FencingToken>,
    sometimes: Sometimes,
}

impl World {
    fn new(seed: u64, without: Without) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = *random.choice([1, 3, 3, 3, 5]).as_ref().unwrap_or(&3);
        let contenders = (0..random.usize(1..4)).map(|_| Contender::new(count)).collect();
        let (members, dead) = (vec![None; count], Vec::new());
        let sometimes = Sometimes::default();
        Self { without, random, members, contenders, dead, last: None, sometimes }
    }

    fn majority(&self) -> usize {
        match self.without {
            Without::Majority => self.members.len().div_ceil(2).saturating_sub(1).max(1),
            _ => self.members.len() / 2 + 1,
        }
    }

    /// # Errors
    /// What was violated.
    fn step(&mut self) -> Result<(), String> {
        let who = self.random.usize(0..self.contenders.len());
        let member = self.random.usize(0..self.members.len());
        match self.random.u32(0..20) {
            0..6 => self.survey(who, member),
            6..8 => self.propose(who),
            8..14 => self.vote(who, member)?,
            14..17 => self.join(who, member),
            17 => self.give_up(who),
            18 => self.put_back(who),
            _ => self.crash(who),
        }
        self.check()
    }

    fn survey(&mut self, who: usize, member: usize) {
        let floor = self.members[member].as_ref().map_or(start(), |record| record.token);
        let contender = &mut self.contenders[who];
        if contender.proposed.is_none() {
            contender.floors[member] = Some(floor);
        }
    }

    fn propose(&mut self, who: usize) {
        let majority = self.majority();
        let surveyed = self.contenders[who].floors.iter().flatten().count();
        let enough = surveyed >= majority || self.without == Without::Surveys;
        if self.contenders[who].proposed.is_some() || !enough {
            return;
        }
        let most = self.contenders[who].floors.iter().flatten().max().copied();
        let proposed = most.unwrap_or(start());
        let same = self.contenders.iter().any(|other| other.proposed == Some(proposed));
        self.sometimes.same_token += u64::from(same);
        self.contenders[who].proposed = Some(proposed);
    }

    fn vote(&mut self, who: usize, member: usize) -> Result<(), String> {
        let Some(proposed) = self.contenders[who].proposed else { return Ok(()) };
        if self.contenders[who].votes.contains(&member) {
            return Ok(());
        }
        let decided = self.decide(member, proposed, acquire);
        let (AcquireDecision::Write { mut record, .. }, id) = decided else { return Ok(()) };
        if !is_vote(&record, proposed) {
            self.sometimes.refused += 1;
            if self.without != Without::NewTokens {
                return Ok(());
            }
            for lease in &mut record.holders {
                lease.token = FencingToken::new(proposed.get() + 1).expect("is small");
            }
        }
        self.write(who, member, *record, id);
        self.contenders[who].votes.push(member);
        if self.contenders[who].acquired.is_none() && self.has_majority(who) {
            let token = FencingToken::new(proposed.get() + 1).expect("is small");
            if self.last.is_some_and(|last| token <= last) {
                return Err(format!("{token} was acquired after {:?}", self.last));
            }
            self.last = Some(token);
            self.contenders[who].acquired = Some(token);
            self.sometimes.acquired += 1;
        }
        Ok(())
    }

    fn join(&mut self, who: usize, member: usize) {
        let Some(token) = self.contenders[who].acquired.filter(|_| self.has_majority(who)) else {
            return;
        };
        if self.is_entered(who, member) {
            return;
        }
        let decided = self.decide(member, start(), |found, evidence, intent| {
            join(found, evidence, intent, token)
        });
        let (AcquireDecision::Write { record, .. }, id) = decided else { return };
        let issued = self.members[member].as_ref().map(|record| record.token);
        assert!(Some(record.token) >= issued, "the counter never decreases");
        self.sometimes.joined += 1;
        self.sometimes.joined_behind += u64::from(record.token > token);
        self.write(who, member, *record, id);
    }

    /// An attempt is undone; what was acquired is given back.
    fn give_up(&mut self, who: usize) {
        for member in 0..self.members.len() {
            let (Some(id), Some(record)) =
                (self.contenders[who].entries[member], self.members[member].clone())
            else {
                continue;
            };
            if record.lease(id).is_none() {
                continue;
            }
            let own = Own { id, renewals: 0, unresolved: false };
            let freed = match release(&record, own, None, self.nonce(), now().wall) {
                HolderDecision::Write(record) if self.random.bool() => *record,
                _ => shut_the_door(&record, id, self.nonce(), now().wall),
            };
            self.members[member] = Some(freed);
            self.sometimes.undone += 1;
        }
        self.contenders[who] = Contender::new(self.members.len());
    }

    /// One entry is lost by somebody's hand.
    fn put_back(&mut self, who: usize) {
        let acquired = self.contenders[who].acquired.is_some();
        let entered: Vec<_> =
            (0..self.members.len()).filter(|member| self.is_entered(who, *member)).collect();
        // A break while a contender still counts its votes is an operator's to answer for.
        if !acquired || entered.is_empty() {
            return;
        }
        let member = entered[self.random.usize(0..entered.len())];
        if let (Some(id), Some(record)) =
            (self.contenders[who].entries[member], self.members[member].clone())
        {
            self.members[member] = Some(shut_the_door(&record, id, self.nonce(), now().wall));
        }
    }

    /// Gone without a word: what it has entered expires.
    fn crash(&mut self, who: usize) {
        let crashed =
            std::mem::replace(&mut self.contenders[who], Contender::new(self.members.len()));
        self.dead.extend(crashed.entries.into_iter().flatten());
    }

    fn check(&mut self) -> Result<(), String> {
        let holders: Vec<_> = (0..self.contenders.len())
            .filter(|who| self.contenders[*who].acquired.is_some() && self.has_majority(*who))
            .collect();
        for who in &holders {
            let contender = &self.contenders[*who];
            let still = contender.votes.iter().filter(|vote| self.is_entered(*who, **vote)).count();
            self.sometimes.moved += u64::from(still < self.majority());
        }
        if holders.len() > 1 { Err(format!("{} hold it at once", holders.len())) } else { Ok(()) }
    }

    fn has_majority(&self, who: usize) -> bool {
        let entered = (0..self.members.len()).filter(|member| self.is_entered(who, *member));
        entered.count() >= self.majority()
    }

    fn is_entered(&self, who: usize, member: usize) -> bool {
        let id = self.contenders[who].entries[member];
        let record = self.members[member].as_ref();
        id.zip(record).is_some_and(|(id, record)| record.lease(id).is_some())
    }

    fn write(&mut self, who: usize, member: usize, record: Record, id: HolderId) {
        let record = Record::decode(&record.encode().expect("is small")).expect("is a record");
        let before = self.members[member].replace(record);
        self.sometimes.put_out +=
            u64::from(before.is_some_and(|before| !before.holders.is_empty()));
        self.contenders[who].entries[member] = Some(id);
    }

    fn decide(
        &mut self,
        member: usize,
        above: FencingToken,
        decide: impl FnOnce(Option<&Record>, &Evidence<'_>, &Acquire) -> AcquireDecision,
    ) -> (AcquireDecision, HolderId) {
        let id = HolderId::from_random(self.random.u128(..));
        let found = self.members[member].as_ref();
        let mut observations = Observations::default();
        if let Some(found) = found {
            observations.note(found, now().boot);
        }
        let dead = found
            .is_some_and(|record| record.holders.iter().all(|lease| self.dead.contains(&lease.id)));
        let watched = if dead { contender_wait(TTL) } else { Duration::ZERO };
        let now = Moment { boot: now().boot.plus(watched), ..now() };
        let evidence = Evidence {
            now,
            observations: &observations,
            store: None,
            max_skew: None,
            sessions: &Sessions::NONE,
        };
        let intent = Acquire {
            kind: Kind::Lock,
            want: Want::ALONE,
            id,
            ttl: TTL,
            owner: Owner::default(),
            payload: None,
            nonce: Nonce::from_random(self.random.u128(..)),
            above,
            reserve: 0,
            renews_in: None,
        };
        (decide(found, &evidence, &intent), id)
    }

    fn nonce(&mut self) -> Nonce {
        Nonce::from_random(self.random.u128(..))
    }
}

/// Where the counter of a new record starts: here, where nobody deletes any, it may be anywhere.
fn start() -> FencingToken {
    FencingToken::new(100).expect("is small")
}

fn now() -> Moment {
    Moment { boot: Boot::new(Duration::from_secs(9)), wall: Wall::from_micros(5_000_000) }
}

/// The first violation in so many courses, and how often what happened.
fn explore(courses: u64, without: Without) -> (Option<String>, Sometimes) {
    let mut total = Sometimes::default();
    for seed in 0..courses {
        let mut world = World::new(seed, without);
        for step in 0..120 {
            if let Err(violation) = world.step() {
                return (Some(format!("course {seed}, step {step}: {violation}")), total);
            }
        }
        let seen = world.sometimes;
        total.acquired += seen.acquired;
        total.same_token += seen.same_token;
        total.undone += seen.undone;
        total.joined += seen.joined;
        total.joined_behind += seen.joined_behind;
        total.put_out += seen.put_out;
        total.refused += seen.refused;
        total.moved += seen.moved;
    }
    (None, total)
}

#[test]
fn one_holds_it_at_a_time_and_tokens_rise_strictly() {
    let (violation, seen) = explore(4000, Without::Nothing);
    assert_eq!(violation, None);
    for (what, times) in [
        ("acquired", seen.acquired),
        ("the same token proposed", seen.same_token),
        ("undone", seen.undone),
        ("joined", seen.joined),
        ("joined a member that is ahead", seen.joined_behind),
        ("put out", seen.put_out),
        ("refused", seen.refused),
        ("held by other members than it was made by", seen.moved),
    ] {
        assert!(times >= 5, "proves nothing: {what} {times} times");
    }
}

#[test]
fn whatever_is_left_out_of_it_is_noticed() {
    for without in [Without::NewTokens, Without::Majority] {
        let (violation, _) = explore(4000, without);
        assert!(violation.is_some(), "{without:?} was not noticed");
    }
}

/// What a survey is for is that a proposal has a chance: a member judges the token by itself.
#[test]
fn surveys_are_not_what_makes_it_safe() {
    let (violation, seen) = explore(4000, Without::Surveys);
    assert_eq!(violation, None);
    assert!(seen.acquired > 100 && seen.refused > 100, "{seen:?}");
}
