//! The one of a queue who contends at the store for all of them.

use std::sync::Arc;
use std::time::Duration;

use super::bench::Bench;
use crate::client::Client;
use crate::clock::Boot;
use crate::guard::LockGuard;

/// How long a process keeps away from a lock that it has handed on inside for its time, half as much to
/// one and a half: long enough for those who wait elsewhere and expect it to be free about now.
const YIELD: Duration = Duration::from_millis(50);

/// The right to contend at the store for everybody at a bench. Dropped, it goes to the next.
#[derive(Debug)]
pub(crate) struct Lead {
    /// Until it has gone to somebody.
    at: Option<(Arc<Client>, Arc<Bench>)>,
    not_before: Option<Boot>,
}

impl Lead {
    pub(super) fn new(client: &Arc<Client>, bench: &Arc<Bench>, not_before: Option<Boot>) -> Self {
        Self { at: Some((Arc::clone(client), Arc::clone(bench))), not_before }
    }

    /// Until when to keep away from the lock.
    pub(super) fn pause(client: &Client) -> Boot {
        let pause = YIELD / 2 + client.store.rng().up_to(YIELD);
        client.store.clock().now().boot.plus(pause)
    }

    /// When to begin.
    pub(super) fn not_before(&self) -> Option<Boot> {
        self.not_before
    }

    /// How many tokens to reserve for those who wait.
    pub(super) fn to_reserve(&self) -> u64 {
        self.at.as_ref().map_or(0, |(_, bench)| bench.to_reserve())
    }

    /// The first to hold by this lease, which is everybody's now.
    pub(super) fn seat(mut self, lease: LockGuard) -> LockGuard {
        match self.at.take() {
            Some((client, bench)) => bench.seat_first(&client, lease),
            None => lease,
        }
    }

    /// The store has failed: whoever waits shall see for itself, at once and not one after the other.
    pub(super) fn scatter(mut self) {
        if let Some((client, bench)) = self.at.take() {
            bench.scatter();
            client.local.tidy(&bench);
        }
    }

    /// Nobody took it: whoever has tried to give it away goes on with it.
    pub(super) fn disarm(mut self) {
        self.at = None;
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let Some((client, bench)) = self.at.take() else { return };
        bench.pass_on(&client, self.not_before);
    }
}
