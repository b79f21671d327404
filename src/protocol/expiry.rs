//! When a lease ends: for its holder, and for everybody else.
//!
//! **Invariant.** A holder that trusts its guard never overlaps a successor. The holder counts
//! from *before* it sent the write that established the lease and stops at 0.9 × TTL; a contender
//! counts from *after* it received the read that showed the lease and starts at 1.02 × TTL +
//! 50 ms. Only the rates of the two clocks enter, never a reading: they may differ by 13 %.

use std::time::Duration;

use crate::holder::HolderId;
use crate::record::{Done, Lease, Record};
use crate::time::{Boot, Moment, Wall};
use crate::token::FencingToken;

/// How long a holder may trust a lease of `ttl`, counted from before the write was sent.
pub fn holder_validity(ttl: Duration) -> Duration {
    ttl / 10 * 9
}

/// How long a contender waits before it takes over a lease of `ttl`, counted from the receipt of
/// the first read that showed it.
pub fn contender_wait(ttl: Duration) -> Duration {
    ttl + ttl / 50 + Duration::from_millis(50)
}

/// The time left at `now` for the holder of a lease of `ttl` whose establishing write was about
/// to be sent at `sent`; zero when it has ended.
pub fn remaining(ttl: Duration, sent: Moment, now: Moment) -> Duration {
    holder_validity(ttl).saturating_sub(now.since(sent))
}

/// Since when a contender has seen each holder's entry unchanged.
///
/// A renewal restarts an entry's time, and so does a new token, which makes it another stay in the
/// record. A rewrite of the record by others, a waiter's ticket say, does not: or the queue behind
/// a dead holder would keep it alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Observations(Vec<Observation>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Observation {
    id: HolderId,
    token: FencingToken,
    renewals: u64,
    since: Boot,
}

impl Observations {
    /// Takes note of a record whose read was received at `received`.
    pub fn note(&mut self, record: &Record, received: Boot) {
        self.0 = record
            .holders
            .iter()
            .map(|lease| Observation {
                id: lease.id,
                token: lease.token,
                renewals: lease.renewals,
                since: self.since(lease).unwrap_or(received),
            })
            .collect();
    }

    /// Since when this very entry has been seen; `None` when it has not.
    pub fn since(&self, lease: &Lease) -> Option<Boot> {
        self.0
            .iter()
            .find(|seen| {
                (seen.id, seen.token, seen.renewals) == (lease.id, lease.token, lease.renewals)
            })
            .map(|seen| seen.since)
    }
}

/// What is known of the store's clock and of the record's age by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreTime {
    /// A lower bound of the store's time …
    pub at_least: Wall,
    /// … at this reading of the contender's own clock.
    pub at: Boot,
    /// When the store says the record was last written, rounded down to its resolution.
    pub last_modified: Wall,
    /// What has to be added for the resolution of the store's stamps and for the differences
    /// between its front ends; zero where the stamps are exact.
    pub margin: Duration,
}

/// How a session stands, as far as a contender knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It has ended, for ever: what was held under it is nobody's.
    Ended,
    /// Nobody has ended it yet, whether or not its lease has run out.
    Open(Verdict),
}

/// The sessions that a contender has looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sessions(Vec<(HolderId, Standing)>);

impl Sessions {
    /// None has been looked at.
    pub const NONE: Self = Self(Vec::new());

    /// How this one stands, if it was looked at.
    pub fn standing(&self, session: HolderId) -> Option<Standing> {
        self.0.iter().find(|(id, _)| *id == session).map(|(_, standing)| *standing)
    }
}

impl FromIterator<(HolderId, Standing)> for Sessions {
    fn from_iter<I: IntoIterator<Item = (HolderId, Standing)>>(sessions: I) -> Self {
        Self(sessions.into_iter().collect())
    }
}

/// The facts about time by which a contender judges a lease. (Each rule is sound by itself; any
/// one of them suffices.)
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The contender's clocks now.
    pub now: Moment,
    /// What this contender has seen so far.
    pub observations: &'a Observations,
    /// The store-clock rule's evidence; `None` turns the rule off.
    pub store: Option<StoreTime>,
    /// The wall-clock rule: the largest skew between any two wall clocks that the user vouches
    /// for; `None` turns the rule off.
    pub max_skew: Option<Duration>,
    /// How the sessions stand under which others hold or wait.
    pub sessions: &'a Sessions,
}

/// A rule that lets a contender take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The entry was seen unchanged for long enough on the contender's own clock.
    Observation,
    /// The store's own clock shows that the record was not written for long enough.
    StoreClock,
    /// The contender's wall clock is past the entry's end, skew included.
    WallClock,
}

/// Whether a lease has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It has; this rule says so.
    Expired(Rule),
    /// Not as far as is known; if nothing changes it will have at this reading of the
    /// contender's clock.
    AliveUntil(Boot),
}

/// Judges one holder's entry that stands by itself, and not under a session.
pub fn judge(lease: &Lease, evidence: &Evidence<'_>) -> Verdict {
    let now = evidence.now.boot;
    let wait = contender_wait(lease.ttl);

    let seen_since = evidence.observations.since(lease).unwrap_or(now);
    let observed = seen_since.plus(wait);
    if now >= observed {
        return Verdict::Expired(Rule::Observation);
    }
    let mut ends = observed;

    // Hazard H23: a stamp in the future proves nothing, now or later.
    let store = evidence.store.filter(|store| store.last_modified <= store.at_least);
    if let Some(store) = store {
        let age = store.at_least.since(store.last_modified);
        let by_store = store.at.plus((wait + store.margin).saturating_sub(age));
        if now >= by_store {
            return Verdict::Expired(Rule::StoreClock);
        }
        ends = ends.min(by_store);
    }

    if let Some(max_skew) = evidence.max_skew {
        let end = lease.expires_at.plus(max_skew);
        let wall = evidence.now.wall;
        if wall > end {
            return Verdict::Expired(Rule::WallClock);
        }
        ends = ends.min(now.plus(end.since(wall)).plus(Duration::from_micros(1)));
    }
    Verdict::AliveUntil(ends)
}

/// Whether the time for which a result stands has certainly passed. Judged by the store's clock
/// alone, from the stamp of the record: nobody writes a record that has a result, so its stamp is
/// the time of recording. Where the store's time is not known, no result is past.
pub fn is_past(done: &Done, store: Option<StoreTime>) -> bool {
    let (Some(retention), Some(store)) = (done.retention, store) else { return false };
    // Hazard H23: a stamp in the future proves nothing.
    store.last_modified <= store.at_least
        && store.at_least.since(store.last_modified) >= retention.saturating_add(store.margin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder::{Nonce, Owner};

    const TTL: Duration = Duration::from_secs(30);
    const WAIT: Duration = Duration::from_millis(30_650);
    const STEP: Duration = Duration::from_millis(1);

    fn boot(duration: Duration) -> Boot {
        Boot::new(duration)
    }

    fn wall(seconds: i64) -> Wall {
        Wall::from_micros(seconds * 1_000_000)
    }

    fn record() -> Record {
        let token = FencingToken::new(7).unwrap();
        let mut record = Record::free(token, Nonce::from_random(1));
        let id = HolderId::from_random(1);
        record.holders.push(Lease::acquired(id, token, TTL, wall(1000), Owner::default()));
        record
    }

    fn judged(record: &Record, observations: &Observations, now: Moment) -> Verdict {
        let evidence =
            Evidence { now, observations, store: None, max_skew: None, sessions: &Sessions::NONE };
        judge(&record.holders[0], &evidence)
    }

    fn at(duration: Duration) -> Moment {
        Moment { boot: boot(duration), wall: wall(0) }
    }

    #[test]
    fn the_holder_stops_well_before_a_contender_starts() {
        for ttl in [crate::record::MIN_TTL, TTL, crate::record::MAX_TTL] {
            let apart = contender_wait(ttl).as_secs_f64() / holder_validity(ttl).as_secs_f64();
            assert!(apart > 1.13, "{ttl:?}: {apart}");
        }
        assert_eq!(holder_validity(TTL), Duration::from_secs(27));
        assert_eq!(contender_wait(TTL), WAIT);
    }

    #[test]
    fn remaining_counts_by_the_faster_clock_and_stays_at_zero() {
        let sent = Moment { boot: boot(TTL), wall: wall(1000) };
        let later = |boot_s: u64, wall_s: i64| Moment {
            boot: sent.boot.plus(Duration::from_secs(boot_s)),
            wall: wall(1000 + wall_s),
        };
        assert_eq!(remaining(TTL, sent, later(10, 10)), Duration::from_secs(17));
        assert_eq!(remaining(TTL, sent, later(10, 26)), Duration::from_secs(1));
        assert_eq!(remaining(TTL, sent, later(10, -86_400)), Duration::from_secs(17));
        assert_eq!(remaining(TTL, sent, later(27, 0)), Duration::ZERO);
        assert_eq!(remaining(TTL, sent, later(1, 86_400)), Duration::ZERO);
    }

    #[test]
    fn an_entry_never_seen_before_is_alive_for_the_whole_wait() {
        let now = at(Duration::from_secs(5));
        let verdict = judged(&record(), &Observations::default(), now);
        assert_eq!(verdict, Verdict::AliveUntil(now.boot.plus(WAIT)));
    }

    #[test]
    fn observation_expires_after_the_wait_and_not_a_step_earlier() {
        let record = record();
        let mut seen = Observations::default();
        let first = Duration::from_secs(100);
        seen.note(&record, boot(first));
        seen.note(&record, boot(first + TTL));
        let end = first + WAIT;
        assert_eq!(judged(&record, &seen, at(end - STEP)), Verdict::AliveUntil(boot(end)));
        assert_eq!(judged(&record, &seen, at(end)), Verdict::Expired(Rule::Observation));
    }

    #[test]
    fn a_renewal_restarts_the_wait_but_a_rewrite_by_others_does_not() {
        let mut record = record();
        let mut seen = Observations::default();
        seen.note(&record, boot(Duration::ZERO));
        record.nonce = Nonce::from_random(2);
        seen.note(&record, boot(TTL));
        assert_eq!(judged(&record, &seen, at(WAIT)), Verdict::Expired(Rule::Observation));
        record.holders[0].renewals += 1;
        seen.note(&record, boot(TTL));
        assert_eq!(judged(&record, &seen, at(WAIT)), Verdict::AliveUntil(boot(TTL + WAIT)));
    }

    #[test]
    fn a_successor_is_not_judged_by_its_predecessors_age() {
        let mut record = record();
        let mut seen = Observations::default();
        seen.note(&record, boot(Duration::ZERO));
        record.holders[0].id = HolderId::from_random(2);
        assert!(matches!(judged(&record, &seen, at(WAIT)), Verdict::AliveUntil(_)));
    }

    #[test]
    fn an_entry_that_comes_back_with_another_token_is_another() {
        let mut record = record();
        let mut seen = Observations::default();
        seen.note(&record, boot(Duration::ZERO));
        record.holders[0].token = FencingToken::new(8).unwrap();
        seen.note(&record, boot(TTL));
        assert_eq!(judged(&record, &seen, at(WAIT)), Verdict::AliveUntil(boot(TTL + WAIT)));
    }

    fn by_store(store: StoreTime, now: Duration) -> Verdict {
        let observations = Observations::default();
        let evidence = Evidence {
            now: at(now),
            observations: &observations,
            store: Some(store),
            max_skew: None,
            sessions: &Sessions::NONE,
        };
        judge(&record().holders[0], &evidence)
    }

    #[test]
    fn the_store_clock_needs_the_wait_and_the_margin() {
        let margin = Duration::from_secs(3);
        let read = Duration::from_secs(50);
        let store = StoreTime {
            at_least: wall(1000).plus(Duration::from_secs(20)),
            at: boot(read),
            last_modified: wall(1000),
            margin,
        };
        let end = read + WAIT + margin - Duration::from_secs(20);
        assert_eq!(by_store(store, end - STEP), Verdict::AliveUntil(boot(end)));
        assert_eq!(by_store(store, end), Verdict::Expired(Rule::StoreClock));
    }

    #[test]
    fn a_stamp_in_the_future_never_expires_by_the_store_clock() {
        let store = StoreTime {
            at_least: wall(1000),
            at: boot(Duration::ZERO),
            last_modified: wall(90_000),
            margin: Duration::ZERO,
        };
        // Nor does it tell a contender to look again at once, and again.
        let end = boot(WAIT * 10 + WAIT);
        assert_eq!(by_store(store, WAIT * 10), Verdict::AliveUntil(end));
    }

    #[test]
    fn the_wall_clock_rule_is_off_unless_vouched_for() {
        let observations = Observations::default();
        let now = Moment { boot: boot(TTL), wall: wall(1_000_000) };
        let mut evidence = Evidence {
            now,
            observations: &observations,
            store: None,
            max_skew: None,
            sessions: &Sessions::NONE,
        };
        let record = record();
        assert!(matches!(judge(&record.holders[0], &evidence), Verdict::AliveUntil(_)));
        evidence.max_skew = Some(Duration::from_secs(5));
        assert_eq!(judge(&record.holders[0], &evidence), Verdict::Expired(Rule::WallClock));
        evidence.now.wall = wall(1000 + 30 + 5);
        let end = now.boot.plus(Duration::from_micros(1));
        assert_eq!(judge(&record.holders[0], &evidence), Verdict::AliveUntil(end));
    }
}
