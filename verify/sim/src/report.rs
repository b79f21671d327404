//! The summary of many runs.

use crate::Counts;

/// What must have happened in a run of many seeds: a promise that was never put to the test was not
/// shown to hold.
const SOMETIMES: &[&str] = &[
    "acquisitions",
    "releases",
    "releases unconfirmed",
    "releases unheard of",
    "calls that found it held",
    "calls dropped",
    "renewals dropped",
    "tenures ended: released",
    "tenures ended: expired",
    "tenures ended: broken",
    "losses: Expired",
    "losses: Unreachable",
    "losses: TakenOver",
    "losses: Broken",
    "losses: RecordDeleted",
    "losses: MaxHold",
    "losses: NoProgress",
    "losses: Denied",
    "late writes that landed",
    "late writes that were refused",
    "requests duplicated",
    "copies refused after their own commit",
    "requests lost",
    "answers lost",
    "errors before",
    "errors after",
    "outages",
    "storms of errors",
    "slow times",
    "times of denied access",
    "times of repetition",
    "crashes",
    "pauses",
    "freezes",
    "wall clock jumps",
    "shutdowns",
    "deletions while held",
    "deletions while free",
    "breaks",
    "guards trusted after a break or a deletion",
    "successions checked",
    "histories checked",
    "results recorded",
    "results told",
    "results past",
    "results refused",
    "results unconfirmed",
    "recordings unheard of",
    "rows acknowledged",
    "rows fenced out",
    "rows superseded before they were heard of",
    "rows unconfirmed",
    "claims that were fenced out",
    "tickets",
    "tickets withdrawn",
    "turns of a queue",
    "hand-overs by release",
    "dead waiters skipped",
    "times several read",
    "times several held permits",
    "downgrades",
    "resizes",
    "sessions given back",
    "sessions broken",
    "sessions ended by contenders",
    "sessions lost while holding",
    "takeovers through an ended session",
    "guards trusted after a session was broken",
    "leaselock_takeovers_total observation",
    "leaselock_takeovers_total store_clock",
    "leaselock_takeovers_total wall_clock",
    "leaselock_ambiguous_writes_total won",
    "leaselock_ambiguous_writes_total lost",
    "leaselock_ambiguous_writes_total unknown",
    "leaselock_renewals_total",
    "leaselock_at_risk_total",
];

/// What should have happened and did not.
pub fn missing(counts: &Counts) -> Vec<&'static str> {
    SOMETIMES.iter().copied().filter(|what| counts.get(what) == 0).collect()
}

/// The counts as a table.
pub fn table(counts: &Counts) -> String {
    counts.iter().map(|(what, times)| format!("{times:>12}  {what}\n")).collect()
}
