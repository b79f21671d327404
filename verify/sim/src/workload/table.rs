//! A table that holders write under a fence, some of them long after they have lost the lock.

use std::time::Duration;

use leaselock::ErrorKind;
use leaselock::fencing::{Claimed, Objects};

use super::{Held, User};
use crate::plan::Plan;
use crate::rng::Draw;

impl User {
    /// Claims the table and adds a row, now or later.
    pub(super) async fn write_table(&mut self, held: &Held) {
        let fence = held.guard.fence(&self.objects());
        let token = held.guard.token().get();
        match fence.claim(Plan::TABLE).await {
            Ok(mut claimed) => {
                self.tell(|world| world.referee.table_claimed(token));
                if self.rng.chance(30) {
                    self.paused = Some(claimed);
                } else {
                    self.add_row(&mut claimed).await;
                }
            }
            Err(error) => {
                let kind = error.kind();
                self.tell(|world| world.table_not_claimed(token, kind));
                self.fails("the table", kind);
            }
        }
    }

    /// Goes on where it was paused.
    pub(super) async fn wake(&mut self) {
        let Some(mut claimed) = self.paused.take() else { return };
        self.add_row(&mut claimed).await;
    }

    async fn add_row(&mut self, claimed: &mut Claimed) {
        let row = self.tell(|world| world.referee.new_row());
        let mut content = claimed.bytes().map(|old| old.to_vec()).unwrap_or_default();
        content.extend(format!("{row}\n").into_bytes());
        let limit = self.rng.up_to(self.plan.round_trip());
        let clock = self.clock.clone();
        let result = if self.rng.chance(15) {
            tokio::select! {
                biased;
                result = claimed.put(content) => result,
                () = clock.sleep(limit) => return self.tell(|world| world.count("rows unheard of")),
            }
        } else {
            claimed.put(content).await
        };
        match result {
            Ok(()) => {
                let token = claimed.token().get();
                self.tell(|world| world.referee.row_acknowledged(world.now, token, row));
            }
            Err(error) => {
                let (kind, token) = (error.kind(), claimed.token().get());
                self.tell(|world| world.row_not_written(token, row, kind));
                self.fails("the table", kind);
                // The claim may still be good.
                if kind == ErrorKind::Unconfirmed && self.rng.chance(50) {
                    Box::pin(self.add_row(claimed)).await;
                }
            }
        }
    }

    fn objects(&self) -> Objects {
        self.store.objects().patience(self.ttl().max(Duration::from_secs(4)))
    }
}
