//! What each service asks for a usage.

use std::ops::Add;
use std::time::Duration;

use serde_json::{Value, json};

use super::prices::{Charge, Prices, Rate, Service};
use super::requests::{Count, Line, interval};
use super::usage::{HOURS_PER_MONTH, Usage};

#[derive(Debug)]
pub(crate) struct Bill {
    pub(crate) usage: Usage,
    pub(crate) prices: Prices,
}

/// One service's share of a bill.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) service: &'a Service,
    /// Empty where requests cost nothing.
    pub(crate) lines: Vec<Line>,
    /// Of all lines.
    pub(crate) count: Count,
    pub(crate) month: f64,
    /// The least number of locks, used like these, for which the cheapest server costs less.
    pub(crate) server_cheaper_from: Option<u64>,
}

impl Bill {
    pub(crate) fn new(usage: Usage, prices: Prices) -> Self {
        Self { usage, prices }
    }

    pub(crate) fn entries(&self) -> Vec<Entry<'_>> {
        self.prices.services.iter().map(|service| self.entry(service)).collect()
    }

    fn entry<'a>(&self, service: &'a Service) -> Entry<'a> {
        let lines = service.client().map(|client| client.month(&self.usage)).unwrap_or_default();
        let count = total(&lines, |_| true);
        let month = service.fixed().unwrap_or_else(|| service.price(count));
        let server_cheaper_from = self.server_cheaper_from(service, &lines);
        Entry { service, lines, count, month, server_cheaper_from }
    }

    fn server_cheaper_from(&self, service: &Service, lines: &[Line]) -> Option<u64> {
        if service.fixed().is_some() {
            return None;
        }
        let (_, server) = self.prices.cheapest_server()?;
        let shared = service.price(total(lines, |line| line.shared));
        let each = service.price(total(lines, |line| !line.shared)) / self.usage.locks as f64;
        let locks = ((server - shared) / each).floor() + 1.0;
        // Neither for free, nor beyond what could be counted.
        (each > 0.0 && locks < 1e15).then_some(locks.max(1.0) as u64)
    }

    pub(crate) fn to_json(&self) -> Value {
        let Usage { ttl, locks, hold, cycles_per_day, waiters, wait, session, warm } = &self.usage;
        let services: Vec<_> = self.entries().iter().map(Entry::to_json).collect();
        json!({
            "usage": {
                "ttl_ms": millis(*ttl),
                "renewal_interval_ms": millis(interval(*ttl)),
                "locks": locks,
                "hold_ms": millis(*hold),
                "cycles_per_day": cycles_per_day,
                "waiters": waiters,
                "wait_ms": millis(*wait),
                "session": session,
                "warm": warm,
                "hours_per_month": HOURS_PER_MONTH,
            },
            "currency": self.prices.currency,
            "cheapest_server": self.prices.cheapest_server().map(|(service, _)| &service.id),
            "services": services,
        })
    }
}

impl Entry<'_> {
    fn to_json(&self) -> Value {
        let service = self.service;
        let (client, read, write, fixed) = match &service.charge {
            Charge::PerRequest { client, read, write } => {
                (Some(client.as_str()), Some(rate(read)), Some(rate(write)), None)
            }
            Charge::Fixed(parts) => {
                let parts = parts.iter().map(|part| {
                    json!({
                        "what": part.what,
                        "count": part.count,
                        "price": part.price,
                        "per": part.per.as_str(),
                        "cost": rounded(part.month()),
                    })
                });
                (None, None, None, Some(parts.collect::<Vec<_>>()))
            }
        };
        let lines = self.lines.iter().map(|line| {
            json!({
                "kind": line.kind,
                "reads": whole(line.count.reads),
                "writes": whole(line.count.writes),
                "cost": rounded(service.price(line.count)),
                "because": line.because,
            })
        });
        json!({
            "id": service.id,
            "name": service.name,
            "region": service.region,
            "as_of": service.as_of,
            "verified": service.verified,
            "page": service.page,
            "note": service.note,
            "client": client,
            "price_of_reads": read,
            "price_of_writes": write,
            "fixed": fixed,
            "requests": lines.collect::<Vec<_>>(),
            "reads": whole(self.count.reads),
            "writes": whole(self.count.writes),
            "cost_per_month": rounded(self.month),
            "server_cheaper_from_locks": self.server_cheaper_from,
        })
    }
}

fn total(lines: &[Line], which: impl Fn(&Line) -> bool) -> Count {
    let counts = lines.iter().filter(|line| which(line)).map(|line| line.count);
    counts.fold(Count::default(), Count::add)
}

fn rate(rate: &Rate) -> Value {
    json!({ "price": rate.price, "per": rate.per })
}

/// To a millionth: what is beyond comes from the arithmetic.
fn rounded(money: f64) -> f64 {
    (money * 1e6).round() / 1e6
}

/// Saturates, as `as` does.
fn whole(requests: f64) -> u64 {
    requests.round() as u64
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill(session: bool) -> Bill {
        let usage = Usage {
            ttl: Duration::from_secs(30),
            locks: 100,
            hold: Duration::from_secs(3_600),
            cycles_per_day: 24.0,
            waiters: 0.0,
            wait: Duration::ZERO,
            session,
            warm: false,
        };
        Bill::new(usage, Prices::load(None).unwrap())
    }

    fn cents(bill: &Bill) -> Vec<u64> {
        bill.entries().iter().map(|entry| (entry.month * 100.0).round() as u64).collect()
    }

    #[test]
    fn a_hundred_locks_held_all_the_time() {
        // 73,000 reads and 26,426,000 writes: 0.0292 + 132.13; 0.00219 + 29.86138; with the lock
        // client 0.009125 + 16.51625.
        let expected = [13_216, 2_986, 13_216, 13_216, 1_653, 1_869, 4_159];
        assert_eq!(cents(&bill(false)), expected);
    }

    #[test]
    fn the_same_under_a_session() {
        // 73,000 reads and 408,802 writes: 0.0292 + 2.04401; 0.00219 + 0.46194626.
        assert_eq!(cents(&bill(true)), [207, 46, 207, 207, 1_653, 1_869, 4_159]);
    }

    #[test]
    fn a_server_is_cheaper_from_so_many_locks_on() {
        let from = |session| {
            let bill = bill(session);
            let from = bill.entries().iter().map(|entry| entry.server_cheaper_from).collect();
            let from: Vec<_> = from;
            from
        };
        // 18.688 / 1.321592; / 0.2986357; / 0.16525375.
        let expected = [Some(15), Some(63), Some(15), Some(15), Some(114), None, None];
        assert_eq!(from(false), expected);
        // The session's 1.31401 come first: 17.37399 / 0.007592.
        assert_eq!(from(true)[0], Some(2_289));
    }
}
