//! The library's metrics for Prometheus: `cargo run --example prometheus [ADDRESS]`.
//!
//! Two workers use a lock, one of them is put out of it, and what Prometheus would then read is read
//! here and printed. A service would install the exporter in the same way and go on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use leaselock::{Attempt, Break};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = match std::env::args().nth(1) {
        Some(address) => address.parse()?,
        // One that is free.
        None => TcpListener::bind("127.0.0.1:0")?.local_addr()?,
    };
    // Without buckets they would be summaries, whose quantiles cannot be added up over processes.
    let seconds = [0.01, 0.1, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0];
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(Matcher::Prefix("leaselock_".to_owned()), &seconds)?
        .install()?;

    let directory = tempfile::tempdir()?;
    let store = leaselock::open(format!("file://{}", directory.path().display())).await?;
    let lock = store.lock("examples/prometheus").ttl(Duration::from_secs(10));
    let guard = lock.acquire().await?;
    assert!(matches!(lock.try_acquire().await?, Attempt::Held(_)));
    guard.renew().await?;
    guard.release().await?;

    let guard = lock.acquire().await?;
    lock.break_lease(Break::force().reason("to see it in the metrics")).await?;
    println!("put out: {}", guard.lost().await);
    store.shutdown().await;

    let page = tokio::task::spawn_blocking(move || read(address)).await??;
    let mut lines: Vec<_> = page.lines().filter(|line| line.starts_with("leaselock_")).collect();
    lines.sort_unstable();
    for line in lines.iter().filter(|line| !line.contains("_bucket")) {
        println!("{line}");
    }
    let lost = "leaselock_lost_total{reason=\"broken\"} 1";
    if lines.contains(&lost) {
        Ok(())
    } else {
        Err(format!("{lost} is missing in:\n{page}").into())
    }
}

/// What Prometheus does.
fn read(address: SocketAddr) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(connection, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    connection.read_to_string(&mut page)?;
    Ok(page)
}
