//! The one thread that waits for what Python awaits, and tells it.
//!
//! It alone waits for the interpreter's lock on behalf of the library: see the invariant of the crate.

use std::pin::Pin;
use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::call::Told;
use crate::forks::Native;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The messenger of this process, behind those of the processes it was forked from.
#[derive(Debug)]
struct Messenger {
    tasks: Native<UnboundedSender<Task>>,
    of_child: OnceLock<Box<Messenger>>,
}

static MESSENGER: OnceLock<Messenger> = OnceLock::new();

/// Has the messenger's thread run a task. Where there can be no thread it is dropped.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    let mut messenger = MESSENGER.get_or_init(Messenger::start);
    loop {
        match messenger.tasks.get() {
            Some(tasks) => return drop(tasks.send(Box::pin(task))),
            None => messenger = messenger.of_child.get_or_init(|| Box::new(Messenger::start())),
        }
    }
}

impl Messenger {
    fn start() -> Self {
        let (tasks, mut asked) = unbounded_channel::<Task>();
        let work = move || {
            let Ok(runtime) = Builder::new_current_thread().enable_time().build() else { return };
            runtime.block_on(async {
                while let Some(task) = asked.recv().await {
                    drop(tokio::spawn(task));
                }
            });
        };
        drop(std::thread::Builder::new().name("leaselock-python".to_owned()).spawn(work));
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
        // Nothing can be told any more when the interpreter ends.
        Python::try_attach(|py| {
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
