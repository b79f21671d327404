//! Python's values and the library's.

use std::time::Duration;

use leaselock::Payload;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// A time: seconds as a number, or a `datetime.timedelta`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seconds(pub(crate) Duration);

impl<'py> FromPyObject<'_, 'py> for Seconds {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
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

/// Any value as JSON.
pub(crate) fn payload(value: &Bound<'_, PyAny>) -> PyResult<Payload> {
    let text: String = value.py().import("json")?.call_method1("dumps", (value,))?.extract()?;
    Payload::from_json_str(&text).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// JSON as a value.
pub(crate) fn value(py: Python<'_>, json: &str) -> PyResult<Py<PyAny>> {
    Ok(py.import("json")?.call_method1("loads", (json,))?.unbind())
}
