//! Three hosts have the same job in their crontabs; each run of it happens once:
//! `cargo run --example cron_once`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use leaselock::Outcome;

const HOSTS: [&str; 3] = ["ada", "grace", "edsger"];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let url = format!("file://{}/store", directory.path().display());
    let ledger = directory.path().join("ledger");

    for night in ["2026-11-20", "2026-11-21"] {
        println!("{night}, 03:00 on every host:");
        // Each task stands for another host: it has opened the store by itself.
        let hosts: Vec<_> = HOSTS
            .into_iter()
            .map(|host| tokio::spawn(cron(host, url.clone(), night, ledger.clone())))
            .collect();
        for host in hosts {
            host.await??;
        }
    }
    let lines = fs::read_to_string(&ledger)?;
    println!("in the ledger:\n{lines}");
    assert_eq!(lines.lines().count(), 2, "one line a night");
    Ok(())
}

/// What cron does on one host.
async fn cron(
    host: &'static str,
    url: String,
    night: &'static str,
    ledger: impl AsRef<Path> + Send,
) -> leaselock::Result<()> {
    let store = leaselock::open(url).await?;
    let once = store
        .once(format!("examples/close-the-day/{night}"))
        .ttl(Duration::from_secs(10))
        .owner(host)
        .retention(Duration::from_secs(7 * 24 * 60 * 60));
    match once.run(async |_| close_the_day(host, night, ledger.as_ref()).await).await? {
        Outcome::Ran(receipt) => println!("  {host} ran it: {receipt}"),
        Outcome::AlreadyDone(receipt) => println!("  {host} found it done: {receipt}"),
        Outcome::Failed(error) => println!("  {host} failed, and the next to come tries: {error}"),
        other => println!("  {host}: {other:?}"),
    }
    Ok(())
}

/// The job: it must not happen twice.
#[allow(clippy::disallowed_methods, reason = "work takes real time")]
async fn close_the_day(host: &str, night: &str, ledger: &Path) -> std::io::Result<String> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut file = fs::File::options().create(true).append(true).open(ledger)?;
    writeln!(file, "{night} closed by {host}")?;
    Ok(format!("closed by {host}"))
}
