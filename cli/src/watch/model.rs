//! What the screen shows and what keys do to it, without the screen and without the store.

use std::collections::BTreeMap;

use leaselock::{FencingToken, LockState};

use crate::watch::keys::Key;
use crate::watch::order::Order;
use crate::watch::seen::Seen;

#[derive(Debug, Default)]
pub(crate) struct Model {
    locks: BTreeMap<String, Seen>,
    order: Order,
    filter: String,
    /// By name: locks come, go and change places.
    selected: Option<String>,
    /// Where it was last, for when it goes.
    place: usize,
    mode: Mode,
    /// The last thing to be told, until a key is pressed …
    message: String,
    /// … or, of what went wrong, until it goes well.
    is_trouble: bool,
    /// Whether there has been a listing.
    is_listed: bool,
    /// Whether there are more locks than are known.
    is_cut: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    List,
    /// The filter is being typed.
    Filter,
    /// The selected lock whole, from this line on.
    Details(usize),
    Confirm(Target),
    Help,
}

/// Who is to be put out: as it was when it was asked for, whatever is read since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) token: FencingToken,
    pub(crate) holder: String,
    pub(crate) note: Option<String>,
    pub(crate) others: usize,
}

/// What a key asks for that the model cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Quit,
    Suspend,
    Break(Target),
}

impl Model {
    /// All names there are below the prefix, or the first of them.
    pub(crate) fn listed(&mut self, names: &[String], is_cut: bool) {
        let mut before = std::mem::take(&mut self.locks);
        let known = |name: &String| {
            let seen = before.remove(name).unwrap_or_else(|| Seen::listed(name));
            (name.clone(), seen)
        };
        self.locks = names.iter().map(known).collect();
        self.is_listed = true;
        self.is_cut = is_cut;
        if self.is_trouble {
            self.tell("");
        }
        self.keep_selected();
    }

    pub(crate) fn read(&mut self, lock: Seen) {
        // One that was deleted meanwhile is no longer of interest.
        if let Some(known) = self.locks.get_mut(&lock.name) {
            *known = lock;
        }
        self.keep_selected();
    }

    pub(crate) fn tell(&mut self, message: impl Into<String>) {
        self.message = message.into();
        self.is_trouble = false;
    }

    pub(crate) fn tell_trouble(&mut self, message: impl Into<String>) {
        self.message = message.into();
        self.is_trouble = true;
    }

    pub(crate) fn is_listed(&self) -> bool {
        self.is_listed
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn mode(&self) -> &Mode {
        &self.mode
    }

    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// How many locks there are, shown or not.
    pub(crate) fn count(&self) -> usize {
        self.locks.len()
    }

    /// What is shown, from top to bottom.
    pub(crate) fn shown(&self) -> Vec<&Seen> {
        let mut shown: Vec<_> =
            self.locks.values().filter(|lock| lock.mentions(&self.filter)).collect();
        shown.sort_by(|a, b| self.order.compare(a, b));
        shown
    }

    pub(crate) fn selected(&self) -> Option<&Seen> {
        self.locks.get(self.selected.as_ref()?)
    }

    pub(crate) fn press(&mut self, key: Key) -> Option<Effect> {
        if !self.is_trouble {
            self.message.clear();
        }
        match key {
            Key::Quit => return Some(Effect::Quit),
            Key::Suspend => return Some(Effect::Suspend),
            Key::Yes => return self.confirmed().map(Effect::Break),
            Key::Move(by) => self.scroll_or_move(by),
            Key::First => self.scroll_or_move(isize::MIN),
            Key::Last => self.scroll_or_move(isize::MAX),
            Key::Sort => {
                self.order = self.order.next();
                self.keep_selected();
            }
            Key::Filter => self.mode = Mode::Filter,
            Key::Type(letter) => self.change_filter(|filter| filter.push(letter)),
            Key::Erase => self.change_filter(|filter| filter.truncate(before_last(filter))),
            Key::Clear => {
                self.change_filter(String::clear);
                self.mode = Mode::List;
            }
            Key::Details if self.selected.is_some() => self.mode = Mode::Details(0),
            Key::Details => {}
            Key::Break => self.ask(),
            Key::Back => self.mode = Mode::List,
            Key::Help => self.mode = Mode::Help,
        }
        None
    }

    fn change_filter(&mut self, change: impl FnOnce(&mut String)) {
        change(&mut self.filter);
        self.keep_selected();
    }

    fn confirmed(&mut self) -> Option<Target> {
        match std::mem::take(&mut self.mode) {
            Mode::Confirm(target) => Some(target),
            _ => None,
        }
    }

    /// Asks whether the holder of the selected lock is meant.
    fn ask(&mut self) {
        let Some(lock) = self.selected() else { return };
        let target = lock.holder.as_ref().map(|holder| Target {
            name: lock.name.clone(),
            token: holder.token,
            holder: holder.text.clone(),
            note: holder.note.clone(),
            others: lock.others,
        });
        let refusal = match lock.state {
            Some(LockState::Unreadable) => {
                "its record is unreadable: `leaselock break LOCK --force` replaces it"
            }
            Some(_) => "nobody holds it",
            None => "it has not been read yet",
        };
        match target {
            Some(target) => self.mode = Mode::Confirm(target),
            None => self.tell(refusal),
        }
    }

    fn scroll_or_move(&mut self, by: isize) {
        if let Mode::Details(top) = self.mode {
            let most = self.selected().map_or(0, |lock| lock.details.len().saturating_sub(1));
            self.mode = Mode::Details(top.saturating_add_signed(by).min(most));
            return;
        }
        let place = self.place.saturating_add_signed(by);
        self.select(place);
    }

    /// Keeps to the selected lock, or to its place when it is not shown any more.
    fn keep_selected(&mut self) {
        let shown = self.shown();
        let found = shown.iter().position(|lock| Some(&lock.name) == self.selected.as_ref());
        // What is asked or shown in full is about this one: it stays even when it goes off the list.
        let stays = matches!(self.mode, Mode::Details(_) | Mode::Confirm(_));
        match found {
            Some(place) => self.place = place,
            None if stays && self.selected().is_some() => {}
            None => self.select(self.place),
        }
    }

    fn select(&mut self, place: usize) {
        let shown = self.shown();
        let place = place.min(shown.len().saturating_sub(1));
        let name = shown.get(place).map(|lock| lock.name.clone());
        self.place = place;
        self.selected = name;
    }
}

/// Where the last letter begins.
fn before_last(text: &str) -> usize {
    text.char_indices().next_back().map_or(0, |(at, _)| at)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::watch::seen::tests::seen;

    /// Locks of every kind.
    pub(crate) fn furnished() -> Model {
        let mut model = Model::default();
        let names = ["etl/daily", "etl/nightly", "odd", "web/deploy"].map(str::to_owned);
        model.listed(&names, false);
        model.read(seen("etl/daily", LockState::Free, None));
        model.read(seen("etl/nightly", LockState::Held, Some(("crew (host-1, pid 7)", 20, 90))));
        model.read(seen("web/deploy", LockState::Expired, Some(("bob (host-2, pid 9)", 0, 300))));
        model
    }

    fn names(model: &Model) -> Vec<&str> {
        model.shown().iter().map(|lock| lock.name.as_str()).collect()
    }

    fn selected(model: &Model) -> &str {
        model.selected().map_or("-", |lock| lock.name.as_str())
    }

    #[test]
    fn the_selection_follows_its_lock() {
        let mut model = furnished();
        assert_eq!(selected(&model), "etl/daily");
        model.press(Key::Move(3));
        assert_eq!(selected(&model), "web/deploy");
        model.press(Key::Sort);
        assert_eq!(names(&model), ["web/deploy", "etl/nightly", "etl/daily", "odd"]);
        assert_eq!(selected(&model), "web/deploy");
        model.press(Key::Move(1));
        assert_eq!(selected(&model), "etl/nightly");
        model.press(Key::First);
        assert_eq!(selected(&model), "web/deploy");
        model.press(Key::Last);
        assert_eq!(selected(&model), "odd");
    }

    #[test]
    fn a_lock_that_goes_leaves_its_place() {
        let mut model = furnished();
        model.press(Key::Move(1));
        model.listed(&["a".to_owned(), "etl/daily".to_owned(), "odd".to_owned()], false);
        assert_eq!(selected(&model), "etl/daily", "the second");
        model.listed(&[], false);
        assert_eq!(selected(&model), "-");
        for key in [Key::Move(1), Key::Details, Key::Break, Key::Sort, Key::Last] {
            assert_eq!(model.press(key), None);
        }
        assert_eq!(*model.mode(), Mode::List);
    }

    #[test]
    fn the_filter_finds_names_and_holders() {
        let mut model = furnished();
        model.press(Key::Filter);
        "crew".chars().for_each(|letter| drop(model.press(Key::Type(letter))));
        assert_eq!(names(&model), ["etl/nightly"]);
        assert_eq!(selected(&model), "etl/nightly");
        model.press(Key::Erase);
        model.press(Key::Clear);
        assert_eq!((names(&model).len(), model.mode()), (4, &Mode::List));
        assert_eq!(selected(&model), "etl/nightly");
    }

    #[test]
    fn a_break_is_of_the_holder_that_was_shown() {
        let mut model = furnished();
        model.press(Key::Move(1));
        model.press(Key::Break);
        let Mode::Confirm(target) = model.mode().clone() else { panic!("not asked") };
        assert_eq!(target.holder, "crew (host-1, pid 7)");
        // Meanwhile it is another's.
        let mut next = seen("etl/nightly", LockState::Held, Some(("next", 30, 0)));
        next.holder.as_mut().unwrap().token = "18".parse().unwrap();
        model.read(next);
        assert_eq!(model.press(Key::Yes), Some(Effect::Break(target.clone())));
        assert_eq!(target.token.get(), 17);
        assert_eq!(model.press(Key::Yes), None, "once");
    }

    #[test]
    fn a_break_can_be_declined_or_be_impossible() {
        let mut model = furnished();
        model.press(Key::Break);
        assert_eq!((model.mode(), model.message()), (&Mode::List, "nobody holds it"));
        model.press(Key::Move(1));
        model.press(Key::Break);
        model.press(Key::Back);
        assert_eq!(model.press(Key::Yes), None);
    }

    #[test]
    fn troubles_are_told_as_long_as_they_last() {
        let mut model = furnished();
        model.tell("done");
        model.press(Key::Move(1));
        assert_eq!(model.message(), "");
        model.tell_trouble("no connection");
        model.press(Key::Move(1));
        assert_eq!(model.message(), "no connection");
        model.listed(&["a".to_owned()], false);
        assert_eq!(model.message(), "");
    }

    #[test]
    fn what_is_asked_about_stays_selected() {
        let mut model = furnished();
        model.press(Key::Filter);
        "crew".chars().for_each(|letter| drop(model.press(Key::Type(letter))));
        model.press(Key::Back);
        model.press(Key::Details);
        model.read(seen("etl/nightly", LockState::Free, None));
        assert_eq!((names(&model).len(), selected(&model)), (0, "etl/nightly"));
        model.press(Key::Move(50));
        assert_eq!(*model.mode(), Mode::Details(0), "it has one line");
    }
}
