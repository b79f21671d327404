//! Workers count under a lock over three stores, of which one is killed and comes back:
//! `cargo run --example quorum [SECONDS]` on three directories, of which one is made unreachable;
//! `cargo run --example quorum -- [SECONDS] --emulators` on three servers, of which one is killed with
//! SIGKILL and started again (see `localstack/README.md`).
//!
//! Ends by itself, and with an error if an invariant was violated: no two workers are inside at once,
//! no increment is lost, tokens rise strictly, work goes on with one store gone, and the store that is
//! back takes part again.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use leaselock::{Attempt, DirectoryStore, FencingToken, Quorum, QuorumLock, Release, Store};
use leaselock_test_support::hold::Overlap;
use leaselock_test_support::remote::{Line, RemoteStore};
use tokio::process::Command;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const WORKERS: usize = 4;
/// Nobody waits for longer, whichever store is gone.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(12);
    let emulators = arguments.iter().find_map(|argument| argument.strip_prefix("--emulators"));
    let files = tempfile::tempdir()?;
    let stores = match emulators {
        None => Stores::in_directories(files.path())?,
        Some(scripts) => Stores::on_emulators(scripts, files.path().join("stores")).await?,
    };
    let result = play(&stores, Duration::from_secs(seconds)).await;
    stores.stop().await?;
    let violations = result?;
    for violation in &violations {
        println!("VIOLATION {violation}");
    }
    if violations.is_empty() {
        println!("no violation");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// What the workers share, which nothing protects but the lock.
#[derive(Default)]
struct Shared {
    counter: AtomicU64,
    /// Sections that were left with the lock still held.
    done: AtomicU64,
    lost: AtomicU64,
    /// Releases that no majority confirmed: a store may be killed after it was entered and before a third
    /// was, and then one store is left to confirm it.
    unconfirmed: AtomicU64,
    failed: AtomicU64,
    over: AtomicBool,
}

async fn play(stores: &Stores, time: Duration) -> Result<Vec<String>> {
    let (referee, shared) = (Overlap::recording(), Arc::new(Shared::default()));
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        // As another process: it has opened the stores by itself.
        let lock = stores.lock().await?.owner(format!("worker {number}"));
        workers.push(tokio::spawn(work(lock, referee.clone(), Arc::clone(&shared))));
    }
    let done = || shared.done.load(Ordering::SeqCst);
    pause(time / 3).await;
    let before = done();
    println!("all three: {before} sections; now one of the stores is killed");
    let back = stores.kill_one(time / 3).await?;
    pause(time / 3).await;
    let without = done() - before;
    println!("two of three: {without} sections");
    back.await??;
    println!("the third is back");
    pause(time / 3).await;
    shared.over.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await?;
    }
    let summary = referee.summary();
    println!("{summary}; counted to {}", shared.counter.load(Ordering::SeqCst));
    println!("{} releases were not confirmed", shared.unconfirmed.load(Ordering::SeqCst));

    let mut violations = summary.violations.clone();
    let mut check = |holds: bool, what: String| violations.extend((!holds).then_some(what));
    let (count, lost) = (shared.counter.load(Ordering::SeqCst), shared.lost.load(Ordering::SeqCst));
    check(count == done(), format!("{} increments were made and {count} are left", done()));
    check(lost == 0, format!("{lost} times the lock was lost with two stores of three"));
    let failed = shared.failed.load(Ordering::SeqCst);
    check(failed == 0, format!("{failed} times it was not acquired"));
    check(before > 0, "nothing was done with all stores".into());
    check(without > 0, "nothing was done without one of them".into());
    check(rejoined(stores).await?, "the store that is back does not take part".into());
    Ok(violations)
}

async fn work(lock: QuorumLock, referee: Overlap, shared: Arc<Shared>) {
    while !shared.over.load(Ordering::SeqCst) {
        let guard = match lock.acquire_timeout(PATIENCE).await {
            Ok(Attempt::Acquired(guard)) => guard,
            other => {
                println!("not acquired: {other:?}");
                shared.failed.fetch_add(1, Ordering::SeqCst);
                continue;
            }
        };
        let inside = referee.enter(guard.token().get());
        // Reads, takes its time, and writes: an increment is lost if anybody else is inside.
        let seen = shared.counter.load(Ordering::SeqCst);
        pause(Duration::from_millis(2)).await;
        if guard.is_held() {
            shared.counter.store(seen + 1, Ordering::SeqCst);
            shared.done.fetch_add(1, Ordering::SeqCst);
        }
        drop(inside);
        let outcome = match guard.release().await {
            Ok(Release::Released) => continue,
            Ok(Release::Unconfirmed) => &shared.unconfirmed,
            Ok(Release::AlreadyLost(_)) | Err(_) => &shared.lost,
        };
        outcome.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether every store has the entry of whoever holds the lock now, soon.
async fn rejoined(stores: &Stores) -> Result<bool> {
    let lock = stores.lock().await?;
    let guard = lock.acquire().await?;
    let mut entered = 0;
    for _ in 0..300 {
        let has_entry = |info: &leaselock::LockInfo| -> Option<FencingToken> {
            Some(info.holders.first()?.token)
        };
        let members = lock.inspect().await?.members;
        let infos = members.iter().filter_map(|member| member.answer.as_ref().ok());
        entered = infos.filter(|info| has_entry(info) == Some(guard.token())).count();
        if entered == members.len() {
            break;
        }
        pause(Duration::from_millis(100)).await;
    }
    println!("{entered} of 3 stores have the entry of the last one");
    guard.release().await?;
    Ok(entered == 3)
}

/// Three stores, and how one of them is killed.
enum Stores {
    Directories([RemoteStore; 3]),
    Emulators { scripts: PathBuf, files: PathBuf, urls: Vec<String>, prefix: String },
}

/// The servers; the first is killed. What it holds survives.
const EMULATORS: [&str; 3] = ["ministack", "seaweedfs", "azurite"];

impl Stores {
    fn in_directories(root: &std::path::Path) -> Result<Self> {
        let open = |name: &str| DirectoryStore::open(root.join(name));
        let remote = |store: DirectoryStore| RemoteStore::new(Arc::new(store));
        Ok(Self::Directories([remote(open("a")?), remote(open("b")?), remote(open("c")?)]))
    }

    /// Starts servers of this run's own. `scripts` is empty, or `=` and where the scripts are.
    async fn on_emulators(scripts: &str, files: PathBuf) -> Result<Self> {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("localstack");
        let scripts = scripts.strip_prefix('=').map_or(here, PathBuf::from);
        let prefix = format!("quorum-{}", std::process::id());
        let mut this = Self::Emulators { scripts, files, urls: Vec::new(), prefix };
        this.script("up", &EMULATORS)?.status().await?;
        let said = this.script("env", &[])?.output().await?.stdout;
        let said = String::from_utf8(said)?;
        if let Self::Emulators { urls, .. } = &mut this {
            for name in EMULATORS {
                let variable = format!("export LEASELOCK_TEST_{}='", name.to_uppercase());
                let mut lines = said.lines().filter_map(|line| line.strip_prefix(&variable));
                let url = lines.next().ok_or_else(|| format!("{name} is not up"))?;
                urls.push(url.trim_end_matches('\'').to_owned());
            }
        }
        Ok(this)
    }

    fn script(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let Self::Emulators { scripts, files, .. } = self else {
            return Err("directories need no scripts".into());
        };
        let mut command = Command::new(scripts.join(name));
        command.args(arguments);
        command.env("LEASELOCK_LOCALSTACK_DIR", files).env("LEASELOCK_LOCALSTACK_KEEP", "1");
        Ok(command)
    }

    async fn lock(&self) -> Result<QuorumLock> {
        let mut stores = Vec::new();
        match self {
            Self::Directories(places) => {
                for place in places {
                    let store = Store::from_object_store(place.as_store());
                    stores.push(store.check_preconditions(false).open().await?);
                }
            }
            Self::Emulators { urls, prefix, .. } => {
                for url in urls {
                    stores.push(Store::builder(url).prefix(prefix).open().await?);
                }
            }
        }
        Ok(Quorum::new(stores)?.lock("examples/quorum").ttl(Duration::from_secs(3)))
    }

    /// Kills one; the task ends when it is back, so much later.
    async fn kill_one(&self, time: Duration) -> Result<tokio::task::JoinHandle<Result<()>>> {
        Ok(match self {
            Self::Directories(places) => {
                let place = places[0].clone();
                place.set(Line::Down);
                tokio::spawn(async move {
                    pause(time).await;
                    place.set(Line::Up);
                    Ok(())
                })
            }
            Self::Emulators { .. } => {
                let after = time.as_secs_f64().to_string();
                let mut restart = self.script("restart", &["--after", &after, EMULATORS[0]])?;
                tokio::spawn(async move {
                    let status = restart.status().await?;
                    if status.success() { Ok(()) } else { Err(format!("{status}").into()) }
                })
            }
        })
    }

    async fn stop(&self) -> Result<()> {
        if let Self::Emulators { .. } = self {
            self.script("down", &[])?.status().await?;
        }
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "workers take real time")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
