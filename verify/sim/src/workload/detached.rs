//! Leaving a lease on record, and going on with it.

use std::pin::pin;

use leaselock::{ErrorKind, HolderId, Lock, Result};

use super::{Grip, Held, User};
use crate::referee::Ear;
use crate::rng::Draw;

/// How often a lease that was left is asked for before it is given back instead.
const TRIES: usize = 3;

impl User {
    /// Leaves a lease and goes on with it a while later; `None` when nothing came of that.
    pub(super) async fn leave(&mut self, held: Held, lock: &Lock) -> Option<Held> {
        let Held { guard: Grip::Guard(guard), number } = held else { return Some(held) };
        match guard.detach().await {
            Ok(left) => {
                self.tell(|world| world.count("leases left"));
                self.resume(number, lock, left.holder).await
            }
            Err(error) => {
                self.tell(|world| world.guard_ends(number));
                self.fails("leaving a lease", error.kind());
                None
            }
        }
    }

    async fn resume(&mut self, number: usize, lock: &Lock, holder: HolderId) -> Option<Held> {
        let tries = if self.rng.chance(20) { 0 } else { TRIES };
        let longest = self.habits().rest.min(self.ttl() * 2);
        let rest = self.rng.up_to(longest);
        self.nap(rest).await;
        for _ in 0..tries {
            match self.try_to_resume(lock, holder).await {
                None => self.tell(|world| world.count("leases whose resumption was dropped")),
                Some(Ok(held)) => {
                    let watch = held.watch();
                    let status = watch.status();
                    self.tell(|world| {
                        world.count("leases resumed");
                        world.guard_resumed(number, Ear::Told(watch), status);
                    });
                    return Some(Held { guard: held, number });
                }
                Some(Err(error)) if error.kind() == ErrorKind::Lost => {
                    self.tell(|world| {
                        world.count("leases lost while nobody kept them");
                        world.guard_is_off_record(number);
                    });
                    return None;
                }
                Some(Err(error)) => self.fails("resuming a lease", error.kind()),
            }
            let rest = self.rng.up_to(longest);
            self.nap(rest).await;
        }
        match lock.release_detached(holder).await {
            Ok(()) => self.tell(|world| {
                world.count("leases given back that nobody kept");
                world.guard_is_off_record(number);
            }),
            Err(error) if error.kind() == ErrorKind::Lost => self.tell(|world| {
                world.count("leases lost before they were given back");
                world.guard_is_off_record(number);
            }),
            Err(error) => {
                self.tell(|world| world.guard_ends(number));
                self.fails("giving back a lease that was left", error.kind());
            }
        }
        None
    }

    /// Asks for a lease that was left; `None` when the call was dropped.
    async fn try_to_resume(&mut self, lock: &Lock, holder: HolderId) -> Option<Result<Grip>> {
        let mut resuming = pin!(lock.resume(holder));
        let resumed = if self.rng.chance(20) {
            let clock = self.clock.clone();
            let limit = self.rng.up_to(self.plan.round_trip());
            tokio::select! {
                biased;
                resumed = &mut resuming => resumed,
                () = clock.sleep(limit) => return None,
            }
        } else {
            resuming.await
        };
        Some(resumed.map(Grip::Guard))
    }
}
