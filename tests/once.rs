//! Work that is run once: on every store, by clocks moved by hand, and on a store that fails on
//! command.

#![allow(clippy::disallowed_methods, reason = "waits in real time, with generous bounds")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::{FutureExt, TryStreamExt};
use leaselock::{
    Base64, Break, ErrorKind, LockState, LossReason, Once, Outcome, Release, Run, Start, Store,
};
use leaselock_test_support::clock::{ManualClock, breathe};
use leaselock_test_support::counting::{CountingStore, FailKind};
use leaselock_test_support::on_every_store;
use leaselock_test_support::place::Place;
use serde::{Deserialize, Serialize};

const TTL: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);
/// Generous: machines are slow and busy.
const LONG: Duration = Duration::from_secs(60);

on_every_store!(
    the_first_runs_it_and_the_others_get_its_result,
    of_many_at_once_exactly_one_runs_it,
    a_waiter_gets_the_result_of_who_runs_it,
    a_failed_run_is_run_again_at_once,
    a_run_that_panics_or_is_dropped_is_run_again,
    a_crashed_run_is_taken_over_and_cannot_record_its_result,
    a_result_that_is_too_large_counts_as_a_failure,
    a_large_result_and_bytes_are_kept,
    the_record_of_a_lock_is_no_run_and_the_reverse,
    what_is_run_once_is_not_listed_among_the_locks,
    a_result_that_is_past_makes_room_for_another_run,
    an_operator_ends_a_run_and_forgets_a_result,
);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    number: u32,
    note: Option<String>,
}

fn receipt(number: u32) -> Receipt {
    Receipt { number, note: Some("paid".into()) }
}

async fn once(place: &Place, key: &str) -> Once {
    place.open().await.once(key).ttl(TTL)
}

/// Runs `work` that always succeeds.
async fn ran(once: &Once, number: u32) -> Outcome<Receipt, Infallible> {
    once.run(async |_| Ok(receipt(number))).await.expect("runs")
}

async fn started(once: &Once) -> Run {
    match once.start().await.expect("starts") {
        Start::Run(run) => run,
        other => panic!("nobody else has run it: {other:?}"),
    }
}

async fn state(once: &Once) -> LockState {
    once.inspect().await.expect("reads").state
}

async fn the_first_runs_it_and_the_others_get_its_result(place: Place) {
    let first = once(&place, "payments/42").await.owner("payroll").note("november");
    assert_eq!(state(&first).await, LockState::Absent);
    let outcome: Outcome<_, Infallible> = first
        .run(async |guard| {
            assert!(guard.is_held());
            let info = first.inspect().await.expect("reads");
            assert_eq!((info.state, info.holders[0].token), (LockState::Held, guard.token()));
            Ok(receipt(1))
        })
        .await
        .expect("runs");
    assert!(matches!(&outcome, Outcome::Ran(result) if *result == receipt(1)), "{outcome:?}");
    for other in [first.clone(), once(&place, "payments/42").await] {
        let again = ran(&other, 2).await;
        assert!(
            matches!(&again, Outcome::AlreadyDone(result) if *result == receipt(1)),
            "{again:?}"
        );
        let again = other.try_run(async |_| Ok::<_, Infallible>(receipt(3))).await.expect("looks");
        assert!(
            matches!(&again, Outcome::AlreadyDone(result) if *result == receipt(1)),
            "{again:?}"
        );
    }
    let info = first.inspect().await.expect("reads");
    assert_eq!((info.state, info.holders.len()), (LockState::Done, 0));
    let done = info.done.expect("is done");
    assert_eq!(done.result.deserialize::<Receipt>().expect("is one"), receipt(1));
    assert_eq!((done.owner.label.as_str(), done.retention), ("payroll", None));
    assert_eq!(Some(done.token), info.token);
    assert_eq!(info.history.last().expect("remembers").ended, "finished");
    let strange = first.run(async |_| Ok::<_, Infallible>(7_u32)).await.expect_err("no number");
    assert_eq!(strange.kind(), ErrorKind::InvalidOptions);
}

async fn of_many_at_once_exactly_one_runs_it(place: Place) {
    let runs = Arc::new(AtomicU32::new(0));
    let mut tasks = Vec::new();
    for number in 0..place.backend().max_racers() as u32 {
        let (once, runs) = (once(&place, "x").await, Arc::clone(&runs));
        tasks.push(tokio::spawn(async move {
            let work = async |_: &leaselock::LockGuard| {
                runs.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(receipt(number))
            };
            match once.run(work).await.expect("runs") {
                Outcome::Ran(result) => (1, result),
                Outcome::AlreadyDone(result) => (0, result),
                other => panic!("{other:?}"),
            }
        }));
    }
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("no task fails"));
    }
    assert_eq!(results.iter().map(|(ran, _)| ran).sum::<u32>(), 1, "{results:?}");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(results.iter().all(|(_, result)| *result == results[0].1), "{results:?}");
}

async fn a_waiter_gets_the_result_of_who_runs_it(place: Place) {
    let run = started(&once(&place, "x").await).await;
    let other = once(&place, "x").await;
    let busy = other.try_run(async |_| Ok::<_, Infallible>(receipt(2))).await.expect("looks");
    let Outcome::Running(info) = busy else { panic!("somebody runs it: {busy:?}") };
    assert_eq!(info.holders[0].id, run.guard().id());
    let limit = Duration::from_millis(200);
    let late = other.run_timeout(limit, async |_| Ok::<_, Infallible>(receipt(2))).await;
    assert!(matches!(late, Ok(Outcome::Running(_))), "{late:?}");
    let waiting = tokio::spawn(async move { ran(&other, 2).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    run.finish(&receipt(1)).await.expect("records");
    let outcome = tokio::time::timeout(LONG, waiting).await.expect("ends").expect("no panic");
    assert!(
        matches!(&outcome, Outcome::AlreadyDone(result) if *result == receipt(1)),
        "{outcome:?}"
    );
}

async fn a_failed_run_is_run_again_at_once(place: Place) {
    let first = once(&place, "x").await;
    let mut token = None;
    for attempt in 1..3 {
        let outcome = first
            .run(async |guard| {
                assert!(token.replace(guard.token()) < Some(guard.token()), "tokens rise");
                Err::<Receipt, _>(format!("attempt {attempt}"))
            })
            .await;
        let Ok(Outcome::Failed(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error, format!("attempt {attempt}"));
        assert_eq!(state(&first).await, LockState::Free);
    }
    let again = once(&place, "x").await;
    let outcome = again.try_run(async |_| Ok::<_, Infallible>(receipt(3))).await.expect("runs");
    assert!(matches!(outcome, Outcome::Ran(_)), "{outcome:?}");
    // With a minimum hold the key stays taken for a while.
    let patient = once(&place, "patient").await.min_hold(LONG);
    let failed = patient.run(async |_| Err::<Receipt, _>(())).await.expect("runs");
    assert!(matches!(failed, Outcome::Failed(())), "{failed:?}");
    let other = once(&place, "patient").await;
    let busy = other.try_run(async |_| Ok::<_, Infallible>(receipt(4))).await.expect("looks");
    assert!(matches!(busy, Outcome::Running(_)), "{busy:?}");
}

async fn a_run_that_panics_or_is_dropped_is_run_again(place: Place) {
    let store = place.open().await;
    let panics = store.once("panics").ttl(TTL);
    let panicking = tokio::spawn(async move {
        let work = async |_: &leaselock::LockGuard| -> Result<Receipt, Infallible> {
            panic!("on purpose, in a test")
        };
        drop(panics.run(work).await);
    });
    assert!(panicking.await.expect_err("panics").is_panic());
    let dropped = store.once("dropped").ttl(TTL);
    let begun = tokio::sync::Notify::new();
    tokio::select! {
        _ = dropped.run(async |_| {
            begun.notify_one();
            std::future::pending::<Result<Receipt, Infallible>>().await
        }) => panic!("never ends"),
        () = begun.notified() => {}
    }
    store.shutdown().await;
    for key in ["panics", "dropped"] {
        let other = once(&place, key).await;
        let outcome = other.try_run(async |_| Ok::<_, Infallible>(receipt(1))).await.expect("runs");
        assert!(matches!(outcome, Outcome::Ran(_)), "{key}: {outcome:?}");
        let info = other.inspect().await.expect("reads");
        assert_eq!(info.history[0].ended, "released", "{key} is given back");
    }
}

async fn a_crashed_run_is_taken_over_and_cannot_record_its_result(place: Place) {
    // Whoever has lost its lease to this limit renews it no more, and leaves it to expire.
    let slow = once(&place, "x").await.max_hold(Duration::from_millis(300));
    let run = started(&slow).await;
    let token = run.guard().token();
    let reason = tokio::time::timeout(LONG, run.guard().lost()).await.expect("is lost");
    assert_eq!(reason, LossReason::MaxHold);
    let other = once(&place, "x").await;
    let outcome = tokio::time::timeout(LONG, ran(&other, 2)).await.expect("takes over");
    assert!(matches!(outcome, Outcome::Ran(_)), "{outcome:?}");
    let error = run.finish(&receipt(1)).await.expect_err("is not its own any more");
    assert_eq!(error.kind(), ErrorKind::Lost);
    let info = other.inspect().await.expect("reads");
    let done = info.done.expect("is done");
    assert_eq!(done.result.deserialize::<Receipt>().expect("is one"), receipt(2));
    assert!(done.token > token);
    assert_eq!(info.history[0].ended, "expired");
}

async fn a_result_that_is_too_large_counts_as_a_failure(place: Place) {
    let large = once(&place, "x").await;
    let result = "r".repeat(65_535);
    let error = large.run(async |_| Ok::<_, Infallible>(result)).await.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("the work was done"), "{error}");
    assert!(format!("{error:?}").contains("65537 bytes is over the 65536"), "{error:?}");
    assert_eq!(state(&large).await, LockState::Free, "given back");
    let outcome = ran(&large, 1).await;
    assert!(matches!(outcome, Outcome::Ran(_)), "{outcome:?}");
}

async fn a_large_result_and_bytes_are_kept(place: Place) {
    let large = once(&place, "large").await;
    let result = "r".repeat(65_534);
    let outcome = large.run(async |_| Ok::<_, Infallible>(result.clone())).await.expect("runs");
    assert!(matches!(outcome, Outcome::Ran(_)));
    let again = once(&place, "large").await;
    let outcome = again.run(async |_| Ok::<_, Infallible>(String::new())).await.expect("is done");
    assert!(matches!(outcome, Outcome::AlreadyDone(kept) if kept == result));
    let bytes = Base64((0..49_000_u32).map(|number| number as u8).collect());
    let once = once(&place, "bytes").await;
    let outcome = once.run(async |_| Ok::<_, Infallible>(bytes.clone())).await.expect("runs");
    assert!(matches!(outcome, Outcome::Ran(_)));
    let outcome = once.run(async |_| Ok::<_, Infallible>(Base64::default())).await.expect("done");
    assert!(matches!(outcome, Outcome::AlreadyDone(kept) if kept == bytes));
}

async fn the_record_of_a_lock_is_no_run_and_the_reverse(place: Place) {
    let store = place.open().await;
    let guard = store.lock("x").ttl(TTL).acquire().await.expect("acquires");
    // A lock and a run of the same name have nothing to do with each other.
    let outcome = ran(&store.once("x").ttl(TTL), 1).await;
    assert!(matches!(outcome, Outcome::Ran(_)), "{outcome:?}");
    assert!(guard.is_held());
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    let (lock, run) = (place.get("x.lock").await, place.get("x.once").await);
    place.put("y.once", &lock).await;
    place.put("y.lock", &run).await;
    let other = place.open().await;
    let error = other.once("y").start().await.expect_err("a lock's record");
    assert_eq!(error.kind(), ErrorKind::UnreadableRecord);
    assert!(format!("{error:?}").contains("this is a \"lock\""), "{error:?}");
    let error = other.lock("y").acquire().await.expect_err("no lock's record");
    assert_eq!(error.kind(), ErrorKind::UnreadableRecord);
    assert!(format!("{error:?}").contains("this is a \"once\""), "{error:?}");
    assert_eq!(state(&other.once("y")).await, LockState::Unreadable);
    assert_eq!((place.get("y.once").await, place.get("y.lock").await), (lock, run), "untouched");
}

async fn what_is_run_once_is_not_listed_among_the_locks(place: Place) {
    let store = place.open().await;
    let guard = store.lock("a/lock").acquire().await.expect("acquires");
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    drop(ran(&store.once("a/once"), 1).await);
    let names: Vec<_> = store.list("").map_ok(|info| info.name).try_collect().await.expect("lists");
    assert_eq!(names, ["a/lock"]);
}

async fn a_result_that_is_past_makes_room_for_another_run(place: Place) {
    let first = once(&place, "x").await.retention(SECOND);
    let recorded = std::time::Instant::now();
    drop(ran(&first, 1).await);
    let token = first.inspect().await.expect("reads").token;
    let mut refused = 0;
    loop {
        // Each of these has never seen the record before, and has a retention of its own.
        let newcomer = once(&place, "x").await.retention(LONG);
        match newcomer.try_run(async |_| Ok::<_, Infallible>(receipt(2))).await.expect("looks") {
            Outcome::AlreadyDone(result) => assert_eq!(result, receipt(1)),
            Outcome::Ran(_) => break,
            other => panic!("{other:?}"),
        }
        refused += 1;
        assert!(recorded.elapsed() < LONG, "a result must become past");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(refused > 0 && recorded.elapsed() >= SECOND, "{refused} {:?}", recorded.elapsed());
    let info = first.inspect().await.expect("reads");
    assert!(info.token > token);
    assert_eq!(info.done.expect("is done").retention, Some(LONG));
    let outcome = ran(&first, 3).await;
    assert!(
        matches!(&outcome, Outcome::AlreadyDone(result) if *result == receipt(2)),
        "{outcome:?}"
    );
}

async fn an_operator_ends_a_run_and_forgets_a_result(place: Place) {
    let once = once(&place, "x").await;
    let nothing = once.forget(Break::force()).await.expect_err("there is nothing");
    assert_eq!(nothing.kind(), ErrorKind::NotHeld);
    let run = started(&once).await;
    let first = run.guard().token();
    let operator = place.open().await.once("x");
    let order = Break::expecting(first).reason("stuck").by("ops");
    assert_eq!(operator.forget(order).await.expect("ends it").holder.expect("who").token, first);
    let error = run.finish(&1).await.expect_err("was ended");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains("broken by ops: stuck"), "{error}");
    let second = started(&once).await;
    let token = second.guard().token();
    second.finish(&2).await.expect("records");
    let wrong = operator.forget(Break::expecting(first)).await.expect_err("is another's");
    assert_eq!(wrong.kind(), ErrorKind::TokenMismatch);
    assert_eq!(state(&once).await, LockState::Done);
    let forgotten = operator.forget(Break::expecting(token)).await.expect("forgets it");
    assert_eq!((forgotten.token, forgotten.holder.is_none()), (token, true));
    assert_eq!(state(&once).await, LockState::Free);
    let third = started(&once).await;
    assert!(third.guard().token() > token);
    // What nobody understands is replaced by force only.
    place.put("y.once", b"nonsense").await;
    let damaged = place.open().await.once("y");
    let order = Break::expecting(token);
    let error = damaged.forget(order).await.expect_err("needs force");
    assert_eq!(error.kind(), ErrorKind::UnreadableRecord);
    assert!(damaged.forget(Break::force()).await.expect("repairs").repaired);
    drop(started(&damaged).await);
}

// ------------------------------------------------------------------- by clocks moved by hand

/// A store in memory that fails on command; processes have clocks of their own.
struct World(CountingStore);

impl World {
    fn new() -> Self {
        Self(CountingStore::in_memory().ignoring(".leaselock"))
    }

    async fn process(&self, clock: &ManualClock) -> Store {
        clock.process(self.0.as_store()).open().await.expect("opens")
    }
}

#[tokio::test]
async fn a_run_that_does_not_know_that_it_was_overtaken_is_refused_by_the_store() {
    let world = World::new();
    let (here, elsewhere) = (ManualClock::new(), ManualClock::new());
    // Time stands still for the first: it trusts its lease, and does not renew it.
    let run = started(&world.process(&here).await.once("x").ttl(TTL)).await;
    let other = world.process(&elsewhere).await.once("x").ttl(TTL);
    let overtaking = elsewhere.passing(other.start()).await.expect("takes over");
    let Start::Run(second) = overtaking else { panic!("{overtaking:?}") };
    assert!(run.guard().is_held(), "it cannot know");
    let token = second.guard().token();
    let error = run.finish(&1).await.expect_err("was overtaken");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains(&format!("taken over by token {token}")), "{error}");
    assert_eq!(state(&other).await, LockState::Held);
    second.finish(&2).await.expect("records");
    let done = other.inspect().await.expect("reads").done.expect("is done");
    assert_eq!((done.result.to_json(), done.token), ("2".to_owned(), token));
}

#[tokio::test]
async fn no_clock_of_a_process_makes_a_result_past() {
    let world = World::new();
    let clock = ManualClock::new();
    let store = world.process(&clock).await;
    started(&store.once("x").retention(SECOND)).await.finish(&1).await.expect("records");
    // The store's own clock, which stamps the record, has hardly moved.
    clock.advance(LONG * 60 * 24);
    for process in [store, world.process(&clock).await] {
        let start = process.once("x").try_start().await.expect("looks");
        assert!(matches!(start, Start::Done(_)), "{start:?}");
    }
}

#[tokio::test]
async fn a_result_whose_answer_was_lost_is_recognised() {
    for kind in [
        FailKind::AfterGeneric,
        FailKind::AfterPrecondition,
        FailKind::AfterAlreadyExists,
        FailKind::BeforeGeneric,
        FailKind::BeforeConflict409,
    ] {
        let world = World::new();
        let clock = ManualClock::new();
        let once = world.process(&clock).await.once("x").ttl(TTL);
        let run = started(&once).await;
        world.0.fail_next_puts(1, kind);
        clock.passing(run.finish(&1)).await.unwrap_or_else(|e| panic!("{kind:?}: {e:?}"));
        assert_eq!(state(&once).await, LockState::Done, "{kind:?}");
    }
}

#[tokio::test]
async fn a_result_that_may_have_been_recorded_is_reported_as_unconfirmed() {
    let world = World::new();
    let clock = ManualClock::new();
    let once = world.process(&clock).await.once("x").ttl(TTL);
    let run = started(&once).await;
    world.0.fail_next_puts(1, FailKind::AfterGeneric);
    world.0.fail_gets(true);
    let error = clock.passing(run.finish(&1)).await.expect_err("nobody knows");
    assert_eq!(error.kind(), ErrorKind::Unconfirmed, "{error:?}");
    world.0.fail_gets(false);
    let start = once.try_start().await.expect("looks");
    assert!(matches!(&start, Start::Done(done) if done.result.to_json() == "1"), "{start:?}");
}

#[tokio::test]
async fn a_result_that_never_reached_the_store_is_not_recorded_later() {
    let world = World::new();
    let clock = ManualClock::new();
    let store = world.process(&clock).await;
    let once = store.once("x").ttl(TTL);
    let run = started(&once).await;
    world.0.hold_puts();
    let finishing = tokio::spawn(async move { run.finish(&1).await });
    world.0.wait_for_held(1).await;
    while !finishing.is_finished() {
        clock.advance(Duration::from_millis(100));
        breathe().await;
    }
    let error = finishing.await.expect("no panic").expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Unconfirmed, "{error:?}");
    world.0.release_puts();
    let outcome = clock.passing(once.run(async |_| Ok::<_, Infallible>(2))).await;
    assert!(matches!(outcome, Ok(Outcome::Ran(2))), "{outcome:?}");
    // Only now the first write arrives.
    let landed = world.0.land_abandoned().await;
    assert!(!landed.is_empty() && landed.iter().all(Result::is_err), "{landed:?}");
    let done = once.inspect().await.expect("reads").done.expect("is done");
    assert_eq!(done.result.to_json(), "2");
}

#[tokio::test]
async fn a_shutdown_gives_a_run_back_and_waits_for_a_result_under_way() {
    let world = World::new();
    let clock = ManualClock::new();
    let store = world.process(&clock).await;
    let given_back = started(&store.once("back").ttl(TTL)).await;
    let run = started(&store.once("done").ttl(TTL)).await;
    world.0.hold_puts();
    let mut finishing = Box::pin(run.finish(&1));
    assert!((&mut finishing).now_or_never().is_none());
    world.0.wait_for_held(1).await;
    let shutdown = tokio::spawn(async move { store.shutdown().await });
    breathe().await;
    assert!(!shutdown.is_finished(), "a write is under way");
    world.0.release_puts();
    finishing.await.expect("records");
    clock.passing(async { shutdown.await.expect("no panic") }).await;
    let error = given_back.finish(&1).await.expect_err("was given back");
    assert_eq!(error.kind(), ErrorKind::ShutDown, "{error:?}");
    let other = world.process(&clock).await;
    assert_eq!(state(&other.once("back")).await, LockState::Free);
    assert_eq!(state(&other.once("done")).await, LockState::Done);
}

#[tokio::test]
async fn bad_retentions_and_keys_are_refused_before_anything_is_written() {
    let store = leaselock::open("memory:///").await.expect("opens");
    for (retention, reason) in [
        (Duration::from_millis(999), "at least 1s"),
        (SECOND * 60 * 60 * 24 * 36_525 + SECOND, "at most"),
        (Duration::from_micros(1_000_500), "finer than a millisecond"),
    ] {
        let error = store.once("x").retention(retention).try_start().await.expect_err(reason);
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains("the retention") && error.to_string().contains(reason));
    }
    let error = store.once("a.once/b").try_start().await.expect_err("a folder");
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    assert!(error.to_string().contains("key of work that is run once"), "{error}");
    assert_eq!(state(&store.once("x")).await, LockState::Absent);
}
