//! Which configurations are checked, and which sabotage is found in which of them.

use crate::config::{Config, FAST, FINE_TICK, LONGER_TICK, Rules, SLOW, Sabotage};

/// A configuration that holds, with the number of its states.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) config: Config,
    /// Pinned: a change of the protocol or of the model changes it, and should be meant.
    pub(crate) states: usize,
    /// Too large for every run.
    pub(crate) deep: bool,
}

const STORE_CLOCK: Rules = Rules { observation: false, store_clock: true };
const BOTH: Rules = Rules { observation: true, store_clock: true };

/// All configurations, those for every run first.
pub(crate) fn configurations() -> Vec<Entry> {
    let base = Config::default();
    let again = Config { acquisitions: 2, ..base.clone() };
    let third = Config { rates: vec![SLOW, FAST, FAST], writes: 1, ..base.clone() };
    let quick = |name, states, config| Entry { name, config, states, deep: false };
    let deep = |name, states, config| Entry { name, config, states, deep: true };
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
        deep("a write sent twice", 3_654_259, Config { duplicates: 1, ..base.clone() }),
        deep("acquired again", 8_721_847, again.clone()),
        deep("crash and return", 20_287_402, Config { crashes: 1, ..again }),
    ]
}

/// Every sabotage, in a configuration that gives it room.
pub(crate) fn sabotages() -> Vec<(&'static str, Config)> {
    use Sabotage as S;
    let base = Config::default();
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
    ]
}
