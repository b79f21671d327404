//! What services charge: the list that is built in, or a file of the user's.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::requests::{Client, Count};
use super::usage::HOURS_PER_MONTH;
use crate::exit::{self, Failure};

const BUILT_IN: &str = include_str!("../../prices.json");

#[derive(Debug)]
pub(crate) struct Prices {
    /// As in ISO 4217.
    pub(crate) currency: String,
    pub(crate) services: Vec<Service>,
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) region: String,
    /// The last day on which these are known to have been the prices.
    pub(crate) as_of: String,
    /// Seen in the provider's own words, or in its price list.
    pub(crate) verified: bool,
    /// Where they are published.
    pub(crate) page: String,
    pub(crate) note: String,
    pub(crate) charge: Charge,
}

#[derive(Debug)]
pub(crate) enum Charge {
    PerRequest { client: Client, read: Rate, write: Rate },
    Fixed(Vec<Part>),
}

/// `price` for `per` requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) price: f64,
    pub(crate) per: f64,
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) what: String,
    pub(crate) count: f64,
    pub(crate) price: f64,
    pub(crate) per: Period,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    Hour,
    Month,
}

impl Prices {
    /// Those of `file`, or else those that are built in.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = file else {
            return parse(BUILT_IN).map_err(|fault| {
                Failure::new(exit::INTERNAL, format!("the list of prices: {fault}"))
            });
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(exit::USAGE, format!("cannot read {}: {error}", path.display()))
        })?;
        parse(&text).map_err(|fault| {
            Failure::new(exit::USAGE, format!("{}: {fault}", path.display()))
                .hint("`leaselock cost --show-prices` prints the list that is built in")
        })
    }

    /// The list that is built in, to be copied and changed.
    pub(crate) fn built_in() -> &'static str {
        BUILT_IN.trim_end()
    }

    /// Of those that cost the same however they are used.
    pub(crate) fn cheapest_server(&self) -> Option<(&Service, f64)> {
        let servers = self.services.iter().filter_map(|service| Some((service, service.fixed()?)));
        servers.min_by(|(_, one), (_, other)| one.total_cmp(other))
    }
}

impl Service {
    /// Who makes the requests that it charges for.
    pub(crate) fn client(&self) -> Option<Client> {
        match self.charge {
            Charge::PerRequest { client, .. } => Some(client),
            Charge::Fixed(_) => None,
        }
    }

    /// What it costs a month without any use.
    pub(crate) fn fixed(&self) -> Option<f64> {
        match &self.charge {
            Charge::PerRequest { .. } => None,
            Charge::Fixed(parts) => Some(parts.iter().map(Part::month).sum()),
        }
    }

    /// What these requests cost.
    pub(crate) fn price(&self, count: Count) -> f64 {
        match self.charge {
            Charge::PerRequest { read, write, .. } => read.of(count.reads) + write.of(count.writes),
            Charge::Fixed(_) => 0.0,
        }
    }
}

impl Rate {
    fn of(self, requests: f64) -> f64 {
        self.price * requests / self.per
    }
}

impl Part {
    pub(crate) fn month(&self) -> f64 {
        let periods = if self.per == Period::Hour { HOURS_PER_MONTH } else { 1.0 };
        self.count * self.price * periods
    }
}

impl Period {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Month => "month",
        }
    }
}

/// What is wrong, and where.
type Parsed<T> = Result<T, String>;

fn parse(text: &str) -> Parsed<Prices> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let list = Object::of(&value, String::new(), &["currency", "services"])?;
    let currency = list.text("currency")?;
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err("currency: three capital letters are expected, such as USD".to_owned());
    }
    let services = list.list("services")?;
    let services =
        services.iter().map(|(value, at)| service(value, at)).collect::<Parsed<Vec<_>>>()?;
    let mut seen = HashSet::new();
    match services.iter().find(|service| !seen.insert(&service.id)) {
        Some(twice) => Err(format!("services: two of them have the id {:?}", twice.id)),
        None => Ok(Prices { currency, services }),
    }
}

const OF_ALL: [&str; 7] = ["id", "name", "region", "as_of", "verified", "page", "note"];

fn service(value: &Value, at: &str) -> Parsed<Service> {
    let (kind, known): (_, &[&str]) = if value.get("fixed").is_some() {
        ("fixed", &["fixed"])
    } else {
        ("per request", &["client", "read", "write"])
    };
    let object = Object::of(value, at.to_owned(), &[&OF_ALL, known].concat())?;
    let charge = if kind == "fixed" {
        let parts = object.list("fixed")?;
        Charge::Fixed(parts.iter().map(|(value, at)| part(value, at)).collect::<Parsed<_>>()?)
    } else {
        Charge::PerRequest {
            client: object.choice("client", &Client::ALL, Client::as_str)?,
            read: object.rate("read")?,
            write: object.rate("write")?,
        }
    };
    Ok(Service {
        id: object.text("id")?,
        name: object.text("name")?,
        region: object.text("region")?,
        as_of: object.text("as_of")?,
        verified: object.truth("verified")?,
        page: object.text("page")?,
        note: object.text("note")?,
        charge,
    })
}

fn part(value: &Value, at: &str) -> Parsed<Part> {
    let object = Object::of(value, at.to_owned(), &["what", "count", "price", "per"])?;
    Ok(Part {
        what: object.text("what")?,
        count: object.number("count")?,
        price: object.number("price")?,
        per: object.choice("per", &[Period::Hour, Period::Month], Period::as_str)?,
    })
}

/// An object of the file, and where it is.
struct Object<'a> {
    fields: &'a Map<String, Value>,
    at: String,
}

impl<'a> Object<'a> {
    fn of(value: &'a Value, at: String, known: &[&str]) -> Parsed<Self> {
        let Value::Object(fields) = value else {
            let at = if at.is_empty() { "the file" } else { &at };
            return Err(format!("{at}: an object is expected"));
        };
        let object = Self { fields, at };
        // A misspelt field would otherwise go unnoticed.
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!("{}: there is no such field", object.path(name))),
            None => Ok(object),
        }
    }

    fn path(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    fn get<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Parsed<T> {
        let found = self.fields.get(name).and_then(read);
        found.ok_or_else(|| format!("{}: {expected} is expected", self.path(name)))
    }

    /// One line of it: it is printed as it is.
    fn text(&self, name: &str) -> Parsed<String> {
        self.get(name, "a line of text", |value| {
            let text = value.as_str().filter(|text| !text.chars().any(char::is_control));
            text.map(str::to_owned)
        })
    }

    fn truth(&self, name: &str) -> Parsed<bool> {
        self.get(name, "true or false", Value::as_bool)
    }

    fn number(&self, name: &str) -> Parsed<f64> {
        let not_negative = |value: &Value| value.as_f64().filter(|number| *number >= 0.0);
        self.get(name, "a number that is not negative", not_negative)
    }

    fn list(&self, name: &str) -> Parsed<Vec<(&'a Value, String)>> {
        let list = self.get(name, "a list of at least one", |value| {
            value.as_array().filter(|list| !list.is_empty())
        })?;
        let path = self.path(name);
        Ok(list.iter().enumerate().map(|(at, value)| (value, format!("{path}[{at}]"))).collect())
    }

    fn choice<T: Copy>(&self, name: &str, all: &[T], word: fn(T) -> &'static str) -> Parsed<T> {
        let words: Vec<_> = all.iter().map(|one| word(*one)).collect();
        self.get(name, &words.join(" or "), |value| {
            all.iter().copied().find(|one| value.as_str() == Some(word(*one)))
        })
    }

    fn rate(&self, name: &str) -> Parsed<Rate> {
        let value = self.get(name, "an object with price and per", Some)?;
        let object = Object::of(value, self.path(name), &["price", "per"])?;
        let above_zero = |value: &Value| value.as_f64().filter(|number| *number > 0.0);
        Ok(Rate {
            price: object.number("price")?,
            per: object.get("per", "a number above zero", above_zero)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The list that is built in, with a change.
    fn changed(change: impl FnOnce(&mut Value)) -> Parsed<Prices> {
        let mut list = serde_json::from_str(BUILT_IN).unwrap();
        change(&mut list);
        parse(&list.to_string())
    }

    #[test]
    fn the_list_that_is_built_in_is_good() {
        let prices = parse(BUILT_IN).unwrap();
        let ids: Vec<_> = prices.services.iter().map(|service| service.id.as_str()).collect();
        let expected = [
            "s3-standard",
            "s3-express",
            "gcs-standard",
            "azure-hot",
            "dynamodb",
            "elasticache",
            "etcd",
        ];
        assert_eq!(ids, expected);
    }

    #[test]
    fn requests_and_machines_cost_what_was_worked_out_by_hand() {
        let prices = parse(BUILT_IN).unwrap();
        let cost = |at: usize| {
            let service: &Service = &prices.services[at];
            let million = Count { reads: 1e6, writes: 1e6 };
            let cents = service.fixed().unwrap_or_else(|| service.price(million)) * 100.0;
            cents.round()
        };
        // 0.40 + 5; 0.03 + 1.13; 0.125 + 0.625.
        assert_eq!([0, 1, 2, 3, 4].map(cost), [540.0, 116.0, 540.0, 540.0, 75.0]);
        // 2 × 0.0128 × 730; 3 × 0.0168 × 730 + 60 × 0.08.
        assert_eq!([5, 6].map(cost), [1_869.0, 4_159.0]);
        assert_eq!(prices.cheapest_server().unwrap().0.id, "elasticache");
    }

    #[test]
    fn faults_are_named_with_their_place() {
        let fault = |change: fn(&mut Value)| changed(change).unwrap_err();
        assert!(parse("{").unwrap_err().starts_with("not JSON: "));
        assert_eq!(parse("[]").unwrap_err(), "the file: an object is expected");
        for (change, expected) in [
            (
                (|list| list["currency"] = json!("usd")) as fn(&mut Value),
                "currency: three capital letters are expected, such as USD",
            ),
            (|list| list["services"] = json!([]), "services: a list of at least one is expected"),
            (
                |list| list["services"][1]["id"] = json!("s3-standard"),
                "services: two of them have the id \"s3-standard\"",
            ),
            (
                |list| list["services"][0]["read"]["price"] = json!(-1),
                "services[0].read.price: a number that is not negative is expected",
            ),
            (
                |list| list["services"][0]["write"]["per"] = json!(0),
                "services[0].write.per: a number above zero is expected",
            ),
            (
                |list| list["services"][0]["read"] = Value::Null,
                "services[0].read: an object is expected",
            ),
            (
                |list| list["services"][0]["client"] = json!("me"),
                "services[0].client: leaselock or dynamodb_lock_client is expected",
            ),
            (
                |list| list["services"][5]["fixed"][0]["per"] = json!("week"),
                "services[5].fixed[0].per: hour or month is expected",
            ),
            (
                |list| list["services"][5]["read"] = json!({}),
                "services[5].read: there is no such field",
            ),
            (
                |list| list["services"][6]["name"] = json!("a\u{1b}[2J"),
                "services[6].name: a line of text is expected",
            ),
            (
                |list| list["services"][6]["verified"] = json!("no"),
                "services[6].verified: true or false is expected",
            ),
        ] {
            assert_eq!(fault(change), expected);
        }
    }
}
