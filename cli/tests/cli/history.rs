//! `history`, and what the command tells about itself.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::tool::{Place, Running, assert_code, line_of, stderr, stdout};

/// A lock that was released, then broken, and is held.
fn with_a_past() -> (Place, Running) {
    let place = Place::new();
    assert_code(&place.output(&["run", "--owner", "first", "a", "--", "true"]), 0);
    let held_by = |owner: &str, ready: &str| {
        let script = "echo > $0; sleep 1000";
        let options = ["run", "--owner", owner, "a", "--", "sh", "-c", script, ready];
        let held = Running::start(&mut place.leaselock(&options));
        line_of(&place.file(ready));
        held
    };
    let second = held_by("second", "one");
    let why = "stuck\u{1b}[2J since noon";
    assert_code(&place.output(&["break", "a", "--force", "--reason", why]), 0);
    assert_code(&second.output(), 120);
    let third = held_by("third", "two");
    (place, third)
}

fn end(held: Running) {
    held.signal(Signal::SIGTERM);
    held.output();
}

#[test]
fn it_tells_who_held_it_when_and_how_that_ended() {
    let (place, held) = with_a_past();
    let output = place.output(&["history", "a"]);
    assert_code(&output, 0);
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("FROM"), "{text}");
    for (line, how, who) in
        [(1, "released", "first ("), (2, "broken", "second ("), (3, "held", "third (")]
    {
        assert!(lines[line].contains(how) && lines[line].contains(who), "{text}");
    }
    assert!(lines[2].contains("stuck\u{fffd}[2J since noon"), "{text}");
    end(held);
}

#[test]
fn json_has_what_show_has_and_svg_a_bar_for_each() {
    let (place, held) = with_a_past();
    let output = place.output(&["history", "a", "--json"]);
    assert_code(&output, 0);
    let told: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let shown = place.show("a");
    assert_eq!(told["history"], shown["history"]);
    assert_eq!(told["holders"][0]["token"], shown["holders"][0]["token"]);
    assert_eq!((&told["name"], &told["state"]), (&shown["name"], &shown["state"]));
    let picture = place.file("timeline.svg");
    let output = place.output(&["history", "a", "--svg", picture.to_str().unwrap()]);
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "");
    let text = fs::read_to_string(&picture).unwrap();
    assert_eq!(text.matches("<title>").count(), 3, "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    end(held);
    let nowhere = place.file("no/such/directory.svg");
    let output = place.output(&["history", "a", "--svg", nowhere.to_str().unwrap()]);
    assert_code(&output, 78);
    assert!(stderr(&output).contains("directory.svg"), "{}", stderr(&output));
}

#[test]
fn what_has_none_says_so_and_what_cannot_be_read_is_78() {
    let place = Place::new();
    let output = place.output(&["history", "new"]);
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "new has no history\n");
    fs::write(place.record("odd"), "not a record").unwrap();
    let output = place.output(&["history", "odd"]);
    assert_code(&output, 78);
    assert!(stderr(&output).contains("odd"), "{}", stderr(&output));
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = place.output(&["completions", shell]);
        assert_code(&output, 0);
        assert!(stdout(&output).contains("history"), "{shell}");
    }
    assert_code(&place.output(&["completions", "cmd.exe"]), 64);
    let output = place.output(&["man"]);
    assert_code(&output, 0);
    assert!(stdout(&output).starts_with(".ie"), "roff: {}", stdout(&output));
    assert!(stdout(&output).contains("leaselock\\-history"), "{}", stdout(&output));
    let output = place.output(&["man", "latch", "wait"]);
    assert_code(&output, 0);
    assert!(stdout(&output).contains("\\-\\-needed"), "{}", stdout(&output));
    let output = place.output(&["man", "latch", "weight"]);
    assert_code(&output, 64);
    assert!(stderr(&output).contains("latch weight"), "{}", stderr(&output));
}
