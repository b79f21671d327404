//! How fast a lock goes around among the tasks of one process:
//! `cargo run --release --all-features --example handover -- [--store URL] [--seconds N] [--tasks N]`.
//!
//! With hand-over inside the process, and without: then every acquisition costs two writes and those who
//! wait poll.

use std::time::{Duration, Instant};

use leaselock::Store;

struct Options {
    store: Option<String>,
    seconds: u64,
    tasks: usize,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = options()?;
    let directory = tempfile::tempdir()?;
    let own = url::Url::from_directory_path(directory.path()).map_err(|()| "no path")?;
    let url = options.store.clone().unwrap_or_else(|| own.to_string());
    let store = leaselock::open(&url).await?;
    for local in [true, false] {
        let (count, took) = go_around(&store, &options, local).await?;
        let mode = if local { "handed over inside" } else { "through the store " };
        println!("{mode}: {:.0} acquisitions/s", count as f64 / took.as_secs_f64());
    }
    store.shutdown().await;
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "it is timed")]
async fn go_around(
    store: &Store,
    options: &Options,
    local: bool,
) -> Result<(u64, Duration), Box<dyn std::error::Error>> {
    let began = Instant::now();
    let end = began + Duration::from_secs(options.seconds);
    let mut tasks = Vec::new();
    for _ in 0..options.tasks {
        let lock = store.lock(if local { "inside" } else { "outside" }).local_handover(local);
        tasks.push(tokio::spawn(async move {
            let mut tokens = Vec::new();
            while Instant::now() < end {
                let guard = lock.acquire().await?;
                tokens.push(guard.token());
                guard.release().await?;
            }
            Ok::<_, leaselock::Error>(tokens)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        let tokens = task.await??;
        assert!(tokens.is_sorted(), "each task's tokens rise");
        all.extend(tokens);
    }
    let took = began.elapsed();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "no token was issued twice");
    Ok((count as u64, took))
}

fn options() -> Result<Options, Box<dyn std::error::Error>> {
    let mut options = Options { store: None, seconds: 1, tasks: 8 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--store" => options.store = Some(value),
            "--seconds" => options.seconds = value.parse()?,
            "--tasks" => options.tasks = value.parse()?,
            other => return Err(format!("what is {other}?").into()),
        }
    }
    Ok(options)
}
