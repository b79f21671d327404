//! The same tests on every store: what the library promises must not depend on whose bucket it is.

#![allow(clippy::disallowed_methods, reason = "waits in real time, with generous bounds")]

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use leaselock::{
    Attempt, Break, ErrorKind, LockGuard, LockState, LossReason, Payload, Release, Store,
};
use leaselock_test_support::emulators::Backend;
use leaselock_test_support::hold::Overlap;
use leaselock_test_support::on_every_store;
use leaselock_test_support::place::Place;

const TTL: Duration = Duration::from_secs(2);
/// Generous: machines are slow and busy.
const LONG: Duration = Duration::from_secs(60);

on_every_store!(
    tasks_exclude_each_other_and_tokens_rise,
    a_crashed_holder_is_replaced_by_a_waiter,
    a_crashed_holder_is_replaced_by_a_newcomer_by_the_stores_clock,
    a_crashed_holder_is_replaced_by_the_wall_clock_if_that_is_trusted,
    renewal_keeps_a_lease_beyond_its_ttl,
    release_frees_at_once_and_the_next_token_is_larger,
    a_dropped_guard_frees_the_lock,
    waiting_ends_at_its_limit,
    a_waiter_gets_a_lock_that_is_released,
    a_dropped_acquire_leaves_no_lock_behind,
    a_break_ends_a_lease_and_the_holder_learns_of_it,
    records_that_are_not_understood_count_as_held,
    a_deleted_record_ends_the_lease_and_tokens_still_rise,
    a_record_replaced_by_garbage_ends_the_lease,
    a_payload_is_read_by_others_and_outlives_its_holder,
    a_minimum_hold_outlives_the_release,
    locks_are_listed_by_prefix,
    a_manual_lease_lives_by_its_renewals,
    shutdown_gives_every_lock_back,
    with_runs_work_under_the_lock,
);

async fn acquire(store: &Store, name: &str) -> LockGuard {
    store.lock(name).ttl(TTL).acquire().await.expect("acquires")
}

async fn is_busy(store: &Store, name: &str) -> bool {
    match store.lock(name).ttl(TTL).try_acquire().await.expect("looks") {
        Attempt::Held(_) => true,
        Attempt::Acquired(guard) => {
            assert_eq!(guard.release().await.expect("releases"), Release::Released);
            false
        }
    }
}

/// A holder that is gone without a word.
fn crash(guard: LockGuard) {
    std::mem::forget(guard);
}

async fn tasks_exclude_each_other_and_tokens_rise(place: Place) {
    let referee = Arc::new(Overlap::new());
    let racers = place.backend().max_racers();
    let rounds = if place.backend() == Backend::Seaweedfs { 2 } else { 5 };
    let tasks: Vec<_> = futures::stream::iter(0..racers)
        .then(|_| place.open())
        .map(|store| {
            let referee = Arc::clone(&referee);
            tokio::spawn(async move {
                for _ in 0..rounds {
                    let guard = store.lock("contended").acquire().await.expect("acquires");
                    let inside = referee.enter(guard.token().get());
                    tokio::task::yield_now().await;
                    assert!(guard.is_held());
                    drop(inside);
                    assert_eq!(guard.release().await.expect("releases"), Release::Released);
                }
            })
        })
        .collect()
        .await;
    for task in tasks {
        task.await.expect("no task fails");
    }
    assert_eq!(referee.assert_clean().entries, (racers * rounds) as u64);
}

async fn a_crashed_holder_is_replaced_by_a_waiter(place: Place) {
    let gone = place.open().await.lock("x").ttl(TTL).keeper(false).acquire().await.expect("free");
    let token = gone.token();
    crash(gone);
    let lock = place.open().await.lock("x").ttl(TTL).store_clock(false);
    let Attempt::Held(info) = lock.try_acquire().await.expect("looks") else {
        panic!("a lease of {TTL:?} cannot have ended")
    };
    assert_eq!(info.holders[0].token, token);
    let guard = lock.acquire_timeout(LONG).await.expect("waits").acquired().expect("takes over");
    assert!(guard.token() > token);
    let info = lock.inspect().await.expect("reads");
    assert_eq!(info.history.last().expect("remembers").ended, "expired");
    assert_eq!(info.history.last().expect("remembers").token, token);
}

async fn a_crashed_holder_is_replaced_by_a_newcomer_by_the_stores_clock(place: Place) {
    let gone = place.open().await.lock("x").ttl(TTL).keeper(false).acquire().await.expect("free");
    crash(gone);
    // Nobody watches meanwhile: each of these has never seen the record before.
    let mut refused = 0;
    let guard = loop {
        let newcomer = place.open().await;
        match newcomer.lock("x").ttl(TTL).try_acquire().await.expect("looks") {
            Attempt::Acquired(guard) => break guard,
            Attempt::Held(_) => refused += 1,
        }
        assert!(refused < 1000, "a newcomer must get in");
        pause(Duration::from_millis(100)).await;
    };
    assert!(refused > 0, "the lease cannot have ended at once");
    assert!(guard.is_held());
}

async fn a_crashed_holder_is_replaced_by_the_wall_clock_if_that_is_trusted(place: Place) {
    let gone = place.open().await.lock("x").ttl(TTL).keeper(false).acquire().await.expect("free");
    crash(gone);
    pause(TTL + Duration::from_millis(300)).await;
    let lock = || async { place.open().await.lock("x").ttl(TTL).store_clock(false) };
    assert!(matches!(lock().await.try_acquire().await.expect("looks"), Attempt::Held(_)));
    let trusting = lock().await.trust_wall_clock(Duration::from_millis(200));
    assert!(matches!(trusting.try_acquire().await.expect("looks"), Attempt::Acquired(_)));
}

async fn renewal_keeps_a_lease_beyond_its_ttl(place: Place) {
    let guard = acquire(&place.open().await, "x").await;
    let lock = place.open().await.lock("x").ttl(TTL);
    let waited = lock.acquire_timeout(TTL * 2).await.expect("waits");
    let Attempt::Held(info) = waited else { panic!("two holders") };
    assert!(guard.is_held());
    assert_eq!(info.holders[0].id, guard.id());
    assert!(guard.watch().status().renewals >= 2);
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
}

async fn release_frees_at_once_and_the_next_token_is_larger(place: Place) {
    let first = acquire(&place.open().await, "x").await;
    let token = first.token();
    assert!(is_busy(&place.open().await, "x").await);
    assert_eq!(first.release().await.expect("releases"), Release::Released);
    let second = place.open().await.lock("x").try_acquire().await.expect("looks");
    assert!(second.acquired().expect("free at once").token() > token);
}

async fn a_dropped_guard_frees_the_lock(place: Place) {
    let store = place.open().await;
    drop(acquire(&store, "x").await);
    let lock = place.open().await.lock("x").store_clock(false).ttl(TTL);
    let guard = lock.acquire_timeout(LONG).await.expect("waits").acquired().expect("gets it");
    let history = lock.inspect().await.expect("reads").history;
    assert_eq!(history.last().expect("remembers").ended, "released");
    drop(guard);
}

async fn waiting_ends_at_its_limit(place: Place) {
    let guard = acquire(&place.open().await, "x").await;
    let lock = place.open().await.lock("x");
    let waited = lock.acquire_timeout(Duration::from_millis(300)).await.expect("waits");
    let Attempt::Held(info) = waited else { panic!("two holders") };
    assert_eq!(info.holders[0].id, guard.id());
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
}

async fn a_waiter_gets_a_lock_that_is_released(place: Place) {
    let guard = acquire(&place.open().await, "x").await;
    let token = guard.token();
    let lock = place.open().await.lock("x");
    let waiter = tokio::spawn(async move { lock.acquire_timeout(LONG).await });
    pause(Duration::from_millis(200)).await;
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    let guard = waiter.await.expect("no panic").expect("waits").acquired().expect("gets it");
    assert!(guard.token() > token);
}

async fn a_dropped_acquire_leaves_no_lock_behind(place: Place) {
    // Dropped after 0, 1, 2 … ms: before, during and after each of its requests.
    let store = place.open().await;
    let names: Vec<_> = (0..12).map(|number| format!("dropped/{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let lock = store.lock(name);
        let acquire = lock.acquire();
        tokio::select! {
            biased;
            () = pause(Duration::from_millis(number as u64)) => {}
            guard = acquire => drop(guard.expect("acquires")),
        }
    }
    store.shutdown().await;
    let observer = place.open().await;
    for name in names {
        let state = observer.lock(&name).inspect().await.expect("reads").state;
        assert!(matches!(state, LockState::Absent | LockState::Free), "{name} is {state}");
    }
}

async fn a_break_ends_a_lease_and_the_holder_learns_of_it(place: Place) {
    let store = place.open().await;
    let nobody = store.lock("x").break_lease(Break::force()).await.expect_err("nothing to break");
    assert_eq!(nobody.kind(), ErrorKind::NotHeld);
    let guard = acquire(&store, "x").await;
    let operator = place.open().await.lock("x");
    let wrong = "7".parse().expect("a token");
    let refused = operator.break_lease(Break::expecting(wrong)).await.expect_err("another token");
    assert_eq!(refused.kind(), ErrorKind::TokenMismatch);
    assert!(guard.is_held());
    let order = Break::expecting(guard.token()).reason("stuck").by("ops");
    let broken = operator.break_lease(order).await.expect("breaks");
    assert_eq!(broken.holder.expect("who").id, guard.id());
    assert_eq!(broken.token, guard.token());
    let reason = tokio::time::timeout(LONG, guard.lost()).await.expect("learns of it");
    let (by, why) = (Some("ops".to_owned()), Some("stuck".to_owned()));
    assert_eq!(reason, LossReason::Broken { by, reason: why });
    assert!(matches!(guard.release().await, Ok(Release::AlreadyLost(_))));
    let next = operator.try_acquire().await.expect("looks").acquired().expect("free");
    assert!(next.token() > broken.token);
}

async fn records_that_are_not_understood_count_as_held(place: Place) {
    let store = place.open().await;
    for (name, body) in [
        ("torn", &b"{\"format\": 1, \"kind\": \"lo"[..]),
        ("newer", b"{\"format\": 2, \"kind\": \"lock\", \"news\": true}"),
        ("huge", &[b' '; 70_000]),
        ("empty", b""),
    ] {
        place.put(&format!("{name}.lock"), body).await;
        let error = store.lock(name).try_acquire().await.expect_err("not understood");
        assert_eq!(error.kind(), ErrorKind::UnreadableRecord, "{name}: {error:?}");
        let info = store.lock(name).inspect().await.expect("reads");
        assert_eq!(info.state, LockState::Unreadable);
        assert!(info.problem.is_some());
        assert_eq!(place.get(&format!("{name}.lock")).await, body, "left untouched");
        let token = "1".parse().expect("a token");
        let gently = store.lock(name).break_lease(Break::expecting(token)).await;
        assert_eq!(gently.expect_err("needs force").kind(), ErrorKind::UnreadableRecord);
        assert!(store.lock(name).break_lease(Break::force()).await.expect("repairs").repaired);
        assert!(!is_busy(&store, name).await);
    }
}

async fn a_deleted_record_ends_the_lease_and_tokens_still_rise(place: Place) {
    let store = place.open().await;
    // Tokens of a new record start from the store's time, which some stores tell in whole seconds.
    drop(acquire(&store, "x").await);
    pause(Duration::from_millis(2100)).await;
    let guard = acquire(&store, "x").await;
    place.delete("x.lock").await;
    let reason = tokio::time::timeout(LONG, guard.lost()).await.expect("learns of it");
    assert_eq!(reason, LossReason::RecordDeleted);
    assert!(!guard.is_held());
    let next = place.open().await.lock("x").try_acquire().await.expect("looks");
    assert!(next.acquired().expect("free").token() > guard.token());
}

async fn a_record_replaced_by_garbage_ends_the_lease(place: Place) {
    let store = place.open().await;
    let guard = acquire(&store, "x").await;
    place.put("x.lock", b"oops").await;
    let reason = tokio::time::timeout(LONG, guard.lost()).await.expect("learns of it");
    assert_eq!(reason, LossReason::RecordUnreadable);
    assert!(matches!(guard.release().await, Ok(Release::AlreadyLost(_))));
    assert_eq!(place.get("x.lock").await, b"oops", "left untouched");
}

async fn a_payload_is_read_by_others_and_outlives_its_holder(place: Place) {
    let lock = place.open().await.lock("x").ttl(TTL);
    let payload = |text| Payload::from_json_str(text).expect("is JSON");
    let guard = lock.clone().payload(payload("{\"at\": 1}")).acquire().await.expect("acquires");
    let read = || async {
        let info = place.open().await.lock("x").inspect().await.expect("reads");
        info.payload.expect("is there").to_json()
    };
    assert_eq!(read().await, "{\"at\":1}");
    guard.set_payload(payload("[2]")).await.expect("renews");
    assert_eq!(read().await, "[2]");
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    drop(lock.acquire().await.expect("acquires"));
    assert_eq!(read().await, "[2]");
}

async fn a_minimum_hold_outlives_the_release(place: Place) {
    let lock = place.open().await.lock("cron").ttl(TTL).min_hold(Duration::from_secs(3));
    let guard = lock.acquire().await.expect("acquires");
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    assert!(is_busy(&place.open().await, "cron").await, "a short job must not run twice");
    let info = lock.inspect().await.expect("reads");
    assert!(info.holders[0].released_at.is_some());
    let later = place.open().await.lock("cron").acquire_timeout(LONG).await.expect("waits");
    assert!(later.acquired().is_some());
    let info = lock.inspect().await.expect("reads");
    assert_eq!(info.history.last().expect("remembers").ended, "released");
}

async fn locks_are_listed_by_prefix(place: Place) {
    let store = place.open().await;
    let names = ["etl/a", "etl/b", "etl2", "payments/42", "größe/50% off"];
    for name in names {
        drop(acquire(&store, name).await);
    }
    let held = acquire(&store, "etl/held").await;
    place.put("not-a-lock.txt", b"hello").await;
    let listed = |prefix: &'static str| async {
        let infos: Vec<_> = place.open().await.list(prefix).try_collect().await.expect("lists");
        let mut names: Vec<_> = infos.into_iter().map(|info| info.name).collect();
        names.sort();
        names
    };
    assert_eq!(listed("etl/").await, ["etl/a", "etl/b", "etl/held"]);
    assert_eq!(listed("etl").await, ["etl/a", "etl/b", "etl/held", "etl2"]);
    assert_eq!(listed("").await.len(), 6);
    assert_eq!(listed("größe/5").await, ["größe/50% off"]);
    assert_eq!(listed("nothing/here").await.len(), 0);
    drop(held);
}

async fn a_manual_lease_lives_by_its_renewals(place: Place) {
    let lock = place.open().await.lock("x").ttl(TTL).keeper(false);
    let guard = lock.acquire().await.expect("acquires");
    for _ in 0..4 {
        pause(TTL / 4).await;
        guard.renew().await.expect("renews");
    }
    assert!(guard.is_held());
    let reason = tokio::time::timeout(LONG, guard.lost()).await.expect("ends");
    assert_eq!(reason, LossReason::Expired);
    assert_eq!(guard.remaining(), Duration::ZERO);
    let error = guard.renew().await.expect_err("for good");
    assert_eq!(error.kind(), ErrorKind::Lost);
}

async fn shutdown_gives_every_lock_back(place: Place) {
    let store = place.open().await;
    let guards = [acquire(&store, "a").await, acquire(&store, "b").await];
    let waiting = store.lock("a");
    let waiter = tokio::spawn(async move { waiting.acquire().await });
    pause(Duration::from_millis(100)).await;
    let report = store.shutdown().await;
    assert_eq!((report.released, report.unconfirmed), (2, 0));
    assert!(guards.iter().all(|guard| !guard.is_held()));
    let error = waiter.await.expect("no panic").expect_err("nobody waits for ever");
    assert_eq!(error.kind(), ErrorKind::ShutDown);
    let refused = store.lock("c").acquire().await.expect_err("closed");
    assert_eq!(refused.kind(), ErrorKind::ShutDown);
    let other = place.open().await;
    assert!(!is_busy(&other, "a").await && !is_busy(&other, "b").await);
}

async fn with_runs_work_under_the_lock(place: Place) {
    let store = place.open().await;
    let lock = store.lock("x").ttl(TTL);
    let busy_inside = lock.with(async |guard| {
        assert!(guard.is_held());
        is_busy(&place.open().await, "x").await
    });
    assert!(busy_inside.await.expect("acquires"));
    assert!(!is_busy(&place.open().await, "x").await);
    // Work whose lease is lost is dropped on the spot.
    let operator = place.open().await.lock("x");
    let lost = lock.with(async |guard| {
        let order = Break::expecting(guard.token());
        operator.break_lease(order).await.expect("breaks");
        std::future::pending::<()>().await;
    });
    let error = tokio::time::timeout(LONG, lost).await.expect("ends").expect_err("is lost");
    assert_eq!(error.kind(), ErrorKind::Lost);
}

async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
