//! Who may enter beside whom, and in which order.
//!
//! **Invariants.** The holders on record never exceed what its kind allows: one, or one writer, or
//! readers alone, or as many permits as there are. Nobody enters past a waiter that came before and
//! lives. What stands under a session, an entry or a ticket, leaves the record by the hand of its own
//! acquisition or of an operator, or after its session has ended: never for time alone. A session
//! that has run out is first ended by a write of its own record, which voids whatever renewal of it
//! may still land (hazard H25).

use std::time::Duration;

use super::expiry::{Evidence, Rule, Standing, Verdict, judge};
use crate::holder::HolderId;
use crate::record::{End, Ended, Kind, Lease, MAX_HOLDERS, MAX_WAITERS, Mode, Record, Ticket};
use crate::time::{Boot, Wall};

/// How much of a lock a contender wants, and how it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Want {
    /// Alone or beside others.
    pub mode: Mode,
    /// How many permits: of a semaphore; 1 elsewhere.
    pub permits: u32,
    /// How many permits there are, as far as the contender knows.
    pub limit: u32,
    /// The session under which it will wait and hold, if there is one.
    pub session: Option<HolderId>,
    /// Whether it takes a ticket when it has to wait; needs a session.
    pub queue: bool,
}

impl Want {
    /// The whole of it, under a lease of its own, without a ticket.
    pub const ALONE: Self =
        Self { mode: Mode::Exclusive, permits: 1, limit: 1, session: None, queue: false };
}

/// Whether a contender may enter.
pub(super) enum WayIn {
    /// There is room in this record, from which everybody has been taken who had to go.
    Open {
        record: Record,
        /// The rule by which a former holder was put out, if that was for time.
        takeover: Option<Rule>,
    },
    /// Somebody is in the way, until then if nothing changes. The record is without those who are
    /// known to be gone.
    Closed { record: Record, until: Boot },
    /// It depends on a session.
    Unclear(Unclear),
}

/// What has to be done about a session before anything else can be decided.
pub(super) enum Unclear {
    /// Find out how it stands.
    Ask(HolderId),
    /// It has run out: end it.
    End(HolderId),
}

/// Looks for a way in for the acquisition `id`.
pub(super) fn way_in(found: &Record, evidence: &Evidence<'_>, id: HolderId, want: &Want) -> WayIn {
    let mut record = found.clone();
    let own = record.waiters.iter().position(|ticket| ticket.id == id);
    // From the nearest on: if it lives we wait, however those before it stand. So each waiter
    // watches one session, and not the whole queue.
    for index in (0..own.unwrap_or(record.waiters.len())).rev() {
        match standing(record.waiters[index].session, evidence) {
            Ok(Some(until)) => return WayIn::Closed { record, until },
            Ok(None) => drop(record.waiters.remove(index)),
            Err(unclear) => return WayIn::Unclear(unclear),
        }
    }
    if record.has_room(want.mode, want.permits) {
        return WayIn::Open { record, takeover: None };
    }
    let (mut takeover, mut until, mut gone) = (None, None, Vec::new());
    for lease in &record.holders {
        let alive = match lease.session {
            Some(session) => match standing(session, evidence) {
                Ok(alive) => alive,
                Err(unclear) => return WayIn::Unclear(unclear),
            },
            None => match judge(lease, evidence) {
                Verdict::AliveUntil(end) => Some(end),
                Verdict::Expired(rule) => {
                    takeover = Some(rule);
                    None
                }
            },
        };
        match alive {
            Some(end) => until = Some(until.map_or(end, |until: Boot| until.min(end))),
            None => gone.push(lease.id),
        }
    }
    let ended = |id| gone.contains(&id);
    record.retire(|lease| ended(lease.id).then(|| how_it_ended(lease)), evidence.now.wall);
    if record.has_room(want.mode, want.permits) {
        return WayIn::Open { record, takeover };
    }
    // Somebody else lives, or more is wanted than there is.
    let until = until.unwrap_or(Boot::new(Duration::MAX));
    WayIn::Closed { record, until }
}

/// Until when a session lives if nothing changes; `None` when it has ended.
fn standing(session: HolderId, evidence: &Evidence<'_>) -> Result<Option<Boot>, Unclear> {
    match evidence.sessions.standing(session) {
        None => Err(Unclear::Ask(session)),
        Some(Standing::Ended) => Ok(None),
        Some(Standing::Open(Verdict::AliveUntil(end))) => Ok(Some(end)),
        Some(Standing::Open(Verdict::Expired(_))) => Err(Unclear::End(session)),
    }
}

/// Puts `ticket` at the end of the queue, unless that is full.
pub(super) fn line_up(record: &mut Record, ticket: Ticket) -> bool {
    let room = record.waiters.len() < MAX_WAITERS;
    if room {
        record.waiters.push(ticket);
    }
    room
}

/// Lets those enter who are first in the queue, for as long as there is room, with a new token each.
/// Whether they live is theirs to prove: an entry stands under its waiter's session, and a dead one's
/// ends with that.
pub(super) fn serve(record: &mut Record, now: Wall) {
    while let Some(next) = record.waiters.first() {
        if !record.has_room(next.mode, next.permits) {
            return;
        }
        let ticket = record.waiters.remove(0);
        record.token = record.token.next();
        record.holders.push(ticket.admitted(record.token, now));
    }
}

/// Whom a write has let in: those with a ticket before it who hold by it afterwards.
pub fn served<'a>(before: &'a Record, after: &'a Record) -> impl Iterator<Item = &'a Ticket> {
    before.waiters.iter().filter(|ticket| after.lease(ticket.id).is_some())
}

impl Record {
    /// Whether one more may hold it beside those who do.
    pub fn has_room(&self, mode: Mode, permits: u32) -> bool {
        if self.kind == Kind::Semaphore {
            let held = self.permits_held() + u64::from(permits);
            return held <= u64::from(self.limit) && self.holders.len() < MAX_HOLDERS;
        }
        let beside = |mode| mode == Mode::Shared;
        let all_share = beside(mode) && self.holders.iter().all(|lease| beside(lease.mode));
        self.holders.is_empty() || (all_share && self.holders.len() < MAX_HOLDERS)
    }
}

/// An entry that a contender finds ended was released, if it only stayed for its minimum hold.
fn how_it_ended(lease: &Lease) -> End {
    if lease.released_at.is_some() { Ended::Released.into() } else { Ended::Expired.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder::{Nonce, Owner};
    use crate::protocol::expiry::{Observations, Sessions};
    use crate::protocol::lock::{
        Acquire, AcquireDecision, HolderDecision, Own, acquire, release, resize, shut_the_door,
    };
    use crate::time::Moment;
    use crate::token::FencingToken;

    const TTL: Duration = Duration::from_secs(30);
    const NOW: Moment =
        Moment { boot: Boot::new(Duration::from_secs(9)), wall: Wall::from_micros(5_000_000) };
    const SOON: Boot = Boot::new(Duration::from_secs(19));
    const NONCE: Nonce = Nonce::from_random(7);

    /// An acquisition, and the session under which it waits and holds.
    fn id(number: u128) -> HolderId {
        HolderId::from_random(number)
    }

    fn session(number: u128) -> HolderId {
        HolderId::from_random(1_000 + number)
    }

    fn shared(number: u128, permits: u32, limit: u32) -> (u128, Want) {
        let session = Some(session(number));
        (number, Want { mode: Mode::Shared, permits, limit, session, queue: true })
    }

    /// Decides where these sessions have ended, and all others stand.
    fn decide(found: &Record, (number, want): (u128, Want), ended: &[u128]) -> AcquireDecision {
        let standing = |number: u128| match ended.contains(&number) {
            true => Standing::Ended,
            false => Standing::Open(Verdict::AliveUntil(SOON)),
        };
        let sessions = (0..200).map(|number| (session(number), standing(number))).collect();
        decide_knowing(found, (number, want), &sessions)
    }

    fn decide_knowing(
        found: &Record,
        (number, want): (u128, Want),
        sessions: &Sessions,
    ) -> AcquireDecision {
        let observations = &Observations::default();
        let evidence = Evidence { now: NOW, observations, store: None, max_skew: None, sessions };
        let intent = Acquire {
            kind: found.kind,
            want,
            id: id(number),
            ttl: TTL,
            owner: Owner::default(),
            payload: None,
            nonce: NONCE,
            above: FencingToken::ZERO,
            reserve: 0,
            renews_in: None,
        };
        acquire(Some(found), &evidence, &intent)
    }

    /// A record in which these have asked one after the other, and everybody lives.
    fn asked(kind: Kind, limit: u32, all: &[(u128, Want)]) -> Record {
        let mut record = Record::free_of(kind, FencingToken::ZERO, NONCE);
        record.limit = limit;
        for who in all {
            record = match decide(&record, *who, &[]) {
                AcquireDecision::Write { record, .. } | AcquireDecision::Queue(record) => *record,
                other => panic!("{other:?}"),
            };
        }
        record.encode().expect("is a record");
        record
    }

    fn entered(decision: AcquireDecision) -> Record {
        match decision {
            AcquireDecision::Write { record, .. } => *record,
            other => panic!("{other:?}"),
        }
    }

    fn released(found: &Record, number: u128) -> Record {
        let own = Own { id: id(number), renewals: 0, unresolved: false };
        match release(found, own, None, NONCE, NOW.wall) {
            HolderDecision::Write(record) => *record,
            HolderDecision::Gone(gone) => panic!("{gone:?}"),
        }
    }

    fn holders(record: &Record) -> Vec<HolderId> {
        record.holders.iter().map(|lease| lease.id).collect()
    }

    fn waiters(record: &Record) -> Vec<HolderId> {
        record.waiters.iter().map(|ticket| ticket.id).collect()
    }

    fn ids<const N: usize>(numbers: [u128; N]) -> Vec<HolderId> {
        numbers.map(id).into()
    }

    #[test]
    fn whom_a_write_has_let_in_is_told_by_the_records_before_and_after() {
        let served =
            |before, after| served(before, after).map(|ticket| ticket.id).collect::<Vec<_>>();
        let all = [shared(0, 2, 3), shared(1, 3, 3), shared(2, 1, 3), shared(3, 2, 3)];
        let full = asked(Kind::Semaphore, 3, &all);
        assert_eq!(waiters(&full), ids([1, 2, 3]));
        // A release lets the first in, who takes all; and its release the two who come after.
        let first = released(&full, 0);
        assert_eq!(served(&full, &first), ids([1]));
        let others = released(&first, 1);
        assert_eq!(served(&first, &others), ids([2, 3]));
        // Who has gone without its turn has not been served, nor who held before.
        let gone = shut_the_door(&full, id(1), NONCE, NOW.wall);
        assert_eq!((served(&full, &gone), waiters(&gone)), (ids([2]), ids([3])));
        assert_eq!(served(&others, &others), ids([]));
    }

    #[test]
    fn a_full_queue_takes_no_more_and_lets_nobody_past() {
        let most = MAX_WAITERS as u128 + 1;
        let all: Vec<_> = (0..most).map(|number| shared(number, 1, 1)).collect();
        let full = asked(Kind::Semaphore, 1, &all);
        assert_eq!(full.waiters.len(), MAX_WAITERS);
        let late = shared(100, 1, 1);
        assert_eq!(decide(&full, late, &[]), AcquireDecision::HeldUntil(SOON));
        // The holder is gone, and the first enters: there is one place, at the end.
        let moved = released(&full, 0);
        assert_eq!(holders(&moved), ids([1]));
        match decide(&moved, late, &[]) {
            AcquireDecision::Queue(record) => {
                assert_eq!(record.waiters.len(), MAX_WAITERS);
                assert_eq!(record.waiters.last().map(|ticket| ticket.id), Some(id(100)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_dead_at_the_end_of_a_full_queue_make_room() {
        let most = MAX_WAITERS as u128 + 1;
        let all: Vec<_> = (0..most).map(|number| shared(number, 1, 1)).collect();
        let full = asked(Kind::Semaphore, 1, &all);
        match decide(&full, shared(100, 1, 1), &[most - 1, most - 2]) {
            AcquireDecision::Queue(record) => {
                assert_eq!(record.waiters.len(), MAX_WAITERS - 1);
                assert_eq!(record.ticket(id(most - 1)), None);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_waiter_asks_about_the_one_before_it_and_nobody_else() {
        let all = [0, 1, 2, 3].map(|number| shared(number, 1, 1));
        let record = asked(Kind::Semaphore, 1, &all);
        let last = all[3];
        let ask = |sessions: &[(u128, Standing)]| {
            let sessions = sessions.iter().map(|(of, standing)| (session(*of), *standing));
            decide_knowing(&record, last, &sessions.collect())
        };
        assert_eq!(ask(&[]), AcquireDecision::Ask(session(2)));
        let alive = Standing::Open(Verdict::AliveUntil(SOON));
        assert_eq!(ask(&[(2, alive)]), AcquireDecision::HeldUntil(SOON));
        let run_out = Standing::Open(Verdict::Expired(Rule::Observation));
        assert_eq!(ask(&[(2, run_out)]), AcquireDecision::End(session(2)));
        let ended = |of| (of, Standing::Ended);
        assert_eq!(ask(&[ended(2)]), AcquireDecision::Ask(session(1)));
        assert_eq!(ask(&[ended(2), ended(1)]), AcquireDecision::Ask(session(0)));
        let record = entered(ask(&[ended(2), ended(1), ended(0)]));
        assert_eq!((holders(&record), waiters(&record)), (ids([3]), ids([])));
    }

    #[test]
    fn whoever_enters_takes_those_along_for_whom_there_is_room() {
        // 0 holds both permits; 1 wants one, and so do 2 and 3.
        let all = [shared(0, 2, 2), shared(1, 1, 2), shared(2, 1, 2), shared(3, 1, 2)];
        let record = asked(Kind::Semaphore, 2, &all);
        let record = entered(decide(&record, all[1], &[0]));
        assert_eq!((holders(&record), waiters(&record)), (ids([1, 2]), ids([3])));
        let tokens: Vec<_> = record.holders.iter().map(|lease| lease.token.get()).collect();
        assert_eq!((tokens, record.token.get()), (vec![2, 3], 3));
    }

    #[test]
    fn who_wants_much_is_not_passed_by_those_who_want_little() {
        let all = [shared(0, 1, 3), shared(1, 1, 3), shared(2, 3, 3), shared(3, 1, 3)];
        let record = asked(Kind::Semaphore, 3, &all);
        assert_eq!((holders(&record), waiters(&record)), (ids([0, 1]), ids([2, 3])));
        let record = released(&record, 0);
        assert_eq!((holders(&record), waiters(&record)), (ids([1]), ids([2, 3])));
        let record = released(&record, 1);
        assert_eq!((holders(&record), waiters(&record)), (ids([2]), ids([3])));
    }

    #[test]
    fn a_limit_lowered_below_what_is_held_puts_nobody_out_and_lets_nobody_in() {
        let all = [0, 1, 2, 3].map(|number| shared(number, 1, 3));
        let mut record = asked(Kind::Semaphore, 3, &all);
        record = resize(&record, 1, NONCE, NOW.wall);
        assert_eq!((holders(&record), waiters(&record)), (ids([0, 1, 2]), ids([3])));
        record.encode().expect("is a record");
        for number in [0, 1] {
            record = released(&record, number);
            assert_eq!(waiters(&record), ids([3]));
        }
        assert_eq!(record.permits_held(), 1);
        record = released(&record, 2);
        assert_eq!((holders(&record), waiters(&record)), (ids([3]), ids([])));
    }

    #[test]
    fn a_larger_limit_lets_in_as_many_as_there_is_room_for() {
        let all = [0, 1, 2, 3].map(|number| shared(number, 1, 1));
        let record = resize(&asked(Kind::Semaphore, 1, &all), 3, NONCE, NOW.wall);
        assert_eq!((holders(&record), waiters(&record)), (ids([0, 1, 2]), ids([3])));
    }

    #[test]
    fn a_ticket_for_more_than_there_is_by_now_is_its_owners_to_take_back() {
        let all = [shared(0, 2, 2), shared(1, 2, 2), shared(2, 1, 2)];
        let record = resize(&asked(Kind::Semaphore, 2, &all), 1, NONCE, NOW.wall);
        let record = released(&record, 0);
        assert_eq!((holders(&record), waiters(&record)), (ids([]), ids([1, 2])));
        // It hears that there is another limit, and gives up: that lets in the next.
        assert_eq!(decide(&record, all[1], &[]), AcquireDecision::OtherLimit(1));
        let record = shut_the_door(&record, id(1), NONCE, NOW.wall);
        assert_eq!((holders(&record), waiters(&record)), (ids([2]), ids([])));
    }

    #[test]
    fn who_wants_more_than_there_is_waits_until_it_is_told() {
        let record = asked(Kind::Semaphore, 2, &[]);
        let (number, want) = shared(0, 3, 2);
        let want = Want { queue: false, ..want };
        let never = Boot::new(Duration::MAX);
        assert_eq!(decide(&record, (number, want), &[]), AcquireDecision::HeldUntil(never));
    }

    #[test]
    fn of_several_holders_the_first_that_may_end_is_waited_for() {
        let record = asked(Kind::Semaphore, 2, &[shared(0, 1, 2), shared(1, 1, 2)]);
        let later = SOON.plus(TTL);
        for ends in [[SOON, later], [later, SOON]] {
            let ends = ends.map(|end| Standing::Open(Verdict::AliveUntil(end)));
            let sessions = [(session(0), ends[0]), (session(1), ends[1])].into_iter().collect();
            let (number, want) = shared(2, 1, 2);
            let want = Want { queue: false, ..want };
            let decision = decide_knowing(&record, (number, want), &sessions);
            assert_eq!(decision, AcquireDecision::HeldUntil(SOON));
        }
    }

    #[test]
    fn a_reader_beyond_the_most_waits_and_enters_when_one_leaves() {
        let all: Vec<_> = (0..MAX_HOLDERS as u128).map(|number| shared(number, 1, 1)).collect();
        let full = asked(Kind::RwLock, 1, &all);
        assert_eq!(full.holders.len(), MAX_HOLDERS);
        let late = shared(150, 1, 1);
        let AcquireDecision::Queue(queued) = decide(&full, late, &[]) else {
            panic!("there is no room")
        };
        let record = released(&queued, 5);
        assert_eq!(record.holders.len(), MAX_HOLDERS);
        assert_eq!(record.holders.last().map(|lease| lease.id), Some(id(150)));
        // Or without its doing, once somebody is dead.
        let record = entered(decide(&queued, late, &[5]));
        assert_eq!(record.holders.len(), MAX_HOLDERS);
    }
}
