//! Sixteen shards are worked on in any order, some of them twice; when all have arrived the merge runs,
//! once: `cargo run --example shards`.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leaselock::{Outcome, Store};

const SHARDS: u32 = 16;
const NIGHT: &str = "2026-11-21";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let url = format!("file://{}/store", directory.path().display());
    let output: PathBuf = directory.path().into();

    // Each task stands for another machine: it has opened the store by itself. Every fifth crashes once
    // it has arrived, and is run again.
    let again = (0..SHARDS).filter(|shard| shard % 5 == 0);
    let tasks: Vec<_> = (0..SHARDS)
        .chain(again)
        .map(|shard| tokio::spawn(work_on(shard, url.clone(), output.clone())))
        .collect();
    let mut merges = 0;
    for task in tasks {
        merges += task.await??;
    }
    println!("merged {merges} time: {}", fs::read_to_string(output.join("merged"))?);
    assert_eq!(merges, 1);
    Ok(())
}

/// One shard's task; answers how many merges it has run.
async fn work_on(shard: u32, url: String, output: PathBuf) -> leaselock::Result<u32> {
    let store = leaselock::open(url).await?;
    write_shard(shard, &output).await;
    let member = format!("shard-{shard:02}");
    let arrival = store.latch(format!("merge/{NIGHT}"), SHARDS).arrive(&member).await?;
    println!("  {member}: {} of {} have arrived", arrival.arrived, arrival.needed);
    // Nobody has to wait: whoever finds it open sees to the merge, and its crash would be made good by
    // the next to come. Several may find it open; the merge is run by one.
    if arrival.is_open { merge(&store, &member, &output).await } else { Ok(0) }
}

async fn merge(store: &Store, member: &str, output: &Path) -> leaselock::Result<u32> {
    let once = store.once(format!("merge/{NIGHT}")).owner(member);
    let work = async |_: &leaselock::LockGuard| Ok::<_, Infallible>(merge_all(output));
    match once.run(work).await? {
        Outcome::Ran(size) => {
            println!("  {member} merged {size} shards");
            Ok(1)
        }
        _ => Ok(0),
    }
}

#[allow(clippy::disallowed_methods, reason = "work takes real time")]
async fn write_shard(shard: u32, output: &Path) {
    tokio::time::sleep(Duration::from_millis(u64::from(shard * 7 % SHARDS) * 20)).await;
    fs::write(output.join(format!("part-{shard:02}")), "x").expect("the directory can be written");
}

fn merge_all(output: &Path) -> usize {
    let parts = (0..SHARDS).map(|shard| output.join(format!("part-{shard:02}")));
    let merged: String =
        parts.map(|part| fs::read_to_string(part).expect("all are there")).collect();
    fs::write(output.join("merged"), &merged).expect("the directory can be written");
    merged.len()
}
