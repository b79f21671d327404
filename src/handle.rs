//! A store of locks, as its users hold it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::{mpsc, watch};

use crate::all::LockAll;
use crate::barrier::Barrier;
use crate::client::Client;
use crate::clock::{Clock, SystemClock};
use crate::diagnosis::Diagnosis;
use crate::election::Election;
use crate::error::Result;
use crate::fencing::Objects;
use crate::info::LockInfo;
use crate::latch::Latch;
use crate::lock::Lock;
use crate::once::Once;
use crate::quorum::place::place_of;
use crate::rng::{Randomness, SeededRandomness, SystemRandomness};
use crate::runtime::Runtime;
use crate::rwlock::RwLock;
use crate::semaphore::Semaphore;
use crate::session::SessionBuilder;
use crate::store::open::{self, Opening};
use crate::wake::{WakeHints, Wakes};

/// Opens the store at `url`: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`
/// and the other forms that `object_store` knows, `file:///directory`, or `memory:///` for tests.
///
/// Credentials come from the usual environment variables; options of `object_store` can be given
/// as `?key=value`. Nothing is sent before a lock is used.
///
/// # Errors
/// The URL or an option is not understood, or the directory cannot be used.
///
/// # Cancel safety
/// Cancel safe.
pub async fn open(url: impl AsRef<str>) -> Result<Store> {
    Store::builder(url.as_ref()).open().await
}

/// A store of locks: a prefix in a bucket, or a directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    client: Arc<Client>,
}

/// What a [`Store`] is opened with.
#[derive(Debug)]
#[must_use = "nothing is opened yet"]
pub struct StoreBuilder {
    place: Place,
    options: BTreeMap<String, String>,
    prefix: Option<String>,
    check: bool,
    clock: Arc<dyn Clock>,
    seed: Option<u64>,
    runtime: Runtime,
    wake_hints: Option<WakeHints>,
}

#[derive(Debug)]
enum Place {
    Url(String),
    Objects(Arc<dyn ObjectStore>),
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Guards whose locks were given back.
    pub released: usize,
    /// Guards whose release the store did not confirm, or that were lost just before. Those that had
    /// been lost when the shutdown began are not counted.
    pub unconfirmed: usize,
}

impl Store {
    /// A store at `url`, with options.
    pub fn builder(url: impl Into<String>) -> StoreBuilder {
        StoreBuilder::new(Place::Url(url.into()))
    }

    /// A store on an [`ObjectStore`] of yours. Its own retries should be few and short: the library
    /// repeats requests itself. If it needs a runtime for its connections, that runtime must not be
    /// blocked for longer than a lease.
    pub fn from_object_store(objects: Arc<dyn ObjectStore>) -> StoreBuilder {
        StoreBuilder::new(Place::Objects(objects))
    }

    /// The lock called `name`: segments separated by `/`, at most 512 bytes, such as `payments/42`.
    /// The name is checked when the lock is used.
    pub fn lock(&self, name: impl Into<String>) -> Lock {
        Lock::new(Arc::clone(&self.client), name.into())
    }

    /// Several locks that are acquired together, all of them or none. Names are as those of
    /// [`lock`](Self::lock); their order does not matter, and no name counts twice.
    pub fn lock_all<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) -> LockAll {
        LockAll::new(Arc::clone(&self.client), names.into_iter().map(Into::into).collect())
    }

    /// Objects on the same store, at paths counted from its root and not from the locks' prefix: for
    /// [`LockGuard::fence`](crate::LockGuard::fence) and optimistic updates.
    pub fn objects(&self) -> Objects {
        Objects::new(Arc::clone(&self.client), Arc::clone(&self.client.store))
    }

    /// Objects on another store, which need not be of the same kind. Keep what this returns: the
    /// store's fitness is checked once for it.
    pub fn objects_on(&self, objects: Arc<dyn ObjectStore>) -> Objects {
        let store = open::beside(&self.client.store, objects);
        Objects::new(Arc::clone(&self.client), Arc::new(store))
    }

    /// The lock called `name` that one writer holds alone, or several readers together.
    pub fn rwlock(&self, name: impl Into<String>) -> RwLock {
        RwLock::new(Arc::clone(&self.client), name.into())
    }

    /// The semaphore called `name` with `limit` permits, from 1 to 65,536.
    pub fn semaphore(&self, name: impl Into<String>, limit: u32) -> Semaphore {
        Semaphore::new(Arc::clone(&self.client), name.into(), limit)
    }

    /// A session: one lease of this process, under which any number of locks and permits are held.
    pub fn session(&self) -> SessionBuilder {
        SessionBuilder::new(Arc::clone(&self.client))
    }

    /// Work that is run once under `key`, which is a name like a lock's. It has nothing to do with the
    /// lock of that name. The key is checked when it is used.
    pub fn once(&self, key: impl Into<String>) -> Once {
        Once::new(Arc::clone(&self.client), key.into())
    }

    /// The latch called `name`, which opens when `needed` different members have arrived: 1 to 1,024.
    /// Both are checked when it is used; a lock of that name is a mistake, and noticed.
    pub fn latch(&self, name: impl Into<String>, needed: u32) -> Latch {
        Latch::new(Arc::clone(&self.client), name.into(), needed)
    }

    /// The barrier called `name`, at which `parties` members wait for each other: 1 to 1,024. Both are
    /// checked when it is used; a lock of that name is a mistake, and noticed.
    pub fn barrier(&self, name: impl Into<String>, parties: u32) -> Barrier {
        Barrier::new(Arc::clone(&self.client), name.into(), parties)
    }

    pub(crate) fn into_client(self) -> Arc<Client> {
        self.client
    }

    /// The election called `name`, which is the lock of that name: its holder leads. The name is checked
    /// when the election is used.
    pub fn election(&self, name: impl Into<String>) -> Election {
        Election::new(Arc::clone(&self.client), name.into())
    }

    /// What the keys of all records begin with: the path of the URL and the builder's prefix. Empty for
    /// a directory. Objects of your own may lie below it.
    pub fn prefix(&self) -> &Path {
        self.client.store.prefix()
    }

    /// The URL without options and credentials: safe to print.
    pub fn url(&self) -> &str {
        &self.client.url
    }

    /// Finds out, by requests to scratch objects that it removes, whether this store can hold locks: whether
    /// conditions are honoured, also by writers that race; whether what was written is read; what the
    /// store's clock says; and whether reading, writing, listing and deleting are permitted. It takes some
    /// seconds and up to 700 writes. That no race had two winners is no proof that none ever has.
    ///
    /// [`StoreBuilder::check_preconditions`] makes a small part of this once per store and process, before
    /// the first lock.
    ///
    /// # Errors
    /// Only that the store handle was shut down: what the store does is in the findings.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop what has begun.
    pub async fn diagnose(&self) -> Result<Diagnosis> {
        self.client.ensure_open()?;
        let store = Arc::clone(&self.client.store);
        self.client.call(async move { Ok(Diagnosis { findings: store.examine().await }) }).await
    }

    /// Every lock whose name starts with `prefix`, read up to 16 at a time and not kept in memory.
    ///
    /// Must be called where [`Runtime::Current`] finds its runtime, if that was chosen. Ends after
    /// the first error of the listing; an error of a single record is an item like others.
    pub fn list(
        &self,
        prefix: &str,
    ) -> impl Stream<Item = Result<LockInfo>> + Send + Unpin + use<> {
        let (send, receive) = mpsc::channel(16);
        let client = Arc::clone(&self.client);
        let prefix = prefix.to_owned();
        self.client.spawn(client.list(prefix, send));
        received(receive)
    }

    /// The name of every lock that starts with `prefix`, without reading the records: for who reads some
    /// of them at a time. In the order in which the store lists them; the listing goes on as far as the
    /// stream is read, and a little further.
    ///
    /// Must be called where [`Runtime::Current`] finds its runtime, if that was chosen. Ends after
    /// an error.
    pub fn names(&self, prefix: &str) -> impl Stream<Item = Result<String>> + Send + Unpin + use<> {
        let (send, receive) = mpsc::channel(16);
        let client = Arc::clone(&self.client);
        let prefix = prefix.to_owned();
        self.client.spawn(client.names(prefix, send));
        received(receive)
    }

    /// Releases every lock that is held through this store and waits for writes that were abandoned
    /// by dropped futures. Afterwards, acquiring fails with [`ShutDown`](crate::ErrorKind::ShutDown), also
    /// for those who are waiting now.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop what has begun.
    pub async fn shutdown(&self) -> ShutdownReport {
        Arc::clone(&self.client).shutdown().await
    }
}

/// What a task sends, as a stream.
fn received<T: Send + 'static>(receive: mpsc::Receiver<T>) -> BoxStream<'static, T> {
    futures::stream::unfold(receive, |mut receive| async move {
        receive.recv().await.map(|item| (item, receive))
    })
    .boxed()
}

impl StoreBuilder {
    fn new(place: Place) -> Self {
        Self {
            place,
            options: BTreeMap::new(),
            prefix: None,
            check: true,
            clock: Arc::new(SystemClock),
            seed: None,
            runtime: Runtime::default(),
            wake_hints: None,
        }
    }

    /// An option of the store, as `object_store` calls it, such as `aws_endpoint`. Options in the
    /// URL come before those given here, and these before the environment.
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(key.into(), value.into());
        self
    }

    /// Several options.
    pub fn options<K: Into<String>, V: Into<String>>(
        mut self,
        options: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.options.extend(options.into_iter().map(|(key, value)| (key.into(), value.into())));
        self
    }

    /// A prefix below the URL's own.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Whether the store's honouring of conditional writes is checked, once per store and process,
    /// before the first write: a few racing writes of a scratch object under `.leaselock/`. On
    /// unless turned off; directories and memory need no check.
    pub fn check_preconditions(mut self, on: bool) -> Self {
        self.check = on;
        self
    }

    /// The clocks to go by, for tests and simulations.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Repeatable randomness, for simulations only: nonces and ids must not repeat in production.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Where the library's tasks run.
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// Whether those who wait in a queue are told by a datagram that it is their turn, and tell others.
    /// Nobody listens or sends unless this is set.
    pub fn wake_hints(mut self, hints: WakeHints) -> Self {
        self.wake_hints = Some(hints);
        self
    }

    /// Opens the store. Nothing is sent before a lock is used.
    ///
    /// # Errors
    /// The URL or an option is not understood, or the directory cannot be used;
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) where it cannot be listened for
    /// [wake-up hints](Self::wake_hints).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn open(self) -> Result<Store> {
        let tasks = self.runtime.start()?;
        let rng: Arc<dyn Randomness> = match self.seed {
            Some(seed) => Arc::new(SeededRandomness::new(seed)),
            None => Arc::new(SystemRandomness),
        };
        let place = match &self.place {
            Place::Url(url) => place_of(url, &self.options),
            Place::Objects(_) => None,
        };
        let opening = Opening {
            clock: self.clock,
            rng,
            options: self.options,
            prefix: self.prefix,
            check: self.check,
        };
        let (store, url) = match self.place {
            Place::Url(url) => open::url(&url, opening)?,
            Place::Objects(objects) => open::object_store(objects, opening)?,
        };
        let (closing, closed) = watch::channel(false);
        let wakes = match self.wake_hints {
            Some(hints) => Wakes::open(hints, closed)?,
            None => Wakes::default(),
        };
        Ok(Store { client: Arc::new(Client::new(store, url, place, tasks, wakes, closing)) })
    }
}
