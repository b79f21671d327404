//! Latches and barriers.

use std::time::Duration;

use clap::Subcommand;

use super::duration;

#[derive(Debug, Subcommand)]
pub(crate) enum LatchCall {
    /// Arrive, without waiting for the others; may be repeated
    Arrive {
        #[arg(value_name = "LATCH")]
        name: String,
        /// How many different members open it; 1 to 1024
        #[arg(long, value_name = "N")]
        needed: u32,
        /// Who arrives: the same whenever the same work is run again. There is no default
        #[arg(long, value_name = "NAME")]
        member: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Wait until it is open; exit with 75 if that takes too long
    Wait {
        #[arg(value_name = "LATCH")]
        name: String,
        /// How many different members open it; 1 to 1024
        #[arg(long, value_name = "N")]
        needed: u32,
        /// At most so long, for example 30s or 5m [default: for ever]
        #[arg(short, long, value_name = "DUR", value_parser = duration)]
        wait: Option<Duration>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show who has arrived
    Show {
        #[arg(value_name = "LATCH")]
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Close it and begin the next epoch, in which nobody has arrived
    Reset {
        #[arg(value_name = "LATCH")]
        name: String,
        /// How many different members open it from now on; 1 to 1024
        #[arg(long, value_name = "N")]
        needed: u32,
        /// Only if this epoch is present; a later one stays
        #[arg(long, value_name = "E")]
        epoch: Option<u64>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BarrierCall {
    /// Arrive, and wait until all have; exit with 75 if that takes too long
    Wait {
        #[arg(value_name = "BARRIER")]
        name: String,
        /// How many members wait for each other; 1 to 1024
        #[arg(long, value_name = "N")]
        parties: u32,
        /// Who arrives: the same whenever the same work is run again. There is no default
        #[arg(long, value_name = "NAME")]
        member: String,
        /// Which round this is, from 0; one that has passed returns at once [default: the present one]
        #[arg(long, value_name = "E")]
        epoch: Option<u64>,
        /// At most so long, for example 30s or 5m [default: for ever]
        #[arg(short, long, value_name = "DUR", value_parser = duration)]
        wait: Option<Duration>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Arrive in the present epoch, without waiting for the others
    Arrive {
        #[arg(value_name = "BARRIER")]
        name: String,
        /// How many members wait for each other; 1 to 1024
        #[arg(long, value_name = "N")]
        parties: u32,
        /// Who arrives: the same whenever the same work is run again. There is no default
        #[arg(long, value_name = "NAME")]
        member: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show who has arrived
    Show {
        #[arg(value_name = "BARRIER")]
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}
