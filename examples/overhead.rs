//! What the library adds to the store's own time:
//! `cargo run --release --all-features --example overhead [STORE-URL …]`.
//!
//! Measures, in turn so that a noisy machine disturbs all alike: two and three raw conditional
//! requests, a warm and a cold cycle of acquire and release. Medians.

use std::sync::Arc;
use std::time::{Duration, Instant};

use leaselock::{DirectoryStore, Store};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let directory = tempfile::tempdir()?;
    let mut urls: Vec<String> = std::env::args().skip(1).collect();
    let rounds = if cfg!(debug_assertions) { 20 } else { 300 };
    if urls.is_empty() {
        urls = vec!["memory:///".to_owned(), format!("file://{}", directory.path().display())];
    }
    let (title, columns) = (format!("medians of {rounds}"), ["2 PUT", "warm", "GET+2 PUT", "cold"]);
    let [two, warm, three, cold] = columns;
    println!("{title:<28} {two:>10} {warm:>10} {0:>6}  {three:>10} {cold:>10} {0:>6}", "ratio");
    for url in urls {
        measure(&url, rounds).await?;
    }
    Ok(())
}

async fn measure(url: &str, rounds: usize) -> Result<(), Error> {
    let (objects, prefix) = raw(url)?;
    let memory = url.starts_with("memory");
    let open = || {
        if memory {
            Store::from_object_store(Arc::clone(&objects))
        } else {
            Store::builder(url).prefix("overhead")
        }
    };
    let store = open().check_preconditions(false).open().await?;
    let stranger = open().check_preconditions(false).open().await?;
    let key: Path = prefix.parts().chain(Path::from("overhead/raw").parts()).collect();
    let mut version = put(&objects, &key, PutMode::Create).await?;
    let mut times: [Vec<Duration>; 4] = Default::default();
    store.lock("x").acquire().await?.release().await?;
    for round in 0..rounds + 10 {
        let began = now();
        version = put(&objects, &key, PutMode::Update(version)).await?;
        version = put(&objects, &key, PutMode::Update(version)).await?;
        let two_puts = now() - began;

        let began = now();
        store.lock("x").acquire().await?.release().await?;
        let warm = now() - began;

        let began = now();
        objects.get(&key).await?.bytes().await?;
        version = put(&objects, &key, PutMode::Update(version)).await?;
        version = put(&objects, &key, PutMode::Update(version)).await?;
        let three = now() - began;

        // A record that this handle has never seen: a stranger made it.
        let name = format!("cold/{round}");
        stranger.lock(&name).acquire().await?.release().await?;
        let began = now();
        store.lock(&name).acquire().await?.release().await?;
        let cold = now() - began;
        if round >= 10 {
            for (times, time) in times.iter_mut().zip([two_puts, warm, three, cold]) {
                times.push(time);
            }
        }
    }
    objects.delete(&key).await?;
    let [two_puts, warm, three, cold] = times.map(median);
    let name = url.split('?').next().unwrap_or(url);
    println!(
        "{name:<28.28} {two_puts:>10.1?} {warm:>10.1?} {:>6.2}  {three:>10.1?} {cold:>10.1?} {:>6.2}",
        warm.as_secs_f64() / two_puts.as_secs_f64(),
        cold.as_secs_f64() / three.as_secs_f64(),
    );
    Ok(())
}

fn raw(url: &str) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
    let url = url::Url::parse(url)?;
    if url.scheme() == "file" {
        let root = url.to_file_path().map_err(|()| "not a directory of this machine")?;
        return Ok((Arc::new(DirectoryStore::open(root)?), Path::default()));
    }
    let options: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let mut bare = url;
    bare.set_query(None);
    let (objects, prefix) = object_store::parse_url_opts(&bare, options)?;
    Ok((objects.into(), prefix))
}

async fn put(
    objects: &Arc<dyn ObjectStore>,
    key: &Path,
    mode: PutMode,
) -> Result<UpdateVersion, Error> {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    // As large as a record.
    let body = PutPayload::from(format!("{number:0>700}"));
    let options = PutOptions { mode, ..PutOptions::default() };
    let result = objects.put_opts(key, body, options).await?;
    Ok(UpdateVersion { e_tag: result.e_tag, version: result.version })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[allow(clippy::disallowed_methods, reason = "measures real time")]
fn now() -> Instant {
    Instant::now()
}
