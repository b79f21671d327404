//! Decisions about work that is run once: recording its result, and when that is past.
//!
//! A run is an acquisition like any other, of a record of its own kind: [`acquire`](super::lock::acquire),
//! renewal, release and expiry are those of a lock.
//!
//! **Invariants.** A result is written only by the holder on record, over the version on which it
//! still is the holder. A record with a result has no holder, and nobody becomes one before the
//! result is certainly past.

use std::time::Duration;

use super::lock::{HolderDecision, Own, entry, gone};
use crate::holder::Nonce;
use crate::record::{Done, Ended, Payload, Record};
use crate::time::Wall;

/// What a run leaves behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// Its result.
    pub result: Payload,
    /// For how long it stands; for ever without.
    pub retention: Option<Duration>,
}

/// Decides on recording the result of a holder's own run: one write puts the result in the place of
/// the holder.
pub fn finish(
    found: &Record,
    own: Own,
    finish: &Finish,
    nonce: Nonce,
    now: Wall,
) -> HolderDecision {
    let mut record = found.clone();
    let Some(lease) = entry(&mut record, own) else {
        return HolderDecision::Gone(gone(found, own.id));
    };
    let done = Done::of(lease, finish.result.clone(), finish.retention, now);
    record.done = Some(done);
    record.retire_holders(|_| Ended::Finished.into(), now);
    record.nonce = nonce;
    HolderDecision::Write(Box::new(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FencingToken;
    use crate::holder::{HolderId, Owner};
    use crate::protocol::expiry::{Evidence, Observations, Sessions, StoreTime, contender_wait};
    use crate::protocol::lock::{
        Acquire, AcquireDecision, Gone, Renewal, acquire, break_lease, release, renew,
    };
    use crate::protocol::queue::Want;
    use crate::record::Kind;
    use crate::time::{Boot, Moment};

    const TTL: Duration = Duration::from_secs(30);
    const HOUR: Duration = Duration::from_secs(3600);
    const MARGIN: Duration = Duration::from_secs(3);

    fn wall(seconds: i64) -> Wall {
        Wall::from_micros(seconds * 1_000_000)
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

    fn left(retention: Option<Duration>) -> Finish {
        Finish { result: Payload::from_json_str("[42]").unwrap(), retention }
    }

    /// Decides on what was seen `watched` ago, with the store's clock if it is known.
    fn decide(
        found: Option<&Record>,
        number: u128,
        watched: Duration,
        store: Option<StoreTime>,
    ) -> AcquireDecision {
        let mut observations = Observations::default();
        if let Some(found) = found {
            observations.note(found, Boot::new(Duration::ZERO));
        }
        let now = Moment { boot: Boot::new(watched), wall: wall(5) };
        let sessions = &Sessions::NONE;
        let evidence =
            Evidence { now, observations: &observations, store, max_skew: None, sessions };
        let intent = Acquire {
            kind: Kind::Once,
            want: Want::ALONE,
            id: id(number),
            ttl: TTL,
            owner: Owner { label: number.to_string(), ..Owner::default() },
            payload: None,
            nonce: nonce(number),
            above: FencingToken::new(100).unwrap(),
            reserve: 0,
            renews_in: None,
        };
        acquire(found, &evidence, &intent)
    }

    fn run_by(found: Option<&Record>, number: u128) -> Record {
        match decide(found, number, Duration::ZERO, None) {
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

    fn done_by(number: u128, retention: Option<Duration>) -> Record {
        let running = run_by(None, number);
        written(finish(&running, own(number), &left(retention), nonce(9), wall(7)))
    }

    /// The store's clock `age` after the record was written.
    fn aged(age: Duration) -> Option<StoreTime> {
        let at = Boot::new(Duration::ZERO);
        let (last_modified, at_least) = (wall(1000), wall(1000).plus(age));
        Some(StoreTime { at_least, at, last_modified, margin: MARGIN })
    }

    #[test]
    fn a_result_takes_the_place_of_the_holder_in_one_write() {
        let running = run_by(None, 1);
        assert_eq!((running.kind, running.done.clone()), (Kind::Once, None));
        let record = done_by(1, Some(HOUR));
        assert!(record.holders.is_empty());
        assert_eq!((record.token, record.nonce), (running.token, nonce(9)));
        assert_eq!(record.tenure(id(1)).unwrap().ended, Ended::Finished);
        let done = record.done.unwrap();
        assert_eq!((done.result.to_json(), done.at), ("[42]".to_owned(), wall(7)));
        assert_eq!((done.token, done.retention), (running.token, Some(HOUR)));
        assert_eq!(done.owner.label, "1");
    }

    #[test]
    fn what_is_done_is_not_run_again_by_anybody() {
        let record = done_by(1, None);
        assert_eq!(decide(Some(&record), 2, HOUR, None), AcquireDecision::Done);
        assert_eq!(decide(Some(&record), 2, HOUR, aged(HOUR * 1_000_000)), AcquireDecision::Done);
    }

    #[test]
    fn only_the_holder_on_record_records_a_result() {
        let running = run_by(None, 1);
        let AcquireDecision::Write { record: taken, .. } =
            decide(Some(&running), 2, contender_wait(TTL), None)
        else {
            panic!("expired")
        };
        let by =
            |record: &Record, number| finish(record, own(number), &left(None), nonce(8), wall(9));
        let taken_over = Gone::TakenOver(Some(taken.token));
        assert_eq!(by(&taken, 1), HolderDecision::Gone(taken_over));
        assert!(written(by(&taken, 2)).done.is_some());
        let failed = written(release(&running, own(1), None, nonce(8), wall(9)));
        assert_eq!(by(&failed, 1), HolderDecision::Gone(Gone::Released));
        let cloned = written(renew(&running, own(1), Renewal::default(), nonce(8), wall(9)));
        assert_eq!(by(&cloned, 1), HolderDecision::Gone(Gone::Cloned));
    }

    #[test]
    fn a_result_of_ones_own_is_recognised_even_after_it_is_past() {
        let record = done_by(1, Some(HOUR));
        let finished = HolderDecision::Gone(Gone::Finished);
        assert_eq!(finish(&record, own(1), &left(None), nonce(8), wall(9)), finished);
        let AcquireDecision::Write { record: again, .. } =
            decide(Some(&record), 2, Duration::ZERO, aged(HOUR + MARGIN))
        else {
            panic!("past")
        };
        assert_eq!(finish(&again, own(1), &left(None), nonce(8), wall(9)), finished);
    }

    #[test]
    fn a_result_that_is_forgotten_leaves_the_counter() {
        let record = done_by(1, None);
        let forgotten = break_lease(&record, None, Some("ops".into()), None, nonce(8), wall(9));
        assert_eq!((forgotten.done.clone(), forgotten.token), (None, record.token));
        assert!(run_by(Some(&forgotten), 2).token > record.token);
    }

    #[test]
    fn a_failed_run_is_run_again_at_once() {
        let running = run_by(None, 1);
        let failed = written(release(&running, own(1), None, nonce(8), wall(9)));
        let again = run_by(Some(&failed), 2);
        assert!(again.token > running.token);
    }

    #[test]
    fn a_result_is_past_by_the_stores_clock_and_its_margin_and_not_a_step_earlier() {
        let record = done_by(1, Some(HOUR));
        let step = Duration::from_micros(1);
        let early = decide(Some(&record), 2, HOUR * 9, aged(HOUR + MARGIN - step));
        assert_eq!(early, AcquireDecision::Done);
        let AcquireDecision::Write { record: again, takeover } =
            decide(Some(&record), 2, Duration::ZERO, aged(HOUR + MARGIN))
        else {
            panic!("past")
        };
        assert_eq!((again.done.clone(), takeover), (None, None));
        assert!(again.token > record.token);
        assert_eq!(again.holders[0].id, id(2));
    }

    #[test]
    fn a_result_is_not_past_where_the_stores_time_is_unknown_or_senseless() {
        let record = done_by(1, Some(HOUR));
        assert_eq!(decide(Some(&record), 2, HOUR * 9, None), AcquireDecision::Done);
        let future = StoreTime { last_modified: wall(1_000_000), ..aged(HOUR).unwrap() };
        assert_eq!(decide(Some(&record), 2, HOUR * 9, Some(future)), AcquireDecision::Done);
    }
}
