//! `leaselock acquire`, `renew` and `release`: a lock held from one step of a script to the next.

use std::io;
use std::time::Duration;

use leaselock::{ErrorKind, HolderId, LockGuard, Store};
use serde_json::json;

use crate::args::{Acquire, Global, Handled};
use crate::exit::{self, Failure};
use crate::handle::file::{Draft, Handle};
use crate::key::Key;
use crate::signals::Signals;
use crate::tenure::Tenure;
use crate::waiting::{self, Patience, Waited};
use crate::{ls, people, run};

mod file;

/// What `acquire --help` says besides the options and the exit codes.
pub(crate) const LONG_HELP: &str = "\
For scripts whose steps are processes of their own, such as jobs of a CI system:

  leaselock acquire --ttl 10m --handle lease.json deploy/production
  leaselock renew --handle lease.json     # every 9 minutes at the latest
  leaselock release --handle lease.json   # also when a step has failed

or, without a file:

  holder=$(leaselock acquire --ttl 10m deploy/production)
  leaselock renew deploy/production --holder \"$holder\"
  leaselock release deploy/production --holder \"$holder\"

Nothing renews the lease between these, and nothing stops a step when it is
over: renew in time, look at the exit code, and pass the token on where writes
can be fenced. Wherever one process can wrap the work, `leaselock run` is safer.

Whoever knows the holder's id can renew and release: FILE is readable by its
owner only.";

/// Answers the exit code.
pub(crate) async fn acquire(global: &Global, args: &Acquire) -> Result<u8, Failure> {
    let mut signals = Signals::listen().map_err(run::internal)?;
    let store = tokio::select! {
        biased;
        signal = signals.request() => return Ok(exit::by_signal(signal as i32)),
        store = crate::open(global) => store?,
    };
    // Before the lock is taken: who cannot write it down could not give it back.
    let draft = args.handle.as_deref().map(Draft::create).transpose()?;
    let mut lock = store.lock(&args.lock).ttl(args.ttl).owner(args.owner.label()).keeper(false);
    if let Some(note) = &args.owner.note {
        lock = lock.note(note);
    }
    let patience = Patience::of(args.busy.no_wait, args.busy.wait);
    match waiting::acquire(&Key::Lock(lock), patience, &mut signals, global.quiet).await? {
        Waited::Acquired(Tenure::Lock(guard)) => leave(&store, guard, args, draft).await,
        Waited::Busy(info) => {
            if !global.quiet {
                people::say(&people::situation(&info));
            }
            Ok(args.busy.code())
        }
        Waited::Interrupted(signal) => {
            run::wind_up(&[store], &mut signals, run::WITHDRAWAL).await;
            Ok(exit::by_signal(signal as i32))
        }
        Waited::Acquired(_) | Waited::Done(_) => {
            Err(Failure::new(exit::INTERNAL, "another kind of lock was acquired"))
        }
    }
}

/// Tells the handle and leaves the lease; gives the lock back where nobody could be told.
async fn leave(
    store: &Store,
    guard: LockGuard,
    args: &Acquire,
    draft: Option<Draft<'_>>,
) -> Result<u8, Failure> {
    let handle = Handle::of(store, &guard, args.ttl);
    let told = match draft {
        Some(draft) => draft.keep(&handle).map(|()| args.json),
        None => Ok(true),
    };
    let told = told.and_then(|print| match (print, args.json) {
        (false, _) => Ok(true),
        (true, true) => ls::print(&mut io::stdout().lock(), &handle.to_json().to_string()),
        (true, false) => ls::print(&mut io::stdout().lock(), &handle.holder.to_string()),
    });
    let failure = match told {
        Ok(true) => return guard.detach().await.map(|_| 0).map_err(Failure::from),
        Ok(false) => Failure::new(exit::INTERNAL, "nobody reads who holds the lock"),
        Err(failure) => failure,
    };
    if let Some(path) = &args.handle {
        file::remove(path);
    }
    // What went wrong is told; the release is as good as it gets.
    let _ = guard.release().await;
    Err(failure.hint("the lock was given back"))
}

/// Answers the exit code.
pub(crate) async fn renew(global: &Global, args: &Handled) -> Result<u8, Failure> {
    let (store, name, holder) = find(global, args).await?;
    let guard = store.lock(name).keeper(false).resume(holder).await?;
    let left = guard.detach().await?;
    let handle = Handle::left(&store, &left);
    if let Some(path) = &args.handle
        && let Err(failure) = handle.replace(path)
    {
        // It is renewed all the same, and the file as good as before.
        people::say(&format!("{} (the lease is renewed)", failure.message()));
    }
    if args.json {
        ls::print(&mut io::stdout().lock(), &handle.to_json().to_string())?;
    }
    Ok(0)
}

/// Answers the exit code.
pub(crate) async fn release(global: &Global, args: &Handled) -> Result<u8, Failure> {
    let (store, name, holder) = find(global, args).await?;
    let ended = match store.lock(&name).release_detached(holder).await {
        Ok(()) => Ok("released"),
        Err(error) if error.kind() == ErrorKind::Lost => Err(error),
        Err(error) => return Err(error.into()),
    };
    if let Some(path) = &args.handle {
        file::remove(path);
    }
    if args.json {
        let outcome = ended.as_ref().copied().unwrap_or("lost");
        let told = json!({ "name": name, "holder": holder.to_string(), "outcome": outcome });
        ls::print(&mut io::stdout().lock(), &told.to_string())?;
    }
    match ended {
        Ok(_) => Ok(0),
        Err(error) => {
            let message = format!("{name} was not held any more: {error:#}");
            Err(Failure::new(exit::OVERRUN, message))
        }
    }
}

/// The store, the lock's name and who holds it, from the arguments or the file.
async fn find(global: &Global, args: &Handled) -> Result<(Store, String, HolderId), Failure> {
    let Some(path) = &args.handle else {
        let (Some(name), Some(holder)) = (&args.lock, args.holder) else {
            return Err(Failure::new(exit::USAGE, "LOCK and --holder, or --handle, are needed"));
        };
        return Ok((crate::open(global).await?, name.clone(), holder));
    };
    let handle = Handle::read(path)?;
    if global.stores().is_empty() {
        let store = crate::open_at(global, &handle.store).await?;
        return Ok((store, handle.name, handle.holder));
    }
    let store = crate::open(global).await?;
    if store.url() != handle.store {
        let message = format!(
            "{} is of a lock on {}, not on {}",
            path.display(),
            people::plain(&handle.store),
            store.url()
        );
        return Err(Failure::new(exit::USAGE, message).hint("name the lock's own store"));
    }
    Ok((store, handle.name, handle.holder))
}

impl Handle {
    fn of(store: &Store, guard: &LockGuard, ttl: Duration) -> Self {
        Self {
            name: guard.name().to_owned(),
            store: store.url().to_owned(),
            holder: guard.id(),
            token: guard.token(),
            ttl,
            expires_at: guard.watch().status().wall_deadline,
        }
    }

    fn left(store: &Store, left: &leaselock::DetachedLease) -> Self {
        Self {
            name: left.name.clone(),
            store: store.url().to_owned(),
            holder: left.holder,
            token: left.token,
            ttl: left.ttl,
            expires_at: left.deadline,
        }
    }
}
