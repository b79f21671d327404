//! What is told of a lease, whoever has it: a guard, a session, a run.

use leaselock::{LeasePhase, LeaseWatch, Release};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use crate::call::Call;
use crate::{errors, gate, messenger};

/// # Errors
/// It is lost.
pub(crate) fn check(watch: &LeaseWatch) -> PyResult<()> {
    match watch.status().phase {
        LeasePhase::Lost(reason) => Err(errors::lost(&reason)),
        _ => Ok(()),
    }
}

/// Why it was lost, if it was.
pub(crate) fn loss(watch: &LeaseWatch) -> Option<String> {
    match watch.status().phase {
        LeasePhase::Lost(reason) => Some(reason.to_string()),
        _ => None,
    }
}

/// Its end: why it was lost, or None when it was given back first.
pub(crate) fn ended(watch: LeaseWatch) -> Call {
    Call::new(end(watch), |py, reason| reason.into_py_any(py))
}

async fn end(mut watch: LeaseWatch) -> Option<String> {
    let mut phase = watch.status().phase;
    loop {
        match phase {
            LeasePhase::Held | LeasePhase::AtRisk => phase = watch.changed().await.phase,
            LeasePhase::Lost(reason) => return Some(reason.to_string()),
            _ => return None,
        }
    }
}

/// Calls `callback` with the reason when it is lost.
pub(crate) fn call_at_end(watch: LeaseWatch, callback: Py<PyAny>) {
    messenger::spawn(async move {
        let Some(reason) = end(watch).await else { return };
        messenger::run_apart(move || {
            gate::attach(|py| {
                if let Err(error) = callback.call1(py, (reason,)) {
                    error.write_unraisable(py, Some(callback.bind(py)));
                }
            });
        });
    });
}

/// Whether it is at risk, as soon as it is, or has ended.
pub(crate) fn endangered(watch: LeaseWatch) -> Call {
    Call::new(danger(watch), |py, is_at_risk| is_at_risk.into_py_any(py))
}

async fn danger(mut watch: LeaseWatch) -> bool {
    let mut phase = watch.status().phase;
    while phase == LeasePhase::Held {
        phase = watch.changed().await.phase;
    }
    phase == LeasePhase::AtRisk
}

/// How a release ended: whether it is known to be free.
pub(crate) fn released(release: leaselock::Result<Release>) -> PyResult<bool> {
    match release {
        Ok(Release::Released) => Ok(true),
        Ok(Release::Unconfirmed) => Ok(false),
        Ok(Release::AlreadyLost(reason)) => Err(errors::lost(&reason)),
        Err(error) => Err(errors::raise(error)),
    }
}

/// The same at the end of a block, which may have raised: what went wrong in there matters more.
pub(crate) fn left(
    py: Python<'_>,
    release: leaselock::Result<Release>,
    raised: bool,
) -> PyResult<Py<PyAny>> {
    match released(release) {
        Err(_) if raised => Ok(py.None()),
        released => released.map(|_| py.None()),
    }
}
