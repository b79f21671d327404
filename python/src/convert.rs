//! Python's values and the library's.

use std::time::Duration;

use bytes::Bytes;
use leaselock::Payload;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict};
use serde_json::value::RawValue;

/// A time: seconds as a number, or a `datetime.timedelta`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seconds(pub(crate) Duration);

impl<'py> FromPyObject<'_, 'py> for Seconds {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if value.is_instance_of::<PyBool>() {
            // `acquire(False)` does not wait elsewhere; here it would wait for 0 s.
            let message =
                "a number of seconds is expected, not a bool: try_acquire() does not wait";
            return Err(PyTypeError::new_err(message));
        }
        let seconds: f64 = match value.extract() {
            Ok(seconds) => seconds,
            Err(_) => value
                .call_method0("total_seconds")
                .and_then(|seconds| seconds.extract())
                .map_err(|_| {
                    PyTypeError::new_err(format!(
                        "a number of seconds or a timedelta is expected, not {}",
                        value.repr().map_or_else(|_| "this".to_owned(), |text| text.to_string()),
                    ))
                })?,
        };
        // Microseconds, as timedelta has: 0.1 is then 100 ms, and not a little more.
        let micros = (seconds * 1e6).round();
        if !(0.0..1e18).contains(&micros) {
            let message = format!("a time of {seconds} s is negative, infinite or no number");
            return Err(PyValueError::new_err(message));
        }
        Ok(Self(Duration::from_micros(micros as u64)))
    }
}

/// Bytes, or what has them.
pub(crate) fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    let py = value.py();
    let buffers = py.import("builtins")?.getattr("memoryview")?;
    // Of a buffer, and not of a number or a list, of which bytes() makes something else.
    let copied = buffers.call1((value,)).and_then(|buffer| buffer.call_method0("tobytes"));
    let copied = copied.map_err(|_| {
        let kind =
            value.get_type().name().map_or_else(|_| "this".to_owned(), |name| name.to_string());
        PyTypeError::new_err(format!("bytes are expected, not {kind}"))
    })?;
    Ok(Bytes::copy_from_slice(copied.cast::<PyBytes>()?.as_bytes()))
}

/// A function that is called, and not a coroutine function, which would only begin.
///
/// # Errors
/// It is something else.
pub(crate) fn ensure_plain_function(callback: &Bound<'_, PyAny>) -> PyResult<()> {
    let inspect = callback.py().import("inspect")?;
    if !callback.is_callable() {
        return Err(PyTypeError::new_err("a function is expected"));
    }
    if inspect.call_method1("iscoroutinefunction", (callback,))?.extract()? {
        return Err(PyTypeError::new_err(
            "a coroutine function cannot be called back: await lost_async() in a task",
        ));
    }
    Ok(())
}

/// A result of work as JSON, which may be longer than a payload.
///
/// # Errors
/// JSON does not have it.
pub(crate) fn result(value: &Bound<'_, PyAny>) -> PyResult<Box<RawValue>> {
    RawValue::from_string(dumped(value)?).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// # Errors
/// JSON does not have it; NaN and infinities it does not have either.
fn dumped(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let options = PyDict::new(value.py());
    options.set_item("allow_nan", false)?;
    let dumps = value.py().import("json")?.getattr("dumps")?;
    dumps.call((value,), Some(&options))?.extract()
}

/// Any value as JSON.
pub(crate) fn payload(value: &Bound<'_, PyAny>) -> PyResult<Payload> {
    let text = dumped(value)?;
    Payload::from_json_str(&text).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// JSON as a value.
pub(crate) fn value(py: Python<'_>, json: &str) -> PyResult<Py<PyAny>> {
    Ok(py.import("json")?.call_method1("loads", (json,))?.unbind())
}
