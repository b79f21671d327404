//! Which key means what, and when.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::watch::model::Mode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Quit,
    /// The shell is to have the terminal for a while.
    Suspend,
    /// So many down.
    Move(isize),
    First,
    Last,
    Sort,
    Filter,
    Type(char),
    Erase,
    Clear,
    Details,
    Break,
    Yes,
    Back,
    Help,
}

/// The help, line by line.
pub(crate) const HELP: [&str; 11] = [
    "j k, arrows      select; PgUp PgDn, Home End (g G)",
    "s                sort: name, state, age, left",
    "/                filter by name or holder; Esc clears it",
    "Enter            the selected lock whole",
    "b                break it, after a question",
    "q, Esc, Ctrl-C   quit",
    "Ctrl-Z           back to the shell; fg returns here",
    "",
    "In RECENT, from the oldest to the newest, a colour for each holder:",
    "  ■ released   x expired   ! broken   ▶ holds it now",
    "Any key closes this.",
];

/// How far a page is.
const PAGE: isize = 10;

/// `None` when the key means nothing. `has_filter` tells what Esc is for.
pub(crate) fn meaning(mode: &Mode, has_filter: bool, event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    if event.modifiers.contains(KeyModifiers::CONTROL) {
        return match event.code {
            KeyCode::Char('c') => Some(Key::Quit),
            KeyCode::Char('z') => Some(Key::Suspend),
            _ => None,
        };
    }
    match mode {
        Mode::List => in_list(has_filter, event.code),
        Mode::Filter => in_filter(event.code),
        Mode::Details(_) => in_details(event.code),
        Mode::Confirm(_) => match event.code {
            KeyCode::Char('y') => Some(Key::Yes),
            KeyCode::Char('n') | KeyCode::Esc => Some(Key::Back),
            _ => None,
        },
        Mode::Help => Some(Key::Back),
    }
}

fn in_list(has_filter: bool, code: KeyCode) -> Option<Key> {
    match code {
        KeyCode::Esc if has_filter => Some(Key::Clear),
        KeyCode::Esc | KeyCode::Char('q') => Some(Key::Quit),
        KeyCode::Char('s') => Some(Key::Sort),
        KeyCode::Char('/') => Some(Key::Filter),
        KeyCode::Enter => Some(Key::Details),
        KeyCode::Char('b') => Some(Key::Break),
        KeyCode::Char('?') => Some(Key::Help),
        other => movement(other),
    }
}

fn in_filter(code: KeyCode) -> Option<Key> {
    match code {
        KeyCode::Esc => Some(Key::Clear),
        KeyCode::Enter => Some(Key::Back),
        KeyCode::Backspace => Some(Key::Erase),
        KeyCode::Char(letter) => Some(Key::Type(letter)),
        KeyCode::Up => Some(Key::Move(-1)),
        KeyCode::Down => Some(Key::Move(1)),
        _ => None,
    }
}

fn in_details(code: KeyCode) -> Option<Key> {
    match code {
        KeyCode::Esc | KeyCode::Enter => Some(Key::Back),
        KeyCode::Char('q') => Some(Key::Quit),
        KeyCode::Char('b') => Some(Key::Break),
        other => movement(other),
    }
}

fn movement(code: KeyCode) -> Option<Key> {
    match code {
        KeyCode::Down | KeyCode::Char('j') => Some(Key::Move(1)),
        KeyCode::Up | KeyCode::Char('k') => Some(Key::Move(-1)),
        KeyCode::PageDown => Some(Key::Move(PAGE)),
        KeyCode::PageUp => Some(Key::Move(-PAGE)),
        KeyCode::Home | KeyCode::Char('g') => Some(Key::First),
        KeyCode::End | KeyCode::Char('G') => Some(Key::Last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(mode: &Mode, code: KeyCode) -> Option<Key> {
        meaning(mode, false, KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn escape_leaves_step_by_step() {
        let esc = KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
        assert_eq!(meaning(&Mode::Filter, true, esc), Some(Key::Clear));
        assert_eq!(meaning(&Mode::List, true, esc), Some(Key::Clear));
        assert_eq!(meaning(&Mode::Details(0), false, esc), Some(Key::Back));
        assert_eq!(meaning(&Mode::List, false, esc), Some(Key::Quit));
    }

    #[test]
    fn letters_are_typed_into_the_filter() {
        for letter in ['q', 'b', 'y', 's', '/', '?', 'j'] {
            assert_eq!(pressed(&Mode::Filter, KeyCode::Char(letter)), Some(Key::Type(letter)));
        }
    }

    #[test]
    fn control_c_and_z_mean_the_same_everywhere_and_other_controls_nothing() {
        for mode in [Mode::List, Mode::Filter, Mode::Details(3), Mode::Help] {
            let with = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
            assert_eq!(meaning(&mode, true, with('c')), Some(Key::Quit));
            assert_eq!(meaning(&mode, true, with('z')), Some(Key::Suspend));
            assert_eq!(meaning(&mode, true, with('b')), None);
        }
    }

    #[test]
    fn y_alone_breaks_nothing() {
        for mode in [Mode::List, Mode::Details(0), Mode::Help] {
            assert_ne!(pressed(&mode, KeyCode::Char('y')), Some(Key::Yes));
        }
        assert_eq!(pressed(&Mode::List, KeyCode::Char('b')), Some(Key::Break));
    }
}
