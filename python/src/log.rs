//! What the library logs, for Python's `logging`.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::{gate, messenger};

/// `logging`'s number of the least level that is passed on.
static LEAST: AtomicU8 = AtomicU8::new(30);

/// Passes events of the library on to the logger `leaselock`, from this level on: a number of `logging`.
/// Warnings and errors unless it is called.
#[pyfunction]
pub(crate) fn log_to_python(level: u8) {
    // The first call is the package's own. A program that embeds Python may have a subscriber.
    let _ = tracing::subscriber::set_global_default(Forward);
    LEAST.store(level, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Hands events to the messenger.
struct Forward;

impl Subscriber for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with("leaselock")
            && number(*metadata.level()) >= LEAST.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEAST.load(Ordering::Relaxed) {
            0..10 => LevelFilter::TRACE,
            10..20 => LevelFilter::DEBUG,
            20..30 => LevelFilter::INFO,
            30..40 => LevelFilter::WARN,
            _ => LevelFilter::ERROR,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let level = number(*event.metadata().level());
        let mut line = Line::default();
        event.record(&mut line);
        let text = line.message + &line.fields;
        messenger::log(move || {
            gate::attach(|py| {
                let logger = py
                    .import("logging")
                    .and_then(|logging| logging.call_method1("getLogger", ("leaselock",)));
                // A handler that raises is Python's to report.
                drop(logger.and_then(|logger| logger.call_method1("log", (level, "%s", text))));
            });
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
