//! Decisions about sessions: how one stands, and ending one that has run out.
//!
//! A session is a lease like any other, on a record of its own that only its owner and those who end
//! it ever write. **Invariant.** A session that has ended, or whose record is gone, never stands
//! again: its name is used once, only its owner acquires it, and renewing never re-creates.

use super::expiry::{Evidence, Standing, judge};
use crate::holder::Nonce;
use crate::record::{Ended, Record};
use crate::time::Wall;

/// How a session stands whose record was read; `None` when there is none.
pub fn standing(found: Option<&Record>, evidence: &Evidence<'_>) -> Standing {
    match found.and_then(|record| record.holders.first()) {
        None => Standing::Ended,
        Some(lease) => Standing::Open(judge(lease, evidence)),
    }
}

/// The record of a session that is ended because it has run out, or because somebody breaks what is
/// held under it. It has to be written over the version that it was judged by: a renewal that has
/// landed meanwhile refuses it, and one that has not can never land (hazard H25).
pub fn end(found: &Record, nonce: Nonce, now: Wall) -> Record {
    let mut record = found.clone();
    record.retire_holders(|_| Ended::Expired.into(), now);
    record.nonce = nonce;
    record
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::holder::{HolderId, Owner};
    use crate::protocol::expiry::{Observations, Rule, Sessions, Verdict, contender_wait};
    use crate::protocol::lock::{Gone, HolderDecision, Own, Renewal, renew};
    use crate::record::{Kind, Lease};
    use crate::time::{Boot, Moment};
    use crate::token::FencingToken;

    const TTL: Duration = Duration::from_secs(30);
    const NOW: Moment =
        Moment { boot: Boot::new(Duration::from_secs(900)), wall: Wall::from_micros(5_000_000) };

    fn open() -> Record {
        let token = FencingToken::ZERO.next();
        let mut record = Record::free_of(Kind::Session, token, Nonce::from_random(1));
        let id = HolderId::from_random(1);
        record.holders.push(Lease::acquired(id, token, TTL, NOW.wall, Owner::default()));
        record
    }

    fn seen_for(found: Option<&Record>, watched: Duration) -> Standing {
        let mut observations = Observations::default();
        if let Some(found) = found {
            observations.note(found, NOW.boot);
        }
        let now = Moment { boot: NOW.boot.plus(watched), ..NOW };
        let (store, sessions) = (None, &Sessions::NONE);
        let observations = &observations;
        standing(found, &Evidence { now, observations, store, max_skew: None, sessions })
    }

    #[test]
    fn a_session_stands_until_it_is_ended_however_long_ago_it_has_run_out() {
        let end = NOW.boot.plus(contender_wait(TTL));
        let record = open();
        let alive = Standing::Open(Verdict::AliveUntil(end));
        assert_eq!(seen_for(Some(&record), Duration::ZERO), alive);
        let run_out = Standing::Open(Verdict::Expired(Rule::Observation));
        assert_eq!(seen_for(Some(&record), contender_wait(TTL)), run_out);
        assert_eq!(seen_for(Some(&record), contender_wait(TTL) * 1_000), run_out);
        let ended = end_of(&record);
        assert_eq!(seen_for(Some(&ended), Duration::ZERO), Standing::Ended);
        assert_eq!(seen_for(None, Duration::ZERO), Standing::Ended);
    }

    fn end_of(record: &Record) -> Record {
        end(record, Nonce::from_random(2), NOW.wall)
    }

    #[test]
    fn its_owner_can_not_renew_what_was_ended() {
        let (record, ended) = (open(), end_of(&open()));
        let own = Own { id: record.holders[0].id, renewals: 0, unresolved: true };
        let renewed = renew(&ended, own, Renewal::default(), Nonce::from_random(3), NOW.wall);
        assert_eq!(renewed, HolderDecision::Gone(Gone::TakenOver(None)));
        assert_ne!(ended.nonce, record.nonce, "a renewal on its way is conditional on the former");
        assert_eq!(ended.token, record.token);
    }

    #[test]
    fn ending_twice_ends_once() {
        let twice = end_of(&end_of(&open()));
        assert_eq!((twice.holders.len(), twice.history.len()), (0, 1));
        assert_eq!(twice.history[0].ended, Ended::Expired);
    }
}
