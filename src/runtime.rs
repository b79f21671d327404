//! Where the library's tasks run.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};

/// Where a store's tasks run: keepers, waiters, and every request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Runtime {
    /// In the library's own runtime, one thread for the whole process, started at the first use.
    /// A program that blocks all of its own threads still keeps its leases (hazard H21).
    #[default]
    Dedicated,
    /// In the tokio runtime in which the store is opened. One thread hop cheaper; but a program that
    /// blocks that runtime for longer than a lease loses the lease.
    Current,
}

impl Runtime {
    /// Starts what has to be started.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) when the system refuses the thread,
    /// [`InvalidOptions`](ErrorKind::InvalidOptions) outside a tokio runtime where one is needed.
    pub(crate) fn start(self) -> Result<Tasks> {
        match self {
            // It never ends.
            Self::Dedicated => dedicated().map(|handle| Tasks { handle, ends: None }),
            Self::Current => Handle::try_current().map(Tasks::until_it_ends).map_err(|error| {
                Error::new(ErrorKind::InvalidOptions, "Runtime::Current needs a tokio runtime")
                    .caused_by(error)
            }),
        }
    }
}

/// Where the tasks of one store run. A task is started from anywhere, in and outside runtimes (hazard
/// H15); once the runtime is gone it is dropped at once.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    handle: Handle,
    /// Closed when the runtime is gone.
    ends: Option<Arc<oneshot::Sender<()>>>,
}

impl Tasks {
    fn until_it_ends(handle: Handle) -> Self {
        let (ends, running) = oneshot::channel();
        // Dropped with the runtime, or over when nobody has these tasks any more.
        drop(handle.spawn(async { drop(running.await) }));
        Self { handle, ends: Some(Arc::new(ends)) }
    }

    /// Starts a task that nobody can drop.
    pub(crate) fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.handle.spawn(task));
    }

    /// Starts a task whose caller waits for it: as far as it gets without waiting it runs here and
    /// now, which saves waking another thread. Its timers and connections belong to its runtime all
    /// the same.
    pub(crate) fn start_here(&self, mut task: BoxFuture<'static, ()>) {
        // Its timers panic when it is gone.
        if self.ends.as_ref().is_some_and(|ends| ends.is_closed()) {
            return;
        }
        let _inside = self.handle.enter();
        // The runtime polls it again with a waker of its own.
        let begun = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if begun.is_pending() {
            self.spawn(task);
        }
    }
}

/// Makes a timer where it will go off: in the runtime that is here, or else in the library's own.
pub(crate) fn with_timers<T>(make: impl FnOnce() -> T) -> T {
    let own = if Handle::try_current().is_ok() { None } else { dedicated().ok() };
    let _inside = own.as_ref().map(Handle::enter);
    make()
}

/// Threads for blocking file operations; they end after ten idle seconds.
const BLOCKING_THREADS: usize = 32;

/// The library's own runtime in one process.
struct Dedicated {
    process: u32,
    runtime: Result<tokio::runtime::Runtime, String>,
    /// That of a process which was forked from this one: threads do not come along.
    of_child: OnceLock<Box<Self>>,
}

impl Dedicated {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("leaselock")
            .enable_all()
            .build()
            .map_err(|error| error.to_string());
        Self { process: std::process::id(), runtime, of_child: OnceLock::new() }
    }
}

/// The library's own runtime: the one that is certain to have what sockets and timers need. A process that
/// was forked gets one of its own (hazard H22), in which it can open stores; what its parent has opened is
/// of no use to it.
pub(crate) fn dedicated() -> Result<Handle> {
    static DEDICATED: OnceLock<Dedicated> = OnceLock::new();
    let mut dedicated = DEDICATED.get_or_init(Dedicated::start);
    let process = std::process::id();
    while dedicated.process != process {
        dedicated = dedicated.of_child.get_or_init(|| Box::new(Dedicated::start()));
    }
    dedicated.runtime.as_ref().map(|runtime| runtime.handle().clone()).map_err(|error| {
        Error::new(ErrorKind::Internal, "leaselock's own thread could not be started")
            .caused_by(error.clone())
    })
}
