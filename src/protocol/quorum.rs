//! Decisions about one member of a quorum: a lock whose records lie on several stores, of which a
//! majority decides.
//!
//! A member is acquired, renewed, released and taken over like any lock. Only tokens are different:
//! all entries of one acquisition carry the same.
//!
//! **Invariants.** A vote issues exactly the token that was proposed, which the member has never
//! issued. A later join issues none: it enters what the acquisition has, and the member's counter
//! does not decrease. Either needs the member to be free, or its lease to have ended, by the rules for
//! every contender.

use super::expiry::Evidence;
use super::lock::{Acquire, AcquireDecision, acquire};
use crate::record::Record;
use crate::token::FencingToken;

/// Whether a record that [`acquire`] wants to write is a vote for the token after `proposed`: not if
/// the member has issued that token, or a larger one, to somebody else.
pub fn is_vote(record: &Record, proposed: FencingToken) -> bool {
    record.token == proposed.next() && record.token > proposed
}

/// Decides whether a member is entered for an acquisition that a majority has made before, with that
/// acquisition's `token`.
///
/// The intent has an identity that has never been in the member's record. An entry that was there
/// before must not come back: whoever has watched it would take its new stay for the old one
/// (hazard H2).
pub fn join(
    found: Option<&Record>,
    evidence: &Evidence<'_>,
    intent: &Acquire,
    token: FencingToken,
) -> AcquireDecision {
    let mut decision = acquire(found, evidence, intent);
    if let AcquireDecision::Write { record, .. } = &mut decision {
        let issued = found.map_or(FencingToken::ZERO, |found| found.token);
        record.token = issued.max(intent.above).max(token);
        for lease in record.holders.iter_mut().filter(|lease| lease.id == intent.id) {
            lease.token = token;
        }
    }
    decision
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::holder::{HolderId, Nonce, Owner};
    use crate::protocol::expiry::{Observations, Rule, Sessions, contender_wait};
    use crate::protocol::lock::{Own, release, shut_the_door};
    use crate::protocol::queue::Want;
    use crate::record::Kind;
    use crate::time::{Boot, Moment, Wall};

    const TTL: Duration = Duration::from_secs(30);

    fn token(value: u64) -> FencingToken {
        FencingToken::new(value).unwrap()
    }

    fn intent(number: u128, above: u64) -> Acquire {
        Acquire {
            kind: Kind::Lock,
            want: Want::ALONE,
            id: HolderId::from_random(number),
            ttl: TTL,
            owner: Owner::default(),
            payload: None,
            nonce: Nonce::from_random(number),
            above: token(above),
            reserve: 0,
            renews_in: None,
        }
    }

    fn now() -> Moment {
        Moment { boot: Boot::new(Duration::from_secs(9)), wall: Wall::from_micros(5_000_000) }
    }

    fn decided(
        found: Option<&Record>,
        watched: Duration,
        decide: impl Fn(Option<&Record>, &Evidence<'_>) -> AcquireDecision,
    ) -> AcquireDecision {
        let mut observations = Observations::default();
        if let Some(found) = found {
            observations.note(found, now().boot);
        }
        let now = Moment { boot: now().boot.plus(watched), ..now() };
        decide(
            found,
            &Evidence {
                now,
                observations: &observations,
                store: None,
                max_skew: None,
                sessions: &Sessions::NONE,
            },
        )
    }

    fn joined(found: Option<&Record>, intent: &Acquire, with: u64) -> AcquireDecision {
        decided(found, Duration::ZERO, |found, evidence| join(found, evidence, intent, token(with)))
    }

    fn written(decision: AcquireDecision) -> Record {
        match decision {
            AcquireDecision::Write { record, .. } => *record,
            other => panic!("{other:?}"),
        }
    }

    fn voted(found: Option<&Record>, number: u128, proposed: u64) -> Record {
        let intent = intent(number, proposed);
        written(decided(found, Duration::ZERO, |found, evidence| acquire(found, evidence, &intent)))
    }

    fn free(at: u64) -> Record {
        Record::free(token(at), Nonce::from_random(0))
    }

    fn released(record: &Record, number: u128) -> Record {
        let own = Own { id: HolderId::from_random(number), renewals: 0, unresolved: false };
        match release(record, own, None, Nonce::from_random(99), now().wall) {
            crate::protocol::lock::HolderDecision::Write(record) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_vote_is_for_the_proposed_token_and_no_other() {
        for (issued, is) in [(0, true), (99, true), (100, true), (101, false), (200, false)] {
            assert_eq!(is_vote(&voted(Some(&free(issued)), 1, 100), token(100)), is, "{issued}");
        }
        assert!(is_vote(&voted(None, 1, 100), token(100)));
        let last = FencingToken::MAX;
        assert!(!is_vote(&voted(Some(&free(1)), 1, last.get()), last), "there is none after it");
    }

    #[test]
    fn a_member_issues_a_proposed_token_once() {
        // Two have proposed 101; the first was undone.
        let first = voted(Some(&free(7)), 1, 100);
        let undone =
            shut_the_door(&first, HolderId::from_random(1), Nonce::from_random(3), now().wall);
        for found in [&undone, &released(&first, 1)] {
            assert_eq!(found.token, token(101));
            assert!(!is_vote(&voted(Some(found), 2, 100), token(100)));
            assert!(is_vote(&voted(Some(found), 2, 101), token(101)));
        }
    }

    #[test]
    fn joining_enters_the_acquisitions_token_and_never_lowers_the_counter() {
        for (issued, counter) in [(0, 50), (49, 50), (50, 50), (51, 51), (200, 200)] {
            let record = written(joined(Some(&free(issued)), &intent(1, 0), 50));
            assert_eq!((record.token, record.holders[0].token), (token(counter), token(50)));
            assert_eq!(record.holders[0].id, HolderId::from_random(1));
            record.encode().expect("is a record");
            // Whoever comes next gets a larger one.
            let freed = released(&record, 1);
            assert_eq!(voted(Some(&freed), 2, counter).token, token(counter + 1));
            assert!(!is_vote(&voted(Some(&freed), 2, 49), token(49)));
        }
    }

    #[test]
    fn a_record_that_is_gone_starts_no_lower_than_any_other_would() {
        let record = written(joined(None, &intent(1, 7000), 50));
        assert_eq!((record.token, record.holders[0].token), (token(7000), token(50)));
        let record = written(joined(None, &intent(1, 7), 50));
        assert_eq!((record.token, record.holders[0].token), (token(50), token(50)));
    }

    #[test]
    fn an_undone_minority_of_the_same_token_is_joined_all_the_same() {
        // B has proposed 51 here and lost to A, who got 51 on a majority elsewhere.
        let undone = released(&voted(Some(&free(7)), 2, 50), 2);
        let record = written(joined(Some(&undone), &intent(1, 0), 51));
        assert_eq!((record.token, record.holders[0].token), (token(51), token(51)));
        assert_eq!(record.history.last().unwrap().token, token(51));
        record.encode().expect("is a record");
    }

    #[test]
    fn who_is_there_is_waited_for_and_then_put_out() {
        let held = voted(Some(&free(7)), 2, 100);
        let end = now().boot.plus(contender_wait(TTL));
        let ours = intent(1, 0);
        assert_eq!(joined(Some(&held), &ours, 50), AcquireDecision::HeldUntil(end));
        let decision = decided(Some(&held), contender_wait(TTL), |found, evidence| {
            join(found, evidence, &ours, token(50))
        });
        let AcquireDecision::Write { record, takeover } = decision else { panic!("expired") };
        assert_eq!(takeover, Some(Rule::Observation));
        assert_eq!((record.token, record.holders[0].token), (token(101), token(50)));
        assert_eq!(record.holders.len(), 1);
    }

    #[test]
    fn a_join_that_landed_is_recognised() {
        let record = written(joined(Some(&free(7)), &intent(1, 0), 50));
        assert_eq!(joined(Some(&record), &intent(1, 0), 50), AcquireDecision::Ours);
    }
}
