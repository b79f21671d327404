//! What must not allocate: looking at a guard, which programs do in their innermost loops.
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use leaselock::LockGuard;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes on to the system's allocator as it came; a cell of a thread is counted up
// besides, whose access neither allocates nor fails but during the thread's end.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: it was allocated by the system's allocator, with this layout.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl Fn()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[tokio::test]
async fn looking_at_a_guard_allocates_nothing() {
    assert!(allocations(|| drop(std::hint::black_box(Box::new(7)))) > 0, "it is counted");
    let store = leaselock::open("memory:///").await.expect("opens");
    let session = store.session().open().await.expect("opens");
    let plain = store.lock("plain").acquire().await.expect("acquires");
    let unshared = store.lock("own").local_handover(false).acquire().await.expect("acquires");
    let under = session.lock("under").acquire().await.expect("acquires");
    let look = |guard: &LockGuard| {
        assert!(guard.is_held());
        assert!(!guard.remaining().is_zero());
        guard.touch();
    };
    for guard in [&plain, &unshared, &under] {
        let count = allocations(|| (0..1000).for_each(|_| look(guard)));
        assert_eq!(count, 0, "{}", guard.name());
    }
}
