//! What -v shows.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use crate::args::Global;
use crate::secrets;

/// Logging costs start-up time: it is set up only when somebody asked for it.
pub(crate) fn start(global: &Global) {
    let filter = match (std::env::var("LEASELOCK_LOG"), global.verbose) {
        (Ok(filter), _) if !filter.is_empty() => filter,
        (_, 0) => return,
        (_, 1) => "leaselock=info".to_owned(),
        (_, 2) => "leaselock=debug".to_owned(),
        (_, _) => "leaselock=trace,object_store=debug".to_owned(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(|| Shown)
        // They would be printed in a way that panics when nobody reads stderr any more.
        .log_internal_errors(false)
        .init();
}

/// stderr, without the secrets of URLs: errors of what this is built on are logged as they are.
struct Shown;

impl Write for Shown {
    // Whole events come here.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(secrets::without(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
