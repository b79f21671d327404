//! The library without `async`: no test here has a runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leaselock::blocking::{self, Attempt, Campaign, Quorum, Store, WriteAttempt};
use leaselock::{Break, ErrorKind, Outcome, Release, Start};

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
    blocking::wait(operator.lock("x").break_lease(Break::force())).expect("breaks");
    let reason = blocking::wait(guard.lost());
    let error = guard.check().expect_err("is broken");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains(&reason.to_string()), "{error}");
    assert!(matches!(guard.release().expect("is answered"), Release::AlreadyLost(_)));
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

    let led = store.election("leader").lead(|leadership| leadership.term()).expect("leads");
    let Campaign::Elected(leadership) = other.election("leader").try_campaign().expect("answers")
    else {
        panic!("nobody leads")
    };
    assert!(leadership.term() > led);
    leadership.resign().expect("resigns");

    let all = store.lock_all(["b", "a"]).acquire().expect("acquires");
    assert_eq!(all.tokens().len(), 2);
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
}
