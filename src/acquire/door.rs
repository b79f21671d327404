//! Undoing an acquisition that was given up.

use std::sync::Arc;

use super::{Contender, moved_on, token_start};
use crate::clock::Boot;
use crate::error::Result;
use crate::protocol::expiry::contender_wait;
use crate::protocol::lock::shut_the_door;
use crate::record::Record;
use crate::store::{Content, Patience, Swap, Version};
use crate::wait::{Backoff, RETRYING};

impl Contender {
    /// Sees to it that a write of this acquisition, which may yet land, does no harm: gives the
    /// lock back if it has, and otherwise moves the version on, which voids it (hazard H2). Takes its
    /// ticket out of the queue.
    pub(super) async fn shut_the_door(mut self) {
        let doubt = self.doubt.take();
        let clock = Arc::clone(self.clock());
        let end = clock.now().boot.plus(contender_wait(self.terms.ttl));
        let mut backoff = Backoff::new(RETRYING, Arc::clone(self.store().rng()));
        while self.may_stay(clock.now().boot, end) {
            match self.try_to_shut(doubt.as_ref()).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(lock = %self.target.name, %error, "undoing an abandoned acquisition");
                }
            }
            clock.sleep_until(clock.now().boot.plus(backoff.next())).await;
        }
        // Under a session it has ended with that.
        if self.session.is_none() {
            tracing::warn!(lock = %self.target.name, "an abandoned acquisition was left to expire");
        }
    }

    /// Whether what this acquisition has left on record could stay there if it is not undone: under a
    /// session it does for as long as that is renewed (hazard H26), otherwise it expires.
    fn may_stay(&self, now: Boot, end: Boot) -> bool {
        match &self.session {
            Some(session) => session.hold.is_held(),
            None => now < end,
        }
    }

    async fn try_to_shut(&self, doubt: Option<&Option<Version>>) -> Result<bool> {
        let request = self.terms.request_timeout;
        let read = self.store().read(&self.key, request).await?;
        let (nonce, now) = (self.store().nonce(), self.clock().now());
        let (version, record) = match &read.content {
            Content::Record { record, version, .. } => {
                let ours = record.lease(self.id).is_some() || record.ticket(self.id).is_some();
                let void = |expected: &Option<_>| moved_on(expected.as_ref(), Some(version));
                if !ours && doubt.is_none_or(void) {
                    return Ok(true);
                }
                (Some(version), shut_the_door(record, self.id, nonce, now.wall))
            }
            Content::Absent if doubt.is_some_and(Option::is_none) => {
                let start = token_start(self.store(), read.now, request).await?;
                let mut record = Record::free_of(self.target.kind, start, nonce);
                record.limit = self.target.want.limit;
                (None, record)
            }
            Content::Absent | Content::Unreadable { .. } => return Ok(true),
        };
        let patience = Patience { request, until: now.boot.plus(request), attempts: 1 };
        let swapped = self.store().swap(&self.key, version, &record, patience).await?;
        let won = matches!(swapped, Swap::Won { .. });
        if let (true, Content::Record { record: before, .. }) = (won, &read.content) {
            self.client().wakes.tell(before, &record);
        }
        Ok(won)
    }
}
