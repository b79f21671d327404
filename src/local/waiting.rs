//! A place in the queue.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::bench::{Bench, Called};
use crate::acquire::{Limit, shut_down};
use crate::client::Client;
use crate::error::Result;

/// A place in the queue of a bench, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) bench: Arc<Bench>,
    pub(super) number: u64,
    pub(super) call: oneshot::Receiver<Called>,
}

impl Waiting {
    /// What it is called to; nothing within the limit.
    ///
    /// # Errors
    /// The store is shut down.
    pub(super) async fn called(mut self, client: &Client, limit: Limit) -> Result<Option<Called>> {
        let Limit::Until(end) = limit else {
            return (&mut self.call).await.map(Some).map_err(|_| shut_down());
        };
        // The timer's own task: whoever waits here may be in no runtime.
        let (mut bell, rung) = oneshot::channel::<()>();
        let clock = Arc::clone(client.store.clock());
        client.spawn_apart(async move {
            tokio::select! {
                biased;
                () = bell.closed() => {}
                () = clock.sleep_until(end) => {}
            }
        });
        tokio::select! {
            biased;
            called = &mut self.call => called.map(Some).map_err(|_| shut_down()),
            _ = rung => Ok(None),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.bench.leave_queue(self.number);
    }
}
