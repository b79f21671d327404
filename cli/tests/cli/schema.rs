//! What `--json` prints is what `docs/JSON.md` says.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::tool::{Place, Running, assert_code, report, stdout, wait_for};

/// The tables of the page: of each object its fields.
struct Schema(BTreeMap<&'static str, BTreeMap<&'static str, Field>>);

#[derive(Clone, Copy)]
struct Field {
    kind: &'static str,
    sometimes: bool,
}

impl Schema {
    fn read() -> Self {
        let mut objects = BTreeMap::new();
        for section in include_str!("../../../docs/JSON.md").split("\n## ").skip(1) {
            let (object, table) = section.split_once('\n').unwrap();
            let fields = table.lines().filter_map(|line| {
                let cells: Vec<_> = line.split(" | ").collect();
                let name = cells[0].strip_prefix("| `")?.strip_suffix('`')?;
                let sometimes = cells[2].starts_with("sometimes");
                Some((name, Field { kind: cells[1].trim_end_matches(" |"), sometimes }))
            });
            objects.insert(object, fields.collect());
        }
        Self(objects)
    }

    /// Every field is on the page, of the type it has there, and none is missing.
    #[track_caller]
    fn check(&self, object: &str, value: &Value) {
        let fields = self.0.get(object).unwrap_or_else(|| panic!("{object} is not on the page"));
        let found = value.as_object().unwrap_or_else(|| panic!("{object} is not {value}"));
        for (name, value) in found {
            let field = fields.get(name.as_str());
            let field = field.unwrap_or_else(|| panic!("{object}.{name} is not on the page"));
            assert!(self.is(field.kind, value), "{object}.{name} is {}, not {value}", field.kind);
        }
        for (name, field) in fields {
            let missing = !field.sometimes && !found.contains_key(*name);
            assert!(!missing, "{object}.{name} is missing in {value}");
        }
    }

    fn is(&self, kind: &str, value: &Value) -> bool {
        if let Some(kind) = kind.strip_suffix(" or null") {
            return value.is_null() || self.is(kind, value);
        }
        if let Some(object) = kind.strip_prefix("list of ") {
            let list = value.as_array();
            return list.is_some_and(|list| {
                list.iter().for_each(|value| self.check(object, value));
                true
            });
        }
        match kind {
            "text" => value.is_string(),
            "number" => value.is_number(),
            "true or false" => value.is_boolean(),
            "time" => value.as_str().is_some_and(|text| humantime::parse_rfc3339(text).is_ok()),
            "numbers by name" => {
                value.as_object().is_some_and(|all| all.values().all(Value::is_number))
            }
            "anything" => true,
            object => {
                self.check(object, value);
                true
            }
        }
    }

    /// Runs it, and checks what it prints.
    #[track_caller]
    fn prints(&self, object: &str, place: &Place, arguments: &[&str]) -> Value {
        let output = place.output(arguments);
        assert_code(&output, 0);
        let value = serde_json::from_str(&stdout(&output)).unwrap();
        self.check(object, &value);
        value
    }
}

#[test]
fn locks_and_their_history_are_as_the_page_says() {
    let (schema, place) = (Schema::read(), Place::new());
    assert_eq!(schema.prints("lock", &place, &["show", "--json", "a"])["state"], "absent");
    for note in ["first", "second"] {
        let run = ["run", "--note", note, "a", "--", "true"];
        assert_code(&place.output(&run), 0);
    }
    assert_eq!(schema.prints("lock", &place, &["show", "--json", "a"])["state"], "free");
    assert_code(&place.output(&["acquire", "--ttl", "1m", "--note", "held", "a"]), 0);
    let held = schema.prints("lock", &place, &["show", "--json", "a"]);
    assert_eq!(held["history"].as_array().map(Vec::len), Some(2));
    assert_code(&place.output(&["break", "--force", "--reason", "test", "a"]), 0);
    schema.prints("tenures", &place, &["history", "--json", "a"]);
    let once = ["run", "--once", "--retention", "1h", "k", "--", "true"];
    assert_code(&place.output(&once), 0);
    assert!(schema.prints("lock", &place, &["show", "--once", "--json", "k"])["done"].is_object());
    fs::write(place.record("broken"), "{").unwrap();
    let broken = schema.prints("lock", &place, &["show", "--json", "broken"]);
    assert_eq!(broken["state"], "unreadable");
    let listed = place.output(&["ls", "--json"]);
    assert_code(&listed, 0);
    for line in stdout(&listed).lines() {
        schema.check("lock", &serde_json::from_str(line).unwrap());
    }
    assert_eq!(stdout(&listed).lines().count(), 2);
}

#[test]
fn holders_and_waiters_are_as_the_page_says() {
    let (schema, place) = (Schema::read(), Place::new());
    let limited = ["run", "--limit", "1", "s", "--", "sh", "-c"];
    let mut holding = place.leaselock(&limited);
    let _holder = Running::start(holding.arg("touch held; sleep 1000"));
    wait_for("the holder", || place.file("held").exists().then_some(()));
    let _waiter = Running::start(place.leaselock(&limited).arg("true"));
    wait_for("the waiter", || {
        let shown = place.show("s");
        (shown["waiters"].as_array().map(Vec::len) == Some(1)).then_some(())
    });
    let shown = schema.prints("lock", &place, &["show", "--json", "s"]);
    assert_eq!((&shown["limit"], &shown["kind"]), (&1.into(), &"semaphore".into()));
}

#[test]
fn reports_and_status_files_are_as_the_page_says() {
    let (schema, place) = (Schema::read(), Place::new());
    let copy = "cp \"$LEASELOCK_STATUS_FILE\" status.json";
    for locks in [&["a"][..], &["a", "b"]] {
        let mut command = place.leaselock(&["run", "--json"]);
        command.args(locks).args(["--", "sh", "-c", copy]);
        let output = Running::start(&mut command).output();
        assert_code(&output, 0);
        schema.check("report", &report(&output));
        let status = fs::read_to_string(place.file("status.json")).unwrap();
        schema.check("status", &serde_json::from_str(&status).unwrap());
    }
    assert_code(&place.output(&["acquire", "--ttl", "1m", "a"]), 0);
    let busy = place.output(&["run", "-n", "--json", "a", "--", "true"]);
    schema.check("report", &report(&busy));
}

#[test]
fn handles_are_as_the_page_says() {
    let (schema, place) = (Schema::read(), Place::new());
    let handle = schema.prints("handle", &place, &["acquire", "--json", "--ttl", "1m", "a"]);
    let holder = handle["holder"].as_str().unwrap();
    schema.prints("handle", &place, &["renew", "--json", "a", "--holder", holder]);
    schema.prints("given back", &place, &["release", "--json", "a", "--holder", holder]);
    assert_code(&place.output(&["acquire", "--ttl", "1m", "--handle", "lease.json", "a"]), 0);
    let file = fs::read_to_string(place.file("lease.json")).unwrap();
    schema.check("handle", &serde_json::from_str(&file).unwrap());
}

#[test]
fn the_rest_is_as_the_page_says() {
    let (schema, place) = (Schema::read(), Place::new());
    schema.prints("diagnosis", &place, &["doctor", "--json"]);
    let latch = ["l", "--needed", "1", "--json"];
    for (object, call, more) in [
        ("gathering", "show", &["l", "--json"][..]),
        ("arrival", "arrive", &[&latch[..], &["--member", "m"]].concat()),
        ("arrival", "wait", &latch),
        ("gathering", "show", &["l", "--json"]),
        ("reset", "reset", &latch),
    ] {
        schema.prints(object, &place, &[&["latch", call], more].concat());
    }
    let barrier = ["b", "--parties", "1", "--member", "m", "--json"];
    for call in ["arrive", "wait"] {
        schema.prints("arrival", &place, &[&["barrier", call], &barrier[..]].concat());
    }
    schema.prints("gathering", &place, &["barrier", "show", "b", "--json"]);
    schema.prints("cost", &place, &["cost", "--hold", "1h", "--json"]);
}
