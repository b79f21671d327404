//! Fenced objects and optimistic updates: the same tests on every store, then what needs a store
//! that fails on command.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use leaselock::fencing::{Claimed, Fence, Objects};
use leaselock::{ErrorKind, FencingToken, LockGuard, Release, Store};
use leaselock_test_support::clock::eventually;
use leaselock_test_support::counting::{CountingStore, Counts, FailKind};
use leaselock_test_support::emulators::Backend;
use leaselock_test_support::on_every_store;
use leaselock_test_support::place::Place;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectStore, ObjectStoreExt, PutOptions};

on_every_store!(
    a_successors_claim_fences_out_whoever_was_before,
    what_does_not_exist_is_claimed_too,
    equal_contents_do_not_let_an_old_writer_through,
    new_objects_never_replace_anything,
    a_fenced_put_claims_and_writes,
    attributes_of_the_users_stay,
    updates_by_many_are_all_there,
    changes_past_the_fence_are_noticed,
    records_of_locks_are_not_written,
    a_store_of_the_users_own_is_fenced,
);

/// Two acquisitions of one lock, one after the other, and the fences of both.
struct Generations {
    objects: Objects,
    old: Fence,
    new: Fence,
    _guard: LockGuard,
}

impl Generations {
    async fn on(store: &Store, objects: Objects) -> Self {
        let first = store.lock("writers").acquire().await.expect("acquires");
        let old = first.fence(&objects);
        assert_eq!(first.release().await.expect("releases"), Release::Released);
        let guard = store.lock("writers").acquire().await.expect("acquires");
        let new = guard.fence(&objects);
        assert!(new.token() > old.token());
        Self { objects, old, new, _guard: guard }
    }
}

/// A claim under a lock that is given back at once: as a paused holder's, whose lock went on.
async fn claim_and_pause(store: &Store, objects: &Objects, path: &Path) -> (FencingToken, Claimed) {
    let guard = store.lock("writers").acquire().await.expect("acquires");
    let claimed = guard.fence(objects).claim(path.clone()).await.expect("claims");
    let token = guard.token();
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    (token, claimed)
}

async fn content(objects: &Objects, path: &Path) -> Option<Bytes> {
    objects.read(path.clone()).await.expect("reads").map(leaselock::fencing::Object::into_bytes)
}

#[track_caller]
fn assert_fenced(result: leaselock::Result<()>, by_token: FencingToken) {
    let error = result.expect_err("the store refuses it");
    assert_eq!(error.kind(), ErrorKind::Fenced { by_token }, "{error:?}");
}

async fn a_successors_claim_fences_out_whoever_was_before(place: Place) {
    let store = place.open().await;
    let (objects, path) = (store.objects(), place.path("manifest.json"));
    let (first, mut paused) = claim_and_pause(&store, &objects, &path).await;
    paused.put("[1]").await.expect("nobody has claimed since");
    assert_eq!(
        objects.read(path.clone()).await.expect("is there").expect("is there").token(),
        Some(first)
    );

    let guard = store.lock("writers").acquire().await.expect("acquires");
    let mut claimed = guard.fence(&objects).claim(path.clone()).await.expect("claims");
    assert_eq!(claimed.bytes().map(|bytes| &bytes[..]), Some(&b"[1]"[..]));
    assert_fenced(paused.put("[2]").await, guard.token());
    claimed.put("[1,3]").await.expect("the latest holder writes");
    claimed.put("[1,3,4]").await.expect("again on the same claim");
    assert_fenced(paused.put("[2]").await, guard.token());
    assert_eq!(content(&objects, &path).await.expect("is there"), "[1,3,4]");
}

async fn what_does_not_exist_is_claimed_too(place: Place) {
    let store = place.open().await;
    let (objects, path) = (store.objects(), place.path("absent"));
    let (_, mut paused) = claim_and_pause(&store, &objects, &path).await;
    assert_eq!(paused.bytes(), None);
    assert_eq!(content(&objects, &path).await, None, "only a place is kept");

    let guard = store.lock("writers").acquire().await.expect("acquires");
    let mut claimed = guard.fence(&objects).claim(path.clone()).await.expect("claims");
    assert_eq!(claimed.bytes(), None);
    assert_fenced(paused.put("late").await, guard.token());
    claimed.put("").await.expect("puts");
    assert_eq!(content(&objects, &path).await.expect("is there"), "", "empty is not absent");
}

/// On S3 an ETag is a digest of the body: a stamp in metadata alone would not change it.
async fn equal_contents_do_not_let_an_old_writer_through(place: Place) {
    let store = place.open().await;
    let (objects, path) = (store.objects(), place.path("same"));
    objects.update(path.clone(), |_| Some("same")).await.expect("makes it");
    let (_, mut paused) = claim_and_pause(&store, &objects, &path).await;
    let guard = store.lock("writers").acquire().await.expect("acquires");
    let mut claimed = guard.fence(&objects).claim(path.clone()).await.expect("claims");
    assert_fenced(paused.put("old").await, guard.token());
    claimed.put("other").await.expect("puts");
    claimed.put("same").await.expect("puts what was there before");
    assert_fenced(paused.put("old").await, guard.token());
    assert_eq!(content(&objects, &path).await.expect("is there"), "same");
}

async fn new_objects_never_replace_anything(place: Place) {
    let store = place.open().await;
    let generations = Generations::on(&store, store.objects()).await;
    let path = place.path("data/part-1");
    generations.old.put_new(path.clone(), "rows").await.expect("is new");
    for fence in [&generations.old, &generations.new] {
        let error = fence.put_new(path.clone(), "other").await.expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
    }
    assert_eq!(content(&generations.objects, &path).await.expect("is there"), "rows");
    assert_eq!(place.get("data/part-1").await, b"rows", "nothing is added to it on any store");
}

async fn a_fenced_put_claims_and_writes(place: Place) {
    let store = place.open().await;
    let generations = Generations::on(&store, store.objects()).await;
    let path = place.path("pointer");
    generations.old.put_fenced(path.clone(), "1").await.expect("nobody has claimed");
    generations.new.put_fenced(path.clone(), "2").await.expect("a later holder may");
    assert_fenced(generations.old.put_fenced(path.clone(), "1").await, generations.new.token());
    generations.new.put_fenced(path.clone(), "3").await.expect("again");
    assert_eq!(content(&generations.objects, &path).await.expect("is there"), "3");
    let error = generations.old.claim(path.clone()).await.expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::Lost, "its guard is gone: {error:?}");
}

async fn attributes_of_the_users_stay(place: Place) {
    let store = place.open().await;
    let path = place.path("annotated.csv");
    let of_the_user = Attributes::from_iter([
        (Attribute::ContentType, "text/csv"),
        (Attribute::CacheControl, "max-age=60"),
        (Attribute::Metadata("author".into()), "somebody"),
    ]);
    let options = PutOptions { attributes: of_the_user.clone(), ..PutOptions::default() };
    place.object_store().put_opts(&path, "a,b\n".into(), options).await.expect("is put");

    let generations = Generations::on(&store, store.objects()).await;
    let mut claimed = generations.new.claim(path.clone()).await.expect("claims");
    assert_eq!(claimed.path(), &path);
    assert_eq!(kept(claimed.attributes()), kept(&of_the_user));
    claimed.put("a,b\n1,2\n").await.expect("puts");
    let read = generations.objects.read(path.clone()).await.expect("is there").expect("is there");
    assert_eq!(kept(read.attributes()), kept(&of_the_user));
    claimed.attributes_mut().insert(Attribute::Metadata("author".into()), "me".into());
    claimed.put("").await.expect("puts");
    let read = generations.objects.read(path).await.expect("is there").expect("is there");
    let author = read.attributes().get(&Attribute::Metadata("author".into()));
    assert_eq!(author.map(|author| author.as_ref()), Some("me"));
}

/// Servers add a content type of their own, and the like: what was said is compared.
fn kept(attributes: &Attributes) -> Vec<(String, String)> {
    let mut kept: Vec<_> = attributes
        .iter()
        .filter(|(attribute, _)| {
            matches!(
                attribute,
                Attribute::ContentType | Attribute::CacheControl | Attribute::Metadata(_)
            )
        })
        .map(|(attribute, value)| (format!("{attribute:?}"), value.to_string()))
        .collect();
    kept.sort();
    kept
}

async fn updates_by_many_are_all_there(place: Place) {
    let writers = place.backend().max_racers().min(4);
    let rounds = if place.backend() == Backend::Seaweedfs { 2 } else { 5 };
    let path = place.path("counter");
    let mut tasks = Vec::new();
    for _ in 0..writers {
        let (objects, path) = (place.open().await.objects(), path.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..rounds {
                let count = |old: Option<&Bytes>| {
                    let old = old.map_or(0, |old| text(old).parse::<u32>().expect("a number"));
                    Some((old + 1).to_string())
                };
                objects.update(path.clone(), count).await.expect("updates").expect("is written");
            }
        }));
    }
    for task in tasks {
        task.await.expect("no task fails");
    }
    let objects = place.open().await.objects();
    let total = content(&objects, &path).await.expect("is there");
    assert_eq!(text(&total), (writers * rounds).to_string());
    let declined = objects.update(path.clone(), |_| None::<Bytes>).await.expect("reads");
    assert_eq!(declined, None);
    assert_eq!(content(&objects, &path).await.expect("is there"), total);
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).expect("is text")
}

async fn changes_past_the_fence_are_noticed(place: Place) {
    let store = place.open().await;
    let generations = Generations::on(&store, store.objects()).await;
    let path = place.path("shared");
    let mut claimed = generations.new.claim(path.clone()).await.expect("claims");
    generations.objects.update(path.clone(), |_| Some("unfenced")).await.expect("updates");
    let error = claimed.put("mine").await.expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");

    let mut claimed = generations.new.claim(path.clone()).await.expect("claims again");
    assert_eq!(claimed.bytes().expect("is there"), "unfenced");
    place.delete("shared").await;
    let error = claimed.put("mine").await.expect_err("is refused");
    assert!(
        matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Unconfirmed),
        "it is gone, and whether it was written before that nobody can tell: {error:?}"
    );
}

async fn records_of_locks_are_not_written(place: Place) {
    let store = place.open().await;
    let generations = Generations::on(&store, store.objects()).await;
    for key in ["writers.lock", "runs.once", ".leaselock/check-1"] {
        let path = place.path(key);
        for error in [
            generations.new.claim(path.clone()).await.expect_err("is refused"),
            generations.new.put_new(path.clone(), "").await.expect_err("is refused"),
            generations.new.put_fenced(path.clone(), "").await.expect_err("is refused"),
            generations.objects.update(path.clone(), |_| Some("")).await.expect_err("is refused"),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidName, "{key}: {error:?}");
        }
    }
}

/// Locks in memory, objects elsewhere, through a client that the library knows nothing of.
async fn a_store_of_the_users_own_is_fenced(place: Place) {
    let store = leaselock::open("memory:///").await.expect("opens");
    let objects = store.objects_on(place.object_store());
    let path = place.path("elsewhere");
    let (_, mut paused) = claim_and_pause(&store, &objects, &path).await;
    paused.put("same").await.expect("puts");
    let (second, mut claimed) = claim_and_pause(&store, &objects, &path).await;
    assert_fenced(paused.put("late").await, second);
    claimed.put("same").await.expect("puts");
    assert_fenced(paused.put("late").await, second);
    assert_eq!(content(&objects, &path).await.expect("is there"), "same");
}

#[tokio::test]
async fn a_store_without_metadata_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let local =
        object_store::local::LocalFileSystem::new_with_prefix(folder.path()).expect("is there");
    let store = leaselock::open("memory:///").await.expect("opens");
    let objects = store.objects_on(Arc::new(local));
    let guard = store.lock("x").acquire().await.expect("acquires");
    let error = guard.fence(&objects).claim("y").await.expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::UnfitStore);
    assert!(error.to_string().contains("metadata"), "{error}");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("is there").count(),
        0,
        "nothing stays behind"
    );
}

#[tokio::test]
async fn a_damaged_stamp_is_named_and_left_untouched() {
    let place = Place::on(Backend::Memory).expect("is always there");
    let store = place.open().await;
    let attributes = Attributes::from_iter([
        (Attribute::Metadata("leaselocktoken".into()), "many"),
        (Attribute::Metadata("leaselockmarks".into()), "0123456789abcdef"),
    ]);
    let options = PutOptions { attributes, ..PutOptions::default() };
    let path = place.path("x");
    place.object_store().put_opts(&path, "content".into(), options).await.expect("is put");
    let guard = store.lock("l").acquire().await.expect("acquires");
    let fence = guard.fence(&store.objects());
    for error in [
        fence.claim("x").await.expect_err("is refused"),
        fence.put_fenced("x", "y").await.expect_err("is refused"),
        store.objects().read("x").await.expect_err("is refused"),
    ] {
        assert_eq!(error.kind(), ErrorKind::UnreadableRecord);
        let cause = std::error::Error::source(&error).expect("says why").to_string();
        assert!(cause.contains("leaselocktoken") && cause.contains("many"), "{cause}");
    }
    assert_eq!(place.get("x").await, b"content");
}

/// A lock in memory, and objects on a store that counts and fails.
struct Bench {
    store: Store,
    inner: Arc<InMemory>,
    counting: CountingStore,
    objects: Objects,
    guard: LockGuard,
}

impl Bench {
    async fn new() -> Self {
        let store = leaselock::open("memory:///").await.expect("opens");
        let inner = Arc::new(InMemory::new());
        let counting = CountingStore::new(Arc::clone(&inner) as _).ignoring(".leaselock");
        let objects = store.objects_on(counting.as_store());
        let guard = store.lock("writers").acquire().await.expect("acquires");
        // The store's fitness is checked now and not later.
        guard.fence(&objects).put_new("warm", "").await.expect("is written");
        counting.reset();
        Self { store, inner, counting, objects, guard }
    }

    fn fence(&self) -> Fence {
        self.guard.fence(&self.objects)
    }

    /// Objects of another process.
    fn others(&self) -> Objects {
        self.store.objects_on(Arc::clone(&self.inner) as _)
    }

    /// A later holder's fence; this one's guard is lost.
    async fn successor(&self) -> (LockGuard, Fence) {
        self.store.lock("writers").break_lease(leaselock::Break::force()).await.expect("breaks");
        let guard = self.store.lock("writers").acquire().await.expect("acquires");
        let fence = guard.fence(&self.others());
        (guard, fence)
    }

    fn spent(&self) -> Counts {
        let counts = self.counting.counts();
        self.counting.reset();
        counts
    }
}

fn counts(gets: u64, creates: u64, updates: u64) -> Counts {
    Counts { gets, creates, updates, ..Counts::default() }
}

#[tokio::test]
async fn requests_are_as_few_as_can_be() {
    let bench = Bench::new().await;
    let fence = bench.fence();
    let mut claimed = fence.claim("x").await.expect("claims");
    assert_eq!(bench.spent(), counts(1, 1, 0), "a claim of what does not exist");
    claimed.put("1").await.expect("puts");
    assert_eq!(bench.spent(), counts(0, 0, 1), "a put");
    claimed.put("2").await.expect("puts");
    assert_eq!(bench.spent(), counts(0, 0, 1), "another put");
    fence.claim("x").await.expect("claims");
    assert_eq!(bench.spent(), counts(1, 0, 0), "a claim of what is claimed");
    fence.put_fenced("x", "3").await.expect("puts");
    assert_eq!(bench.spent(), counts(1, 0, 1), "a fenced put");
    fence.put_new("y", "3").await.expect("puts");
    assert_eq!(bench.spent(), counts(0, 1, 0), "a new object");
    bench.objects.update("y", |_| Some("4")).await.expect("updates");
    assert_eq!(bench.spent(), counts(1, 0, 1), "an update");
    let (_guard, _) = bench.successor().await;
    let guard = bench.store.lock("other").acquire().await.expect("acquires");
    drop(guard.fence(&bench.objects).claim("y").await.expect("claims"));
    assert_eq!(bench.spent(), counts(1, 0, 1), "a claim of what exists");
}

#[tokio::test]
async fn own_writes_are_recognised_whatever_the_store_says() {
    for kind in [
        FailKind::BeforeGeneric,
        FailKind::AfterGeneric,
        FailKind::AfterAlreadyExists,
        FailKind::AfterPrecondition,
        FailKind::BeforeConflict409,
    ] {
        let bench = Bench::new().await;
        let fence = bench.fence();
        let fail = || bench.counting.fail_next_puts(1, kind);
        fail();
        let mut claimed = fence.claim("x").await.unwrap_or_else(|e| panic!("{kind:?}: {e:?}"));
        fail();
        claimed.put("1").await.unwrap_or_else(|e| panic!("{kind:?}: {e:?}"));
        fail();
        fence.put_fenced("x", "2").await.unwrap_or_else(|e| panic!("{kind:?}: {e:?}"));
        fail();
        fence.put_new("y", "3").await.unwrap_or_else(|e| panic!("{kind:?}: {e:?}"));
        fail();
        let mut calls = 0;
        let append = |old: Option<&Bytes>| {
            calls += 1;
            Some([old.expect("is there"), &b"!"[..]].concat())
        };
        bench.objects.update("y", append).await.unwrap_or_else(|e| panic!("{kind:?}: {e:?}"));
        assert_eq!(calls, 1, "{kind:?}: a write of one's own is no rival's");
        assert_eq!(content(&bench.others(), &"x".into()).await.expect("is there"), "2", "{kind:?}");
        assert_eq!(
            content(&bench.others(), &"y".into()).await.expect("is there"),
            "3!",
            "{kind:?}"
        );
    }
}

/// A put lands, its answer is lost, and before the writer can look somebody claims the object.
#[tokio::test]
async fn a_put_that_landed_and_was_superseded_is_told_from_one_that_never_did() {
    for (kind, landed) in [(FailKind::AfterGeneric, true), (FailKind::BeforeGeneric, false)] {
        let bench = Bench::new().await;
        let mut claimed = bench.fence().claim("x").await.expect("claims");
        claimed.put("1").await.expect("puts");
        let (guard, successor) = bench.successor().await;
        bench.counting.fail_gets(true);
        bench.counting.fail_next_puts(1, kind);
        bench.counting.reset();
        let writing = tokio::spawn(async move {
            let result = claimed.put("2").await;
            (result, claimed)
        });
        eventually("the writer wants to look", || bench.counting.counts().gets > 0).await;
        let theirs = successor.claim("x").await.expect("claims");
        let expected = if landed { "2" } else { "1" };
        assert_eq!(theirs.bytes().expect("is there"), expected);
        bench.counting.fail_gets(false);
        let (result, mut claimed) = writing.await.expect("does not panic");
        if landed {
            result.expect("it was written, in its time");
        } else {
            assert_fenced(result, guard.token());
        }
        assert_fenced(claimed.put("3").await, guard.token());
        assert_eq!(content(&bench.others(), &"x".into()).await.expect("is there"), expected);
    }
}

/// So many writes follow that the object does not remember.
#[tokio::test]
async fn what_cannot_be_known_is_not_guessed() {
    for kind in [FailKind::AfterGeneric, FailKind::BeforeGeneric] {
        let bench = Bench::new().await;
        let mut claimed = bench.fence().claim("x").await.expect("claims");
        let (_guard, successor) = bench.successor().await;
        bench.counting.fail_gets(true);
        bench.counting.fail_next_puts(1, kind);
        bench.counting.reset();
        let writing = tokio::spawn(async move { claimed.put("2").await });
        eventually("the writer wants to look", || bench.counting.counts().gets > 0).await;
        let mut theirs = successor.claim("x").await.expect("claims");
        for round in 0..24 {
            theirs.put(round.to_string()).await.expect("puts");
        }
        bench.counting.fail_gets(false);
        let error = writing.await.expect("does not panic").expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::Unconfirmed, "{kind:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_put_that_was_dropped_is_finished_and_does_not_refuse_the_next() {
    let bench = Bench::new().await;
    let mut claimed = bench.fence().claim("x").await.expect("claims");
    bench.counting.hold_put_answers();
    {
        let mut dropped = Box::pin(claimed.put("dropped"));
        let held = eventually("it has landed", || bench.counting.held() > 0);
        tokio::select! {
            _ = &mut dropped => panic!("its answer is held back"),
            () = held => {}
        }
    }
    assert_eq!(content(&bench.others(), &"x".into()).await.expect("is there"), "dropped");
    bench.counting.release_puts();
    claimed.put("next").await.expect("replaces what was its own");
    assert_eq!(content(&bench.others(), &"x".into()).await.expect("is there"), "next");
}

#[tokio::test]
async fn an_outage_ends_with_an_honest_error_and_the_claim_goes_on_after_it() {
    let bench = Bench::new().await;
    let objects = bench.objects.clone().patience(Duration::from_millis(300));
    let mut claimed = bench.guard.fence(&objects).claim("x").await.expect("claims");
    bench.counting.fail_gets(true);
    bench.counting.fail_next_puts(1, FailKind::AfterGeneric);
    let error = claimed.put("1").await.expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::Unconfirmed, "{error:?}");
    bench.counting.fail_gets(false);
    claimed.put("2").await.expect("goes on from what has landed");
    assert_eq!(content(&bench.others(), &"x".into()).await.expect("is there"), "2");
    let error = {
        bench.counting.fail_gets(true);
        objects.read("x").await.expect_err("is refused")
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn an_update_that_is_always_overtaken_ends_with_its_patience() {
    let bench = Bench::new().await;
    let objects = bench.objects.clone().patience(Duration::from_millis(500));
    let (path, mut calls) = (Path::from("x"), 0_u32);
    let error = objects
        .update(path.clone(), |_| {
            calls += 1;
            let others = bench.inner.put(&path, calls.to_string().into());
            futures::executor::block_on(others).expect("is written");
            Some("mine")
        })
        .await
        .expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!((2..100).contains(&calls), "it pauses between its rounds: {calls}");
    let there = content(&bench.others(), &path).await.expect("is there");
    assert_eq!(text(&there), calls.to_string());
}

/// Two tasks of one holder have one token: neither may clobber the other.
#[tokio::test]
async fn claims_of_one_holder_do_not_overwrite_each_other() {
    let bench = Bench::new().await;
    let (mut one, mut two) = (
        bench.fence().claim("x").await.expect("is there"),
        bench.fence().claim("x").await.expect("is there"),
    );
    one.put("1").await.expect("puts");
    let error = two.put("2").await.expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert_eq!(content(&bench.others(), &"x".into()).await.expect("is there"), "1");
}

#[tokio::test]
async fn bodies_are_padded_only_where_they_must_be() {
    let store = leaselock::open("memory:///").await.expect("opens");
    let guard = store.lock("x").acquire().await.expect("acquires");
    let raw: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let length = async |path: &str| raw.head(&path.into()).await.expect("is there").size;

    let unknown = store.objects_on(Arc::clone(&raw));
    guard.fence(&unknown).put_fenced("padded", "content").await.expect("puts");
    assert_eq!(length("padded").await, 7 + 64);
    unknown.update("updated", |_| Some("content")).await.expect("updates");
    assert_eq!(length("updated").await, 7 + 64);
    let distinct = unknown.clone().distinct_e_tags(true);
    guard.fence(&distinct).put_fenced("plain", "content").await.expect("puts");
    assert_eq!(length("plain").await, 7);
    // The next writer takes the padding off.
    assert_eq!(content(&distinct, &"padded".into()).await.expect("is there"), "content");
    guard.fence(&distinct).claim("padded").await.expect("is there").put("new").await.expect("puts");
    assert_eq!(length("padded").await, 3);
}

/// Nothing lies between a process and its directory that could send a write twice.
#[tokio::test]
async fn a_refusal_without_a_network_is_final() {
    let folder = tempfile::tempdir().expect("a folder");
    for url in [format!("file://{}", folder.path().display()), "memory:///".to_owned()] {
        let store = leaselock::open(&url).await.expect("opens");
        let (objects, path) = (store.objects(), Path::from("busy"));
        let (_, mut paused) = claim_and_pause(&store, &objects, &path).await;
        let guard = store.lock("writers").acquire().await.expect("acquires");
        let mut claimed = guard.fence(&objects).claim(path.clone()).await.expect("claims");
        for round in 0..30 {
            claimed.put(round.to_string()).await.expect("puts");
        }
        assert_fenced(paused.put("late").await, guard.token());
    }
}

#[tokio::test]
async fn data_can_be_written_before_the_lock_is_held() {
    let store = Store::builder("memory:///").prefix("locks").open().await.expect("opens");
    let objects = store.objects();
    let path = Path::from(format!("{}/part-1", store.prefix()));
    objects.put_new(path.clone(), "rows").await.expect("is new");
    let error = objects.put_new(path.clone(), "rows").await.expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let read = objects.read(path).await.expect("reads").expect("is there");
    assert_eq!((read.bytes().as_ref(), read.token()), (&b"rows"[..], None));
}
