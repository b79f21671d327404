//! The lock that everybody writes first: create an object unless it is there, and delete it. Who
//! crashes keeps it for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::contestant::{Contestant, Held};
use crate::place::Place;
use crate::record;
use crate::requests::Requests;

/// As often as redis-py asks.
const ASKS_EVERY: Duration = Duration::from_millis(100);

pub struct Naive {
    objects: Arc<dyn ObjectStore>,
    root: Path,
    requests: Arc<AtomicU64>,
}

struct Object {
    objects: Arc<dyn ObjectStore>,
    key: Path,
    requests: Arc<AtomicU64>,
}

impl Naive {
    pub async fn open(place: &Place) -> Result<Self> {
        let (objects, root) = place.objects()?;
        Ok(Self { objects, root, requests: Arc::default() })
    }
}

#[async_trait]
impl Contestant for Naive {
    async fn lock(&self, name: &str) -> Result<Box<dyn Held>> {
        let key: Path =
            self.root.parts().chain(Path::from(format!("naive/{name}")).parts()).collect();
        loop {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.objects.put_opts(&key, record::body(0).await?, options).await {
                Ok(_) => break,
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                    tokio::time::sleep(ASKS_EVERY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let requests = Arc::clone(&self.requests);
        Ok(Box::new(Object { objects: Arc::clone(&self.objects), key, requests }))
    }

    fn requests(&self) -> Option<Requests> {
        Some(Requests::plain(self.requests.load(Ordering::Relaxed)))
    }
}

#[async_trait]
impl Held for Object {
    async fn unlock(self: Box<Self>) -> Result<()> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(self.objects.delete(&self.key).await?)
    }
}
