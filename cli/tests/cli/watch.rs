//! `watch`, in a real terminal: that of tmux, which also tells what is on its screen.

use std::fs;

use nix::sys::signal::{Signal, kill};

use crate::screen::{Terminal, hold};
use crate::tool::{Place, Running, assert_code, pid_in, stderr, stdout, wait_for};

/// A free lock, one that is held and waited for, and one whose holder has vanished.
fn furnished(place: &Place) -> Vec<Running> {
    assert_code(&place.output(&["run", "etl/free", "--", "true"]), 0);
    let held = hold(place, "etl/held", &["--fair", "--owner", "crew\u{1b}[2J", "--note", "why"]);
    let mut waiting = place.leaselock(&["run", "--fair", "etl/held", "--", "true"]);
    let waiting = Running::start(&mut waiting);
    let vanished = hold(place, "etl/stale", &["--ttl", "1s", "--owner", "bob"]);
    vanished.signal(Signal::SIGKILL);
    wait_for("a waiter", || {
        place.show("etl/held")["waiters"].as_array().filter(|waiters| waiters.len() == 1).cloned()
    });
    wait_for("an expired lease", || Some(place.state("etl/stale")).filter(|it| it == "expired"));
    vec![held, waiting]
}

#[test]
fn rows_are_seen_a_lock_is_broken_and_the_terminal_is_as_it_was() {
    let place = Place::new();
    let Some(terminal) = Terminal::open(&place) else { return };
    let _running = furnished(&place);
    let victim = hold(&place, "etl/victim", &["--owner", "crew\u{1b}[2J"]);
    terminal.run("leaselock watch --every 500ms etl/");
    terminal.wait_to_see("etl/victim     held");
    assert!(terminal.row("etl/free").contains("free"));
    let held = terminal.row("etl/held");
    assert!(held.contains("crew\u{fffd}[2J") && held.contains("1     ▶"), "who waits: {held}");
    assert!(terminal.row("etl/victim").contains('█'), "what is left");
    assert!(terminal.row("etl/stale").contains("expired"));
    wait_for("requests", || {
        let screen = terminal.screen();
        let footer = screen.lines().find(|line| line.contains("requests in"))?.to_owned();
        let count: u64 = footer.split(' ').next()?.parse().ok()?;
        (count > 4).then_some(())
    });

    // At the size of a stamp, and back.
    for (width, height) in [("9", "2"), ("30", "6"), ("80", "24")] {
        assert_code(&terminal.tmux(&["resize-window", "-x", width, "-y", height]), 0);
        wait_for("rows", || terminal.screen().contains("etl/").then_some(()));
    }

    terminal.press("/");
    terminal.type_in("victim");
    wait_for("the filter", || (!terminal.screen().contains("etl/held")).then_some(()));
    terminal.press("Enter");
    terminal.press("Enter");
    terminal.wait_to_see("the highest issued");
    terminal.press("Escape");
    wait_for("the list", || terminal.screen().contains("QUEUE").then_some(()));
    terminal.press("b");
    let question = terminal.wait_to_see("Put the holder of etl/victim out?");
    assert!(question.contains("crew\u{fffd}[2J ("), "who is asked about: {question}");
    terminal.press("n");
    wait_for("no question", || (!terminal.screen().contains("Put the holder")).then_some(()));
    assert_eq!(place.state("etl/victim"), "held");
    terminal.press("b");
    terminal.wait_to_see("Put the holder");
    terminal.press("y");
    terminal.wait_to_see("was put out");
    let shown = place.show("etl/victim");
    assert_eq!(shown["state"], "free");
    assert_eq!(shown["history"][0]["ended"], "broken");
    wait_for("the row", || terminal.row("etl/victim").contains("free").then_some(()));
    // It clears the filter, and does not quit.
    terminal.press("Escape");
    terminal.wait_to_see("etl/held");
    terminal.press("q");
    terminal.assert_as_before(0);
    victim.signal(Signal::SIGTERM);
    victim.output();
}

#[test]
fn a_signal_gives_the_terminal_back() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let place = Place::new();
        let Some(terminal) = Terminal::open(&place) else { return };
        terminal.run("sh -c 'echo $$ > pid; exec leaselock watch'");
        terminal.wait_to_see("there are no locks here");
        kill(pid_in(&place.file("pid")), signal).unwrap();
        terminal.assert_as_before(code);
    }
}

#[test]
fn control_c_and_an_error_give_the_terminal_back() {
    let place = Place::new();
    let Some(terminal) = Terminal::open(&place) else { return };
    terminal.run("leaselock watch");
    terminal.wait_to_see("there are no locks here");
    terminal.press("C-c");
    terminal.assert_as_before(0);
    fs::remove_file(place.file("ended")).unwrap();
    // Nobody listens there.
    let store = "s3://b?aws_endpoint=http://127.0.0.1:9&aws_allow_http=true&aws_access_key_id=a\
        &aws_secret_access_key=b&aws_region=c";
    terminal.run(&format!("leaselock watch --store '{store}'"));
    let screen = terminal.assert_as_before(69);
    assert!(screen.contains("hint: is the store's address right"), "{screen}");
}

#[test]
fn control_z_gives_the_terminal_back_until_fg() {
    let place = Place::new();
    let Some(terminal) = Terminal::open(&place) else { return };
    let enter = |line: &str| {
        terminal.type_in(line);
        terminal.press("Enter");
    };
    enter("stty -a > before");
    enter(&format!("{} watch", env!("CARGO_BIN_EXE_leaselock")));
    for round in 0..2 {
        terminal.wait_to_see("there are no locks here");
        terminal.press("C-z");
        terminal.wait_to_see("Stopped");
        enter(&format!("stty -a > after; echo > ended; echo code {round}"));
        terminal.assert_as_before(round);
        fs::remove_file(place.file("ended")).unwrap();
        enter("clear; echo 'stty -a > before'; fg");
    }
    terminal.wait_to_see("there are no locks here");
    terminal.press("q");
    enter("echo code $?; stty -a > after; echo > ended");
    terminal.assert_as_before(0);
}

#[test]
fn no_color_is_respected() {
    for (variable, expected) in [("", true), ("NO_COLOR=1 ", false)] {
        let place = Place::new();
        let Some(terminal) = Terminal::open(&place) else { return };
        let _held = hold(&place, "a", &[]);
        terminal.run(&format!("{variable}leaselock watch"));
        terminal.wait_to_see("▶");
        let screen = stdout(&terminal.tmux(&["capture-pane", "-p", "-e"]));
        let colours = screen.split("\u{1b}[").skip(1).flat_map(|part| {
            let numbers = part.split('m').next().unwrap_or_default().split(';');
            numbers.filter_map(|number| number.parse::<u8>().ok()).collect::<Vec<_>>()
        });
        let is_coloured = colours.into_iter().any(|number| matches!(number, 30..=38 | 90..=97));
        assert_eq!(is_coloured, expected, "{screen:?}");
        terminal.press("q");
        terminal.assert_as_before(0);
    }
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let place = Place::new();
    let output = place.output(&["watch"]);
    assert_code(&output, 64);
    assert!(stderr(&output).contains("leaselock ls"), "{}", stderr(&output));
    let output = place.output(&["watch", "--every", "499ms"]);
    assert_code(&output, 64);
    let said = stderr(&output);
    assert!(said.contains("499ms") && said.contains("500ms"), "{said}");
}
