//! Sessions that nobody asked for: permits and tickets need one, and share one per TTL.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::OpenSession;
use crate::acquire::Limit;
use crate::client::Client;
use crate::clock::timeout;
use crate::error::{Error, ErrorKind, Result};
use crate::options::{LockOptions, request_timeout};

/// How long somebody else's opening is waited for without a limit: as long as it bears failures.
const LONGEST_OPENING: Duration = Duration::from_secs(30);

/// The sessions that were opened for permits and tickets, by TTL.
#[derive(Debug, Default)]
pub(crate) struct Implied(Mutex<BTreeMap<Duration, Slot>>);

/// Locked while a session is being opened, so that all who want it at once share it.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<OpenSession>>>>;

impl Implied {
    fn slot(&self, ttl: Duration) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(ttl).or_default())
    }

    fn slots(&self) -> Vec<Slot> {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().map(Arc::clone).collect()
    }

    /// Lets go of all of them: they end when nothing is held under them any more.
    pub(crate) async fn let_go(&self) {
        for slot in self.slots() {
            slot.lock().await.take();
        }
    }
}

/// The session of this TTL, opened if there is none that is held. Another call may be opening it: that
/// is waited for within the same limit.
///
/// # Errors
/// It cannot be opened within the limit.
pub(crate) async fn session(
    client: &Arc<Client>,
    ttl: Duration,
    limit: Limit,
) -> Result<Arc<OpenSession>> {
    let slot = client.implied.slot(ttl);
    let clock = &**client.store.clock();
    let patience = match limit {
        Limit::Once => request_timeout(ttl),
        Limit::Until(end) => end.since(clock.now().boot),
        Limit::Forever => LONGEST_OPENING,
    };
    let mut present = timeout(clock, patience, slot.lock()).await.map_err(|_| {
        Error::new(ErrorKind::Unavailable, "the session to wait under could not be opened in time")
    })?;
    if let Some(open) = present.as_ref().filter(|open| open.hold.is_held()) {
        return Ok(Arc::clone(open));
    }
    let options = LockOptions { ttl: Some(ttl), ..LockOptions::default() };
    let open = OpenSession::start(client, &options, limit).await?;
    *present = Some(Arc::clone(&open));
    drop(present);
    client.spawn(end_when_idle(Arc::clone(client), slot, ttl));
    Ok(open)
}

/// Ends a session when nothing has been held under it at the time of a look, so that a process that
/// needed a permit once does not renew for ever. Who comes back soon finds it open.
async fn end_when_idle(client: Arc<Client>, slot: Slot, ttl: Duration) {
    let clock = client.store.clock();
    let mut closing = client.closing();
    loop {
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            () = clock.sleep_until(clock.now().boot.plus(ttl / 3)) => {}
        }
        let mut present = slot.lock().await;
        match present.as_ref() {
            // Ours is the only one.
            Some(open) if Arc::strong_count(open) == 1 || !open.hold.is_live() => {
                present.take();
                return;
            }
            Some(_) => {}
            None => return,
        }
    }
}
