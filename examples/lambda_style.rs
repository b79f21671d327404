//! A function that is frozen between its calls and thawed for the next, as platforms do that run
//! functions: `cargo run --example lambda_style [STORE-URL]`.
//!
//! A background task does not run while its process is frozen, so there is none: the lease is renewed
//! by hand, the guard is asked after every pause, and what is written goes through the fence, because
//! the next pause may come right after asking.

use std::time::Duration;

use leaselock::clock::{Clock, SystemClock};
use leaselock::{ErrorKind, Lock, LockGuard, Release, Store};

const STATE: &str = "examples/lambda_style/state";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let default = format!("file://{}", directory.path().display());
    let store = leaselock::open(std::env::args().nth(1).unwrap_or(default)).await?;
    // Longer than a call lasts, shorter than one would like to wait for a function that never
    // comes back.
    let lock = store.lock("examples/lambda_style").ttl(Duration::from_secs(1)).keeper(false);

    println!("first call:");
    let mut kept = call(&store, &lock, None, "first").await?;
    println!("(frozen for a moment)");
    frozen_for(Duration::from_millis(300)).await;
    println!("second call:");
    kept = call(&store, &lock, kept, "second").await?;
    println!("(frozen for longer than the lease lasts)");
    frozen_for(Duration::from_millis(1500)).await;
    println!("third call:");
    kept = call(&store, &lock, kept, "third").await?;

    println!("fourth call, frozen between its look at the guard and its write:");
    let guard = kept.ok_or("the third call keeps the lock")?;
    let mut state = guard.fence(&store.objects()).claim(STATE).await?;
    println!("  held: {}, about to write", guard.is_held());
    frozen_for(Duration::from_millis(1500)).await;
    let elsewhere = lock.clone().acquire().await?;
    let mut theirs = elsewhere.fence(&store.objects()).claim(STATE).await?;
    theirs.put("of a call elsewhere").await?;
    println!("  meanwhile, elsewhere: token {} writes", elsewhere.token());
    match state.put("late").await {
        Err(error) if matches!(error.kind(), ErrorKind::Fenced { .. }) => {
            println!("  refused by the store: {error}");
        }
        other => return Err(format!("a late write should be refused: {other:?}").into()),
    }
    elsewhere.release().await?;
    assert!(matches!(guard.release().await?, Release::AlreadyLost(_)));
    let state = store.objects().read(STATE).await?.ok_or("there is a state")?;
    println!("in the end: {}", String::from_utf8_lossy(state.bytes()));
    Ok(())
}

/// One call of the function. It keeps the lock for the next one, which may come soon.
async fn call(
    store: &Store,
    lock: &Lock,
    kept: Option<LockGuard>,
    what: &str,
) -> leaselock::Result<Option<LockGuard>> {
    let guard = match kept {
        // A lease that has ended is not renewed, whatever the clocks of this machine did meanwhile.
        Some(guard) if guard.is_held() && guard.renew().await.is_ok() => {
            println!("  still ours, and renewed: token {}", guard.token());
            guard
        }
        lost => {
            if let Some(guard) = lost {
                println!("  token {} was lost while this was frozen", guard.token());
            }
            let Some(guard) = lock.acquire_timeout(Duration::from_secs(10)).await?.acquired()
            else {
                println!("  busy: another call will do the work");
                return Ok(None);
            };
            println!("  acquired: token {}", guard.token());
            guard
        }
    };
    let mut state = guard.fence(&store.objects()).claim(STATE).await?;
    state.put(format!("of the {what} call")).await?;
    println!("  written; held for {} ms more at least", guard.remaining().as_millis());
    Ok(Some(guard))
}

/// What the platform does. Here only this program pauses, and nothing renews meanwhile.
async fn frozen_for(time: Duration) {
    SystemClock.sleep_until(SystemClock.now().boot.plus(time)).await;
}
