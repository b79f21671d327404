//! One call of a fence: its patience, and its requests as tasks of the library.

use std::sync::Arc;

use object_store::path::Path;

use super::conflict;
use super::objects::Objects;
use crate::error::Result;
use crate::record::Mark;
use crate::store::objects::{Instead, NewObject, Stored};
use crate::store::{Patience, Swap, Version};
use crate::wait::{Backoff, RETRYING};

/// One call. A request that has begun is seen to its end whatever becomes of the caller.
#[derive(Debug)]
pub(super) struct Call<'a> {
    objects: &'a Objects,
    path: &'a Path,
    patience: Patience,
    backoff: Backoff,
}

impl<'a> Call<'a> {
    /// Begins, with a check of the store if it was not made before.
    ///
    /// # Errors
    /// The store is unfit, or does not answer.
    pub(super) async fn begin(objects: &'a Objects, path: &'a Path) -> Result<Self> {
        let store = Arc::clone(&objects.store);
        if !store.is_known_fit_for_objects() {
            let fit = Arc::clone(&store);
            objects.client.call(async move { fit.ensure_fit_for_objects().await }).await?;
        }
        let patience = objects.patience_from_now();
        let backoff = Backoff::new(RETRYING, Arc::clone(store.rng()));
        Ok(Self { objects, path, patience, backoff })
    }

    pub(super) fn mark(&self) -> Mark {
        Mark::from_random(self.objects.store.rng().bits())
    }

    pub(super) async fn read(&self) -> Result<Option<Stored>> {
        self.objects.fetch(self.path.clone(), self.patience).await
    }

    pub(super) async fn write(
        &self,
        expected: Option<&Version>,
        new: NewObject,
    ) -> Result<Swap<Instead>> {
        let (store, path) = (Arc::clone(&self.objects.store), self.path.clone());
        let (expected, patience) = (expected.cloned(), self.patience);
        let work = async move { store.swap_object(&path, expected.as_ref(), &new, patience).await };
        self.objects.client.call(work).await
    }

    /// Waits before another round, as others write, too.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) when patience will have run out by then.
    pub(super) async fn pause(&mut self) -> Result<()> {
        let clock = Arc::clone(self.objects.store.clock());
        let resume = clock.now().boot.plus(self.backoff.next());
        if resume >= self.patience.until {
            let path = self.path;
            return Err(conflict(format!("{path} was changed by others again and again")));
        }
        let rest = async move {
            clock.sleep_until(resume).await;
            Ok(())
        };
        self.objects.client.call(rest).await
    }
}
