//! The threads that tell Python what the library has to say.
//!
//! They alone wait for the interpreter's lock on behalf of the library: see the invariant of the crate. What runs a
//! program's own code has a thread of its own, so that nothing else waits for it: [log lines](log), and each
//! [callback](run_apart).

use std::pin::Pin;
use std::sync::OnceLock;
use std::thread;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::call::Told;
use crate::forks::Native;
use crate::gate;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A thread of this process, behind those of the processes it was forked from.
#[derive(Debug)]
struct Messenger {
    tasks: Native<UnboundedSender<Task>>,
    of_child: OnceLock<Box<Messenger>>,
}

static RESULTS: OnceLock<Messenger> = OnceLock::new();
static LOG: OnceLock<Messenger> = OnceLock::new();

/// Has the thread that tells results run a task, which runs nothing of the program's own. Where there can be no
/// thread it is dropped.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(Messenger::of(&RESULTS).send(Box::pin(task)));
}

/// Has the thread that tells the log do so, in the order of these calls.
pub(crate) fn log(tell: impl FnOnce() + Send + 'static) {
    drop(Messenger::of(&LOG).send(Box::pin(async move { tell() })));
}

/// Runs something of the program's own on a thread of its own; it is dropped where there can be none.
pub(crate) fn run_apart(run: impl FnOnce() + Send + 'static) {
    drop(thread::Builder::new().name("leaselock-callback".to_owned()).spawn(run));
}

/// Sees a future to its end on a thread of its own, for what runs something of the program's own under way.
/// Whoever drops what comes back drops the future.
pub(crate) async fn see_apart<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (mut done, output) = oneshot::channel();
    run_apart(move || {
        let Some(runtime) = runtime() else { return };
        let output = runtime.block_on(async {
            tokio::select! {
                biased;
                () = done.closed() => None,
                output = work => Some(output),
            }
        });
        drop(done.send(output));
    });
    output.await.ok().flatten()
}

fn runtime() -> Option<Runtime> {
    Builder::new_current_thread().enable_time().build().ok()
}

impl Messenger {
    /// That of this process.
    fn of(first: &'static OnceLock<Self>) -> &'static UnboundedSender<Task> {
        let mut messenger = first.get_or_init(Self::start);
        loop {
            match messenger.tasks.get() {
                Some(tasks) => return tasks,
                None => messenger = messenger.of_child.get_or_init(|| Box::new(Self::start())),
            }
        }
    }

    fn start() -> Self {
        let (tasks, mut asked) = unbounded_channel::<Task>();
        let work = move || {
            let Some(runtime) = runtime() else { return };
            runtime.block_on(async {
                while let Some(task) = asked.recv().await {
                    drop(tokio::spawn(task));
                }
            });
        };
        drop(thread::Builder::new().name("leaselock-python".to_owned()).spawn(work));
        Self { tasks: Native::new(tasks), of_child: OnceLock::new() }
    }
}

/// Starts `work` and answers an `asyncio.Future` of what it comes to. Cancelling that drops `work`.
///
/// # Errors
/// No event loop is running here.
pub(crate) fn start(
    py: Python<'_>,
    work: impl Future<Output = Told> + Send + 'static,
) -> PyResult<Py<PyAny>> {
    let event_loop = py.import("asyncio")?.call_method0("get_running_loop")?;
    let future = event_loop.call_method0("create_future")?;
    let (cancel, cancelled) = oneshot::channel::<()>();
    future.call_method1("add_done_callback", (Canceller(Some(cancel)),))?;
    let answer = future.clone().unbind();
    let event_loop = event_loop.unbind();
    spawn(async move {
        let told = tokio::select! {
            biased;
            _ = cancelled => return,
            told = work => told,
        };
        gate::attach(|py| {
            let (failed, value) = match told(py) {
                Ok(value) => (false, value),
                Err(error) => (true, error.into_value(py).into_any()),
            };
            let deliver = py.import("leaselock._leaselock").and_then(|own| own.getattr("deliver"));
            // A loop that is closed hears of nothing; what was acquired is given back when it is dropped.
            drop(deliver.and_then(|deliver| {
                let event = (deliver, answer, failed, value).into_pyobject(py)?;
                event_loop.bind(py).call_method1("call_soon_threadsafe", event)
            }));
        });
    });
    Ok(future.unbind())
}

/// Gives a future its result, in the thread of its event loop, unless it has been cancelled.
#[pyfunction]
pub(crate) fn deliver(
    future: &Bound<'_, PyAny>,
    failed: bool,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if future.call_method0("done")?.extract::<bool>()? {
        return Ok(());
    }
    let method = if failed { "set_exception" } else { "set_result" };
    future.call_method1(method, (value,)).map(drop)
}

/// Called when a future is done: by its result, or because it was cancelled.
#[pyclass]
#[derive(Debug)]
pub(crate) struct Canceller(Option<oneshot::Sender<()>>);

#[pymethods]
impl Canceller {
    #[pyo3(signature = (*_future))]
    fn __call__(&mut self, _future: &Bound<'_, PyTuple>) {
        drop(self.0.take());
    }
}
