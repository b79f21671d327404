//! The Python package: a thin layer over the library's public interface.
//!
//! **Invariant.** No thread of the library ever waits for the interpreter's lock: what Python is told, it
//! is told by threads of the package's own ([messenger]), so a program that keeps that lock for an hour keeps its
//! leases.

mod admin;
mod call;
mod convert;
mod election;
mod errors;
mod fence;
mod forks;
mod gate;
mod gathering;
mod guard;
mod items;
mod lease;
mod lock;
mod log;
mod messenger;
mod objects;
mod once;
mod options;
mod recipe;
mod session;
mod store;
mod wait;

use std::sync::atomic::{AtomicI64, Ordering};

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// The part of `leaselock` that is not Python.
#[pymodule]
mod _leaselock {
    #[pymodule_export]
    use crate::call::Awaited;
    #[pymodule_export]
    use crate::election::Election;
    #[pymodule_export]
    use crate::fence::{Claimed, Fence};
    #[pymodule_export]
    use crate::forks::forked;
    #[pymodule_export]
    use crate::gathering::{Barrier, Latch};
    #[pymodule_export]
    use crate::guard::Guard;
    #[pymodule_export]
    use crate::items::Items;
    #[pymodule_export]
    use crate::lock::Lock;
    #[pymodule_export]
    use crate::log::log_to_python;
    #[pymodule_export]
    use crate::messenger::{Canceller, deliver};
    #[pymodule_export]
    use crate::objects::Objects;
    #[pymodule_export]
    use crate::once::{Once, Run};
    #[pymodule_export]
    use crate::options::{Polling, WakeHints};
    #[pymodule_export]
    use crate::session::Session;
    #[pymodule_export]
    use crate::store::{Store, end, open, quorum};

    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        use pyo3::prelude::*;
        crate::ensure_one_interpreter()?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// # Errors
/// Another interpreter of this process has loaded it before: what is shared would be of both.
fn ensure_one_interpreter() -> PyResult<()> {
    static FIRST: AtomicI64 = AtomicI64::new(-1);
    #[allow(unsafe_code, reason = "PyO3 has no safe name for it")]
    // SAFETY: a module is initialised by a thread that is attached to its interpreter, as both ask for.
    let present = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    match FIRST.compare_exchange(-1, present, Ordering::SeqCst, Ordering::SeqCst) {
        Err(first) if first != present => Err(PyImportError::new_err(
            "leaselock cannot be used by several interpreters of one process (sub-interpreters)",
        )),
        _ => Ok(()),
    }
}
