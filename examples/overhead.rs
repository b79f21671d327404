//! What the library adds to the store's own time:
//! `cargo run --release --all-features --example overhead [STORE-URL …]`.
//!
//! Measures, in turn so that a noisy machine disturbs all alike: two and three raw conditional
//! requests, a warm and a cold cycle of acquire and release, as it is and with `Runtime::Current`, which
//! spares two changes of thread for each request. Medians. Of a directory it also tells how much of a warm cycle
//! passes within the directory's own calls.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use leaselock::{DirectoryStore, Runtime, Store};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, UpdateVersion,
};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let directory = tempfile::tempdir()?;
    let mut urls: Vec<String> = std::env::args().skip(1).collect();
    let rounds = if cfg!(debug_assertions) { 20 } else { 300 };
    if urls.is_empty() {
        urls = vec!["memory:///".to_owned(), format!("file://{}", directory.path().display())];
    }
    println!("medians of {rounds}; ratios to the raw requests: own thread, caller's runtime");
    let columns = ["2 PUT", "warm", "own", "here", "GET+2 PUT", "cold", "own", "here"];
    print_row("", &columns.map(str::to_owned));
    for url in urls {
        measure(&url, rounds).await?;
        if let Some(root) = url.strip_prefix("file://") {
            take_apart(DirectoryStore::open(root)?, rounds).await?;
        }
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
    let here = open().check_preconditions(false).runtime(Runtime::Current).open().await?;
    let stranger = open().check_preconditions(false).open().await?;
    let key: Path = prefix.parts().chain(Path::from("overhead/raw").parts()).collect();
    let mut version = put(&objects, &key, PutMode::Create).await?;
    let mut times: [Vec<Duration>; 6] = Default::default();
    store.lock("x").acquire().await?.release().await?;
    here.lock("y").acquire().await?.release().await?;
    for round in 0..rounds + 10 {
        let began = now();
        version = put(&objects, &key, PutMode::Update(version)).await?;
        version = put(&objects, &key, PutMode::Update(version)).await?;
        let two_puts = now() - began;

        let warm = cycle(&store, "x").await?;
        let warm_here = cycle(&here, "y").await?;

        let began = now();
        objects.get(&key).await?.bytes().await?;
        version = put(&objects, &key, PutMode::Update(version)).await?;
        version = put(&objects, &key, PutMode::Update(version)).await?;
        let three = now() - began;

        // A record that this handle has never seen: a stranger made it.
        let [name, name_here] = ["cold", "here"].map(|mode| format!("{mode}/{round}"));
        cycle(&stranger, &name).await?;
        let cold = cycle(&store, &name).await?;
        cycle(&stranger, &name_here).await?;
        let cold_here = cycle(&here, &name_here).await?;
        if round >= 10 {
            let taken = [two_puts, warm, warm_here, three, cold, cold_here];
            for (times, time) in times.iter_mut().zip(taken) {
                times.push(time);
            }
        }
    }
    objects.delete(&key).await?;
    let [two_puts, warm, warm_here, three, cold, cold_here] = times.map(median);
    let name = url.split('?').next().unwrap_or(url);
    let over =
        |time: Duration, raw: Duration| format!("{:.2}", time.as_secs_f64() / raw.as_secs_f64());
    let time = |time: Duration| format!("{time:.1?}");
    let row = [
        time(two_puts),
        time(warm),
        over(warm, two_puts),
        over(warm_here, two_puts),
        time(three),
        time(cold),
        over(cold, three),
        over(cold_here, three),
    ];
    print_row(name, &row);
    Ok(())
}

/// Where the time of a warm cycle goes, beside two raw writes of as many bytes.
async fn take_apart(directory: DirectoryStore, rounds: usize) -> Result<(), Error> {
    let timed = Arc::new(Timed { inner: directory, within: AtomicU64::new(0) });
    let objects: Arc<dyn ObjectStore> = timed.clone();
    let store = Store::from_object_store(Arc::clone(&objects)).prefix("overhead");
    let store = store.check_preconditions(false).runtime(Runtime::Current).open().await?;
    let key = Path::from("overhead/apart");
    let mut version = put(&objects, &key, PutMode::Create).await?;
    cycle(&store, "apart").await?;
    timed.taken();
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..rounds {
        let began = now();
        version = put(&objects, &key, PutMode::Update(version)).await?;
        version = put(&objects, &key, PutMode::Update(version)).await?;
        let raw = [now() - began, timed.taken()];
        let cycle = [cycle(&store, "apart").await?, timed.taken()];
        for (times, time) in times.iter_mut().zip(raw.into_iter().chain(cycle)) {
            times.push(time);
        }
    }
    objects.delete(&key).await?;
    let [raw, in_raw, cycle, in_cycle] = times.map(|times| median(times).as_micros());
    println!(
        "  here, two raw writes {raw} µs, of which {in_raw} within the directory's calls; \
         a warm cycle {cycle} µs, {in_cycle}"
    );
    Ok(())
}

/// A directory that adds up how long its writes take.
#[derive(Debug)]
struct Timed {
    inner: DirectoryStore,
    within: AtomicU64,
}

impl Timed {
    fn taken(&self) -> Duration {
        Duration::from_nanos(self.within.swap(0, Ordering::Relaxed))
    }
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Timed {
    async fn put_opts(
        &self,
        path: &Path,
        body: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let began = now();
        let result = self.inner.put_opts(path, body, options).await;
        let nanos = u64::try_from((now() - began).as_nanos()).unwrap_or(u64::MAX);
        self.within.fetch_add(nanos, Ordering::Relaxed);
        result
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// How long it takes to take a free lock and give it back.
async fn cycle(store: &Store, lock: &str) -> Result<Duration, Error> {
    let began = now();
    store.lock(lock).acquire().await?.release().await?;
    Ok(now() - began)
}

fn print_row(name: &str, row: &[String; 8]) {
    let row: String = row.iter().map(|cell| format!(" {cell:>9}")).collect();
    println!("{name:<24.24}{row}");
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
    // As large as a record with a full history.
    let body = PutPayload::from(format!("{number:0>3500}"));
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
