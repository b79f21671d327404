//! What goes on around the writers: they are started, frozen, killed, watched and checked.

pub(crate) mod actor;
pub(crate) mod audit;
pub(crate) mod director;
pub(crate) mod event;
pub(crate) mod options;
pub(crate) mod report;
pub(crate) mod timeline;

use std::time::Duration;

use leaselock::clock::{Boot, Clock, SystemClock};

/// A clock that all processes of this machine share.
pub(crate) fn now() -> Boot {
    SystemClock.now().boot
}

pub(crate) async fn sleep(time: Duration) {
    SystemClock.sleep_until(now().plus(time)).await;
}
