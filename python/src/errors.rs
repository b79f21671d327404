//! The library's errors as exceptions of `leaselock.errors`.

use leaselock::{Error, ErrorKind, LossReason};
use pyo3::prelude::*;

/// The exception for an error.
pub(crate) fn raise(error: Error) -> PyErr {
    exception(class(error.kind()), &format!("{error:#}"))
}

/// A lease that is lost.
pub(crate) fn lost(reason: &LossReason) -> PyErr {
    exception("Lost", &format!("the lease is lost: {reason}"))
}

/// The wait took too long.
pub(crate) fn timeout(name: &str, holder: &str) -> PyErr {
    exception("Timeout", &format!("{name} is not to be had in time: {holder}"))
}

/// Something of the process that this one was forked from.
pub(crate) fn forked(what: &str) -> PyErr {
    exception("Forked", &format!("{what} belongs to the process that this one was forked from"))
}

/// Something that was given back or closed.
pub(crate) fn over(what: &str) -> PyErr {
    exception("Lost", what)
}

/// Options that make no sense.
pub(crate) fn invalid_options(what: &str) -> PyErr {
    exception("InvalidOptions", what)
}

fn exception(class: &str, message: &str) -> PyErr {
    Python::attach(|py| {
        let made = py
            .import("leaselock.errors")
            .and_then(|errors| errors.getattr(class))
            .and_then(|class| class.call1((message,)));
        made.map_or_else(|error| error, PyErr::from_value)
    })
}

fn class(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidName => "InvalidName",
        ErrorKind::InvalidOptions => "InvalidOptions",
        ErrorKind::InvalidUrl => "InvalidUrl",
        ErrorKind::TokenMismatch => "TokenMismatch",
        ErrorKind::NotHeld => "NotHeld",
        ErrorKind::WrongKind => "WrongKind",
        ErrorKind::LimitMismatch { .. } => "LimitMismatch",
        ErrorKind::EpochMismatch { .. } => "EpochMismatch",
        ErrorKind::Lost => "Lost",
        ErrorKind::Fenced { .. } => "Fenced",
        ErrorKind::Conflict => "Conflict",
        ErrorKind::AlreadyExists => "AlreadyExists",
        ErrorKind::Unavailable => "Unavailable",
        ErrorKind::Unconfirmed => "Unconfirmed",
        ErrorKind::MissingCredentials => "MissingCredentials",
        ErrorKind::PermissionDenied => "PermissionDenied",
        ErrorKind::StoreAbsent => "StoreAbsent",
        ErrorKind::UnfitStore => "UnfitStore",
        ErrorKind::UnreadableRecord => "UnreadableRecord",
        ErrorKind::OutsideRoot => "OutsideRoot",
        ErrorKind::ShutDown => "ShutDown",
        _ => "LeaselockError",
    }
}
