//! A place for one test's locks on one of the stores.

use std::sync::Arc;

use leaselock::{DirectoryStore, Store, StoreBuilder};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::emulators::{Backend, TestUrl};

/// A fresh prefix on a backend; every [`open`](Self::open) is like another process.
#[derive(Debug)]
pub struct Place {
    backend: Backend,
    url: Option<TestUrl>,
    memory: Arc<InMemory>,
}

impl Place {
    /// A place on this backend; `None` when its emulator is not running, which panics in CI.
    pub fn on(backend: Backend) -> Option<Self> {
        let memory = Arc::new(InMemory::new());
        if backend == Backend::Memory {
            return Some(Self { backend, url: None, memory });
        }
        let url = backend.fresh_url()?;
        Some(Self { backend, url: Some(url), memory })
    }

    /// Which store it is on.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The URL, where there is one.
    pub fn url(&self) -> Option<&TestUrl> {
        self.url.as_ref()
    }

    /// Puts an object below the place, past the library.
    ///
    /// # Panics
    /// It cannot be written.
    pub async fn put(&self, key: &str, body: &[u8]) {
        let (objects, path) = self.objects(key);
        objects.put(&path, body.to_vec().into()).await.expect("the test's object is written");
    }

    /// Reads an object below the place, past the library.
    ///
    /// # Panics
    /// It cannot be read.
    pub async fn get(&self, key: &str) -> Vec<u8> {
        let (objects, path) = self.objects(key);
        let object = objects.get(&path).await.expect("the test's object is there");
        object.bytes().await.expect("the test's object is read").to_vec()
    }

    /// Deletes an object below the place, past the library.
    ///
    /// # Panics
    /// It cannot be deleted.
    pub async fn delete(&self, key: &str) {
        let (objects, path) = self.objects(key);
        objects.delete(&path).await.expect("the test's object is deleted");
    }

    /// Where `key` lies, counted from the store's root.
    pub fn path(&self, key: &str) -> Path {
        self.objects(key).1
    }

    /// The store itself, past the library.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        self.objects("").0
    }

    /// The store itself and where `key` lies on it.
    fn objects(&self, key: &str) -> (Arc<dyn ObjectStore>, Path) {
        let Some(url) = &self.url else {
            return (Arc::clone(&self.memory) as _, Path::from(key));
        };
        let url = url::Url::parse(url.as_str()).expect("the test's URL is one");
        if url.scheme() == "file" {
            let root = url.to_file_path().expect("a directory");
            return (Arc::new(DirectoryStore::open(root).expect("opens")), Path::from(key));
        }
        let options: Vec<_> = url.query_pairs().into_owned().collect();
        let mut bare = url.clone();
        bare.set_query(None);
        let (objects, prefix) =
            object_store::parse_url_opts(&bare, options).expect("object_store opens it");
        (objects.into(), prefix.parts().chain(Path::from(key).parts()).collect())
    }

    /// A new handle that remembers nothing of earlier ones.
    pub fn builder(&self) -> StoreBuilder {
        match &self.url {
            Some(url) => Store::builder(url.as_str()),
            None => Store::from_object_store(Arc::clone(&self.memory) as _),
        }
    }

    /// A new handle that remembers nothing of earlier ones.
    ///
    /// # Panics
    /// It cannot be opened.
    pub async fn open(&self) -> Store {
        self.builder().open().await.expect("the test's store opens")
    }
}

/// Makes each of these async functions a test on every store, in a module of the store's name.
#[macro_export]
macro_rules! on_every_store {
    ($($body:ident),* $(,)?) => {
        $crate::on_every_store!(@ memory Memory place place; $($body)*);
        $crate::on_every_store!(@ file File place place; $($body)*);
        $crate::on_every_http_store!(place => place; $($body),*);
    };
    (@ $module:ident $backend:ident $place:ident $argument:expr; $($body:ident)*) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $body() {
                    let backend = $crate::emulators::Backend::$backend;
                    if let Some($place) = $crate::place::Place::on(backend) {
                        super::$body($argument).await;
                    }
                }
            )*
        }
    };
}

/// The same on every store that is reached by HTTP, with what is made of the place.
#[macro_export]
macro_rules! on_every_http_store {
    ($place:ident => $argument:expr; $($body:ident),* $(,)?) => {
        $crate::on_every_store!(@ ministack Ministack $place $argument; $($body)*);
        $crate::on_every_store!(@ seaweedfs Seaweedfs $place $argument; $($body)*);
        $crate::on_every_store!(@ azurite Azurite $place $argument; $($body)*);
        $crate::on_every_store!(@ gcs Gcs $place $argument; $($body)*);
    };
}
