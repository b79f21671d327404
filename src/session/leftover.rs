//! What an acquisition has left on record although nobody holds by it any more. Nothing but the end of
//! its session would end it, and that may stand for ever.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;

use crate::client::Client;
use crate::error::Result;
use crate::hold::{Hold, LeasePhase, LossReason};
use crate::protocol::lock::shut_the_door;
use crate::store::{Content, Patience, Swap};
use crate::wait::{Backoff, RETRYING};

/// An entry that stands under a session of this process.
pub(crate) struct Leftover {
    pub(crate) client: Arc<Client>,
    pub(crate) key: Path,
    pub(crate) hold: Arc<Hold>,
    pub(crate) min_hold: Option<Duration>,
    pub(crate) request_timeout: Duration,
}

impl Leftover {
    /// Waits until the acquisition is lost to a limit of its own, if it has one and ever is, and takes
    /// its entry off the record then: its guard does not, whose work may hang.
    pub(crate) async fn clear_when_limited(self) {
        let ended = self.hold.wait_for(|phase| match phase {
            LeasePhase::Lost(LossReason::MaxHold | LossReason::NoProgress) => Some(true),
            LeasePhase::Lost(_) | LeasePhase::Released => Some(false),
            LeasePhase::Held | LeasePhase::AtRisk => None,
        });
        if ended.await {
            self.clear().await;
        }
    }

    /// Takes the entry off the record, however long that takes: it would stay for as long as the session
    /// is renewed, and nobody would know that it means nothing (hazard H26).
    pub(super) async fn clear(self) {
        let store = &self.client.store;
        let clock = store.clock();
        let mut backoff = Backoff::new(RETRYING, Arc::clone(store.rng()));
        while self.hold.session_is_held() {
            let early = self.min_hold.is_some_and(|min| self.hold.held_for() < min);
            if !early {
                match self.try_to_clear().await {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::debug!(lock = %self.hold.name, %error, "giving back what was lost");
                    }
                }
            }
            clock.sleep_until(clock.now().boot.plus(backoff.next())).await;
        }
    }

    async fn try_to_clear(&self) -> Result<bool> {
        let (store, request) = (&self.client.store, self.request_timeout);
        let read = store.read(&self.key, request).await?;
        let Content::Record { record, version, .. } = &read.content else { return Ok(true) };
        // An entry that stays for its minimum hold is judged by its own time.
        if record.lease(self.hold.id).is_none_or(|lease| lease.session.is_none()) {
            return Ok(true);
        }
        let (nonce, now) = (store.nonce(), store.clock().now());
        let without = shut_the_door(record, self.hold.id, nonce, now.wall);
        let patience = Patience { request, until: now.boot.plus(request), attempts: 1 };
        let swapped = store.swap(&self.key, Some(version), &without, patience).await?;
        let won = matches!(swapped, Swap::Won { .. });
        if won {
            self.client.wakes.tell(record, &without);
        }
        Ok(won)
    }
}
