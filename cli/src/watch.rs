//! `leaselock watch`: locks on the whole screen as they change.

use std::io::{self, IsTerminal};
use std::time::Duration;

use crossterm::event::Event;
use leaselock::Store;
use tokio::sync::{mpsc, watch};

use crate::args::{Global, Watch};
use crate::clock::{self, Moment};
use crate::exit::{self, Failure};
use crate::people;
use crate::signals::{Notice, Signals};
use crate::watch::draw::{Facts, View};
use crate::watch::keys::Key;
use crate::watch::model::{Effect, Model, Target};
use crate::watch::reader::News;
use crate::watch::requests::{LastMinute, Requests};
use crate::watch::screen::Screen;

mod bar;
mod columns;
mod draw;
mod keyboard;
mod keys;
mod model;
mod order;
mod reader;
mod requests;
mod rota;
mod screen;
mod seen;
mod strip;

/// Ages and what is left move on without news.
const TICK: Duration = Duration::from_secs(1);
const LEAST_EVERY: Duration = Duration::from_millis(500);

pub(crate) async fn watch(global: &Global, args: &Watch) -> Result<u8, Failure> {
    check(global, args)?;
    let requests = Requests::count();
    let store = crate::open(global).await?;
    let mut signals = Signals::listen()
        .map_err(|error| Failure::new(exit::INTERNAL, format!("cannot start: {error}")))?;
    let keyboard = keyboard::listen()?;
    let (send, news) = mpsc::channel(64);
    let (select, selected) = watch::channel(None);
    let prefix = args.prefix.clone();
    let reading =
        reader::read(store.clone(), prefix, args.every, requests.clone(), selected, send.clone());
    drop(tokio::spawn(reading));
    let mut shown = Shown {
        model: Model::default(),
        view: View::new(people::colours_are_welcome()),
        place: place(&store, &args.prefix),
        minute: LastMinute::default(),
        requests,
        select,
        store,
        send,
    };
    // Given back when it is dropped: before a failure is printed.
    let mut screen = Screen::take()?;
    shown.follow(&mut screen, &mut signals, keyboard, news).await
}

fn check(global: &Global, args: &Watch) -> Result<(), Failure> {
    let usage = |message: &str| Failure::new(exit::USAGE, message);
    if args.every < LEAST_EVERY {
        let (every, least) =
            (humantime::format_duration(args.every), humantime::format_duration(LEAST_EVERY));
        return Err(usage(&format!("--every is {every}, and at least {least} is allowed")));
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(usage("watch needs a terminal to show locks on and to read keys from")
            .hint("`leaselock ls` lists them anywhere, with --json for programs"));
    }
    let logs = std::env::var_os("LEASELOCK_LOG").is_some_and(|filter| !filter.is_empty());
    if (global.verbose > 0 || logs) && io::stderr().is_terminal() {
        return Err(usage("the log would be written over the screen")
            .hint("send it elsewhere: leaselock -v watch 2>watch.log"));
    }
    Ok(())
}

/// The store, and below which prefix.
fn place(store: &Store, prefix: &str) -> String {
    match prefix {
        "" => store.url().to_owned(),
        prefix => format!("{} below {prefix}", store.url()),
    }
}

struct Shown {
    model: Model,
    view: View,
    place: String,
    minute: LastMinute,
    requests: Requests,
    /// Tells the reader, which reads it in every round.
    select: watch::Sender<Option<String>>,
    store: Store,
    send: mpsc::Sender<News>,
}

impl Shown {
    /// Shows what comes, until a key or a signal ends it.
    async fn follow(
        &mut self,
        screen: &mut Screen,
        signals: &mut Signals,
        mut keyboard: mpsc::Receiver<io::Result<Event>>,
        mut news: mpsc::Receiver<News>,
    ) -> Result<u8, Failure> {
        loop {
            self.draw(screen)?;
            tokio::select! {
                biased;
                notice = signals.next() => match notice {
                    Notice::Request(signal) => return Ok(exit::by_signal(signal as i32)),
                    Notice::Continued => screen.take_again()?,
                    Notice::Child => {}
                },
                event = keyboard.recv() => match self.react(event)? {
                    Some(Effect::Quit) => return Ok(0),
                    Some(Effect::Suspend) => screen.suspend()?,
                    Some(Effect::Break(target)) => self.put_out(target),
                    None => {}
                },
                Some(first) = news.recv() => {
                    self.learn(first)?;
                    // A round's answers come together: they are drawn together.
                    while let Ok(next) = news.try_recv() {
                        self.learn(next)?;
                    }
                }
                () = clock::sleep(TICK) => {}
            }
        }
    }

    fn draw(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        let now = Moment::now();
        self.minute.note(now.boot, self.requests.so_far());
        let facts = Facts { place: self.place.clone(), now, requests: self.minute.text() };
        screen.draw(|frame| self.view.draw(frame, &self.model, &facts))
    }

    fn learn(&mut self, news: News) -> Result<(), Failure> {
        match news {
            News::Listed { names, is_cut } => self.model.listed(&names, is_cut),
            // What never worked will not work by itself; what did may do so again.
            News::Unlisted(failure) if !self.model.is_listed() => return Err(failure),
            News::Unlisted(failure) => self.model.tell_trouble(failure.message()),
            News::Lock(lock) => self.model.read(*lock),
            News::Unread(text) => self.model.tell_trouble(text),
            News::Told(text) => self.model.tell(text),
        }
        self.tell_reader();
        Ok(())
    }

    /// Answers what is left to do.
    fn react(&mut self, event: Option<io::Result<Event>>) -> Result<Option<Effect>, Failure> {
        let lost = |why: &str| Failure::new(exit::INTERNAL, format!("no more keys: {why}"));
        let event = match event {
            Some(Ok(event)) => event,
            Some(Err(error)) => return Err(lost(&error.to_string())),
            None => return Err(lost("the terminal is gone")),
        };
        // Of anything else it is only drawn anew, in the size that the terminal has by then.
        let Event::Key(key) = event else { return Ok(None) };
        let has_filter = !self.model.filter().is_empty();
        let key = keys::meaning(self.model.mode(), has_filter, key);
        let Some(key) = key.filter(|key| *key != Key::Yes || self.view.asks()) else {
            return Ok(None);
        };
        let effect = self.model.press(key);
        self.tell_reader();
        Ok(effect)
    }

    fn put_out(&mut self, target: Target) {
        self.model.tell(format!("breaking {} …", target.name));
        let breaking = reader::break_lease(self.store.clone(), target, self.send.clone());
        drop(tokio::spawn(breaking));
    }

    fn tell_reader(&self) {
        let selected = self.model.selected().map(|lock| lock.name.clone());
        self.select.send_if_modified(|present| {
            let is_new = *present != selected;
            *present = selected;
            is_new
        });
    }
}
