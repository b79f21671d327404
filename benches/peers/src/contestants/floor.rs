//! No lock, but what one costs at least: a conditional write to take it and one to give it back, and
//! a read before them when nothing is known of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};

use crate::contestant::{Contestant, Held};
use crate::place::Place;
use crate::record;
use crate::requests::Requests;

pub struct Floor(Arc<Objects>);

struct Objects {
    objects: Arc<dyn ObjectStore>,
    root: Path,
    /// The versions that were written last, and how often each was held.
    known: Mutex<HashMap<Path, (UpdateVersion, usize)>>,
    requests: AtomicU64,
}

struct Written {
    objects: Arc<Objects>,
    key: Path,
    version: UpdateVersion,
    held_before: usize,
}

impl Floor {
    pub async fn open(place: &Place) -> Result<Self> {
        let (objects, root) = place.objects()?;
        let requests = AtomicU64::new(0);
        Ok(Self(Arc::new(Objects { objects, root, known: Mutex::default(), requests })))
    }
}

impl Objects {
    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Path, (UpdateVersion, usize)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn is_new(&self, key: &Path) -> Result<()> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match self.objects.get(key).await {
            Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => bail!("{key} is there already"),
        }
    }

    /// Writes as many bytes as the record would have that was held so often.
    async fn put(&self, key: &Path, mode: PutMode, held: usize) -> Result<UpdateVersion> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let options = PutOptions { mode, ..PutOptions::default() };
        let written = self.objects.put_opts(key, record::body(held).await?, options).await?;
        Ok(UpdateVersion { e_tag: written.e_tag, version: written.version })
    }
}

#[async_trait]
impl Contestant for Floor {
    async fn lock(&self, name: &str) -> Result<Box<dyn Held>> {
        let objects = Arc::clone(&self.0);
        let path = Path::from(format!("floor/{name}"));
        let key: Path = objects.root.parts().chain(path.parts()).collect();
        let known = objects.known().remove(&key);
        let (mode, held_before) = match known {
            Some((version, held)) => (PutMode::Update(version), held),
            None => {
                objects.is_new(&key).await?;
                (PutMode::Create, 0)
            }
        };
        let version = objects.put(&key, mode, held_before).await?;
        Ok(Box::new(Written { objects, key, version, held_before }))
    }

    fn requests(&self) -> Option<Requests> {
        Some(Requests::plain(self.0.requests.load(Ordering::Relaxed)))
    }
}

#[async_trait]
impl Held for Written {
    async fn unlock(self: Box<Self>) -> Result<()> {
        let held = self.held_before + 1;
        let version = self.objects.put(&self.key, PutMode::Update(self.version), held).await?;
        self.objects.known().insert(self.key, (version, held));
        Ok(())
    }
}
