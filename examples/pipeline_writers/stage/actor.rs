//! One writer's process: makes batches, has them appended, and acknowledges them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use leaselock::Store;
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::event::{Event, What};
use super::{now, sleep};
use crate::table::{Batch, Layout};
use crate::writer::{self, Error, Table};
use crate::{store, unfenced};

/// The argument that turns the example into a writer.
pub(crate) const ARGUMENT: &str = "--as-one-of-the-writers";

/// What a writer is to do. It comes on standard input, as the store's URL may hold a secret that
/// does not belong into a list of processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) parent: u32,
    pub(crate) writer: usize,
    /// How often it was started before.
    pub(crate) restart: u32,
    pub(crate) store: String,
    /// The prefix of the lock's record, below the URL's own.
    pub(crate) locks: String,
    pub(crate) layout: Layout,
    pub(crate) ttl: Duration,
    pub(crate) chaos: bool,
    pub(crate) unfenced: bool,
    pub(crate) seed: u64,
    pub(crate) acknowledged: PathBuf,
}

/// Writes until told to stop.
pub(crate) async fn act() -> Result<(), Error> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let role: Role = serde_json::from_str(&line)?;
    end_with(role.parent)?;
    let (answers, mut stop) = listen();
    let store = Store::builder(&role.store).prefix(&role.locks).open().await?;
    let owner = format!("writer {}", role.writer);
    let table = Table {
        lock: store.lock("table").ttl(role.ttl).owner(owner),
        objects: store.objects(),
        layout: role.layout.clone(),
    };
    let plain = role.unfenced.then(|| store::plain(&role.store)).transpose()?;
    let mut acknowledged = Log::open(&role.acknowledged)?;
    let mut rng = fastrand::Rng::with_seed(role.seed);
    for number in 0.. {
        // The rows of a batch come from somewhere, and that takes time.
        sleep(Duration::from_millis(rng.u64(10..60))).await;
        let name = format!("writer-{}-{}-{number:05}", role.writer, role.restart);
        let batch = Batch::new(name, rng.u64(50..=150))?;
        let append = append(&table, plain.as_ref(), &batch, &role, &answers);
        tokio::select! {
            biased;
            // What was begun is seen to its end by the library, and not acknowledged.
            _ = stop.wait_for(|stop| *stop) => break,
            done = append => done?,
        }
        acknowledged.append(&batch)?;
        say(What::Acknowledged { rows: batch.rows });
    }
    store.shutdown().await;
    Ok(())
}

async fn append(
    table: &Table,
    plain: Option<&Arc<dyn ObjectStore>>,
    batch: &Batch,
    role: &Role,
    answers: &Receiver<()>,
) -> Result<(), Error> {
    let tell = |progress: writer::Progress<'_>| {
        let what = What::from(progress);
        let may_be_frozen = role.chaos && what == What::Putting;
        say(what);
        if may_be_frozen {
            // It is here that the director freezes a process, if it does: before it answers.
            let _ = answers.recv();
        }
    };
    match plain {
        None => writer::append(table, batch, &tell).await,
        Some(plain) => unfenced::append(table, plain, batch, &tell).await,
    }
}

fn say(what: What) {
    let event = Event::new(now(), what);
    let line = serde_json::to_string(&event).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        // Nobody listens any more.
        std::process::exit(1);
    }
}

/// Ends this process when the director's ends, however that ends.
fn end_with(parent: u32) -> Result<(), Error> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};

        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before.
        if getppid().is_none_or(|now| now.as_raw_nonzero().get().cast_unsigned() != parent) {
            return Err("the director is gone".into());
        }
    }
    let _ = parent;
    Ok(())
}

/// Hears what the director says: that it may go on, and that it should stop.
fn listen() -> (Receiver<()>, watch::Receiver<bool>) {
    let (answer, answers) = channel();
    let (stop, stopped) = watch::channel(false);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match line.as_str() {
                "stop" => drop(stop.send(true)),
                _ => drop(answer.send(())),
            }
        }
        // The director is gone.
        std::process::exit(1);
    });
    (answers, stopped)
}

/// What this writer has promised: one line for every batch.
#[derive(Debug)]
struct Log(File);

impl Log {
    fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self(OpenOptions::new().create(true).append(true).open(path)?))
    }

    fn append(&mut self, batch: &Batch) -> Result<(), Error> {
        // One write: a process that is killed here leaves a whole line or none.
        Ok(self.0.write_all(format!("{} {}\n", batch.name, batch.rows).as_bytes())?)
    }
}
