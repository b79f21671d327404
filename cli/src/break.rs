//! `leaselock break`: an operator puts the holder out.

use std::io::{self, IsTerminal, Write};

use leaselock::{Break, Broken, FencingToken, LockInfo, LockState, Store};

use crate::args::{BreakLease, Global};
use crate::exit::{self, Failure};
use crate::{ls, people, show};

pub(crate) async fn break_lease(global: &Global, args: &BreakLease) -> Result<u8, Failure> {
    let store = crate::open(global).await?;
    let order = match args.expect_token {
        Some(token) => Break::expecting(token),
        None if args.force => Break::force(),
        None => match confirmed(&store, args).await? {
            Some(token) => Break::expecting(token),
            None => return Ok(exit::REFUSED),
        },
    };
    let mut order = order.by(people::user_at_host());
    if let Some(reason) = &args.reason {
        order = order.reason(reason);
    }
    // Of several holders the answer names one.
    let before = match args.force && !args.once && !global.quiet {
        true => store.lock(&args.lock).inspect().await.map_or(0, |info| info.holders.len()),
        false => 0,
    };
    let broken = match args.once {
        true => store.once(&args.lock).forget(order).await?,
        false => store.lock(&args.lock).break_lease(order).await?,
    };
    if !global.quiet {
        let now = match args.once {
            true => None,
            // Others may hold it still, or were next in the queue.
            false => store.lock(&args.lock).inspect().await.ok(),
        };
        ls::print(&mut std::io::stdout().lock(), &told(args, &broken, before, now.as_ref()))?;
    }
    Ok(0)
}

/// Shows the holder and asks whoever sits at the terminal. The token of whom was shown, if it is to be put
/// out.
async fn confirmed(store: &Store, args: &BreakLease) -> Result<Option<FencingToken>, Failure> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::new(exit::USAGE, "nobody can be asked: this is not a terminal").hint(
            "name the holder's token by --expect-token (`leaselock show` prints it), or give --force",
        ));
    }
    let info = show::inspect(store, &args.lock, args.once).await?;
    let (token, what) = match (info.holders.as_slice(), &info.done) {
        ([holder], _) => (holder.token, "Put this holder out?"),
        ([], Some(done)) => (done.token, "Forget this success?"),
        ([], None) if info.state == LockState::Unreadable => {
            return Err(Failure::new(exit::CONFIGURATION, "its record cannot be understood")
                .hint("--force replaces it"));
        }
        ([], None) => {
            let message = format!("{} is not held", people::plain(&info.name));
            return Err(Failure::new(exit::REFUSED, message));
        }
        _ => {
            return Err(Failure::new(exit::USAGE, "several hold it")
                .hint("name one of them by --expect-token, or all by --force"));
        }
    };
    let mut terminal = io::stderr().lock();
    let told = show::lines(&info, show::kind_of(&info, args.once)).join("\n");
    let mut answer = String::new();
    write!(
        terminal,
        "{told}\n{what} Who is put out learns of it up to a third of its TTL later. [y/N] "
    )
    .and_then(|()| terminal.flush())
    .and_then(|()| io::stdin().read_line(&mut answer))
    .map_err(|error| Failure::new(exit::INTERNAL, format!("cannot ask: {error}")))?;
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !yes {
        people::say("nothing was changed");
    }
    Ok(yes.then_some(token))
}

fn told(args: &BreakLease, broken: &Broken, before: usize, now: Option<&LockInfo>) -> String {
    let name = &args.lock;
    let now = match now {
        _ if args.once => "it may be run again".to_owned(),
        Some(info) if info.state == LockState::Held => people::situation(info),
        Some(_) => "the lock is free".to_owned(),
        None => "the store does not say who holds it now".to_owned(),
    };
    let others = match before.saturating_sub(1) {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    };
    match &broken.holder {
        Some(holder) => format!(
            "{name}: {} with token {} was put out{others}; {now}",
            people::owner(&holder.owner),
            holder.token,
        ),
        None if broken.repaired => {
            format!("{name}: the unreadable record was replaced; {now}")
        }
        None => format!("{name}: {now}"),
    }
}
