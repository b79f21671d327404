//! What is held beside others, in turn, or under a session: on every store.

#![allow(clippy::disallowed_methods, reason = "waits in real time, with generous bounds")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use leaselock::record::Record;
use leaselock::{
    Break, ErrorKind, LeasePhase, LockGuard, LockState, LossReason, Release, Runtime, Store,
};
use leaselock_test_support::clock::eventually_so;
use leaselock_test_support::counting::CountingStore;
use leaselock_test_support::on_every_store;
use leaselock_test_support::place::Place;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

on_every_store!(
    readers_share_and_a_writer_is_alone,
    a_waiting_writer_keeps_new_readers_out,
    a_writer_becomes_a_reader_without_a_gap,
    writers_tokens_exceed_those_of_readers_before,
    permits_never_exceed_the_limit,
    many_permits_are_had_at_once_or_not_at_all,
    another_limit_is_an_error_and_resizing_is_explicit,
    a_name_belongs_to_one_primitive,
    the_queue_is_served_in_order,
    a_released_lock_goes_to_the_next_in_the_same_write,
    a_waiter_that_gives_up_leaves_the_queue,
    a_newcomer_does_not_pass_the_queue,
    counting_under_a_fair_lock_loses_nothing,
    a_session_holds_many_locks,
    a_closed_session_gives_everything_back,
    breaking_what_is_held_under_a_session_ends_the_session,
    a_dead_sessions_locks_are_taken_over,
    a_dead_waiter_does_not_stop_the_queue,
    shutdown_gives_everything_back,
);

/// Under which only little time passes in vain.
const TTL: Duration = Duration::from_secs(2);
/// Longer than anything should take on a slow machine.
const LONG: Duration = Duration::from_secs(60);

/// Waits until so many wait in the queue.
async fn queue_of(store: &Store, name: &str, length: usize) {
    let lock = store.lock(name);
    eventually_so(&format!("{length} in the queue"), async || {
        lock.inspect().await.expect("reads").waiters.len() == length
    })
    .await;
}

async fn released(guard: LockGuard) {
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
}

async fn readers_share_and_a_writer_is_alone(place: Place) {
    let (store, other) = (place.open().await, place.open().await);
    let (ours, theirs) = (store.rwlock("table"), other.rwlock("table"));
    let readers = join_all([ours.read(), ours.read(), theirs.read()]).await;
    let readers: Vec<_> = readers.into_iter().map(|guard| guard.expect("reads")).collect();
    let tokens: BTreeSet<_> = readers.iter().map(LockGuard::token).collect();
    assert_eq!(tokens.len(), 3, "each has a token of its own");
    assert!(theirs.try_write().await.expect("is answered").acquired().is_none());
    let info = ours.inspect().await.expect("reads");
    assert_eq!((info.holders.len(), info.state), (3, LockState::Held));
    for reader in readers {
        released(reader).await;
    }
    let writer = theirs.try_write().await.expect("is answered").acquired().expect("is free");
    assert!(ours.try_read().await.expect("is answered").acquired().is_none());
    assert!(ours.try_write().await.expect("is answered").acquired().is_none());
    assert_eq!(writer.release().await.expect("releases"), Release::Released);
}

async fn a_waiting_writer_keeps_new_readers_out(place: Place) {
    let store = place.open().await;
    let table = store.rwlock("table");
    let reader = table.read().await.expect("reads");
    let writing = tokio::spawn({
        let table = place.open().await.rwlock("table");
        async move { table.write().await.expect("writes") }
    });
    queue_of(&store, "table", 1).await;
    let refused = table.try_read().await.expect("is answered");
    assert!(refused.acquired().is_none(), "a writer came before");
    let late = tokio::spawn({
        let table = table.clone();
        async move { table.read().await.expect("reads") }
    });
    queue_of(&store, "table", 2).await;
    released(reader).await;
    let writer = writing.await.expect("no panic");
    assert!(!late.is_finished());
    let before = writer.token();
    assert_eq!(writer.release().await.expect("releases"), Release::Released);
    let late = late.await.expect("no panic");
    assert!(late.token() > before);
    released(late).await;
}

async fn a_writer_becomes_a_reader_without_a_gap(place: Place) {
    let store = place.open().await;
    let table = store.rwlock("table");
    let writer = table.write().await.expect("writes");
    let reading = tokio::spawn({
        let table = table.clone();
        async move { table.read().await.expect("reads") }
    });
    queue_of(&store, "table", 1).await;
    let writing = tokio::spawn({
        let table = table.clone();
        async move { table.write().await.expect("writes") }
    });
    queue_of(&store, "table", 2).await;
    let (token, id) = (writer.token(), writer.id());
    let reader = writer.downgrade().await.expect("downgrades");
    assert_eq!((reader.token(), reader.id()), (token, id));
    let other = reading.await.expect("no panic");
    assert!(reader.is_held() && other.is_held() && !writing.is_finished());
    released(reader).await;
    released(other).await;
    let last = writing.await.expect("no panic");
    assert_eq!(last.release().await.expect("releases"), Release::Released);
}

async fn writers_tokens_exceed_those_of_readers_before(place: Place) {
    let store = place.open().await;
    let table = store.rwlock("table");
    let mut highest = None;
    for _ in 0..3 {
        for _ in 0..3 {
            let reader = table.read().await.expect("reads");
            assert!(Some(reader.token()) > highest);
            highest = Some(reader.token());
            released(reader).await;
        }
        let writer = table.write().await.expect("writes");
        assert!(Some(writer.token()) > highest);
        highest = Some(writer.token());
        writer.release().await.expect("releases");
    }
}

async fn permits_never_exceed_the_limit(place: Place) {
    let (inside, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let stores = [place.open().await, place.open().await];
    let tasks = (0..8_usize).map(|number| {
        let semaphore = stores[number % 2].semaphore("licences", 3);
        let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
        tokio::spawn(async move {
            for _ in 0..3 {
                let permits = 1 + number as u32 % 2;
                let guard = semaphore.acquire_many(permits).await.expect("acquires");
                let now = inside.fetch_add(permits, Ordering::SeqCst) + permits;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                inside.fetch_sub(permits, Ordering::SeqCst);
                released(guard).await;
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("no panic");
    }
    assert!(most.load(Ordering::SeqCst) <= 3, "{most:?}");
    let info = stores[0].semaphore("licences", 3).inspect().await.expect("reads");
    assert_eq!((info.state, info.limit, info.waiters.len()), (LockState::Free, Some(3), 0));
}

async fn many_permits_are_had_at_once_or_not_at_all(place: Place) {
    let store = place.open().await;
    let licences = store.semaphore("licences", 4);
    let one = licences.acquire().await.expect("acquires");
    assert!(licences.try_acquire_many(4).await.expect("is answered").acquired().is_none());
    let three = licences.try_acquire_many(3).await.expect("is answered").acquired();
    let three = three.expect("are there");
    // Whoever wants many is not passed by those who want few.
    let many = tokio::spawn({
        let licences = licences.clone();
        async move { licences.acquire_many(4).await.expect("acquires") }
    });
    queue_of(&store, "licences", 1).await;
    released(three).await;
    assert!(licences.try_acquire().await.expect("is answered").acquired().is_none());
    assert!(!many.is_finished());
    released(one).await;
    released(many.await.expect("no panic")).await;
    for (limit, permits) in [(4, 5), (4, 0), (0, 1), (65_537, 1)] {
        let error = store.semaphore("bad", limit).acquire_many(permits).await;
        assert_eq!(error.expect_err("is refused").kind(), ErrorKind::InvalidOptions);
    }
}

async fn another_limit_is_an_error_and_resizing_is_explicit(place: Place) {
    let store = place.open().await;
    let (two, three) = (store.semaphore("licences", 2), store.semaphore("licences", 3));
    let missing = two.resize(3).await.expect_err("is not there yet");
    assert_eq!(missing.kind(), ErrorKind::NotHeld);
    let guards = [two.acquire().await.expect("acquires"), two.acquire().await.expect("acquires")];
    let error = three.acquire().await.expect_err("has two permits");
    assert_eq!(error.kind(), ErrorKind::LimitMismatch { stored: 2 });
    let error = three.resize(5).await.expect_err("has two permits");
    assert_eq!(error.kind(), ErrorKind::LimitMismatch { stored: 2 });
    // One permit fewer than are held: nobody is put out, and nobody enters.
    let one = two.resize(1).await.expect("resizes");
    assert!(guards.iter().all(LockGuard::is_held));
    assert!(one.try_acquire().await.expect("is answered").acquired().is_none());
    let [first, second] = guards;
    released(first).await;
    assert!(one.try_acquire().await.expect("is answered").acquired().is_none());
    released(second).await;
    released(one.try_acquire().await.expect("is answered").acquired().expect("is free")).await;
    let error = two.acquire().await.expect_err("has one permit");
    assert_eq!(error.kind(), ErrorKind::LimitMismatch { stored: 1 });
    // More permits let those in who wait.
    let held = one.acquire().await.expect("acquires");
    let waiting = tokio::spawn({
        let one = one.clone();
        async move { one.acquire().await }
    });
    queue_of(&store, "licences", 1).await;
    one.resize(2).await.expect("resizes");
    let second = waiting.await.expect("no panic");
    // It entered, or it saw the new number first: then it says so.
    match second {
        Ok(guard) => released(guard).await,
        Err(error) => assert_eq!(error.kind(), ErrorKind::LimitMismatch { stored: 2 }),
    }
    released(held).await;
}

async fn a_name_belongs_to_one_primitive(place: Place) {
    let store = place.open().await;
    released(store.lock("lock").acquire().await.expect("acquires")).await;
    released(store.rwlock("rwlock").read().await.expect("reads")).await;
    released(store.semaphore("semaphore", 2).acquire().await.expect("acquires")).await;
    let kinds = ["lock", "rwlock", "semaphore"];
    for name in kinds {
        let before = store.lock(name).inspect().await.expect("reads").to_json();
        let errors = [
            store.lock(name).acquire().await.map(drop),
            store.lock(name).fair().try_acquire().await.map(drop),
            store.rwlock(name).write().await.map(drop),
            store.semaphore(name, 2).acquire().await.map(drop),
            store.semaphore(name, 2).resize(3).await.map(drop),
        ];
        let of_kind = [0, 0, 1, 2, 2];
        for (error, kind) in errors.into_iter().zip(of_kind) {
            if kinds[kind] == name {
                continue;
            }
            let error = error.expect_err("is something else");
            assert_eq!(error.kind(), ErrorKind::WrongKind, "{error:?}");
            assert!(error.to_string().contains(name), "{error}");
        }
        let after = store.lock(name).inspect().await.expect("reads");
        assert_eq!(after.kind.map(|kind| kind.as_str()), Some(name));
        if name == "lock" {
            continue;
        }
        assert_eq!(after.token, store.lock(name).inspect().await.expect("reads").token);
        assert!(before.contains(&format!("\"kind\": \"{name}\"")), "{before}");
    }
}

async fn the_queue_is_served_in_order(place: Place) {
    let store = place.open().await;
    let holder = store.lock("x").fair().acquire().await.expect("acquires");
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..4 {
        let lock = place.open().await.lock("x").fair().owner(number.to_string());
        let order = Arc::clone(&order);
        tasks.push(tokio::spawn(async move {
            let guard = lock.acquire().await.expect("acquires");
            order.lock().expect("no panic").push((number, guard.token()));
            released(guard).await;
        }));
        queue_of(&store, "x", number + 1).await;
    }
    let info = store.lock("x").inspect().await.expect("reads");
    let labels: Vec<_> = info.waiters.iter().map(|waiter| waiter.owner.label.as_str()).collect();
    assert_eq!(labels, ["0", "1", "2", "3"]);
    let token = holder.token();
    released(holder).await;
    for task in tasks {
        task.await.expect("no panic");
    }
    let order = order.lock().expect("no panic");
    let numbers: Vec<_> = order.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert!(order[0].1 > token && order.windows(2).all(|pair| pair[0].1 < pair[1].1));
}

async fn a_released_lock_goes_to_the_next_in_the_same_write(place: Place) {
    let store = place.open().await;
    // Who waits in the queue need not care how the lock is held.
    let holder = store.lock("x").acquire().await.expect("acquires");
    let waiting = tokio::spawn({
        let lock = place.open().await.lock("x").fair();
        async move { lock.acquire().await.expect("acquires") }
    });
    queue_of(&store, "x", 1).await;
    released(holder).await;
    let info = store.lock("x").inspect().await.expect("reads");
    assert_eq!((info.holders.len(), info.waiters.len()), (1, 0), "was never free");
    let next = waiting.await.expect("no panic");
    assert_eq!(info.holders[0].id, next.id());
    assert_eq!(info.holders[0].token, next.token());
    released(next).await;
}

async fn a_waiter_that_gives_up_leaves_the_queue(place: Place) {
    let store = place.open().await;
    let holder = store.lock("x").acquire().await.expect("acquires");
    let lock = place.open().await.lock("x").fair();
    let soon = lock.acquire_timeout(Duration::from_millis(300)).await.expect("is answered");
    assert!(soon.acquired().is_none());
    queue_of(&store, "x", 0).await;
    let waiting = tokio::spawn(async move { lock.acquire().await.map(drop) });
    queue_of(&store, "x", 1).await;
    waiting.abort();
    queue_of(&store, "x", 0).await;
    released(holder).await;
    assert_eq!(store.lock("x").inspect().await.expect("reads").state, LockState::Free);
}

async fn a_newcomer_does_not_pass_the_queue(place: Place) {
    let store = place.open().await;
    let table = store.rwlock("table");
    let writer = table.write().await.expect("writes");
    let waiting = tokio::spawn({
        let table = place.open().await.rwlock("table");
        async move { table.write().await.expect("writes") }
    });
    queue_of(&store, "table", 1).await;
    let reader = writer.downgrade().await.expect("downgrades");
    assert!(table.try_read().await.expect("is answered").acquired().is_none());
    released(reader).await;
    waiting.await.expect("no panic").release().await.expect("releases");
}

async fn counting_under_a_fair_lock_loses_nothing(place: Place) {
    let counter = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (lock, counter) = (place.open().await.lock("x").fair(), Arc::clone(&counter));
        tasks.push(tokio::spawn(async move {
            for _ in 0..5 {
                let guard = lock.acquire().await.expect("acquires");
                let seen = counter.load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                counter.store(seen + 1, Ordering::SeqCst);
                released(guard).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(counter.load(Ordering::SeqCst), 20);
}

async fn a_session_holds_many_locks(place: Place) {
    let (store, other) = (place.open().await, place.open().await);
    let session = store.session().open().await.expect("opens");
    let mut guards = Vec::new();
    for number in 0..5 {
        let lock = session.lock(format!("shards/{number}"));
        guards.push(lock.acquire().await.expect("acquires"));
    }
    let info = other.lock("shards/0").inspect().await.expect("reads");
    assert_eq!(info.holders[0].session, Some(session.id()));
    assert!(other.lock("shards/0").try_acquire().await.expect("is answered").acquired().is_none());
    let left: Vec<_> = guards.iter().map(LockGuard::remaining).collect();
    assert!(left.iter().all(|left| *left > Duration::from_secs(20)), "{left:?}");
    released(guards.remove(0)).await;
    let now = other.lock("shards/0").try_acquire().await.expect("is answered");
    released(now.acquired().expect("is free")).await;
    let permit = session.semaphore("licences", 1).acquire().await.expect("acquires");
    let reader = session.rwlock("table").read().await.expect("reads");
    assert!(guards.iter().chain([&permit, &reader]).all(LockGuard::is_held));
    drop(guards);
    let again = other.lock("shards/4").acquire_timeout(LONG).await.expect("is answered");
    released(again.acquired().expect("was dropped")).await;
    let another = session.lock("x").ttl(TTL).acquire().await.expect_err("has another TTL");
    assert_eq!(another.kind(), ErrorKind::InvalidOptions);
}

async fn a_closed_session_gives_everything_back(place: Place) {
    let (store, other) = (place.open().await, place.open().await);
    let session = store.session().open().await.expect("opens");
    let guards = join_all(
        (0..5)
            .map(|number| session.lock(format!("shards/{number}")))
            .map(|lock| async move { lock.acquire().await.expect("acquires") }),
    )
    .await;
    let watch = session.watch();
    assert_eq!(watch.status().phase, LeasePhase::Held);
    assert_eq!(session.clone().close().await.expect("closes"), Release::Released);
    assert_eq!(watch.status().phase, LeasePhase::Released);
    assert!(!session.is_held() && guards.iter().all(|guard| !guard.is_held()));
    for number in 0..5 {
        let attempt = other.lock(format!("shards/{number}")).try_acquire().await;
        released(attempt.expect("is answered").acquired().expect("is free")).await;
    }
    let error = session.lock("late").acquire().await.expect_err("is closed");
    assert_eq!(error.kind(), ErrorKind::Lost);
}

async fn breaking_what_is_held_under_a_session_ends_the_session(place: Place) {
    let (store, operator) = (place.open().await, place.open().await);
    let session = store.session().ttl(TTL).open().await.expect("opens");
    let broken = session.lock("a").acquire().await.expect("acquires");
    let beside = session.lock("b").acquire().await.expect("acquires");
    let order = Break::expecting(broken.token());
    operator.lock("a").break_lease(order).await.expect("breaks");
    for guard in [&broken, &beside] {
        let reason = tokio::time::timeout(LONG, guard.lost()).await.expect("is lost");
        assert!(matches!(reason, LossReason::TakenOver { .. } | LossReason::Expired), "{reason:?}");
    }
    let attempt = operator.lock("a").try_acquire().await.expect("is answered");
    released(attempt.acquired().expect("is free")).await;
    // Its session has ended: no need to wait.
    let attempt = operator.lock("b").try_acquire().await.expect("is answered");
    released(attempt.acquired().expect("is nobody's")).await;
}

/// A process that will die: its tasks stop for good, whatever they were doing.
struct Doomed(tokio::runtime::Runtime);

impl Doomed {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Self(builder.worker_threads(1).enable_all().build().expect("starts"))
    }

    /// Does this with a store of its own.
    async fn does<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        place: &Place,
        work: impl FnOnce(Store) -> F + Send + 'static,
    ) -> T {
        let builder = place.builder().runtime(Runtime::Current);
        let work = async move { work(builder.open().await.expect("opens")).await };
        self.0.spawn(work).await.expect("no panic")
    }

    fn dies(self) {
        self.0.shutdown_background();
    }
}

async fn a_dead_sessions_locks_are_taken_over(place: Place) {
    let doomed = Doomed::new();
    doomed
        .does(&place, async |store| {
            let session = store.session().ttl(TTL).open().await.expect("opens");
            for name in ["a", "b"] {
                std::mem::forget(session.lock(name).acquire().await.expect("acquires"));
            }
        })
        .await;
    doomed.dies();
    let store = place.open().await;
    let guard = tokio::time::timeout(LONG, store.lock("a").acquire()).await.expect("in time");
    released(guard.expect("acquires")).await;
    // The session was ended for the first: the second is taken without a wait.
    let attempt = store.lock("b").try_acquire().await.expect("is answered");
    released(attempt.acquired().expect("is nobody's")).await;
}

async fn a_dead_waiter_does_not_stop_the_queue(place: Place) {
    let store = place.open().await;
    let holder = store.lock("x").acquire().await.expect("acquires");
    let doomed = Doomed::new();
    doomed
        .does(&place, async |store| {
            drop(tokio::spawn(async move { store.lock("x").fair().ttl(TTL).acquire().await }));
        })
        .await;
    queue_of(&store, "x", 1).await;
    let next = tokio::spawn({
        let lock = place.open().await.lock("x").fair().ttl(TTL);
        async move { lock.acquire().await.expect("acquires") }
    });
    queue_of(&store, "x", 2).await;
    doomed.dies();
    released(holder).await;
    let guard = tokio::time::timeout(LONG, next).await.expect("in time").expect("no panic");
    released(guard).await;
}

async fn shutdown_gives_everything_back(place: Place) {
    let (store, other) = (place.open().await, place.open().await);
    let session = store.session().open().await.expect("opens");
    let guards = [
        session.lock("a").acquire().await.expect("acquires"),
        store.lock("b").fair().acquire().await.expect("acquires"),
        store.semaphore("c", 1).acquire().await.expect("acquires"),
        store.rwlock("d").read().await.expect("reads"),
    ];
    let report = store.shutdown().await;
    assert_eq!((report.released, report.unconfirmed), (4, 0));
    assert!(guards.iter().all(|guard| !guard.is_held()));
    let free = other.semaphore("c", 1).try_acquire().await.expect("is answered").acquired();
    released(free.expect("is free")).await;
    for name in ["a", "b", "d"] {
        assert_eq!(other.lock(name).inspect().await.expect("reads").state, LockState::Free);
    }
}

/// Nothing but a release ends what is held under a session that goes on (hazard H26).
#[tokio::test]
async fn h26_a_release_that_others_get_in_front_of_again_and_again_is_not_given_up() {
    let raw = Arc::new(InMemory::new());
    let objects = CountingStore::new(Arc::clone(&raw) as _);
    let store = Store::from_object_store(objects.as_store()).check_preconditions(false);
    let store = store.open().await.expect("opens");
    let licences = store.semaphore("licences", 2);
    let (kept, guard) = (licences.acquire().await, licences.acquire().await);
    let (kept, guard) = (kept.expect("acquires"), guard.expect("acquires"));
    let left = AtomicU32::new(12);
    objects.on_put(move |key, _, _| {
        let more = |left: u32| left.checked_sub(1);
        let again = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok();
        if key.as_ref() != "licences.lock" || !again {
            return;
        }
        let got = raw.get(key).now_or_never().expect("at once").expect("is there");
        let body = got.bytes().now_or_never().expect("at once").expect("is there");
        let mut record = Record::decode(&body).expect("is a record");
        record.nonce = leaselock::Nonce::from_random(left.load(Ordering::SeqCst).into());
        let body = record.encode().expect("is small").into();
        raw.put(key, body).now_or_never().expect("at once").expect("is written");
    });
    assert_eq!(guard.release().await.expect("is answered"), Release::Released);
    assert_eq!(licences.inspect().await.expect("reads").holders.len(), 1);
    assert!(kept.is_held());
}
