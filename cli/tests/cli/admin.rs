//! `ls`, `show` and `break`.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::tool::{Place, Running, assert_code, finish, line_of, stderr, stdout};

/// One lock of every kind.
fn furnished() -> (Place, Running) {
    let place = Place::new();
    assert_code(&place.output(&["run", "etl/free", "--", "true"]), 0);
    let script = "echo > ready; sleep 1000";
    let options = ["run", "--owner", "crew", "--note", "why\u{1b}[2J", "etl/held", "--"];
    let mut command = place.leaselock(&options);
    let held = Running::start(command.args(["sh", "-c", script]));
    line_of(&place.file("ready"));
    fs::write(place.record("odd"), "not a record").unwrap();
    (place, held)
}

#[test]
fn ls_shows_every_lock_and_its_holder() {
    let (place, _held) = furnished();
    let output = place.output(&["ls"]);
    assert_code(&output, 0);
    let text = stdout(&output);
    assert!(text.starts_with("STATE"), "{text}");
    let row = |name: &str| {
        let found = text.lines().find(|line| line.contains(name));
        found.unwrap_or_else(|| panic!("{name} is not in {text}")).to_owned()
    };
    assert!(row("etl/free").starts_with("free"));
    assert!(row("etl/held").starts_with("held") && row("etl/held").contains("crew"));
    assert!(row("odd").starts_with("unreadable"));
    let below = stdout(&place.output(&["ls", "etl"]));
    assert!(below.contains("etl/held") && !below.contains("odd"), "{below}");
    assert_eq!(stdout(&place.output(&["ls", "nothing"])), "");
}

#[test]
fn ls_json_is_one_object_per_line() {
    let (place, _held) = furnished();
    let output = place.output(&["ls", "--json"]);
    assert_code(&output, 0);
    let text = stdout(&output);
    let mut states: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|lock| format!("{} {}", lock["name"], lock["state"]).replace('"', ""))
        .collect();
    states.sort();
    assert_eq!(states, ["etl/free free", "etl/held held", "odd unreadable"]);
}

#[test]
fn show_tells_everything_about_one_lock() {
    let (place, _held) = furnished();
    let output = place.output(&["show", "etl/held"]);
    assert_code(&output, 0);
    let text = stdout(&output);
    for part in ["etl/held", "held", "crew", "why", "ttl", "30s"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains('\u{1b}'), "a note cannot drive the terminal: {text:?}");
    let held = place.show("etl/held");
    assert_eq!(held["holders"][0]["owner"]["label"], "crew");
    assert_eq!(place.state("no/such/lock"), "absent");
    assert_eq!(place.state("odd"), "unreadable");
    let free = stdout(&place.output(&["show", "etl/free"]));
    assert!(free.contains("released"), "the history: {free}");
}

#[test]
fn break_needs_the_right_token_or_force() {
    let (place, held) = furnished();
    let token = place.show("etl/held")["holders"][0]["token"].as_u64().unwrap();
    let wrong = place.output(&["break", "etl/held", "--expect-token", &(token - 1).to_string()]);
    assert_code(&wrong, 1);
    assert_eq!(place.state("etl/held"), "held");
    let right = ["break", "etl/held", "--expect-token", &token.to_string(), "--reason", "stuck"];
    let output = finish(place.leaselock(&right).env("USER", "operator"));
    assert_code(&output, 0);
    assert!(stdout(&output).contains("crew"), "who was put out: {}", stdout(&output));
    let shown = place.show("etl/held");
    assert_eq!(shown["state"], "free");
    let text = shown["history"].to_string();
    assert!(text.contains("stuck") && text.contains("operator@"), "{text}");
    assert_code(&place.output(&["break", "etl/held", "--force"]), 1);
    held.signal(Signal::SIGTERM);
    held.output();
}

#[test]
fn break_repairs_an_unreadable_record_only_by_force() {
    let (place, _held) = furnished();
    let output = place.output(&["break", "odd", "--expect-token", "1"]);
    assert_code(&output, 78);
    assert_eq!(fs::read_to_string(place.record("odd")).unwrap(), "not a record");
    let output = place.output(&["break", "odd", "--force"]);
    assert_code(&output, 0);
    assert!(stdout(&output).contains("replaced"), "{}", stdout(&output));
    assert_code(&place.output(&["run", "-n", "odd", "--", "true"]), 0);
}

#[test]
fn without_a_store_locks_are_in_the_state_directory() {
    let place = Place::new();
    let state = place.file("state dir");
    let mut command = place.leaselock(&["-v", "run", "a", "--", "true"]);
    command.env_remove("LEASELOCK_STORE").env("XDG_STATE_HOME", &state);
    let output = finish(&mut command);
    assert_code(&output, 0);
    assert!(stderr(&output).contains("state dir/leaselock/locks"), "{}", stderr(&output));
    assert!(state.join("leaselock/locks/a.lock").exists());
}
