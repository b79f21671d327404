//! Which of all that can be held the arguments ask for.

use std::collections::BTreeSet;

use leaselock::{Quorum, Store};

use crate::args::Run;
use crate::exit::{self, Failure};
use crate::key::Key;

/// The LOCKs in the order of their names; one that is named twice counts once.
pub(crate) fn names(args: &Run) -> Vec<String> {
    args.locks.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// What does not go together, as far as clap cannot tell. Nothing has been opened yet.
pub(crate) fn check(args: &Run, locks: usize, stores: usize) -> Result<(), Failure> {
    let usage = |message: String| Failure::new(exit::USAGE, message);
    if stores > 1 && stores.is_multiple_of(2) {
        let message = format!("{stores} --store: a majority decides, so it must be an odd number");
        let hint = "name one more, or one less, which survives as many outages";
        return Err(usage(message).hint(hint));
    }
    let one = match (locks, stores) {
        (..=1, ..=1) => return Ok(()),
        (..=1, _) => "one --store",
        (_, ..=1) => "one LOCK",
        _ => {
            let message =
                "several LOCKs are taken on one --store, and several --store take one LOCK";
            return Err(usage(message.to_owned()));
        }
    };
    for (given, option) in [
        (args.shared, "--shared"),
        (args.exclusive, "--exclusive"),
        (args.limit.is_some(), "--limit"),
        (args.fair, "--fair"),
        (args.once, "--once"),
        (args.min_hold.is_some(), "--min-hold"),
    ] {
        if given {
            return Err(usage(format!("{option} is for {one} only")));
        }
    }
    Ok(())
}

/// What is asked for.
///
/// # Errors
/// The stores make no quorum.
pub(crate) fn key(args: &Run, locks: &[String], stores: &[Store]) -> Result<Key, Failure> {
    let owner = args.owner.label();
    // The builders have these options in common, but no type.
    macro_rules! with_options {
        ($key:expr) => {{
            let mut key = $key.ttl(args.ttl).owner(owner);
            if let Some(note) = &args.owner.note {
                key = key.note(note);
            }
            if let Some(time) = args.max_hold {
                key = key.max_hold(time);
            }
            key
        }};
    }
    macro_rules! with_min_hold {
        ($key:expr) => {{
            let key = with_options!($key);
            match args.min_hold {
                Some(time) => key.min_hold(time),
                None => key,
            }
        }};
    }
    let (store, name) = match (stores, locks) {
        ([store], [name]) => (store, name),
        ([store], names) => {
            let each = names.iter().map(|name| store.lock(name)).collect();
            return Ok(Key::All(with_options!(store.lock_all(names)), each));
        }
        (_, names) => {
            let quorum = Quorum::new(stores.iter().cloned())?;
            return Ok(Key::Quorum(with_options!(quorum.lock(names.concat()))));
        }
    };
    if args.once {
        let once = with_min_hold!(store.once(name));
        return Ok(Key::Once(match args.retention {
            Some(time) => once.retention(time),
            None => once,
        }));
    }
    if let Some(limit) = args.limit {
        let semaphore = with_options!(store.semaphore(name, limit));
        return Ok(Key::Permits(semaphore, args.permits.unwrap_or(1)));
    }
    Ok(match (args.shared, args.exclusive) {
        (true, _) => Key::Shared(with_options!(store.rwlock(name))),
        (false, true) => Key::Exclusive(with_options!(store.rwlock(name))),
        (false, false) if args.fair => Key::Fair(with_min_hold!(store.lock(name)).fair()),
        // A wrapper is easily killed while it waits, and its ticket would cost the others a TTL.
        (false, false) => Key::Lock(with_min_hold!(store.lock(name)).queue_when_overtaken(false)),
    })
}
