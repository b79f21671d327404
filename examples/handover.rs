//! How fast a lock goes around among the tasks of one process:
//! `cargo run --release --all-features --example handover -- [--store URL] [--seconds N] [--tasks N] [--hold MS]`.
//!
//! With hand-over inside the process, and without: then every acquisition costs two writes and those who
//! wait poll. Then among as many processes, as far as the library can tell, which queue: each learns at its
//! next look that it has been served, or is told by a hint.
//!
//! Each holds the lock for so long on average, anything up to twice that; not at all unless it is given.

use std::time::{Duration, Instant};

use leaselock::{FencingToken, Lock, Store, WakeHints};

struct Options {
    store: Option<String>,
    seconds: u64,
    tasks: usize,
    hold: Duration,
}

/// When somebody held the lock.
struct Tenure {
    token: FencingToken,
    from: Instant,
    to: Instant,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = options()?;
    let directory = tempfile::tempdir()?;
    let own = url::Url::from_directory_path(directory.path()).map_err(|()| "no path")?;
    let url = options.store.clone().unwrap_or_else(|| own.to_string());
    let store = leaselock::open(&url).await?;
    for local in [true, false] {
        let lock = store.lock(if local { "inside" } else { "outside" }).local_handover(local);
        let mode = if local { "handed over inside" } else { "through the store " };
        report(mode, go_around(vec![lock; options.tasks], &options).await?);
    }
    store.shutdown().await;
    for hints in [false, true] {
        let mut stores = Vec::new();
        for _ in 0..options.tasks {
            let builder = Store::builder(&url);
            let here = WakeHints::listen("127.0.0.1:0".parse()?);
            stores.push(if hints { builder.wake_hints(here) } else { builder }.open().await?);
        }
        let name = if hints { "told" } else { "looked" };
        let locks = stores.iter().map(|store| store.lock(name).fair()).collect();
        let mode = if hints { "queued, with hints" } else { "queued, by looks  " };
        report(mode, go_around(locks, &options).await?);
        for store in stores {
            store.shutdown().await;
        }
    }
    Ok(())
}

fn report(mode: &str, (tenures, took): (Vec<Tenure>, Duration)) {
    let pairs = tenures.windows(2);
    let mut changes: Vec<_> = pairs.map(|pair| pair[1].from.duration_since(pair[0].to)).collect();
    changes.sort_unstable();
    let at = |part: usize| changes.get(changes.len() * part / 100).copied().unwrap_or_default();
    let rate = tenures.len() as f64 / took.as_secs_f64();
    println!(
        "{mode}: {rate:.0} acquisitions/s, from one to the next {:?}, p99 {:?}",
        at(50),
        at(99)
    );
}

#[allow(clippy::disallowed_methods, reason = "it is timed")]
async fn go_around(
    locks: Vec<Lock>,
    options: &Options,
) -> Result<(Vec<Tenure>, Duration), Box<dyn std::error::Error>> {
    let began = Instant::now();
    let (hold, end) = (options.hold, began + Duration::from_secs(options.seconds));
    let mut tasks = Vec::new();
    for lock in locks {
        tasks.push(tokio::spawn(async move {
            let mut tenures = Vec::new();
            while Instant::now() < end {
                let guard = lock.acquire().await?;
                let (token, from) = (guard.token(), Instant::now());
                if !hold.is_zero() {
                    tokio::time::sleep(hold.mul_f64(fastrand::f64() * 2.0)).await;
                }
                tenures.push(Tenure { token, from, to: Instant::now() });
                guard.release().await?;
            }
            Ok::<_, leaselock::Error>(tenures)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        let tenures = task.await??;
        assert!(tenures.is_sorted_by_key(|tenure| tenure.token), "each task's tokens rise");
        all.extend(tenures);
    }
    let took = began.elapsed();
    all.sort_unstable_by_key(|tenure| tenure.token);
    let rise = |one: &Tenure, next: &Tenure| one.token < next.token;
    assert!(all.is_sorted_by(rise), "no token was issued twice");
    Ok((all, took))
}

fn options() -> Result<Options, Box<dyn std::error::Error>> {
    let mut options = Options { store: None, seconds: 1, tasks: 8, hold: Duration::ZERO };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--store" => options.store = Some(value),
            "--seconds" => options.seconds = value.parse()?,
            "--tasks" => options.tasks = value.parse()?,
            "--hold" => options.hold = Duration::from_millis(value.parse()?),
            other => return Err(format!("what is {other}?").into()),
        }
    }
    Ok(options)
}
