//! The library without `async`: no test here has a runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leaselock::blocking::{self, Attempt, Campaign, LockGuard, Quorum, Start, Store, WriteAttempt};
use leaselock::{Break, ErrorKind, LockState, LossReason, Outcome, Payload, Release};

const LONG: Duration = Duration::from_secs(60);

struct Directory {
    _files: tempfile::TempDir,
    url: String,
}

impl Directory {
    fn new() -> Self {
        let files = tempfile::tempdir().expect("is made");
        let url = url::Url::from_directory_path(files.path()).expect("is absolute").to_string();
        Self { _files: files, url }
    }

    fn open(&self) -> Store {
        blocking::open(&self.url).expect("opens")
    }
}

#[test]
fn threads_that_block_count_without_loss() {
    let directory = Directory::new();
    let counter = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (store, counter) = (directory.open(), Arc::clone(&counter));
            std::thread::spawn(move || {
                let lock = store.lock("counter");
                let lock = if number % 2 == 0 { lock.fair() } else { lock };
                for _ in 0..5 {
                    lock.with(|guard| {
                        guard.check().expect("is held");
                        let seen = counter.load(Ordering::SeqCst);
                        std::thread::yield_now();
                        counter.store(seen + 1, Ordering::SeqCst);
                    })
                    .expect("acquires");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert_eq!(counter.load(Ordering::SeqCst), 20);
}

#[test]
fn a_lost_guard_says_so_when_it_is_checked() {
    let directory = Directory::new();
    let (store, operator) = (directory.open(), directory.open());
    let guard = store.lock("x").ttl(Duration::from_secs(2)).acquire().expect("acquires");
    guard.check().expect("is held");
    operator.lock("x").break_lease(Break::force()).expect("breaks");
    let reason = blocking::wait(guard.lost());
    let error = guard.check().expect_err("is broken");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains(&reason.to_string()), "{error}");
    assert!(matches!(guard.release().expect("is answered"), Release::AlreadyLost(_)));
}

/// Nobody else looks at the clocks for it, and there is no runtime here to have a timer in.
#[test]
fn a_limit_of_ones_own_can_be_waited_for_without_a_runtime() {
    let directory = Directory::new();
    let session = directory.open().session().open().expect("opens");
    let lock = session.lock("x").max_hold(Duration::from_millis(100));
    let guard = lock.acquire().expect("acquires");
    assert_eq!(blocking::wait(guard.lost()), LossReason::MaxHold);
}

#[test]
fn every_primitive_can_be_waited_for() {
    let directory = Directory::new();
    let (store, other) = (directory.open(), directory.open());

    let guard = store.lock("lock").acquire_timeout(LONG).expect("is answered");
    let guard = guard.acquired().expect("is free");
    assert!(matches!(other.lock("lock").try_acquire(), Ok(Attempt::Held(_))));
    guard.renew().expect("renews");
    assert_eq!(guard.release().expect("releases"), Release::Released);

    let writer = store.rwlock("table").write().expect("writes");
    assert!(matches!(other.rwlock("table").try_write(), Ok(WriteAttempt::Held(_))));
    writer.check().expect("is held");
    writer.renew().expect("renews");
    writer.set_payload(Payload::from_serialize(&"rebuilding").expect("is text")).expect("is set");
    let reader = writer.downgrade().expect("downgrades");
    other.rwlock("table").read().expect("reads").release().expect("releases");
    reader.release().expect("releases");

    let two = store.semaphore("licences", 2).acquire_many(2).expect("acquires");
    assert!(other.semaphore("licences", 2).try_acquire().expect("answers").acquired().is_none());
    two.release().expect("releases");
    assert_eq!(store.semaphore("licences", 2).resize(3).expect("resizes").limit(), 3);

    let session = store.session().open().expect("opens");
    let shard = session.lock("shards/1").acquire().expect("acquires");
    session.close().expect("closes");
    assert!(!shard.is_held());

    let ran = store.once("key").run(|_| Ok::<_, ()>(7)).expect("runs");
    assert!(matches!(ran, Outcome::Ran(7)));
    assert!(matches!(other.once("key").try_start().expect("is answered"), Start::Done(_)));
    other.once("key").forget(Break::force()).expect("forgets");
    let Start::Run(run) = store.once("key").start().expect("starts") else {
        panic!("nobody runs it, and nothing is on record")
    };
    run.guard().check().expect("is held");
    run.finish(&8).expect("is recorded");

    let led = store.election("leader").lead(|leadership| leadership.term()).expect("leads");
    let Campaign::Elected(leadership) = other.election("leader").try_campaign().expect("answers")
    else {
        panic!("nobody leads")
    };
    assert!(leadership.term() > led);
    leadership.resign().expect("resigns");

    let all = store.lock_all(["b", "a"]).acquire().expect("acquires");
    assert_eq!(all.tokens().len(), 2);
    all.check().expect("is held");
    all.release().expect("releases");

    let latch = store.latch("latch", 2);
    assert!(!latch.arrive("one").expect("arrives").is_open);
    let waiting = std::thread::spawn({
        let store = directory.open();
        move || store.latch("latch", 2).wait().expect("opens")
    });
    other.latch("latch", 2).arrive_and_wait("two").expect("opens");
    waiting.join().expect("no panic");
    assert_eq!(store.barrier("barrier", 1).wait("me").expect("passes").epoch, 0);

    let names: Vec<_> = store.list("s").map(|info| info.expect("reads").name).collect();
    assert_eq!(names, ["shards/1"]);
    assert_eq!(store.shutdown().unconfirmed, 0);
}

#[test]
fn a_quorum_can_be_waited_for() {
    let directories = [Directory::new(), Directory::new(), Directory::new()];
    let quorum = Quorum::new(directories.iter().map(Directory::open)).expect("is one");
    let guard = quorum.lock("primary").acquire().expect("acquires");
    let rival = Quorum::new(directories.iter().map(Directory::open)).expect("is one");
    assert!(rival.lock("primary").try_acquire().expect("is answered").acquired().is_none());
    assert_eq!(guard.release().expect("releases"), Release::Released);
    let inner = || rival.lock("standby").with(LockGuard::check).expect("acquires");
    rival.lock("primary").with(|_| inner()).expect("acquires").expect("is held");
}

#[test]
fn a_store_is_built_with_options() {
    let directory = Directory::new();
    let none: [(&str, &str); 0] = [];
    let store = Store::builder(&directory.url).options(none).prefix("locks").open();
    let guard = store.expect("opens").lock("x").acquire().expect("acquires");
    let beside = Store::builder(format!("{}locks", directory.url)).open().expect("opens");
    assert!(matches!(beside.lock("x").try_acquire(), Ok(Attempt::Held(_))));
    guard.release().expect("releases");
}

#[test]
fn work_that_is_run_once_may_itself_block() {
    let directory = Directory::new();
    let store = directory.open();
    let locked = || {
        let guard = store.lock("inner").acquire().expect("acquires inside of the work");
        Ok::<_, ()>(guard.release().expect("releases") == Release::Released)
    };
    let ran = store.once("run").run(|_| locked()).expect("runs");
    assert!(matches!(ran, Outcome::Ran(true)), "{ran:?}");
    let ran = store.once("try_run").try_run(|_| locked()).expect("runs");
    assert!(matches!(ran, Outcome::Ran(true)), "{ran:?}");
    let ran = store.once("run_timeout").run_timeout(LONG, |_| locked()).expect("runs");
    assert!(matches!(ran, Outcome::Ran(true)), "{ran:?}");
    let again = store.once("run").run(|_| Ok::<_, ()>(false)).expect("is answered");
    assert!(matches!(again, Outcome::AlreadyDone(true)), "{again:?}");
}

#[test]
fn work_that_fails_or_panics_gives_its_lease_back() {
    let directory = Directory::new();
    let (store, other) = (directory.open(), directory.open());

    let failed = store.once("fails").run(|_| Err::<(), _>("no luck")).expect("runs");
    assert!(matches!(failed, Outcome::Failed("no luck")), "{failed:?}");
    assert!(matches!(other.once("fails").try_start(), Ok(Start::Run(_))));

    let once = store.once("panics").ttl(LONG);
    let panics = || once.run(|_| -> Result<(), ()> { std::panic::resume_unwind(Box::new("!")) });
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).expect_err("goes on");
    let next = other.once("panics").start_timeout(LONG / 2).expect("is answered");
    assert!(matches!(next, Start::Run(_)), "{next:?}");
}

#[test]
fn work_that_outlives_its_lease_is_not_recorded() {
    let directory = Directory::new();
    let (store, operator) = (directory.open(), directory.open());
    let mut went_on = false;
    let ran = store.once("x").ttl(Duration::from_secs(2)).run(|guard| {
        operator.once("x").forget(Break::force()).expect("ends the run");
        blocking::wait(guard.lost());
        guard.check().expect_err("is lost");
        went_on = true;
        Ok::<_, ()>(1)
    });
    assert_eq!(ran.expect_err("is lost").kind(), ErrorKind::Lost);
    assert!(went_on);
    let info = operator.once("x").inspect().expect("reads");
    assert!(matches!(info.state, LockState::Free), "{info:?}");
}

/// What is dropped at once is warned of, as it is where it is waited for otherwise: the expectations
/// fail to compile if it is not.
#[test]
#[deny(unfulfilled_lint_expectations)]
fn what_is_given_back_at_once_is_warned_of() {
    let directory = Directory::new();
    let store = directory.open();
    #[expect(unused_must_use)]
    {
        Store::builder(&directory.url);
    }
    #[expect(unused_must_use)]
    {
        store.session();
    }
    #[expect(unused_must_use)]
    {
        store.session().open().expect("opens");
    }
    #[expect(unused_must_use)]
    {
        blocking::wait(leaselock::Store::from(store.clone()).session().open()).expect("opens");
    }
    #[expect(unused_must_use)]
    {
        store.lock("lock").acquire().expect("acquires");
    }
    #[expect(unused_must_use)]
    {
        store.rwlock("table").write().expect("acquires");
    }
    #[expect(unused_must_use)]
    {
        store.lock_all(["a", "b"]).acquire().expect("acquires");
    }
    #[expect(unused_must_use)]
    {
        store.election("leader").campaign().expect("is elected");
    }
    #[expect(unused_must_use)]
    {
        store.once("key").start().expect("starts");
    }
}
