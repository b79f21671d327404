//! How evenly eight contenders share one lock, with and without the queue:
//! `cargo run --release --example fairness -- [--store URL] [--seconds N] [--contenders N] [--work MS]`.
//!
//! Prints Jain's index of the acquisitions per contender: 1 when all have equally many, 1/8 when one
//! has all (Jain, Chiu and Hawe 1984).

use std::time::{Duration, Instant};

use leaselock::Store;

struct Options {
    store: Option<String>,
    seconds: u64,
    contenders: usize,
    work: Duration,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = options()?;
    let directory = tempfile::tempdir()?;
    let own = url::Url::from_directory_path(directory.path()).map_err(|()| "no path")?;
    let url = options.store.clone().unwrap_or_else(|| own.to_string());
    for fair in [false, true] {
        let counts = contend(&options, &url, fair).await?;
        let total: u64 = counts.iter().sum();
        let mode = if fair { "in the queue" } else { "by default  " };
        println!(
            "{mode}: Jain's index {:.3}, {:.1} acquisitions/s, per contender {counts:?}",
            jain(&counts),
            total as f64 / options.seconds as f64,
        );
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "contenders take real time")]
async fn contend(
    options: &Options,
    url: &str,
    fair: bool,
) -> Result<Vec<u64>, Box<dyn std::error::Error>> {
    let name = if fair { "fairness/queue" } else { "fairness/default" };
    let mut contenders = Vec::new();
    for _ in 0..options.contenders {
        // A handle of its own is like a process of its own.
        let store: Store = leaselock::open(url).await?;
        // The first lock of a store is taken after it was checked.
        store.lock("fairness/ready").acquire().await?.release().await?;
        let lock = store.lock(name);
        let lock = if fair { lock.fair() } else { lock };
        contenders.push((store, lock));
    }
    let end = tokio::time::Instant::from_std(Instant::now() + Duration::from_secs(options.seconds));
    let mut tasks = Vec::new();
    for (store, lock) in contenders {
        let work = options.work;
        tasks.push(tokio::spawn(async move {
            let mut count = 0;
            loop {
                let Ok(acquired) = tokio::time::timeout_at(end, lock.acquire()).await else {
                    return Ok::<_, leaselock::Error>((count, store));
                };
                let guard = acquired?;
                count += 1;
                tokio::time::sleep(work).await;
                guard.release().await?;
            }
        }));
    }
    let mut counts = Vec::new();
    for task in tasks {
        let (count, store) = task.await??;
        // Nobody is left in the queue.
        store.shutdown().await;
        counts.push(count);
    }
    Ok(counts)
}

fn jain(counts: &[u64]) -> f64 {
    let sum: f64 = counts.iter().map(|count| *count as f64).sum();
    let squares: f64 = counts.iter().map(|count| (*count as f64).powi(2)).sum();
    sum * sum / (counts.len() as f64 * squares)
}

fn options() -> Result<Options, Box<dyn std::error::Error>> {
    let work = Duration::from_millis(5);
    let mut options = Options { store: None, seconds: 3, contenders: 8, work };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--store" => options.store = Some(value),
            "--seconds" => options.seconds = value.parse()?,
            "--contenders" => options.contenders = value.parse()?,
            "--work" => options.work = Duration::from_millis(value.parse()?),
            other => return Err(format!("what is {other}?").into()),
        }
    }
    Ok(options)
}
