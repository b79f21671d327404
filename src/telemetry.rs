//! The names of all metrics, in one place. Documented for operators in `docs/GUARANTEES.md`.

use std::time::Duration;

use metrics::{counter, histogram};

/// A call of `acquire`, `try_acquire` or `acquire_timeout` began.
pub(crate) fn attempt() {
    counter!("leaselock_acquire_attempts_total").increment(1);
}

/// A lock was acquired after `waited`.
pub(crate) fn acquired(waited: Duration) {
    counter!("leaselock_acquired_total").increment(1);
    histogram!("leaselock_wait_seconds").record(waited);
}

/// A lock went from one holder in this process to the next.
pub(crate) fn handed_over() {
    counter!("leaselock_local_handovers_total").increment(1);
}

/// A call ended without the lock because somebody else holds it.
pub(crate) fn busy() {
    counter!("leaselock_busy_total").increment(1);
}

/// A former holder was put out by this rule.
pub(crate) fn takeover(rule: &'static str) {
    counter!("leaselock_takeovers_total", "rule" => rule).increment(1);
}

/// A renewal was acknowledged.
pub(crate) fn renewed() {
    counter!("leaselock_renewals_total").increment(1);
}

/// Half of a TTL passed without an acknowledged renewal.
pub(crate) fn at_risk() {
    counter!("leaselock_at_risk_total").increment(1);
}

/// A lease was lost.
pub(crate) fn lost(reason: &'static str) {
    counter!("leaselock_lost_total", "reason" => reason).increment(1);
}

/// A lease ended after being held for `held`.
pub(crate) fn held(held: Duration) {
    histogram!("leaselock_hold_seconds").record(held);
}

/// The outcome of a write that got no clear answer was found out.
pub(crate) fn ambiguity_resolved(how: &'static str) {
    counter!("leaselock_ambiguous_writes_total", "resolved" => how).increment(1);
}

/// A request went to a store.
pub(crate) fn request(kind: &'static str, outcome: &'static str) {
    counter!("leaselock_store_requests_total", "kind" => kind, "outcome" => outcome).increment(1);
}

/// The store refused a fenced write.
pub(crate) fn fenced() {
    counter!("leaselock_fenced_total").increment(1);
}
