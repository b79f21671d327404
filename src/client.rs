//! What all handles of one opened store share: the store, what is remembered, the tasks and the
//! guards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;
use tokio::sync::{mpsc, oneshot, watch};

use crate::acquire::shut_down;
use crate::clock::timeout;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::WeakKeeping;
use crate::handle::ShutdownReport;
use crate::hold::Hold;
use crate::holder::HolderId;
use crate::info::LockInfo;
use crate::keeper::{Command, Release, Rounds};
use crate::local::Local;
use crate::memory::Memory;
use crate::name;
use crate::options::{DEFAULT_TTL, request_timeout};
use crate::record::Kind;
use crate::runtime::Tasks;
use crate::session::{self, Implied};
use crate::store::LockStore;
use crate::wake::Wakes;

/// How long a shutdown waits for releases and abandoned writes. What is not done by then expires.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(30);

/// What all handles of one opened store share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) store: Arc<LockStore>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) wakes: Arc<Wakes>,
    /// The sessions that permits and tickets needed.
    pub(crate) implied: Implied,
    /// Who waits in this process for what somebody in it has.
    pub(crate) local: Local,
    pub(crate) url: String,
    /// What tells the store from others in this process, where its URL does.
    pub(crate) place: Option<u64>,
    runtime: Tasks,
    pub(crate) rounds: Arc<Rounds>,
    /// In an order of their own: a simulation repeats a shutdown to the last request.
    guards: Mutex<BTreeMap<HolderId, Registered>>,
    closing: watch::Sender<bool>,
    /// Tasks that are running.
    tasks: Arc<watch::Sender<usize>>,
}

#[derive(Debug)]
struct Registered {
    kind: Kind,
    hold: Arc<Hold>,
    /// Weak: a keeper ends when its guard, which keeps it, is gone.
    keeping: WeakKeeping,
}

impl Client {
    /// `closing` is what [`closing`](Self::closing) listens to.
    pub(crate) fn new(
        store: LockStore,
        url: String,
        place: Option<u64>,
        runtime: Tasks,
        wakes: Wakes,
        closing: watch::Sender<bool>,
    ) -> Self {
        Self {
            store: Arc::new(store),
            memory: Arc::default(),
            wakes: Arc::new(wakes),
            implied: Implied::default(),
            local: Local::default(),
            url,
            place,
            runtime,
            rounds: Arc::default(),
            guards: Mutex::default(),
            closing,
            tasks: Arc::default(),
        }
    }

    /// Starts a task that [`Store::shutdown`] waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(self.counted(task));
    }

    /// Starts a task that writes nothing itself and has no store: no shutdown waits for it.
    pub(crate) fn spawn_apart(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(Box::pin(task));
    }

    /// Runs a task as far as it gets here and now, and starts it for the rest: for a caller that
    /// waits for it.
    pub(crate) fn start_here(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.start_here(self.counted(task));
    }

    /// As [`spawn_apart`](Self::spawn_apart), for a caller that waits for it.
    pub(crate) fn start_apart(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.start_here(Box::pin(task));
    }

    fn counted(&self, task: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
        let running = Running::begin(&self.tasks);
        // Boxed itself, or its room would be taken twice: before and while it runs.
        let task = Box::pin(task);
        Box::pin(async move {
            task.await;
            drop(running);
        })
    }

    /// Runs `work` in a task of the library and returns what it returns.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (send, answer) = oneshot::channel();
        self.start_here(async move {
            let _ = send.send(work.await);
        });
        answer.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, "a task of the library has ended early"))
        })
    }

    /// # Errors
    /// The store is shut down.
    pub(crate) fn ensure_open(&self) -> Result<()> {
        if *self.closing.borrow() { Err(shut_down()) } else { Ok(()) }
    }

    /// Turns true when the store is shut down.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Takes note of an acquisition for as long as the registration lives.
    pub(crate) fn register(
        self: &Arc<Self>,
        kind: Kind,
        hold: Arc<Hold>,
        keeping: WeakKeeping,
    ) -> Registration {
        let id = hold.id;
        self.guards().insert(id, Registered { kind, hold, keeping });
        Registration { client: Arc::downgrade(self), id }
    }

    fn guards(&self) -> std::sync::MutexGuard<'_, BTreeMap<HolderId, Registered>> {
        self.guards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn inspect(&self, name: String, key: Path) -> Result<LockInfo> {
        let store = Arc::clone(&self.store);
        self.call(async move {
            let read = store.read(&key, request_timeout(DEFAULT_TTL)).await?;
            let now = store.time_for_free(read.now, request_timeout(DEFAULT_TTL)).await;
            Ok(LockInfo::of_read(&name, &read, now, store.time_margin()))
        })
        .await
    }

    /// Sends every lock whose name starts with `prefix`, until nobody listens.
    pub(crate) async fn list(
        self: Arc<Self>,
        prefix: String,
        found: mpsc::Sender<Result<LockInfo>>,
    ) {
        let infos = self.names_and_keys(&prefix).map(|entry| self.read_listed(entry)).buffered(16);
        self.send_all(infos, found).await;
    }

    /// Sends the name of every lock that starts with `prefix`, until nobody listens.
    pub(crate) async fn names(
        self: Arc<Self>,
        prefix: String,
        found: mpsc::Sender<Result<String>>,
    ) {
        let names = self.names_and_keys(&prefix).map(|entry| entry.map(|(name, _)| name));
        self.send_all(names, found).await;
    }

    fn names_and_keys(&self, prefix: &str) -> impl Stream<Item = Result<(String, Path)>> {
        // Listing goes by whole segments; the rest of the prefix is compared.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let root = self.store.prefix();
        let folder: Path = root.parts().chain(Path::from(folder).parts()).collect();
        self.store
            .list(&folder)
            .filter_map(move |entry| std::future::ready(self.listed(entry, prefix)))
    }

    /// Until nobody listens, or the store is shut down.
    async fn send_all<T>(&self, items: impl Stream<Item = T>, found: mpsc::Sender<T>) {
        let mut items = std::pin::pin!(items);
        let mut closing = self.closing();
        while let Some(item) = items.next().await {
            tokio::select! {
                biased;
                sent = found.send(item) => if sent.is_err() { return },
                _ = closing.wait_for(|closing| *closing) => return,
            }
        }
    }

    /// The lock that a listed object belongs to, if it is a lock's and wanted.
    fn listed(&self, entry: Result<ObjectMeta>, prefix: &str) -> Option<Result<(String, Path)>> {
        match entry {
            Ok(meta) => name::of_key(self.store.prefix(), &meta.location)
                .filter(|name| name.starts_with(prefix))
                .map(|name| Ok((name, meta.location))),
            Err(error) => Some(Err(error)),
        }
    }

    async fn read_listed(&self, entry: Result<(String, Path)>) -> Result<LockInfo> {
        let (name, key) = entry?;
        let read = self.store.read(&key, request_timeout(DEFAULT_TTL)).await?;
        let now = self.store.time_for_free(read.now, request_timeout(DEFAULT_TTL)).await;
        Ok(LockInfo::of_read(&name, &read, now, self.store.time_margin()))
    }

    pub(crate) async fn shutdown(self: Arc<Self>) -> ShutdownReport {
        self.closing.send_replace(true);
        self.local.close();
        let (send, report) = oneshot::channel();
        let runtime = self.runtime.clone();
        runtime.spawn(Box::pin(async move {
            let limit = SHUTDOWN_PATIENCE;
            let mut report = ShutdownReport::default();
            let done = self.give_everything_back(&mut report);
            if let Err(late) = timeout(&**self.store.clock(), limit, done).await {
                tracing::warn!(%late, "the store was shut down with writes under way");
            }
            let _ = send.send(report);
        }));
        report.await.unwrap_or_default()
    }

    /// Gives back what is held under this session.
    pub(crate) async fn release_all_under(&self, session: &Arc<Hold>) {
        let under = |guard: &Registered| guard.hold.is_under(session);
        self.release_all(under, &mut ShutdownReport::default()).await;
    }

    /// Gives back what is chosen, all at once, and counts it.
    async fn release_all(&self, chosen: impl Fn(&Registered) -> bool, report: &mut ShutdownReport) {
        // Upgraded first: whoever follows the hold may drop the guard, and with it the keeper's last
        // sender, as soon as the release has begun. And not released while the list is locked: who
        // drops the last of a guard takes it off the list.
        let chosen: Vec<_> = self
            .guards()
            .values()
            .filter(|registered| chosen(registered) && registered.hold.is_live())
            .map(|registered| {
                (registered.kind, Arc::clone(&registered.hold), registered.keeping.upgrade())
            })
            .collect();
        let mut answers = Vec::new();
        for (kind, hold, keeping) in chosen {
            if hold.begin_release().is_ok() {
                let (done, answer) = oneshot::channel();
                if let Some(keeping) = keeping {
                    keeping.order(Command::Release { done: Some(done), after: None });
                }
                answers.push(((kind == Kind::Session).then(|| hold.name.clone()), answer));
            }
        }
        report.unconfirmed += answers.len();
        for (session, answer) in answers {
            if let Ok(Ok(Release::Released)) = answer.await {
                report.released += 1;
                report.unconfirmed -= 1;
                if let Some(name) = session {
                    session::forget(self, &name).await;
                }
            }
        }
    }

    async fn give_everything_back(&self, report: &mut ShutdownReport) {
        // Sessions last: they are what the others are held by. They are no locks of anybody's.
        let is_session = |guard: &Registered| guard.kind == Kind::Session;
        let others = self.release_all(|guard| !is_session(guard), report);
        // One may be about to be opened, by a write that hangs.
        tokio::join!(self.implied.let_go(), others);
        self.release_all(is_session, &mut ShutdownReport::default()).await;
        // Those whose guards were dropped before are still giving their locks back.
        let mut tasks = self.tasks.subscribe();
        let _ = tasks.wait_for(|running| *running == 0).await;
    }
}

/// An entry in the list of guards, until it is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    client: Weak<Client>,
    id: HolderId,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(client) = self.client.upgrade() {
            client.guards().remove(&self.id);
        }
    }
}

/// Counts a task for as long as it runs.
struct Running(Arc<watch::Sender<usize>>);

impl Running {
    fn begin(tasks: &Arc<watch::Sender<usize>>) -> Self {
        tasks.send_modify(|running| *running += 1);
        Self(Arc::clone(tasks))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}
