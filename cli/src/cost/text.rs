//! A bill, for people.

use std::iter;

use super::bill::{Bill, Entry};
use super::prices::{Charge, Rate, Service};
use super::requests::Client;

pub(crate) fn text(bill: &Bill, explain: bool) -> String {
    let entries = bill.entries();
    let mut lines = vec![format!("{}: cost of a month", bill.usage.describe()), String::new()];
    lines.push(row("SERVICE", "READS", "WRITES", "COST", "A SERVER COSTS LESS"));
    lines.extend(entries.iter().map(|entry| entry_row(bill, entry)));
    if explain {
        lines.extend([String::new(), bill.usage.explain()]);
        lines.extend(Client::ALL.into_iter().flat_map(|client| requests(client, &entries)));
        lines.push(String::new());
        lines.extend(entries.iter().flat_map(|entry| prices(bill, entry.service)));
    }
    lines.push(String::new());
    lines.extend(footer(bill, explain));
    lines.join("\n")
}

fn entry_row(bill: &Bill, entry: &Entry<'_>) -> String {
    let cost = money(&bill.prices.currency, entry.month);
    let name = &entry.service.name;
    if entry.lines.is_empty() {
        return row(name, "-", "-", &cost, "");
    }
    let from = match entry.server_cheaper_from {
        None => "never".to_owned(),
        Some(1) => "always".to_owned(),
        Some(locks) => format!("from {} locks", grouped(locks as f64)),
    };
    row(name, &grouped(entry.count.reads), &grouped(entry.count.writes), &cost, &from)
}

fn row(name: &str, reads: &str, writes: &str, cost: &str, from: &str) -> String {
    format!("{name:<30}  {reads:>13}  {writes:>13}  {cost:>11}  {from}").trim_end().to_owned()
}

/// Where the requests of a client come from; nothing if no service has it.
fn requests(client: Client, entries: &[Entry<'_>]) -> Vec<String> {
    let Some(entry) = entries.iter().find(|entry| entry.service.client() == Some(client)) else {
        return Vec::new();
    };
    let title = match client {
        Client::Leaselock => "Requests of leaselock:",
        Client::DynamodbLockClient => "Requests of DynamoDB's lock client:",
    };
    let lines = entry.lines.iter().map(|line| {
        let (reads, writes) = (grouped(line.count.reads), grouped(line.count.writes));
        format!("  {:<8} {reads:>13} reads  {writes:>13} writes  {}", line.kind, line.because)
    });
    iter::once(String::new()).chain(iter::once(title.to_owned())).chain(lines).collect()
}

fn prices(bill: &Bill, service: &Service) -> [String; 3] {
    let currency = &bill.prices.currency;
    let seen = if service.verified { "seen there" } else { "not seen there" };
    let charge = match &service.charge {
        Charge::PerRequest { read, write, .. } => {
            let rate =
                |rate: &Rate| format!("{} for {}", price(currency, rate.price), grouped(rate.per));
            format!("{} reads, {} writes", rate(read), rate(write))
        }
        Charge::Fixed(parts) => {
            let parts = parts.iter().map(|part| {
                let price = price(currency, part.price);
                format!("{} × {}, each {price} a {}", part.count, part.what, part.per.as_str())
            });
            parts.collect::<Vec<_>>().join("; ")
        }
    };
    [
        format!("{} ({}): {charge}", service.name, service.region),
        format!("  as of {}; {}, {seen}", service.as_of, service.page),
        format!("  {}", service.note),
    ]
}

fn footer(bill: &Bill, explain: bool) -> Vec<String> {
    let services = &bill.prices.services;
    let mut lines = Vec::new();
    if let Some((server, month)) = bill.prices.cheapest_server() {
        let month = money(&bill.prices.currency, month);
        lines.push(format!("\"A server\" is the cheapest: {}, {month}.", server.name));
    }
    let unseen: Vec<_> = services.iter().filter(|service| !service.verified).collect();
    if !unseen.is_empty() {
        let names: Vec<_> = unseen.iter().map(|service| service.name.as_str()).collect();
        lines.push(format!("Not checked against the provider's own words: {}.", names.join("; ")));
    }
    lines
        .push("List prices, which change: --show-prices prints them, --prices takes yours.".into());
    if !explain {
        lines.push("--explain shows where the numbers come from.".into());
    }
    lines
}

/// `$1,234.50`; of another currency `EUR 1,234.50`.
pub(crate) fn money(currency: &str, amount: f64) -> String {
    let sign = sign(currency);
    if amount > 0.0 && amount < 0.005 {
        return format!("<{sign}0.01");
    }
    let cents = (amount * 100.0).round();
    format!("{sign}{}.{:02}", grouped((cents / 100.0).trunc()), cents % 100.0)
}

/// As it is on the list.
fn price(currency: &str, price: f64) -> String {
    format!("{}{price}", sign(currency))
}

fn sign(currency: &str) -> String {
    if currency == "USD" { "$".to_owned() } else { format!("{currency} ") }
}

/// `1,234,567`
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_legible() {
        assert_eq!(
            [0.0, 999.4, 1_000.0, 1_234_567.0].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        let money = |amount| money("USD", amount);
        assert_eq!([0.0, 0.004, 0.005].map(money), ["$0.00", "<$0.01", "$0.01"]);
        assert_eq!([1.999, 1_321.59].map(money), ["$2.00", "$1,321.59"]);
        assert_eq!(super::money("EUR", 12.3), "EUR 12.30");
    }
}
