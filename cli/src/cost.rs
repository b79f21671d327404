//! `leaselock cost`: what a usage of locks costs a month, here and with lock servers.

use std::io;

use crate::args::Cost;
use crate::exit::Failure;
use crate::ls;
use bill::Bill;
use prices::Prices;
use usage::Usage;

mod bill;
mod prices;
mod requests;
mod table;
mod text;
mod usage;

/// What `--help` says besides the options and the exit codes.
pub(crate) const LONG_HELP: &str = "\
Each of --locks locks is acquired --cycles-per-day times a day and held for
--hold. Requests are counted by the budget in docs/GUARANTEES.md: 1 read and 1
conditional write to acquire, 1 conditional write to release and every TTL/3 in
between (with --session every TTL/3 for all locks together); who waits makes at
most 30 reads in the first minute and 20 a minute after that. A month has 730
hours. --explain shows where each number comes from.

For DynamoDB the requests are those of its lock client: the same writes, but a
read each second while waiting and no sessions. Servers cost the same however
they are used.

Not counted are stored bytes (a record has about 1 KB), traffic, taxes, free
tiers, discounts, and the requests of outages and contention. Prices change:
--show-prices prints the list, with dates and places; --prices takes another.";

pub(crate) fn cost(args: &Cost) -> Result<u8, Failure> {
    let text = if args.show_prices {
        Prices::built_in().to_owned()
    } else {
        let prices = Prices::load(args.prices.as_deref())?;
        if args.table {
            table::table(&prices)
        } else {
            let bill = Bill::new(Usage::new(args)?, prices);
            if args.json { bill.to_json().to_string() } else { text::text(&bill, args.explain) }
        }
    };
    ls::print(&mut io::stdout().lock(), &text)?;
    Ok(0)
}
