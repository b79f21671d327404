//! Writes whose outcome is unclear, on real HTTP stores behind a proxy that loses, delays, repeats
//! and falsifies answers (hazards H1, H2, H4, H5, H6, H13, H14, H24).

#![allow(clippy::disallowed_methods, reason = "waits in real time, with generous bounds")]

use std::sync::Arc;
use std::time::Duration;

use leaselock::{Attempt, ErrorKind, LossReason, Outcome, Release, Start, Store, StoreBuilder};
use leaselock_test_support::counting::CountingStore;
use leaselock_test_support::emulators::Backend;
use leaselock_test_support::hold::Overlap;
use leaselock_test_support::on_every_http_store;
use leaselock_test_support::place::Place;
use leaselock_test_support::proxy::{Fault, FaultProxy};

const TTL: Duration = Duration::from_secs(6);
const LONG: Duration = Duration::from_secs(60);

on_every_http_store!(place => &Behind::proxy(place);
    every_single_fault_of_a_write_is_survived,
    every_single_fault_of_a_fenced_write_is_survived,
    every_single_fault_of_a_recording_is_survived,
    a_storm_of_every_fault_loses_nothing,
    a_release_without_an_answer_is_found_out,
    a_read_whose_answer_lost_its_etag_is_repeated,
    an_outage_shorter_than_the_lease_is_survived,
    denied_access_ends_a_lease_as_denied,
    a_store_without_dates_or_stamps_is_only_slower,
    cached_answers_and_lying_dates_do_not_end_a_lease,
);

/// A place that is reached through the proxy.
struct Behind {
    place: Place,
    proxy: FaultProxy,
    url: String,
}

impl Behind {
    fn proxy(place: Place) -> Self {
        let (proxy, url) = place.url().expect("an HTTP store has a URL").proxied();
        Self { place, proxy, url }
    }

    fn builder(&self) -> StoreBuilder {
        Store::builder(&self.url).check_preconditions(false)
    }

    async fn open(&self) -> Store {
        self.builder().open().await.expect("opens")
    }

    /// A process that is not behind the proxy.
    async fn observer(&self) -> Store {
        self.place.builder().check_preconditions(false).open().await.expect("opens")
    }
}

async fn is_free(store: &Store, name: &str) -> bool {
    let attempt = store.lock(name).try_acquire().await.expect("looks");
    let Some(guard) = attempt.acquired() else { return false };
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    true
}

/// All that may happen to one write.
fn faults_of_a_write() -> Vec<Fault> {
    let mut faults = vec![
        Fault::CommitThenStatus(500),
        Fault::CommitThenStatus(503),
        Fault::CommitThenClose,
        Fault::CommitThenReset,
        Fault::CommitThenHalfHead,
        Fault::CommitThenDelay(Duration::from_secs(3)),
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(429),
        Fault::Status(409),
        Fault::CloseBefore,
        Fault::ResetBefore,
        Fault::DelayBefore(Duration::from_secs(3)),
        Fault::Twice,
    ];
    faults.push(Fault::StripResponseHeader("etag"));
    faults
}

async fn every_single_fault_of_a_write_is_survived(behind: &Behind) {
    let observer = behind.observer().await;
    for (number, fault) in faults_of_a_write().into_iter().enumerate() {
        let name = format!("fault/{number}");
        let said = format!("{fault:?}");
        let store = behind.open().await;
        let lock = store.lock(&name).ttl(TTL);
        for round in ["on an absent record", "on a free record"] {
            behind.proxy.on_put(1, fault.clone());
            let guard =
                lock.acquire().await.unwrap_or_else(|error| panic!("{said} {round}: {error:?}"));
            assert!(guard.is_held(), "{said} {round}");
            assert!(!is_free(&observer, &name).await, "{said} {round}: two holders");
            behind.proxy.on_put(1, fault.clone());
            guard.renew().await.unwrap_or_else(|error| panic!("{said} {round}: {error:?}"));
            behind.proxy.on_put(1, fault.clone());
            let released = guard.release().await.expect("releases");
            assert_eq!(released, Release::Released, "{said} {round}");
            behind.proxy.pass();
            assert!(is_free(&observer, &name).await, "{said} {round}: never released");
        }
    }
}

async fn every_single_fault_of_a_fenced_write_is_survived(behind: &Behind) {
    let observer = behind.observer().await.objects();
    let store = behind.open().await;
    let guard = store.lock("fence").ttl(LONG).acquire().await.expect("acquires");
    let objects = store.objects();
    let fence = guard.fence(&objects);
    // The store's keeping of metadata is checked now and not later.
    fence.put_new(behind.place.path("warm"), "").await.expect("is written");
    for (number, fault) in faults_of_a_write().into_iter().enumerate() {
        let (path, said) = (behind.place.path(&format!("fenced/{number}")), format!("{fault:?}"));
        let new = behind.place.path(&format!("new/{number}"));
        let next = || behind.proxy.on_put(1, fault.clone());
        next();
        let claimed = fence.claim(path.clone()).await;
        let mut claimed = claimed.unwrap_or_else(|error| panic!("claim: {said}: {error:?}"));
        next();
        let put = claimed.put("1").await;
        put.unwrap_or_else(|error| panic!("put: {said}: {error:?}"));
        claimed.put("12").await.expect("goes on from its own write");
        next();
        let update =
            objects.update(path.clone(), |old| Some([old.expect("is there"), &b"3"[..]].concat()));
        update.await.unwrap_or_else(|error| panic!("update: {said}: {error:?}"));
        let read = observer.read(path.clone()).await.expect("reads").expect("is there");
        assert_eq!(read.bytes(), "123", "{said}: each write counts once");
        next();
        let put = fence.put_fenced(path.clone(), "4").await;
        put.unwrap_or_else(|error| panic!("put_fenced: {said}: {error:?}"));
        next();
        let put = fence.put_new(new, "5").await;
        put.unwrap_or_else(|error| panic!("put_new: {said}: {error:?}"));
        behind.proxy.pass();
        let read = observer.read(path).await.expect("reads").expect("is there");
        assert_eq!(read.bytes(), "4", "{said}");
    }
}

async fn every_single_fault_of_a_recording_is_survived(behind: &Behind) {
    let observer = behind.observer().await;
    for (number, fault) in faults_of_a_write().into_iter().enumerate() {
        let key = format!("recording/{number}");
        let said = format!("{fault:?}");
        let once = behind.open().await.once(&key).ttl(TTL);
        let Start::Run(run) = once.start().await.expect("starts") else { panic!("is new") };
        behind.proxy.on_put(1, fault);
        run.finish(&number).await.unwrap_or_else(|error| panic!("{said}: {error:?}"));
        behind.proxy.pass();
        let again = observer.once(&key).try_run(async |_| Ok::<_, ()>(number + 1)).await;
        let recorded = matches!(again, Ok(Outcome::AlreadyDone(result)) if result == number);
        assert!(recorded, "{said}: {again:?}");
    }
}

async fn a_storm_of_every_fault_loses_nothing(behind: &Behind) {
    // Without long delays: with them the storm only takes longer.
    let faults: Vec<_> = faults_of_a_write()
        .into_iter()
        .filter(|fault| !matches!(fault, Fault::CommitThenDelay(_) | Fault::DelayBefore(_)))
        .collect();
    let referee = Arc::new(Overlap::new());
    let racers = behind.place.backend().max_racers().min(4);
    let rounds = if behind.place.backend() == Backend::Seaweedfs { 2 } else { 5 };
    behind.proxy.random(42, 200, &faults);
    let mut tasks = Vec::new();
    for _ in 0..racers {
        let store = behind.open().await;
        let referee = Arc::clone(&referee);
        tasks.push(tokio::spawn(async move {
            for _ in 0..rounds {
                let guard = store.lock("storm").ttl(TTL).acquire().await.expect("acquires");
                let inside = referee.enter(guard.token().get());
                assert!(guard.is_held());
                drop(inside);
                let released = guard.release().await.expect("releases");
                assert!(matches!(released, Release::Released), "{released:?}");
            }
        }));
    }
    for task in tasks {
        task.await.expect("no task fails");
    }
    assert_eq!(referee.assert_clean().entries, (racers * rounds) as u64);
    let log = behind.proxy.log();
    assert!(log.iter().any(|entry| entry.fault != "Pass"), "there was a storm");
}

async fn a_release_without_an_answer_is_found_out(behind: &Behind) {
    let store = behind.open().await;
    let guard = store.lock("x").ttl(TTL).acquire().await.expect("acquires");
    // Neither writes nor reads come through, for longer than the lease.
    behind.proxy.refuse(true);
    assert_eq!(guard.release().await.expect("tells"), Release::Unconfirmed);
    behind.proxy.refuse(false);
    let waited = behind.observer().await.lock("x").acquire_timeout(LONG).await.expect("waits");
    assert!(waited.acquired().is_some(), "it expires by itself");
}

async fn a_read_whose_answer_lost_its_etag_is_repeated(behind: &Behind) {
    let (store, observer) = (behind.open().await, behind.observer().await);
    let guard = store.lock("x").ttl(TTL).acquire().await.expect("acquires");
    let waiting = observer.lock("x").fair();
    let waiter = tokio::spawn(async move { waiting.acquire_timeout(LONG).await });
    let has_ticket = async || {
        let info = store.lock("x").inspect().await.expect("looks");
        !info.waiters.is_empty()
    };
    while !has_ticket().await {
        pause(Duration::from_millis(20)).await;
    }
    // The release is refused, as the record has changed, and reads what is there instead.
    behind.proxy.on_gets(Fault::StripResponseHeader("etag"));
    let log = behind.proxy.log().len();
    let releasing = tokio::spawn(guard.release());
    while !behind.proxy.log()[log..].iter().any(|entry| entry.method == "GET") {
        pause(Duration::from_millis(5)).await;
    }
    behind.proxy.pass();
    assert_eq!(releasing.await.expect("ends").expect("tells"), Release::Released);
    assert!(waiter.await.expect("ends").expect("waits").acquired().is_some());
}

async fn an_outage_shorter_than_the_lease_is_survived(behind: &Behind) {
    let store = behind.open().await;
    let guard = store.lock("x").ttl(TTL).acquire().await.expect("acquires");
    guard.renew().await.expect("renews");
    let renewals = guard.watch().status().renewals;
    behind.proxy.refuse(true);
    pause(TTL / 2).await;
    assert!(guard.is_held());
    behind.proxy.refuse(false);
    let mut watch = guard.watch();
    while watch.status().renewals <= renewals {
        let status = tokio::time::timeout(LONG, watch.changed()).await.expect("renews");
        assert!(guard.is_held(), "{status:?}");
    }
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
}

async fn denied_access_ends_a_lease_as_denied(behind: &Behind) {
    let store = behind.open().await;
    let guard = store.lock("x").ttl(Duration::from_secs(2)).acquire().await.expect("acquires");
    behind.proxy.plan(|_| Fault::Status(403));
    let reason = tokio::time::timeout(LONG, guard.lost()).await.expect("ends");
    assert_eq!(reason, LossReason::Denied);
    let refused = behind.open().await.lock("y").acquire().await.expect_err("is denied");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused:?}");
}

async fn a_store_without_dates_or_stamps_is_only_slower(behind: &Behind) {
    for header in ["date", "last-modified"] {
        behind.proxy.plan(move |_| Fault::StripResponseHeader(header));
        let name = format!("without-{header}");
        let store = behind.open().await;
        let lock = store.lock(&name).ttl(Duration::from_secs(1)).keeper(false);
        let first = lock.acquire().await.expect("acquires");
        let token = first.token();
        std::mem::forget(first);
        let newcomer = behind.open().await.lock(&name);
        match newcomer.try_acquire().await {
            Ok(Attempt::Held(_)) => {}
            Ok(Attempt::Acquired(_)) => panic!("epoch stamps prove nothing ({header})"),
            // The clients for Azure and Google refuse an answer without a stamp.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                assert_ne!(behind.place.backend(), Backend::Ministack);
                continue;
            }
        }
        let guard = newcomer.acquire_timeout(LONG).await.expect("waits").acquired();
        assert!(guard.expect("takes over by watching").token() > token);
    }
}

async fn cached_answers_and_lying_dates_do_not_end_a_lease(behind: &Behind) {
    let holder = behind.observer().await.lock("x").ttl(TTL).acquire().await.expect("acquires");
    for (header, value) in [("Age", "10"), ("Via", "1.1 cache")] {
        behind.proxy.plan(move |_| Fault::AddResponseHeader(header, value.to_owned()));
        let newcomer = behind.open().await;
        assert!(matches!(newcomer.lock("x").try_acquire().await, Ok(Attempt::Held(_))));
    }
    // Front ends that disagree: first a true date, then a false one.
    let tomorrow = "Fri, 21 Nov 2036 00:00:00 GMT";
    let store = behind.open().await;
    behind.proxy.pass();
    assert!(matches!(store.lock("x").try_acquire().await, Ok(Attempt::Held(_))));
    behind.proxy.plan(move |_| Fault::AddResponseHeader("date", tomorrow.to_owned()));
    assert!(matches!(store.lock("x").try_acquire().await, Ok(Attempt::Held(_))));
    assert!(holder.is_held());
}

// ------------------------------------------------------------------ stores that are not fit (H14)

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused_before_anything_is_written() {
    let Some(place) = Place::on(Backend::Ministack) else { return };
    let (proxy, url) = place.url().expect("has a URL").proxied();
    proxy.plan(|_| Fault::StripPreconditions);
    let store = Store::builder(url).open().await.expect("opens");
    let error = store.lock("x").acquire().await.expect_err("unfit");
    assert_eq!(error.kind(), ErrorKind::UnfitStore, "{error:?}");
    assert!(error.to_string().contains("If-None-Match"), "{error}");
    let info = place.open().await.lock("x").inspect().await.expect("reads");
    assert_eq!(info.state, leaselock::LockState::Absent, "no lock was written");
}

#[tokio::test]
async fn a_store_that_checks_conditions_before_it_writes_is_refused() {
    let objects = CountingStore::in_memory();
    objects.break_atomicity();
    let store = Store::from_object_store(objects.as_store()).open().await.expect("opens");
    let error = store.lock("x").acquire().await.expect_err("unfit");
    assert_eq!(error.kind(), ErrorKind::UnfitStore, "{error:?}");
}

#[tokio::test]
async fn a_store_that_is_fit_is_checked_once_and_nothing_is_left_behind() {
    let objects = CountingStore::in_memory();
    let store = Store::from_object_store(objects.as_store()).open().await.expect("opens");
    drop(store.lock("x").acquire().await.expect("acquires"));
    let counts = objects.counts();
    assert!(counts.creates > 4 && counts.updates > 4, "there was a race: {counts:?}");
    assert_eq!(counts.deletes, 2, "one object for the check, one for the time: {counts:?}");
    drop(store.lock("y").acquire().await.expect("acquires"));
    let more = objects.counts() - counts;
    assert_eq!((more.creates, more.deletes), (2, 1), "its record and another time, no check");
}

#[tokio::test]
async fn a_store_that_cannot_update_is_refused() {
    let directory = tempfile::tempdir().expect("is made");
    let local = object_store::local::LocalFileSystem::new_with_prefix(directory.path());
    let objects = Arc::new(local.expect("opens"));
    let store = Store::from_object_store(objects).open().await.expect("opens");
    let error = store.lock("x").acquire().await.expect_err("unfit");
    assert_eq!(error.kind(), ErrorKind::UnfitStore, "{error:?}");
}

// ------------------------------------------------ a client that repeats requests by itself (H1)

#[tokio::test]
async fn a_client_that_repeats_requests_by_itself_is_understood() {
    let Some(place) = Place::on(Backend::Ministack) else { return };
    let (proxy, url) = place.url().expect("has a URL").proxied();
    let url = url::Url::parse(&url).expect("is a URL");
    let mut builder = object_store::aws::AmazonS3Builder::new().with_bucket_name("locks");
    for (key, value) in url.query_pairs() {
        builder = builder.with_config(key.parse().expect("is an option"), value);
    }
    let store = Store::from_object_store(Arc::new(builder.build().expect("builds")))
        .prefix(url.path().trim_matches('/'))
        .check_preconditions(false)
        .open()
        .await
        .expect("opens");
    for fault in
        [Fault::CommitThenStatus(500), Fault::CommitThenStatus(503), Fault::CommitThenClose]
    {
        let said = format!("{fault:?}");
        for _ in 0..2 {
            proxy.on_put(1, fault.clone());
            let guard = store.lock("x").acquire().await.expect("acquires");
            proxy.on_put(1, fault.clone());
            guard.renew().await.unwrap_or_else(|error| panic!("{said}: {error:?}"));
            proxy.on_put(1, fault.clone());
            assert_eq!(guard.release().await.expect("releases"), Release::Released, "{said}");
        }
    }
}

async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
