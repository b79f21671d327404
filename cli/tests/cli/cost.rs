//! `cost`: arithmetic is tested beside the code; here is what users see.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::tool::{Place, assert_code, stderr, stdout};

/// What it prints, without the line's end.
fn printed(arguments: &[&str]) -> String {
    let output = Place::new().output(arguments);
    assert_code(&output, 0);
    stdout(&output).trim_end().to_owned()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(arguments)).unwrap()
}

#[test]
fn the_documentation_shows_what_the_command_prints() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/COST.md");
    let text = fs::read_to_string(file).unwrap();
    let table = printed(&["cost", "--table"]);
    assert!(text.contains(&table), "`leaselock cost --table` prints:\n{table}");
    let examples: Vec<_> = text.split("$ leaselock ").skip(1).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let (arguments, rest) = example.split_once('\n').unwrap();
        let (shown, _) = rest.split_once("\n```").unwrap();
        let now = printed(&arguments.split(' ').collect::<Vec<_>>());
        assert!(now.contains(shown), "`leaselock {arguments}` prints:\n{now}");
    }
    for (option, words) in [("--ttl=5m", "costs {} instead"), ("--session", "pays {}.")] {
        let bill = json(&["cost", "--locks", "100", "--hold", "1h", option, "--json"]);
        let cost = bill["services"][0]["cost_per_month"].as_f64().unwrap();
        let words = words.replace("{}", &format!("${cost:.2}"));
        assert!(text.contains(&words), "{words:?} is not there");
    }
}

#[test]
fn json_has_everything_that_the_numbers_come_from() {
    let bill = json(&["cost", "--hold", "10s", "--cycles-per-day", "24", "--json"]);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&bill), ["cheapest_server", "currency", "services", "usage"]);
    let usage = &bill["usage"];
    let of_usage = [
        "cycles_per_day",
        "hold_ms",
        "hours_per_month",
        "locks",
        "renewal_interval_ms",
        "session",
        "ttl_ms",
        "wait_ms",
        "waiters",
        "warm",
    ];
    assert_eq!(keys(usage), of_usage);
    assert_eq!((&usage["ttl_ms"], &usage["hold_ms"]), (&30_000.into(), &10_000.into()));
    let services = bill["services"].as_array().unwrap();
    assert_eq!(services.len(), 7);
    let of_service = [
        "as_of",
        "client",
        "cost_per_month",
        "fixed",
        "id",
        "name",
        "note",
        "page",
        "price_of_reads",
        "price_of_writes",
        "reads",
        "region",
        "requests",
        "server_cheaper_from_locks",
        "verified",
        "writes",
    ];
    for service in services {
        assert_eq!(keys(service), of_service);
    }
    // 730 cycles of 1 read and 1 + 1 + 1 writes.
    let s3 = &services[0];
    assert_eq!((&s3["id"], &s3["client"]), (&"s3-standard".into(), &"leaselock".into()));
    assert_eq!((&s3["reads"], &s3["writes"]), (&730.into(), &2_190.into()));
    assert_eq!(s3["cost_per_month"], 0.011_242);
    let line = &s3["requests"][2];
    assert_eq!(keys(line), ["because", "cost", "kind", "reads", "writes"]);
    assert_eq!((&line["kind"], &line["writes"]), (&"renew".into(), &730.into()));
    let server = &services[5];
    assert_eq!(bill["cheapest_server"], server["id"]);
    assert_eq!((&server["client"], &server["requests"]), (&Value::Null, &Value::Array(vec![])));
    assert_eq!(keys(&server["fixed"][0]), ["cost", "count", "per", "price", "what"]);
    assert_eq!(server["fixed"][0]["cost"], 18.688);
}

#[test]
fn a_list_of_ones_own_is_used() {
    let place = Place::new();
    let list = stdout(&place.output(&["cost", "--show-prices"]));
    let dear = list.replacen("\"price\": 0.005", "\"price\": 5", 1).replace("USD", "EUR");
    fs::write(place.file("dear.json"), dear).unwrap();
    let output = place.output(&["cost", "--table", "--prices", "dear.json"]);
    assert_code(&output, 0);
    let row = "| Amazon S3 Standard | EUR 10,000.40 | EUR 10,000.00 | EUR 1,800.00 | EUR 180.00 |";
    assert!(stdout(&output).contains(row), "{}", stdout(&output));
    fs::write(place.file("same.json"), list).unwrap();
    let same = stdout(&place.output(&["cost", "--table", "--prices", "same.json"]));
    assert_eq!(same.trim_end(), printed(&["cost", "--table"]));
}

#[test]
fn explain_says_why_and_at_which_price() {
    let text = printed(&["cost", "--hold", "1m", "--waiters", "2", "--wait", "10m", "--explain"]);
    for part in [
        "Cycles a month: 1 lock × 1440 a day × 730 h / 24 h = 43800",
        "6 writes a cycle: every 10s for 1m",
        "165 reads for each of 2 that wait 10m a cycle",
        "Amazon S3 Standard (us-east-1): $0.0004 for 1,000 reads, $0.005 for 1,000 writes",
        "2 × cache.t4g.micro, each $0.0128 a hour",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let place = Place::new();
    fs::write(place.file("bad.json"), "{\"currency\": \"USD\"}").unwrap();
    for (arguments, expected) in [
        ("", "--hold"),
        ("--hold 1h --cycles-per-day 25", "held for 1h does not fit into a day 25 times"),
        ("--hold 0s", "need --cycles-per-day"),
        ("--hold 1h --cycles-per-day 0", "a number above zero is expected"),
        ("--hold 1h --cycles-per-day nan", "a number above zero is expected"),
        ("--hold 1h --locks 0", "0 is not in 1..=1000000000"),
        ("--hold 1h --ttl 100ms", "the TTL is 100ms, but must be at least 1s"),
        ("--hold 1h --ttl 25h", "the TTL is 1day 1h, but must be at most 24h"),
        ("--hold 1", "such as 30s, 5m, 1h30m"),
        ("--hold 1h --waiters 2", "--wait"),
        ("--hold 1h --wait 2m", "--waiters"),
        ("--hold 1h --table", "cannot be used with"),
        ("--table --json", "cannot be used with"),
        ("--table --show-prices", "cannot be used with"),
        ("--hold 1h --json --explain", "cannot be used with"),
        ("--table --prices none.json", "cannot read none.json"),
        ("--table --prices bad.json", "bad.json: services: a list of at least one is expected"),
    ] {
        let arguments: Vec<_> = ["cost"].into_iter().chain(arguments.split_whitespace()).collect();
        let output = place.output(&arguments);
        assert_code(&output, 64);
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn no_store_is_opened() {
    let place = Place::new();
    let arguments = ["cost", "--hold", "1h", "--store", "nonsense://nowhere"];
    assert_code(&place.output(&arguments), 0);
    assert!(place.stored().is_empty());
}
