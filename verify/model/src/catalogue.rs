//! Which configurations are checked, and which sabotage is found in which of them.

use std::time::Duration;

use leaselock::record::Kind;

use crate::config::{
    Config, ENDS_ALL, FAST, FINE_TICK, LASTS_ONE, LONGER_TICK, Local, Once, Rules, SLOW, Sabotage,
};
use crate::family::{Family, FamilySabotage, Member};
use crate::fence::{FenceSabotage, Fenced};
use crate::gathering::{Gathered, GatheringSabotage};
use crate::quorum::{Quorum, QuorumSabotage};

/// A world that holds, with the number of its states.
#[derive(Debug)]
pub(crate) struct Entry<W> {
    pub(crate) name: &'static str,
    pub(crate) world: W,
    /// Pinned: a change of the protocol or of the model changes it, and should be meant.
    pub(crate) states: usize,
    /// Too large for every run.
    pub(crate) deep: bool,
}

const STORE_CLOCK: Rules = Rules { observation: false, store_clock: true };
/// A result that stands for ever.
const KEPT: Option<Once> = Some(Once { retention: None });
/// One that stands for a little more than a tick. Without its margin the store's clock would tell
/// that it is past after one.
const KEPT_A_WHILE: Option<Once> = Some(Once { retention: Some(Duration::from_secs(10)) });
/// A process that hands on what its acquisitions reserve.
const HANDS_ON: Option<Local> = Some(Local { hand_overs: 1, with_acquisition: 1, with_renewal: 0 });
/// One that reserves by renewals only.
const RESERVES: Option<Local> = Some(Local { hand_overs: 1, with_acquisition: 0, with_renewal: 2 });
const BOTH: Rules = Rules { observation: true, store_clock: true };

const TWO_HOLDERS: Fenced = Fenced {
    holders: 2,
    updaters: 0,
    puts: 2,
    sends: 2,
    faults: 2,
    digests: false,
    sabotage: None,
};
const AMONG_UPDATES: Fenced = Fenced { updaters: 1, puts: 1, ..TWO_HOLDERS };
const ON_S3: Fenced = Fenced { digests: true, ..TWO_HOLDERS };

/// All worlds of fenced objects, those for every run first.
pub(crate) fn fenced() -> Vec<Entry<Fenced>> {
    let entry = |name, states, world, deep| Entry { name, world, states, deep };
    let three = Fenced { holders: 3, puts: 1, sends: 1, faults: 0, ..TWO_HOLDERS };
    let one_fault = |world: Fenced| Fenced { faults: 1, ..world };
    vec![
        entry("fence: two holders", 279_219, TWO_HOLDERS, false),
        entry("fence: ETags are digests", 279_219, ON_S3, false),
        entry("fence: updates without a lock", 453_592, one_fault(AMONG_UPDATES), false),
        entry("fence: three holders", 363_232, three.clone(), false),
        entry("fence: updates, more faults", 3_532_204, AMONG_UPDATES, true),
        entry("fence: three holders, a fault", 3_887_062, one_fault(three), true),
    ]
}

/// Every sabotage of fences, in a world that gives it room.
pub(crate) fn fence_sabotages() -> Vec<(&'static str, Fenced)> {
    use FenceSabotage as S;
    let with = |sabotage, world| Fenced { sabotage: Some(sabotage), ..world };
    vec![
        ("fence: claim skipped", with(S::ClaimSkipped, TWO_HOLDERS)),
        ("fence: unconditional write", with(S::Unconditional, TWO_HOLDERS)),
        ("fence: no padding on S3", with(S::NoPadding, ON_S3)),
        ("fence: marks ignored", with(S::MarksIgnored, TWO_HOLDERS)),
        ("fence: no read-back", with(S::NoReadBack, TWO_HOLDERS)),
        ("fence: token taken off", with(S::TokenTakenOff, AMONG_UPDATES)),
    ]
}

const BARRIER: Gathered = Gathered {
    kind: Kind::Barrier,
    members: 3,
    rounds: 2,
    numbered: false,
    faults: 1,
    crashes: 0,
    resets: 0,
    deletions: 0,
    sabotage: None,
};
const PAIR: Gathered = Gathered { members: 2, faults: 2, ..BARRIER };
const NUMBERED: Gathered = Gathered { numbered: true, crashes: 1, ..PAIR };
const DELETED: Gathered = Gathered { deletions: 1, ..NUMBERED };
const LATCH: Gathered = Gathered { kind: Kind::Latch, rounds: 1, ..BARRIER };
const RESET: Gathered = Gathered { members: 2, resets: 2, ..LATCH };

/// All worlds of latches and barriers, those for every run first.
pub(crate) fn gathered() -> Vec<Entry<Gathered>> {
    let entry = |name, states, world, deep| Entry { name, world, states, deep };
    vec![
        entry("barrier: three, two rounds", 519_902, BARRIER, false),
        entry("barrier: a pair, more faults", 22_010, PAIR, false),
        entry("barrier: a crash, numbered rounds", 201_928, NUMBERED, false),
        entry("barrier: a deletion", 132_419, Gathered { faults: 1, ..DELETED }, false),
        entry("latch: three", 15_317, LATCH, false),
        entry("latch: a crash", 197_690, Gathered { crashes: 1, ..LATCH }, false),
        entry("latch: resets", 2_290, RESET, false),
        entry("latch: a deletion", 12_081, Gathered { deletions: 1, ..RESET }, false),
        entry("barrier: a deletion, more faults", 1_135_787, DELETED, true),
        entry("latch: crashes", 1_675_008, Gathered { crashes: 2, ..LATCH }, true),
    ]
}

/// Every sabotage of latches and barriers, in a world that gives it room.
pub(crate) fn gathering_sabotages() -> Vec<(&'static str, Gathered)> {
    use GatheringSabotage as S;
    let with = |sabotage, world| Gathered { sabotage: Some(sabotage), ..world };
    vec![
        ("barrier: member counted twice", with(S::CountedTwice, PAIR)),
        ("barrier: epoch forgotten", with(S::EpochForgotten, PAIR)),
        ("barrier: unconditional write", with(S::Unconditional, PAIR)),
        ("barrier: no read-back", with(S::NoReadBack, PAIR)),
        ("barrier: not closed", with(S::NotClosed, BARRIER)),
        ("barrier: series ignored", with(S::SeriesIgnored, DELETED)),
        ("latch: member counted twice", with(S::CountedTwice, LATCH)),
        ("latch: reset taken for opening", with(S::ResetIgnored, RESET)),
    ]
}

const SLOW_ONE: Member = Member { rate: SLOW, shared: false, permits: 1 };
const FAST_ONE: Member = Member { rate: FAST, shared: false, permits: 1 };
const SLOW_READER: Member = Member { shared: true, ..SLOW_ONE };
const FAST_READER: Member = Member { shared: true, ..FAST_ONE };
const SLOW_PAIR: Member = Member { permits: 2, ..SLOW_ONE };

fn fair(members: &[Member]) -> Family {
    Family::new(Kind::Lock, 1, members)
}

fn table(members: &[Member]) -> Family {
    Family::new(Kind::RwLock, 1, members)
}

fn two_permits(members: &[Member]) -> Family {
    Family::new(Kind::Semaphore, 2, members)
}

/// The same with longer ticks, and with nothing on its way but what somebody waits for.
fn calm(world: Family) -> Family {
    Family { tick: LASTS_ONE, slow_renewals: 0, faults: 0, giving_up: false, ..world }
}

/// All worlds of queues, shared holders and sessions, those for every run first.
pub(crate) fn families() -> Vec<Entry<Family>> {
    let quick = |name, states, world| Entry { name, world, states, deep: false };
    let deep = |name, states, world| Entry { name, world, states, deep: true };
    let two = || fair(&[SLOW_ONE, FAST_ONE]);
    let three = || calm(fair(&[SLOW_ONE, FAST_ONE, FAST_ONE]));
    let twice = |world: Family| Family { acquisitions: 2, ..world };
    vec![
        quick("family: a fair lock, a crash", 172_142, Family { crashes: 1, ..two() }),
        quick("family: slow renewals", 305_814, Family { slow_renewals: 2, ..two() }),
        quick(
            "family: asked for twice",
            189_049,
            twice(Family { faults: 0, giving_up: false, ..two() }),
        ),
        quick("family: three in turn", 647_306, three()),
        quick("family: a reader and a writer", 209_240, table(&[SLOW_ONE, FAST_READER])),
        quick(
            "family: a writer and two readers",
            1_174_195,
            calm(table(&[SLOW_ONE, FAST_READER, FAST_READER])),
        ),
        quick("family: permits", 471_196, calm(two_permits(&[SLOW_PAIR, FAST_ONE, FAST_ONE]))),
        deep("family: more faults", 1_197_537, Family { slow_renewals: 2, faults: 2, ..two() }),
        deep("family: twice, a fault", 2_723_939, twice(Family { tick: LASTS_ONE, ..two() })),
        deep("family: three, a slow renewal", 3_609_945, Family { slow_renewals: 1, ..three() }),
        deep("family: three, a fault", 5_428_094, Family { faults: 1, ..three() }),
        deep("family: three, a crash", 1_086_773, Family { crashes: 1, ..three() }),
        deep("family: three, giving up", 1_614_496, Family { giving_up: true, ..three() }),
        deep(
            "family: two writers and a reader",
            1_561_056,
            calm(table(&[SLOW_ONE, FAST_READER, FAST_ONE])),
        ),
    ]
}

/// Every sabotage of queues and sessions, in a world that gives it room.
pub(crate) fn family_sabotages() -> Vec<(&'static str, Family)> {
    use FamilySabotage as S;
    let with = |sabotage, world| Family { sabotage: Some(sabotage), ..world };
    let two = || fair(&[SLOW_ONE, FAST_ONE]);
    let three = || calm(fair(&[SLOW_ONE, FAST_ONE, FAST_ONE]));
    let readers = || calm(table(&[SLOW_READER, FAST_ONE, FAST_READER]));
    let permits = || two_permits(&[SLOW_PAIR, FAST_ONE]);
    vec![
        ("family: session not ended", with(S::SessionNotEnded, two())),
        ("family: ended unconditionally", with(S::EndedUnconditionally, two())),
        ("family: renewal revives", with(S::RenewalRevives, two())),
        ("family: entered unverified", with(S::EnteredUnverified, two())),
        ("family: ticket without lease", with(S::TicketWithoutLease, three())),
        ("family: reader passes a writer", with(S::ReaderPasses, readers())),
        ("family: hand-over without token", with(S::HandedOverWithoutToken, two())),
        ("family: one permit each", with(S::OnePermitEach, permits())),
        ("family: ticket left behind", with(S::TicketLeft, two())),
        ("family: release given up", with(S::ReleaseGivenUp, two())),
    ]
}

const TWO_CONTEND: Quorum =
    Quorum { members: 3, rounds: &[2, 1], joins: 1, outages: 0, sabotage: None };
const IN_AN_OUTAGE: Quorum = Quorum { rounds: &[1, 1], joins: 3, outages: 1, ..TWO_CONTEND };

/// All worlds of a lock over several stores, those for every run first.
pub(crate) fn quorums() -> Vec<Entry<Quorum>> {
    let entry = |name, states, world, deep| Entry { name, world, states, deep };
    let again = Quorum { joins: 0, outages: 1, ..TWO_CONTEND };
    let three = Quorum { rounds: &[1, 1, 1], joins: 0, ..TWO_CONTEND };
    let of_five = Quorum { members: 5, rounds: &[1, 1], ..TWO_CONTEND };
    vec![
        entry("quorum: two contend", 789_155, TWO_CONTEND, false),
        entry("quorum: an outage", 187_582, IN_AN_OUTAGE, false),
        entry("quorum: an outage, two rounds", 3_225_398, again, true),
        entry("quorum: three contend", 6_705_192, three, true),
        entry("quorum: five members", 1_965_209, of_five, true),
    ]
}

/// Every sabotage of a lock over several stores, in a world that gives it room.
pub(crate) fn quorum_sabotages() -> Vec<(&'static str, Quorum)> {
    use QuorumSabotage as S;
    let with = |sabotage| Quorum { sabotage: Some(sabotage), ..TWO_CONTEND };
    vec![
        ("quorum: no read phase", with(S::NoReadPhase)),
        ("quorum: minority counts", with(S::MinorityCounts)),
        ("quorum: issued token counts", with(S::IssuedTokenCounts)),
        ("quorum: late vote counts", with(S::LateVoteCounts)),
        ("quorum: round not undone", with(S::RoundNotUndone)),
        ("quorum: repair puts out the living", with(S::RepairPutsOut)),
        ("quorum: repair issues a token", with(S::RepairIssuesToken)),
        ("quorum: repair lowers a counter", with(S::RepairLowersCounter)),
        ("quorum: repair revives", with(S::RepairRevives)),
    ]
}

/// All configurations, those for every run first.
pub(crate) fn configurations() -> Vec<Entry<Config>> {
    let base = Config::default();
    let again = Config { acquisitions: 2, ..base.clone() };
    let third = Config { rates: vec![SLOW, FAST, FAST], writes: 1, ..base.clone() };
    let once = Config { once: KEPT, ..base.clone() };
    let for_a_while = Config { once: KEPT_A_WHILE, rules: STORE_CLOCK, ..base.clone() };
    let quick = |name, states, world| Entry { name, world, states, deep: false };
    let deep = |name, states, world| Entry { name, world, states, deep: true };
    vec![
        quick("observation", 1_149_747, base.clone()),
        quick("store clock", 2_760_507, Config { rules: STORE_CLOCK, ..base.clone() }),
        quick("both rules", 2_760_507, Config { rules: BOTH, ..base.clone() }),
        quick("longer tick", 1_182_545, Config { tick: LONGER_TICK, ..base.clone() }),
        quick("fine tick", 2_162_763, Config { tick: FINE_TICK, ..base.clone() }),
        quick("a crash", 1_310_808, Config { crashes: 1, ..base.clone() }),
        quick("a break", 3_471_627, Config { breaks: 1, ..base.clone() }),
        quick("a deletion", 2_575_190, Config { deletions: 1, ..base.clone() }),
        quick("slow reads", 2_390_369, Config { slow_reads: true, ..base.clone() }),
        quick("three processes", 1_597_224, third),
        quick("once: a result", 1_274_521, once.clone()),
        quick(
            "once: a result for a while",
            1_088_270,
            Config { tick: ENDS_ALL, ..for_a_while.clone() },
        ),
        quick(
            "once: renewals, alone",
            173_729,
            Config { rates: vec![SLOW], writes: 5, ..once.clone() },
        ),
        quick(
            "handed on: by an acquisition",
            1_591_304,
            Config { local: HANDS_ON, ..base.clone() },
        ),
        quick("handed on: by a renewal", 1_337_313, Config { local: RESERVES, ..base.clone() }),
        deep("once: nearly past", 3_074_053, for_a_while),
        deep("once: a crash", 1_450_598, Config { crashes: 1, ..once.clone() }),
        deep("once: a break", 3_831_398, Config { breaks: 1, ..once.clone() }),
        deep("once: asked for again", 9_631_701, Config { acquisitions: 2, ..once }),
        deep("a write sent twice", 3_654_259, Config { duplicates: 1, ..base.clone() }),
        deep("acquired again", 8_721_847, again.clone()),
        deep("crash and return", 20_287_402, Config { crashes: 1, ..again }),
    ]
}

/// Every sabotage, in a configuration that gives it room.
pub(crate) fn sabotages() -> Vec<(&'static str, Config)> {
    use Sabotage as S;
    let base = Config::default();
    let once = Config { once: KEPT, ..base.clone() };
    let handing = Config { local: HANDS_ON, ..base.clone() };
    let reserving = Config { local: RESERVES, ..base.clone() };
    let with = |sabotage, config: Config| Config { sabotage: Some(sabotage), ..config };
    vec![
        ("no read-back on conflict", with(S::NoReadBack, base.clone())),
        ("deadline from the response", with(S::DeadlineFromResponse, base.clone())),
        ("no contender's margin", with(S::NoContenderMargin, base.clone())),
        (
            "no holder's margin",
            with(S::NoHolderMargin, Config { tick: LONGER_TICK, ..base.clone() }),
        ),
        ("nonce reused", with(S::NonceReused, base.clone())),
        (
            "release by delete",
            with(S::ReleaseByDelete, Config { acquisitions: 2, writes: 3, ..base.clone() }),
        ),
        (
            "renewal re-creates",
            with(S::RenewalRecreates, Config { deletions: 1, writes: 3, ..base.clone() }),
        ),
        (
            "timer from the send of the read",
            with(S::TimerFromSend, Config { slow_reads: true, ..base.clone() }),
        ),
        ("timer not reset by a renewal", with(S::TimerNotReset, base.clone())),
        (
            "belief until release is acknowledged",
            with(S::BeliefUntilReleaseAcknowledged, base.clone()),
        ),
        ("token reset", with(S::TokenReset, Config { deletions: 1, ..base.clone() })),
        ("ETag reused", with(S::ETagReused, Config { writes: 3, ..base.clone() })),
        ("If-Match ignored", with(S::IfMatchIgnored, base.clone())),
        (
            "no store-clock margin",
            with(S::NoStoreClockMargin, Config { rules: STORE_CLOCK, ..base.clone() }),
        ),
        ("door left open", with(S::DoorLeftOpen, base.clone())),
        ("late answer revives", with(S::LateAnswerRevives, base.clone())),
        ("extended without an answer", with(S::ExtendedWithoutAnswer, base.clone())),
        ("first write forgotten", with(S::FirstWriteForgotten, base.clone())),
        ("identity kept", with(S::IdentityKept, base.clone())),
        ("handed on: token not advanced", with(S::TokenNotAdvanced, handing.clone())),
        ("handed on: tokens not reserved", with(S::TokensNotReserved, reserving)),
        ("handed on: after the loss", with(S::HandedOverAfterLoss, handing.clone())),
        ("handed on: counted from then", with(S::CountedFromHandOver, handing)),
        (
            "once: result of anybody",
            with(S::ResultOfAnybody, Config { writes: 3, breaks: 1, ..once.clone() }),
        ),
        ("once: result ignored", with(S::ResultIgnored, once.clone())),
        ("once: refused result believed", with(S::RefusedResultBelieved, once.clone())),
        ("once: unknown result denied", with(S::UnknownResultDenied, once.clone())),
        (
            "once: belief until it is recorded",
            with(S::BeliefUntilReleaseAcknowledged, once.clone()),
        ),
        (
            "once: no retention margin",
            with(
                S::NoRetentionMargin,
                Config { once: KEPT_A_WHILE, rules: STORE_CLOCK, ..base.clone() },
            ),
        ),
    ]
}
