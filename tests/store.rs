//! What is asked of a store besides locks, and what follows from its answers: is it fit, what time
//! is it there, what does it hold?

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use leaselock::clock::{Clock, SystemClock};
use leaselock::{Attempt, ErrorKind, Lock, LockState, Release, Runtime, Store, StoreBuilder};
use leaselock_test_support::clock::ManualClock;
use leaselock_test_support::counting::CountingStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

const TTL: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

fn on(objects: &CountingStore, clock: &ManualClock) -> StoreBuilder {
    Store::from_object_store(objects.as_store())
        .clock(Arc::new(clock.clone()))
        .runtime(Runtime::Current)
}

/// A clock that is moved by hand, and shows what a store in memory stamps its objects with.
fn clock_of_the_stamps() -> ManualClock {
    let clock = ManualClock::new();
    clock.move_wall(SystemClock.now().wall.micros() - clock.now().wall.micros());
    clock
}

async fn held(lock: &Lock) -> bool {
    matches!(lock.try_acquire().await.expect("looks"), Attempt::Held(_))
}

#[tokio::test]
async fn a_store_is_checked_once_before_its_first_write() {
    let (objects, clock) = (CountingStore::in_memory(), ManualClock::new());
    let store = on(&objects, &clock).open().await.expect("opens");
    assert_eq!(objects.counts().total(), 0);
    let guard = store.lock("x").acquire().await.expect("is fit");
    assert!(objects.counts().writes() > 10, "races of several writers: {:?}", objects.counts());
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    objects.reset();
    let _guard = store.lock("x").acquire().await.expect("is fit");
    assert_eq!(objects.counts().total(), 1, "{:?}", objects.counts());
}

#[tokio::test]
async fn a_store_that_is_not_fit_gets_no_record() {
    let (objects, clock) = (CountingStore::in_memory(), ManualClock::new());
    objects.break_atomicity();
    let store = on(&objects, &clock).open().await.expect("opens");
    let error = store.lock("x").acquire().await.expect_err("is not atomic");
    assert_eq!(error.kind(), ErrorKind::UnfitStore);
    let order = leaselock::Break::force();
    let error = store.lock("x").break_lease(order).await.expect_err("is not atomic");
    assert_eq!(error.kind(), ErrorKind::UnfitStore);
    assert_eq!(store.lock("x").inspect().await.expect("reads").state, LockState::Absent);
}

#[tokio::test]
async fn a_newcomer_enters_by_the_stores_clock_and_not_earlier() {
    let clock = clock_of_the_stamps();
    let builder = Store::builder("memory:///").clock(Arc::new(clock.clone()));
    let store = builder.runtime(Runtime::Current).open().await.expect("opens");
    let lock = |name: &str| store.lock(name).ttl(TTL).keeper(false);
    for name in ["x", "y"] {
        std::mem::forget(lock(name).acquire().await.expect("acquires"));
    }
    clock.advance(TTL - SECOND);
    assert!(held(&lock("x")).await);
    let info = lock("x").inspect().await.expect("reads");
    let remaining = info.holders[0].remaining.expect("costs nothing to know");
    assert!(remaining > SECOND && remaining < SECOND * 3, "{remaining:?}");
    assert_eq!(info.state, LockState::Held);
    // Never seen before now: only the store's clock can tell.
    clock.advance(SECOND * 2);
    assert_eq!(lock("y").inspect().await.expect("reads").state, LockState::Expired);
    assert!(!held(&lock("y")).await);
    // Who does not go by it watches for as long as the lease lasts.
    let careful = lock("x").store_clock(false);
    clock.advance(SECOND);
    assert!(held(&careful).await);
}

#[tokio::test]
async fn a_look_at_a_lock_costs_one_request_whatever_time_it_is() {
    let (objects, clock) = (CountingStore::in_memory(), clock_of_the_stamps());
    let store = on(&objects, &clock).check_preconditions(false).open().await.expect("opens");
    let guard = store.lock("x").ttl(TTL).keeper(false).acquire().await.expect("acquires");
    objects.reset();
    let info = store.lock("x").inspect().await.expect("reads");
    assert_eq!(objects.counts().total(), 1, "{:?}", objects.counts());
    assert_eq!((info.state, info.holders[0].remaining), (LockState::Held, None));
    drop(guard);
}

/// The stamps of the store and the contender's clock have come apart, so that the store-clock rule
/// is off: a new lock needs a number all the same.
#[tokio::test]
async fn a_new_lock_is_numbered_by_a_stamp_where_no_clock_is_trusted() {
    let (objects, clock) = (CountingStore::in_memory(), clock_of_the_stamps());
    let store = on(&objects, &clock).check_preconditions(false).open().await.expect("opens");
    let first = store.lock("x").acquire().await.expect("acquires");
    clock.advance(TTL * 40);
    let second = store.lock("y").acquire().await.expect("acquires");
    let now = SystemClock.now().wall.micros();
    for token in [first.token(), second.token()] {
        let ahead = i64::try_from(token.get()).expect("is small") - now;
        assert!((-60_000_000..60_000_000).contains(&ahead), "{token} is no time of the store");
    }
}

#[tokio::test]
async fn a_listing_names_the_locks_below_a_prefix() {
    let (objects, clock) = (CountingStore::in_memory(), ManualClock::new());
    let store = on(&objects, &clock).prefix("p%20q").open().await.expect("opens");
    let names = ["a", "etl/größe", "etl/nightly"];
    for name in names {
        let guard = store.lock(name).acquire().await.expect("acquires");
        assert_eq!(guard.release().await.expect("releases"), Release::Released);
    }
    let listed = |prefix: &str| store.list(prefix).map_ok(|info| info.name).try_collect::<Vec<_>>();
    let mut all = listed("").await.expect("lists");
    all.sort();
    assert_eq!(all, names);
    let mut some = listed("etl/").await.expect("lists");
    some.sort();
    assert_eq!(some, names[1..]);
    // Without reading a record.
    let before = objects.counts().reads();
    let mut alone: Vec<_> = store.names("etl/").try_collect().await.expect("lists");
    alone.sort();
    assert_eq!(alone, names[1..]);
    assert_eq!(objects.counts().reads(), before);
}

/// What some servers do that speak a protocol nearly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quirk {
    /// Answers a conditional read in full, whatever the condition.
    IgnoresIfNoneMatch,
    /// Answers every read with "not modified".
    NeverModified,
    /// Acknowledges writes of records without telling what they are called.
    NoETag,
}

#[derive(Debug)]
struct Quirky(InMemory, Quirk);

impl std::fmt::Display for Quirky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.1)
    }
}

#[async_trait]
impl ObjectStore for Quirky {
    async fn get_opts(
        &self,
        at: &Path,
        mut options: GetOptions,
    ) -> object_store::Result<GetResult> {
        match self.1 {
            Quirk::IgnoresIfNoneMatch => options.if_none_match = None,
            Quirk::NeverModified => {
                let (path, source) = (at.to_string(), "as always".into());
                return Err(object_store::Error::NotModified { path, source });
            }
            Quirk::NoETag => {}
        }
        self.0.get_opts(at, options).await
    }

    async fn put_opts(
        &self,
        at: &Path,
        body: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let mut result = self.0.put_opts(at, body, options).await?;
        if self.1 == Quirk::NoETag && at.as_ref().ends_with(".lock") {
            (result.e_tag, result.version) = (None, None);
        }
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

async fn quirky(quirk: Quirk, clock: &ManualClock) -> Store {
    let objects = Arc::new(Quirky(InMemory::new(), quirk));
    clock.process(objects).open().await.expect("opens")
}

#[tokio::test]
async fn a_full_answer_with_the_version_known_is_no_change() {
    let clock = ManualClock::new();
    let store = quirky(Quirk::IgnoresIfNoneMatch, &clock).await;
    let guard = store.lock("x").ttl(TTL).keeper(false).acquire().await.expect("acquires");
    std::mem::forget(guard);
    let began = clock.now().boot;
    let waiter = store.lock("x").ttl(TTL).store_clock(false);
    let waiting = tokio::spawn(async move { waiter.acquire().await });
    while !waiting.is_finished() {
        clock.advance(SECOND / 10);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert!(waiting.await.expect("no panic").is_ok());
    let waited = clock.now().boot.since(began);
    assert!(waited >= Duration::from_millis(30_650) && waited < TTL + SECOND, "{waited:?}");
}

#[tokio::test]
async fn nothing_read_is_not_taken_for_nothing_there() {
    let store = quirky(Quirk::NeverModified, &ManualClock::new()).await;
    let error = store.lock("x").try_acquire().await.expect_err("makes no sense");
    assert_eq!(error.kind(), ErrorKind::UnfitStore, "{error:?}");
}

#[tokio::test]
async fn a_write_without_a_name_is_read_back() {
    let clock = ManualClock::new();
    let store = quirky(Quirk::NoETag, &clock).await;
    let guard = store.lock("x").acquire().await.expect("acquires");
    guard.renew().await.expect("renews");
    assert!(held(&store.lock("x")).await);
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    assert!(!held(&store.lock("x")).await);
}
