//! How to wait, as values.

use std::net::SocketAddr;

use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::convert::Seconds;
use crate::errors;

/// How often a waiter looks whether a lock has become free: each look is one conditional read. Pauses grow from
/// `shortest` to `longest` seconds, and there are at most so many reads in the first minute of a wait; None for
/// as many as the pauses allow.
#[pyclass(frozen, from_py_object, module = "leaselock")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Polling(pub(crate) leaselock::Polling);

#[pymethods]
impl Polling {
    #[new]
    #[pyo3(
        signature = (*, shortest = None, longest = None, reads_in_first_minute = Some(30)),
        text_signature = "(*, shortest=None, longest=None, reads_in_first_minute=30)",
    )]
    fn new(
        shortest: Option<Seconds>,
        longest: Option<Seconds>,
        reads_in_first_minute: Option<u32>,
    ) -> Self {
        let mut polling = leaselock::Polling::new().reads_in_first_minute(reads_in_first_minute);
        if let Some(Seconds(pause)) = shortest {
            polling = polling.shortest(pause);
        }
        if let Some(Seconds(pause)) = longest {
            polling = polling.longest(pause);
        }
        Self(polling)
    }

    /// For locks that are held for milliseconds: noticed within about 3 ms, for some 200 reads a second.
    #[classmethod]
    fn fast(_class: &Bound<'_, PyType>) -> Self {
        Self(leaselock::Polling::fast())
    }

    fn __repr__(&self) -> String {
        format!("leaselock.{:?}", self.0)
    }
}

/// Wake-up hints between machines that reach each other: whoever gives a lock back tells who is next in the queue
/// by a UDP datagram. Only a hint: nothing depends on it.
///
/// `listen` is an address and a port of this machine, "0.0.0.0:0" for any; without it hints are sent and none
/// received. `advertise` is where others reach it, needed where `listen` is unspecified. Port 0 has the system
/// choose one, as processes that fork need it: each listens for itself.
#[pyclass(frozen, from_py_object, module = "leaselock")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct WakeHints(pub(crate) leaselock::WakeHints);

#[pymethods]
impl WakeHints {
    #[new]
    #[pyo3(signature = (listen = None, *, advertise = None))]
    fn new(listen: Option<&str>, advertise: Option<&str>) -> PyResult<Self> {
        let hints = match listen {
            Some(listen) => leaselock::WakeHints::listen(address(listen)?),
            None => leaselock::WakeHints::send_only(),
        };
        Ok(Self(match advertise {
            Some(advertise) => hints.advertise(address(advertise)?),
            None => hints,
        }))
    }

    fn __repr__(&self) -> String {
        format!("leaselock.{:?}", self.0)
    }
}

fn address(text: &str) -> PyResult<SocketAddr> {
    text.parse().map_err(|_| {
        let message = format!("{text:?} is no address: expected one such as 10.0.3.7:0");
        errors::invalid_options(&message)
    })
}
