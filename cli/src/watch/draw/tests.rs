use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::watch::keys::Key;
use crate::watch::model::tests::furnished;
use crate::watch::seen::tests::{NOW, seen};
use crate::watch::strip::Mark;

fn facts() -> Facts {
    Facts { place: "file:///locks".to_owned(), now: NOW, requests: "12 requests in 6s".to_owned() }
}

fn screen(width: u16, height: u16) -> Terminal<TestBackend> {
    Terminal::new(TestBackend::new(width, height)).unwrap()
}

fn text(terminal: &Terminal<TestBackend>) -> Vec<String> {
    let buffer = terminal.backend().buffer();
    let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..buffer.area.height).map(|y| row(y).trim_end().to_owned()).collect()
}

fn drawn(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = screen(width, height);
    terminal.draw(|frame| View::new(true).draw(frame, model, &facts())).unwrap();
    text(&terminal)
}

#[test]
fn eighty_by_twentyfour() {
    let mut model = furnished();
    let mut held = seen("etl/nightly", LockState::Held, Some(("crew (host-1, pid 7)", 20, 90)));
    held.waiters = 2;
    held.marks = "■!▶".chars().map(|shape| Mark { shape, colour: 1 }).collect();
    model.read(held);
    let rows = drawn(&model, 80, 24);
    assert_eq!(
        rows[..6],
        [
            "leaselock  4 locks in file:///locks",
            "LOCK           STATE      HOLDER         LEFT           AGE     QUEUE RECENT",
            "etl/daily      free       -              -              -       -",
            "etl/nightly    held       crew (host-1,… ████░░ 20s     1m 30s  2     ■!▶",
            "odd            …          -              -              -       -",
            "web/deploy     expired    bob (host-2, … -              5m      -",
        ]
    );
    assert_eq!(rows[23], "12 requests in 6s | by name | s sort  / filter  b break  ? help  q quit");
}

#[test]
fn the_question_shows_the_holder() {
    let mut model = furnished();
    model.press(Key::Move(1));
    model.press(Key::Break);
    let all = drawn(&model, 80, 24).join("\n");
    for part in ["etl/nightly", "crew (host-1, pid 7)", "token   17", "y break"] {
        assert!(all.contains(part), "{part} is not in {all}");
    }
}

#[test]
fn what_cannot_be_read_cannot_be_answered() {
    let mut model = furnished();
    model.press(Key::Move(1));
    let asks = |model: &Model, width, height| {
        let mut view = View::new(true);
        screen(width, height).draw(|frame| view.draw(frame, model, &facts())).unwrap();
        view.asks()
    };
    assert!(!asks(&model, 80, 24), "nothing was asked");
    model.press(Key::Break);
    assert!(asks(&model, 80, 24));
    assert!(!asks(&model, 80, 4) && !asks(&model, 10, 24));
    // A holder that fills the screen with text does not hide who it is.
    let long = "a b ".repeat(500);
    model.press(Key::Back);
    model.read(seen("etl/nightly", LockState::Held, Some((&long, 20, 90))));
    model.press(Key::Break);
    assert!(!asks(&model, 80, 24));
}

#[test]
fn nothing_is_too_small() {
    for width in 0..40 {
        for height in 0..12 {
            let mut model = furnished();
            for key in [
                Key::Move(1),
                Key::Details,
                Key::Move(3),
                Key::Break,
                Key::Back,
                Key::Help,
                Key::Back,
                Key::Filter,
                Key::Type('漢'),
            ] {
                drawn(&model, width, height);
                model.press(key);
            }
            drawn(&model, width, height);
        }
    }
    assert!(drawn(&furnished(), 12, 3)[1].starts_with("etl/nightly"), "locks come first");
}

#[test]
fn the_selected_lock_can_be_seen_in_a_small_window() {
    let mut model = Model::default();
    let names: Vec<_> = (0..50).map(|number| format!("lock-{number:02}")).collect();
    model.listed(&names, false);
    let (mut view, mut terminal) = (View::new(true), screen(40, 10));
    for (by, seen) in [(0, "lock-00"), (30, "lock-30"), (-3, "lock-27"), (-20, "lock-07")] {
        model.press(Key::Move(by));
        terminal.draw(|frame| view.draw(frame, &model, &facts())).unwrap();
        let all = text(&terminal).join("\n");
        assert!(all.contains(seen), "{seen} is not in {all}");
    }
    // A larger window shows more, and no blank rows while there are locks.
    model.press(Key::Last);
    terminal.backend_mut().resize(40, 30);
    terminal.draw(|frame| view.draw(frame, &model, &facts())).unwrap();
    assert!(text(&terminal)[2].starts_with("lock-24"));
}

#[test]
fn colours_can_be_done_without() {
    for (colours, expected) in [(true, true), (false, false)] {
        let mut model = furnished();
        model.tell("something");
        let mut terminal = screen(80, 24);
        terminal.draw(|frame| View::new(colours).draw(frame, &model, &facts())).unwrap();
        let cells = &terminal.backend().buffer().content;
        assert_eq!(cells.iter().any(|cell| cell.fg != Color::Reset), expected);
        // The selection is told by other means.
        assert!(cells.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)));
    }
}

#[test]
fn time_passes_without_a_read() {
    let model = furnished();
    let mut terminal = screen(80, 24);
    let later = Facts { now: NOW.plus(Duration::from_secs(15)), ..facts() };
    terminal.draw(|frame| View::new(true).draw(frame, &model, &later)).unwrap();
    assert!(text(&terminal)[3].contains("█░░░░░ 5s"), "{:?}", text(&terminal)[3]);
}
