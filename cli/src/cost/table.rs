//! What one unit of each thing costs, as the table of `docs/COST.md`.

use std::time::Duration;

use super::prices::{Prices, Service};
use super::requests::{Client, Count};
use super::text::money;

const HOUR: Duration = Duration::from_secs(60 * 60);
const TTL: Duration = Duration::from_secs(30);
const LONG_TTL: Duration = Duration::from_secs(5 * 60);

struct Column {
    heading: &'static str,
    count: fn(Client) -> Count,
}

const COLUMNS: [Column; 5] = [
    Column { heading: "1,000,000 cycles", count: |client| cycle(client, false).times(1e6) },
    Column { heading: "the same, warm", count: |client| cycle(client, true).times(1e6) },
    Column {
        heading: "1,000 hours held, TTL 30 s",
        count: |client| client.renew(TTL, HOUR).times(1e3),
    },
    Column { heading: "TTL 5 min", count: |client| client.renew(LONG_TTL, HOUR).times(1e3) },
    Column { heading: "1,000 hours waited", count: |client| client.wait(HOUR).times(1e3) },
];

pub(crate) fn table(prices: &Prices) -> String {
    let headings: Vec<_> = COLUMNS.iter().map(|column| column.heading).collect();
    let mut lines = vec![
        format!("| service | {} | a month besides |", headings.join(" | ")),
        format!("| --- |{} ---: |", " ---: |".repeat(COLUMNS.len())),
    ];
    lines.extend(prices.services.iter().map(|service| row(prices, service)));
    lines.join("\n")
}

fn row(prices: &Prices, service: &Service) -> String {
    let cells = COLUMNS.iter().map(|column| {
        let count = service.client().map(column.count).unwrap_or_default();
        money(&prices.currency, service.price(count))
    });
    let besides = money(&prices.currency, service.fixed().unwrap_or_default());
    let cells: Vec<_> = cells.chain([besides]).collect();
    format!("| {} | {} |", service.name.replace('|', "\\|"), cells.join(" | "))
}

fn cycle(client: Client, warm: bool) -> Count {
    client.acquire(warm) + client.release()
}
