//! Decisions about whatever is held by leases, alone or beside others: acquire, renew, release,
//! downgrade, break, and shutting the door on a write that may still land.
//!
//! **Invariants.** Ownership changes only by a compare-and-swap on the version that the decision
//! was made from. The record's token never decreases, and every acquisition gets a larger one. A
//! record is never deleted. Only an acquisition's own id lets it renew or release. Who may enter,
//! and in which order, is decided in [`queue`].

use std::time::Duration;

use super::expiry::{Evidence, Rule, is_past};
use super::queue::{self, Unclear, Want, WayIn, serve};
use crate::holder::{HolderId, Nonce, Owner};
use crate::record::{End, Ended, Kind, Lease, MAX_TTL, MIN_TTL, Mode, Payload, Record, Ticket};
use crate::time::{Boot, Wall};
use crate::token::FencingToken;

/// What a contender wants.
#[derive(Clone, Debug)]
pub struct Acquire {
    /// What it is; a record of another kind is left alone.
    pub kind: Kind,
    /// How much of it, and how it waits.
    pub want: Want,
    /// The identity of this acquisition, kept over all attempts of one call.
    pub id: HolderId,
    /// The lease's duration.
    pub ttl: Duration,
    /// Who it is.
    pub owner: Owner,
    /// A payload to set; the record's stays when there is none.
    pub payload: Option<Payload>,
    /// New for this write.
    pub nonce: Nonce,
    /// A token that the new one must exceed whatever the record says: the largest this process
    /// has seen under the name, and on an absent record the upper bound of the store's time in
    /// microseconds, so that tokens go on rising after a record was deleted (hazard H9).
    pub above: FencingToken,
    /// How many tokens to reserve beyond its own, for hand-overs inside the process.
    pub reserve: u64,
    /// After how long it means to renew, if it does so by itself: for others to know.
    pub renews_in: Option<Duration>,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq)]
pub enum AcquireDecision {
    /// The lock is free, or its lease has ended: write this record over the version read.
    Write {
        /// The record that makes the contender the holder.
        record: Box<Record>,
        /// The rule by which a former holder is put out, if there is one.
        takeover: Option<Rule>,
    },
    /// An earlier write of this very acquisition has landed after all (hazards H1, H2, H6), or who
    /// left has handed over to it.
    Ours,
    /// The work has been done, and its result still stands: there is nothing to acquire.
    Done,
    /// Somebody holds it, or waits and came before; if nothing changes, its lease will have ended
    /// then.
    HeldUntil(Boot),
    /// The same, and this record has a ticket of the contender's: write it over the version read.
    Queue(Box<Record>),
    /// It depends on how this session stands, which has to be found out.
    Ask(HolderId),
    /// It depends on this session, which has run out: end it by a write of its own record.
    End(HolderId),
    /// The name belongs to something else.
    OtherKind(Kind),
    /// The semaphore has another limit.
    OtherLimit(u32),
}

/// Decides on a record that was read; `None` when there is none.
pub fn acquire(
    found: Option<&Record>,
    evidence: &Evidence<'_>,
    intent: &Acquire,
) -> AcquireDecision {
    let now = evidence.now.wall;
    let Some(found) = found else {
        let mut record = Record::free_of(intent.kind, intent.above, intent.nonce);
        record.limit = intent.want.limit;
        admit(&mut record, now, intent);
        return AcquireDecision::Write { record: Box::new(record), takeover: None };
    };
    if found.kind != intent.kind {
        return AcquireDecision::OtherKind(found.kind);
    }
    if found.limit != intent.want.limit {
        return AcquireDecision::OtherLimit(found.limit);
    }
    if found.lease(intent.id).is_some() {
        return AcquireDecision::Ours;
    }
    if found.done.as_ref().is_some_and(|done| !is_past(done, evidence.store)) {
        return AcquireDecision::Done;
    }
    match queue::way_in(found, evidence, intent.id, &intent.want) {
        WayIn::Open { mut record, takeover } => {
            record.done = None;
            record.waiters.retain(|ticket| ticket.id != intent.id);
            admit(&mut record, now, intent);
            serve(&mut record, now);
            AcquireDecision::Write { record: Box::new(record), takeover }
        }
        WayIn::Closed { record, until } => line_up(record, until, now, intent),
        WayIn::Unclear(Unclear::Ask(session)) => AcquireDecision::Ask(session),
        WayIn::Unclear(Unclear::End(session)) => AcquireDecision::End(session),
    }
}

/// Takes a ticket, if the contender wants one and has none.
fn line_up(mut record: Record, until: Boot, now: Wall, intent: &Acquire) -> AcquireDecision {
    let Acquire { id, ttl, want, .. } = *intent;
    let session = want.session.filter(|_| want.queue && record.ticket(id).is_none());
    let Some(session) = session else { return AcquireDecision::HeldUntil(until) };
    let owner = intent.owner.clone();
    let ticket = Ticket::new(id, session, want.mode, want.permits, ttl, now, owner);
    if !queue::line_up(&mut record, ticket) {
        return AcquireDecision::HeldUntil(until);
    }
    record.nonce = intent.nonce;
    AcquireDecision::Queue(Box::new(record))
}

fn admit(record: &mut Record, now: Wall, intent: &Acquire) {
    record.token = record.token.max(intent.above).next();
    record.nonce = intent.nonce;
    let owner = intent.owner.clone();
    let mut lease = Lease::acquired(intent.id, record.token, intent.ttl, now, owner);
    (lease.mode, lease.permits) = (intent.want.mode, intent.want.permits);
    lease.session = intent.want.session;
    // What is held under a session is not renewed by itself.
    lease.renews_at = intent.renews_in.filter(|_| lease.session.is_none()).map(|by| now.plus(by));
    record.holders.push(lease);
    record.token = record.token.plus(intent.reserve);
    if intent.payload.is_some() {
        record.payload.clone_from(&intent.payload);
    }
}

/// What a holder that writes again finds.
#[derive(Clone, Debug, PartialEq)]
pub enum HolderDecision {
    /// Still the holder: write this record over the version read.
    Write(Box<Record>),
    /// Not the holder any more.
    Gone(Gone),
}

/// Why a holder's entry is not in the record any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Its own release has landed before.
    Released,
    /// Its result was recorded.
    Finished,
    /// Somebody took over; the present holder's token, if there is one.
    TakenOver(Option<FencingToken>),
    /// Somebody broke the lease.
    Broken {
        /// Who.
        by: Option<String>,
        /// Why.
        reason: Option<String>,
    },
    /// Another process renews it under the same identity: this one, or that one, is a copy.
    Cloned,
}

/// What a holder knows of its own entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Own {
    /// Which acquisition.
    pub id: HolderId,
    /// How often the entry has been renewed, as far as was acknowledged.
    pub renewals: u64,
    /// Whether one more renewal may have landed whose outcome is not known.
    pub unresolved: bool,
}

impl Own {
    /// What the record says of an acquisition that was left on it: whoever goes on with one trusts
    /// that nobody else does, and counts on from there.
    pub fn on_record(found: &Record, id: HolderId) -> Self {
        let renewals = found.lease(id).map_or(0, |lease| lease.renewals);
        Self { id, renewals, unresolved: false }
    }

    /// The same after a write of this entry has landed.
    pub fn having_written(self, lease: Option<&Lease>) -> Self {
        let renewals = lease.map_or(self.renewals, |lease| lease.renewals);
        Self { renewals, unresolved: false, ..self }
    }

    /// Whether the entry can be this holder's own work. A virtual machine that was cloned while it
    /// held a lock leaves two processes with one identity and one token, which no fence can tell
    /// apart: only the count of renewals gives the other away (hazard H22).
    fn wrote(self, lease: &Lease) -> bool {
        lease.renewals == self.renewals || (self.unresolved && lease.renewals == self.renewals + 1)
    }
}

/// What a renewal does besides renewing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Renewal<'a> {
    /// Sets the payload.
    pub payload: Option<&'a Payload>,
    /// Reserves so many tokens more, for hand-overs inside the process.
    pub reserve: u64,
    /// After how long the next one is meant to come: for others to know.
    pub next_in: Option<Duration>,
}

/// Decides on a renewal of a holder's own lease.
///
/// Renewing never re-creates: an absent record is the caller's to report as lost (hazard H9).
pub fn renew(
    found: &Record,
    own: Own,
    with: Renewal<'_>,
    nonce: Nonce,
    now: Wall,
) -> HolderDecision {
    let mut record = found.clone();
    let Some(lease) = entry(&mut record, own) else {
        return HolderDecision::Gone(gone(found, own.id));
    };
    lease.renewals += 1;
    lease.renewed_at = now;
    lease.renews_at = with.next_in.map(|by| now.plus(by));
    lease.expires_at = now.plus(lease.ttl);
    record.nonce = nonce;
    record.token = record.token.plus(with.reserve);
    if let Some(payload) = with.payload {
        record.payload = Some(payload.clone());
    }
    HolderDecision::Write(Box::new(record))
}

/// Decides on the release of a holder's own lease, which hands over to those who are first in the
/// queue, in the same write. With `linger`, the rest of its minimum hold, the entry stays for that
/// long instead of being removed at once.
pub fn release(
    found: &Record,
    own: Own,
    linger: Option<Duration>,
    nonce: Nonce,
    now: Wall,
) -> HolderDecision {
    let mut record = found.clone();
    let Some(lease) = entry(&mut record, own) else {
        return HolderDecision::Gone(gone(found, own.id));
    };
    match linger {
        Some(rest) => {
            lease.ttl = rest.clamp(MIN_TTL, MAX_TTL);
            lease.renewals += 1;
            lease.renewed_at = now;
            lease.renews_at = None;
            lease.expires_at = now.plus(lease.ttl);
            lease.released_at = Some(now);
            // From here on it is a matter of time, and no more of the session's.
            lease.session = None;
        }
        None => {
            record.retire_holder(own.id, Ended::Released, now);
            serve(&mut record, now);
        }
    }
    record.nonce = nonce;
    HolderDecision::Write(Box::new(record))
}

/// Decides on turning a writer's own entry into a reader's, which lets those readers in who are first
/// in the queue.
pub fn downgrade(found: &Record, own: Own, nonce: Nonce, now: Wall) -> HolderDecision {
    let mut record = found.clone();
    let Some(lease) = entry(&mut record, own) else {
        return HolderDecision::Gone(gone(found, own.id));
    };
    lease.mode = Mode::Shared;
    serve(&mut record, now);
    record.nonce = nonce;
    HolderDecision::Write(Box::new(record))
}

/// A holder's own entry, if it has not been given back.
pub(super) fn entry(record: &mut Record, own: Own) -> Option<&mut Lease> {
    record
        .holders
        .iter_mut()
        .find(|lease| lease.id == own.id && lease.released_at.is_none() && own.wrote(lease))
}

pub(super) fn gone(found: &Record, id: HolderId) -> Gone {
    if let Some(lease) = found.lease(id) {
        return if lease.released_at.is_some() { Gone::Released } else { Gone::Cloned };
    }
    match found.tenure(id) {
        Some(tenure) if tenure.ended == Ended::Released => Gone::Released,
        Some(tenure) if tenure.ended == Ended::Finished => Gone::Finished,
        Some(tenure) if tenure.ended == Ended::Broken => {
            Gone::Broken { by: tenure.by.clone(), reason: tenure.reason.clone() }
        }
        _ => Gone::TakenOver(found.holders.first().map(|lease| lease.token)),
    }
}

/// The record that voids a write of an acquisition that was given up: the same content under a
/// new nonce, without that acquisition's entry or ticket. A late write conditioned on the version that this
/// one replaces can never land (hazard H2).
pub fn shut_the_door(found: &Record, id: HolderId, nonce: Nonce, now: Wall) -> Record {
    let mut record = found.clone();
    record.retire_holder(id, Ended::Released, now);
    record.waiters.retain(|ticket| ticket.id != id);
    serve(&mut record, now);
    record.nonce = nonce;
    record
}

/// The record after an operator's break of whoever has this token, or of all without one: without
/// them and without a result, with the counter kept and the tenures remembered as broken, by whom and
/// why. Those who are first in the queue enter. Sessions under which those hold who are broken have
/// to be ended before, or they would not hear of it.
pub fn break_lease(
    found: &Record,
    whose: Option<FencingToken>,
    by: Option<String>,
    reason: Option<String>,
    nonce: Nonce,
    now: Wall,
) -> Record {
    let mut record = found.clone();
    let end = End { ended: Ended::Broken, by, reason };
    let is_meant = |lease: &Lease| whose.is_none_or(|token| lease.token == token);
    record.retire(|lease| is_meant(lease).then(|| end.clone()), now);
    record.done = None;
    serve(&mut record, now);
    record.nonce = nonce;
    record
}

/// The record of a semaphore with another limit. Nobody is put out: where more permits are held than
/// there are now, nobody enters before enough have been given back.
pub fn resize(found: &Record, limit: u32, nonce: Nonce, now: Wall) -> Record {
    let mut record = found.clone();
    record.limit = limit;
    serve(&mut record, now);
    record.nonce = nonce;
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::expiry::{Observations, Sessions, contender_wait};
    use crate::time::Moment;

    const TTL: Duration = Duration::from_secs(30);

    fn token(value: u64) -> FencingToken {
        FencingToken::new(value).unwrap()
    }

    fn id(number: u128) -> HolderId {
        HolderId::from_random(number)
    }

    fn own(number: u128) -> Own {
        Own { id: id(number), renewals: 0, unresolved: false }
    }

    fn nonce(number: u128) -> Nonce {
        Nonce::from_random(number)
    }

    fn intent(number: u128) -> Acquire {
        Acquire {
            kind: Kind::Lock,
            want: Want::ALONE,
            id: id(number),
            ttl: TTL,
            owner: Owner { label: number.to_string(), note: Some("n".into()), ..Owner::default() },
            payload: None,
            nonce: nonce(number),
            above: token(100),
            reserve: 0,
            renews_in: None,
        }
    }

    fn now() -> Moment {
        Moment { boot: Boot::new(Duration::from_secs(9)), wall: Wall::from_micros(5_000_000) }
    }

    fn decide(found: Option<&Record>, intent: &Acquire) -> AcquireDecision {
        decide_after(found, intent, Duration::ZERO)
    }

    /// Decides after having watched the record for `watched`.
    fn decide_after(
        found: Option<&Record>,
        intent: &Acquire,
        watched: Duration,
    ) -> AcquireDecision {
        let mut observations = Observations::default();
        if let Some(found) = found {
            observations.note(found, now().boot);
        }
        let now = Moment { boot: now().boot.plus(watched), ..now() };
        let (store, sessions) = (None, &Sessions::NONE);
        let evidence =
            Evidence { now, observations: &observations, store, max_skew: None, sessions };
        acquire(found, &evidence, intent)
    }

    fn held_by(number: u128) -> Record {
        match decide(None, &intent(number)) {
            AcquireDecision::Write { record, .. } => *record,
            other => panic!("{other:?}"),
        }
    }

    fn written(decision: HolderDecision) -> Record {
        match decision {
            HolderDecision::Write(record) => *record,
            HolderDecision::Gone(gone) => panic!("{gone:?}"),
        }
    }

    #[test]
    fn an_absent_record_starts_above_the_given_token() {
        let record = held_by(1);
        assert_eq!(record.token, token(101));
        assert_eq!(record.holders[0].token, token(101));
        assert_eq!(record.nonce, nonce(1));
        assert_eq!(record.holders[0].expires_at, now().wall.plus(TTL));
    }

    #[test]
    fn a_free_record_is_taken_with_the_next_token_and_keeps_its_payload() {
        let mut free = Record::free(token(500), nonce(0));
        free.payload = Some(Payload::from_json_str("[1]").unwrap());
        let AcquireDecision::Write { record, takeover } = decide(Some(&free), &intent(1)) else {
            panic!("free")
        };
        assert_eq!(record.token, token(501));
        assert_eq!(takeover, None);
        assert_eq!(record.payload, free.payload);
    }

    #[test]
    fn a_token_this_process_has_seen_is_exceeded_whatever_the_record_says() {
        let free = Record::free(token(7), nonce(0));
        let AcquireDecision::Write { record, .. } = decide(Some(&free), &intent(1)) else {
            panic!("free")
        };
        assert_eq!(record.token, token(101));
    }

    #[test]
    fn a_payload_replaces_the_old_one() {
        let mut intent = intent(1);
        intent.payload = Some(Payload::from_json_str("2").unwrap());
        let mut free = Record::free(token(7), nonce(0));
        free.payload = Some(Payload::from_json_str("1").unwrap());
        let AcquireDecision::Write { record, .. } = decide(Some(&free), &intent) else {
            panic!("free")
        };
        assert_eq!(record.payload, intent.payload);
    }

    #[test]
    fn a_held_record_is_waited_for_and_then_taken_over() {
        let held = held_by(1);
        let end = now().boot.plus(contender_wait(TTL));
        assert_eq!(decide(Some(&held), &intent(2)), AcquireDecision::HeldUntil(end));
        let decision = decide_after(Some(&held), &intent(2), contender_wait(TTL));
        let AcquireDecision::Write { record, takeover } = decision else { panic!("expired") };
        assert_eq!(takeover, Some(Rule::Observation));
        assert_eq!(record.token, held.token.next());
        assert_eq!(record.holders.len(), 1);
        assert_eq!(record.holders[0].id, id(2));
        let tenure = record.tenure(id(1)).unwrap();
        assert_eq!((tenure.ended.clone(), tenure.token), (Ended::Expired, held.token));
        assert_eq!(tenure.owner.note, None, "notes would fill the history");
    }

    #[test]
    fn an_own_write_that_landed_is_recognised() {
        assert_eq!(decide(Some(&held_by(1)), &intent(1)), AcquireDecision::Ours);
    }

    #[test]
    fn renewing_touches_nothing_but_the_own_entry_and_the_nonce() {
        let held = held_by(1);
        let later = now().wall.plus(TTL);
        let renewed = written(renew(&held, own(1), Renewal::default(), nonce(8), later));
        let mut expected = held.clone();
        expected.nonce = nonce(8);
        expected.holders[0].renewals = 1;
        expected.holders[0].renewed_at = later;
        expected.holders[0].expires_at = later.plus(TTL);
        assert_eq!(renewed, expected);
    }

    #[test]
    fn renewing_can_set_the_payload_and_tell_when_the_next_will_come() {
        let payload = Payload::from_json_str("{\"at\": 3}").unwrap();
        let with = Renewal { payload: Some(&payload), reserve: 5, next_in: Some(TTL / 3) };
        let renewed = written(renew(&held_by(1), own(1), with, nonce(8), now().wall));
        assert_eq!(renewed.payload, Some(payload));
        assert_eq!(renewed.holders[0].renews_at, Some(now().wall.plus(TTL / 3)));
    }

    #[test]
    fn releasing_frees_the_record_and_keeps_the_counter() {
        let held = held_by(1);
        let freed = written(release(&held, own(1), None, nonce(8), now().wall));
        assert!(freed.holders.is_empty());
        assert_eq!(freed.token, held.token);
        assert_eq!(freed.tenure(id(1)).unwrap().ended, Ended::Released);
    }

    #[test]
    fn a_lingering_entry_excludes_others_for_the_rest_but_is_no_holder() {
        let rest = Duration::from_secs(40);
        let held = held_by(1);
        let lingering = written(release(&held, own(1), Some(rest), nonce(8), now().wall));
        assert_eq!(lingering.holders[0].ttl, rest);
        assert_eq!(
            renew(&lingering, own(1), Renewal::default(), nonce(9), now().wall),
            HolderDecision::Gone(Gone::Released)
        );
        assert!(matches!(decide(Some(&lingering), &intent(2)), AcquireDecision::HeldUntil(_)));
        let decision = decide_after(Some(&lingering), &intent(2), contender_wait(rest));
        let AcquireDecision::Write { record, .. } = decision else { panic!("over") };
        assert_eq!(record.tenure(id(1)).unwrap().ended, Ended::Released);
    }

    #[test]
    fn a_linger_shorter_than_any_ttl_is_rounded_up() {
        let rest = Duration::from_millis(3);
        let lingering = written(release(&held_by(1), own(1), Some(rest), nonce(8), now().wall));
        assert_eq!(lingering.holders[0].ttl, MIN_TTL);
    }

    #[test]
    fn who_is_gone_learns_why() {
        let held = held_by(1);
        let by = Some("ops".to_owned());
        let reason = Some("stuck".to_owned());
        let broken = break_lease(&held, None, by.clone(), reason.clone(), nonce(3), now().wall);
        assert_eq!(broken.token, held.token);
        assert!(broken.holders.is_empty());
        let freed = written(release(&held, own(1), None, nonce(8), now().wall));
        let AcquireDecision::Write { record: taken, .. } =
            decide_after(Some(&held), &intent(2), contender_wait(TTL))
        else {
            panic!("expired")
        };
        let why =
            |record: &Record| match renew(record, own(1), Renewal::default(), nonce(9), now().wall)
            {
                HolderDecision::Gone(gone) => gone,
                HolderDecision::Write(_) => panic!("must not renew"),
            };
        assert_eq!(why(&broken), Gone::Broken { by, reason });
        assert_eq!(why(&freed), Gone::Released);
        assert_eq!(why(&taken), Gone::TakenOver(Some(taken.token)));
        assert_eq!(why(&Record::free(token(1), nonce(1))), Gone::TakenOver(None));
        assert!(matches!(
            release(&taken, own(1), None, nonce(9), now().wall),
            HolderDecision::Gone(Gone::TakenOver(Some(_)))
        ));
    }

    #[test]
    fn an_entry_that_somebody_else_renewed_is_a_clones() {
        let once = written(renew(&held_by(1), own(1), Renewal::default(), nonce(8), now().wall));
        let twice = Own { renewals: 1, ..own(1) };
        let twice = written(renew(&once, twice, Renewal::default(), nonce(9), now().wall));
        let cloned = HolderDecision::Gone(Gone::Cloned);
        let doubtful = Own { unresolved: true, ..own(1) };
        for found in [&once, &twice] {
            assert_eq!(renew(found, own(1), Renewal::default(), nonce(10), now().wall), cloned);
            assert_eq!(release(found, own(1), None, nonce(10), now().wall), cloned);
        }
        // A renewal of our own may have landed without an answer; two cannot.
        written(renew(&once, doubtful, Renewal::default(), nonce(10), now().wall));
        assert_eq!(renew(&twice, doubtful, Renewal::default(), nonce(10), now().wall), cloned);
    }

    #[test]
    fn shutting_the_door_removes_only_the_abandoned_entry() {
        let abandoned = held_by(1);
        let shut = shut_the_door(&abandoned, id(1), nonce(9), now().wall);
        assert!(shut.holders.is_empty());
        assert_eq!((shut.token, shut.nonce), (abandoned.token, nonce(9)));
        let others = held_by(2);
        let shut = shut_the_door(&others, id(1), nonce(9), now().wall);
        let mut expected = others.clone();
        expected.nonce = nonce(9);
        assert_eq!(shut, expected);
    }

    #[test]
    fn the_history_keeps_the_last_sixteen_tenures() {
        let mut record = held_by(1);
        for number in 2..30 {
            let id = record.holders[0].id;
            let freed = written(release(
                &record,
                Own { id, renewals: 0, unresolved: false },
                None,
                nonce(number),
                now().wall,
            ));
            let AcquireDecision::Write { record: next, .. } = decide(Some(&freed), &intent(number))
            else {
                panic!("free")
            };
            assert!(next.token > record.token);
            record = *next;
        }
        assert_eq!(record.history.len(), 16);
        assert_eq!(record.history.last().unwrap().id, id(28));
    }
}
