//! Decisions about latches and barriers: arrive, reset, and has an epoch passed?
//!
//! **Invariants.** An epoch passes only when as many different members have arrived in it as the record
//! waits for, and what has passed stays so. A member counts once in an epoch, however often it
//! arrives. A call is about one epoch of one series, from its first look at the record to its end,
//! whatever is on record later: an arrival whose answer was lost is never counted in the next epoch.
//! The record's token grows by one for every epoch that passes, and by nothing else.

use crate::holder::Nonce;
use crate::record::{Arrived, Gathering, Kind, Record};
use crate::time::Wall;
use crate::token::FencingToken;

/// What a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// A latch or a barrier.
    pub kind: Kind,
    /// How many members it waits for.
    pub needed: u32,
    /// Which epoch; the present one without, until that is known.
    pub epoch: Option<u64>,
    /// The same epoch as this call has seen it on record.
    pub seen: Option<Sight>,
}

/// An epoch that was seen to be present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sight {
    /// Of which series.
    pub series: Nonce,
    /// Which epoch.
    pub epoch: u64,
    /// The record's token when the epoch began.
    pub began: FencingToken,
}

/// How the epoch stands that a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is present, and not enough have arrived.
    Present,
    /// Enough have arrived in it.
    Passed,
    /// It cannot be arrived at or waited for.
    Refused(Refusal),
}

/// Why a call cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The record is another primitive's.
    OtherKind(Kind),
    /// It waits for another number of members: this.
    OtherLimit(u32),
    /// The epoch has not begun. This one is present.
    Ahead(u64),
    /// The epoch was reset before it was seen to pass, or the record was deleted. This one is present.
    Gone(u64),
}

impl Sight {
    /// The epoch that is present on record, if it is the record of a latch or a barrier.
    pub fn of(record: &Record) -> Option<Self> {
        let Gathering { series, epoch, .. } = *record.gathering.as_ref()?;
        Some(Self { series, epoch, began: FencingToken::new(began(record))? })
    }
}

impl About {
    /// The same call, once it has looked at the record: from now on it is about the epoch found.
    #[must_use]
    pub fn after(mut self, found: Option<&Record>) -> Self {
        let present = found.and_then(Sight::of);
        let epoch = *self.epoch.get_or_insert(present.map_or(0, |sight| sight.epoch));
        self.seen = self.seen.or(present.filter(|sight| sight.epoch == epoch));
        self
    }
}

/// Whether this is the record of a latch that is open.
pub fn is_open(record: &Record) -> bool {
    let enough = |gathering: &Gathering| gathering.arrived.len() >= record.limit as usize;
    record.kind == Kind::Latch && record.gathering.as_ref().is_some_and(enough)
}

/// The token with which the present epoch began: an open latch has advanced it already.
fn began(record: &Record) -> u64 {
    record.token.get().saturating_sub(u64::from(is_open(record)))
}

/// Decides how the epoch stands that a call is about.
pub fn standing(found: Option<&Record>, about: &About) -> Standing {
    let Some(found) = found else {
        return match about {
            About { seen: Some(_), .. } => Standing::Refused(Refusal::Gone(0)),
            About { epoch: Some(1..), .. } => Standing::Refused(Refusal::Ahead(0)),
            _ => Standing::Present,
        };
    };
    let Some(gathering) = found.gathering.as_ref().filter(|_| found.kind == about.kind) else {
        return Standing::Refused(Refusal::OtherKind(found.kind));
    };
    let present = gathering.epoch;
    if let Some(seen) = about.seen {
        if gathering.series != seen.series || present < seen.epoch {
            return Standing::Refused(Refusal::Gone(present));
        }
        if present > seen.epoch {
            // Every epoch that passed since has advanced the token: when as many have passed as lie
            // between, this one is among them.
            let passed = began(found).saturating_sub(seen.began.get());
            let all = passed == present - seen.epoch;
            return if all { Standing::Passed } else { Standing::Refused(Refusal::Gone(present)) };
        }
    }
    if found.limit != about.needed {
        return Standing::Refused(Refusal::OtherLimit(found.limit));
    }
    match about.epoch {
        Some(epoch) if epoch > present => Standing::Refused(Refusal::Ahead(present)),
        // Only a barrier's epochs all end by passing.
        Some(epoch) if epoch < present => match about.kind {
            Kind::Barrier => Standing::Passed,
            _ => Standing::Refused(Refusal::Gone(present)),
        },
        _ if is_open(found) => Standing::Passed,
        _ => Standing::Present,
    }
}

/// What a member that arrives brings along.
#[derive(Clone, Copy, Debug)]
pub struct Arrive<'a> {
    /// Its name.
    pub member: &'a str,
    /// New for this write.
    pub nonce: Nonce,
    /// A token that a new record's must exceed: the upper bound of the store's time in microseconds, so
    /// that tokens go on rising after a record was deleted (hazard H9).
    pub above: FencingToken,
}

/// What to do about a member that arrives.
#[derive(Clone, Debug, PartialEq)]
pub enum ArriveDecision {
    /// It has not arrived yet: write this record over the version read.
    Write {
        /// The record with the member.
        record: Box<Record>,
        /// Whether the epoch passes by that.
        passes: bool,
    },
    /// It has arrived in this epoch before, which has not passed.
    There,
    /// The epoch has passed; there is nothing to arrive for.
    Passed,
    /// It cannot arrive.
    Refused(Refusal),
}

/// Decides on an arrival, from a record that was read; `None` when there is none.
pub fn arrive(
    found: Option<&Record>,
    about: &About,
    arrival: Arrive<'_>,
    now: Wall,
) -> ArriveDecision {
    match standing(found, about) {
        Standing::Present => {}
        Standing::Passed => return ArriveDecision::Passed,
        Standing::Refused(refusal) => return ArriveDecision::Refused(refusal),
    }
    let anew = || Record::free_of(about.kind, arrival.above.next(), arrival.nonce);
    let mut record = found.cloned().unwrap_or_else(anew);
    record.limit = about.needed;
    let Some(gathering) = &mut record.gathering else {
        return ArriveDecision::Refused(Refusal::OtherKind(record.kind));
    };
    if gathering.has(arrival.member) {
        return ArriveDecision::There;
    }
    gathering.arrived.push(Arrived::new(arrival.member.to_owned(), now));
    let passes = gathering.count() >= record.limit;
    if passes {
        record.token = record.token.next();
        // A latch stays open; a barrier closes behind those who have passed.
        if record.kind == Kind::Barrier {
            gathering.begin_next();
        }
    }
    record.nonce = arrival.nonce;
    ArriveDecision::Write { record: Box::new(record), passes }
}

/// What to do about a latch that is to be reset.
#[derive(Clone, Debug, PartialEq)]
pub enum ResetDecision {
    /// Write this record over the version read.
    Write(Box<Record>),
    /// The epoch that was to end has ended, or nobody has ever arrived. This one is present.
    Already(u64),
    /// It cannot be reset.
    Refused(Refusal),
}

/// Decides on ending the epoch that a call is about, open or not. The next one waits for as many
/// members as the call says.
pub fn reset(found: Option<&Record>, about: &About, nonce: Nonce) -> ResetDecision {
    let Some(found) = found else {
        return match standing(None, about) {
            Standing::Refused(refusal) => ResetDecision::Refused(refusal),
            _ => ResetDecision::Already(0),
        };
    };
    let mut record = found.clone();
    let Some(gathering) = record.gathering.as_mut().filter(|_| found.kind == about.kind) else {
        return ResetDecision::Refused(Refusal::OtherKind(found.kind));
    };
    let present = gathering.epoch;
    if about.seen.is_some_and(|seen| seen.series != gathering.series || seen.epoch > present) {
        return ResetDecision::Refused(Refusal::Gone(present));
    }
    match about.epoch {
        Some(epoch) if epoch > present => ResetDecision::Refused(Refusal::Ahead(present)),
        Some(epoch) if epoch < present => ResetDecision::Already(present),
        _ => {
            gathering.begin_next();
            record.limit = about.needed;
            record.nonce = nonce;
            ResetDecision::Write(Box::new(record))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall::from_micros(5_000_000);

    fn token(value: u64) -> FencingToken {
        FencingToken::new(value).unwrap()
    }

    fn nonce(number: u128) -> Nonce {
        Nonce::from_random(number)
    }

    fn about(kind: Kind, needed: u32) -> About {
        About { kind, needed, epoch: None, seen: None }
    }

    fn decide(found: Option<&Record>, about: &About, member: &str) -> ArriveDecision {
        let count = found.map_or(0, |record| record.gathering.as_ref().unwrap().count());
        let nonce = nonce(u128::from(count) + 1);
        arrive(found, about, Arrive { member, nonce, above: token(100) }, NOW)
    }

    /// What is on record once these have arrived, each for the epoch that it finds.
    fn after(found: Option<&Record>, about: &About, members: &[&str]) -> Record {
        let mut record = found.cloned();
        for member in members {
            match decide(record.as_ref(), about, member) {
                ArriveDecision::Write { record: written, .. } => record = Some(*written),
                ArriveDecision::There | ArriveDecision::Passed => {}
                ArriveDecision::Refused(refusal) => panic!("{refusal:?}"),
            }
        }
        record.unwrap()
    }

    fn gathering(record: &Record) -> &Gathering {
        record.gathering.as_ref().unwrap()
    }

    fn was_reset(found: &Record, about: &About) -> Record {
        match reset(Some(found), about, nonce(77)) {
            ResetDecision::Write(record) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_to_arrive_makes_the_record() {
        let latch = about(Kind::Latch, 3);
        let record = after(None, &latch, &["a"]);
        assert_eq!((record.kind, record.limit, record.token), (Kind::Latch, 3, token(101)));
        assert_eq!((gathering(&record).epoch, gathering(&record).series), (0, nonce(1)));
        assert_eq!(gathering(&record).arrived, [Arrived::new("a".into(), NOW)]);
        assert_eq!(Record::decode(&record.encode().unwrap()).unwrap(), record);
    }

    #[test]
    fn a_latch_opens_with_the_last_member_it_needs_and_stays_open() {
        let latch = about(Kind::Latch, 3);
        let two = after(None, &latch, &["a", "b", "a", "b", "b"]);
        assert_eq!((standing(Some(&two), &latch), two.token), (Standing::Present, token(101)));
        let decision = decide(Some(&two), &latch, "c");
        let ArriveDecision::Write { record: open, passes: true } = decision else {
            panic!("{decision:?}")
        };
        assert_eq!((standing(Some(&open), &latch), open.token), (Standing::Passed, token(102)));
        assert_eq!((gathering(&open).epoch, gathering(&open).count()), (0, 3));
        for member in ["a", "c", "somebody else"] {
            assert_eq!(decide(Some(&open), &latch, member), ArriveDecision::Passed);
        }
        assert_eq!(Record::decode(&open.encode().unwrap()).unwrap(), *open);
    }

    #[test]
    fn a_barrier_closes_behind_those_who_have_passed() {
        let barrier = about(Kind::Barrier, 2);
        let one = after(None, &barrier, &["a", "a"]);
        assert_eq!(decide(Some(&one), &barrier, "a"), ArriveDecision::There);
        let seen = barrier.clone().after(Some(&one));
        let passed = after(Some(&one), &barrier, &["b"]);
        assert_eq!((gathering(&passed).epoch, gathering(&passed).count()), (1, 0));
        assert_eq!(passed.token, token(102));
        // Whoever waits for the epoch that was, and arrives again for it, is through.
        assert_eq!(standing(Some(&passed), &seen), Standing::Passed);
        assert_eq!(decide(Some(&passed), &seen, "a"), ArriveDecision::Passed);
        let zero = About { epoch: Some(0), ..barrier.clone() };
        assert_eq!(decide(Some(&passed), &zero, "a"), ArriveDecision::Passed);
        let ahead = About { epoch: Some(2), ..barrier.clone() };
        let refused = ArriveDecision::Refused(Refusal::Ahead(1));
        assert_eq!(decide(Some(&passed), &ahead, "a"), refused);
        let refused = ArriveDecision::Refused(Refusal::Ahead(0));
        assert_eq!(decide(None, &ahead, "a"), refused);
        let later = after(Some(&passed), &barrier, &["b", "a", "a"]);
        assert_eq!((gathering(&later).epoch, gathering(&later).count()), (2, 1));
        assert_eq!(standing(Some(&later), &seen), Standing::Passed);
    }

    #[test]
    fn one_alone_passes_at_once() {
        let barrier = after(None, &about(Kind::Barrier, 1), &["a", "a", "a"]);
        assert_eq!((gathering(&barrier).epoch, barrier.token), (3, token(104)));
        let latch = after(None, &about(Kind::Latch, 1), &["a", "a"]);
        assert!(is_open(&latch) && latch.token == token(102));
    }

    #[test]
    fn a_call_stays_with_the_epoch_of_its_first_look() {
        let barrier = about(Kind::Barrier, 2);
        // It found nothing, its first write got no answer, and has landed and made the epoch pass.
        let call = barrier.clone().after(None);
        let passed = after(None, &barrier, &["a", "b"]);
        assert_eq!(call.epoch, Some(0));
        assert_eq!(decide(Some(&passed), &call, "a"), ArriveDecision::Passed);
        // A call that has not looked before is about the next epoch.
        assert!(matches!(decide(Some(&passed), &barrier, "a"), ArriveDecision::Write { .. }));
        let call = barrier.after(Some(&passed)).after(None);
        assert_eq!((call.epoch, call.seen.map(|seen| seen.epoch)), (Some(1), Some(1)));
    }

    #[test]
    fn other_kinds_and_other_limits_are_told() {
        let latch = after(None, &about(Kind::Latch, 3), &["a"]);
        let refused = |found: &Record, about: &About| match decide(Some(found), about, "b") {
            ArriveDecision::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&latch, &about(Kind::Latch, 4)), Refusal::OtherLimit(3));
        let barrier = about(Kind::Barrier, 3);
        assert_eq!(refused(&latch, &barrier), Refusal::OtherKind(Kind::Latch));
        let lock = Record::free(token(7), nonce(0));
        assert_eq!(
            standing(Some(&lock), &barrier),
            Standing::Refused(Refusal::OtherKind(Kind::Lock))
        );
        let decision = reset(Some(&lock), &about(Kind::Latch, 3), nonce(1));
        assert_eq!(decision, ResetDecision::Refused(Refusal::OtherKind(Kind::Lock)));
    }

    #[test]
    fn whoever_waits_is_told_whether_its_epoch_opened_before_it_was_reset() {
        let latch = about(Kind::Latch, 2);
        let one = after(None, &latch, &["a"]);
        let waiting = latch.clone().after(Some(&one));
        let open = after(Some(&one), &latch, &["b"]);
        let gone = |epoch| Standing::Refused(Refusal::Gone(epoch));
        // Reset when it was open.
        let next = was_reset(&open, &latch);
        assert_eq!((gathering(&next).epoch, gathering(&next).count()), (1, 0));
        assert_eq!((next.token, is_open(&next)), (open.token, false));
        assert_eq!(standing(Some(&next), &waiting), Standing::Passed);
        let open_again = after(Some(&next), &latch, &["a", "b"]);
        assert_eq!(standing(Some(&open_again), &waiting), Standing::Passed);
        // Reset when it was not.
        let undone = was_reset(&one, &latch);
        assert_eq!(standing(Some(&undone), &waiting), gone(1));
        let open_later = after(Some(&undone), &latch, &["a", "b"]);
        assert_eq!(standing(Some(&open_later), &waiting), gone(1));
        // One of two epochs has opened, and nobody knows which.
        assert_eq!(standing(Some(&was_reset(&open_later, &latch)), &waiting), gone(2));
        assert_eq!(standing(Some(&was_reset(&next, &latch)), &waiting), gone(2));
    }

    #[test]
    fn a_reset_happens_once_and_may_change_the_number() {
        let latch = about(Kind::Latch, 2);
        let open = after(None, &latch, &["a", "b"]);
        let call = latch.clone().after(Some(&open));
        let more = About { needed: 3, ..call.clone() };
        let next = was_reset(&open, &more);
        assert_eq!((gathering(&next).epoch, next.limit), (1, 3));
        // Its answer was lost, or somebody else was faster.
        assert_eq!(reset(Some(&next), &call, nonce(8)), ResetDecision::Already(1));
        let zero = About { epoch: Some(0), ..latch.clone() };
        assert_eq!(reset(Some(&next), &zero, nonce(8)), ResetDecision::Already(1));
        let ahead = About { epoch: Some(2), ..latch.clone() };
        let refused = ResetDecision::Refused(Refusal::Ahead(1));
        assert_eq!(reset(Some(&next), &ahead, nonce(8)), refused);
        assert_eq!(reset(None, &latch, nonce(8)), ResetDecision::Already(0));
        assert_eq!(reset(None, &zero, nonce(8)), ResetDecision::Already(0));
        let refused = ResetDecision::Refused(Refusal::Gone(0));
        assert_eq!(reset(None, &call, nonce(8)), refused);
    }

    #[test]
    fn a_record_that_was_deleted_and_made_again_is_another_series() {
        for (kind, members) in [(Kind::Latch, &["a"][..]), (Kind::Barrier, &["a", "b", "a"])] {
            let about = about(kind, 2);
            let before = after(None, &about, members);
            let call = about.clone().after(Some(&before));
            assert_eq!(standing(None, &call), Standing::Refused(Refusal::Gone(0)));
            let mut anew = after(None, &about, &["b"]);
            anew.gathering.as_mut().unwrap().series = nonce(99);
            for members in [&["a"][..], &["b", "a", "b", "a"]] {
                anew = after(Some(&anew), &about, members);
                let present = gathering(&anew).epoch;
                let gone = Standing::Refused(Refusal::Gone(present));
                assert_eq!(standing(Some(&anew), &call), gone, "{kind:?}");
                let refused = ArriveDecision::Refused(Refusal::Gone(present));
                assert_eq!(decide(Some(&anew), &call, "a"), refused);
            }
            let refused = ResetDecision::Refused(Refusal::Gone(gathering(&anew).epoch));
            assert_eq!(reset(Some(&anew), &call, nonce(8)), refused);
        }
    }
}
