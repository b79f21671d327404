//! `leaselock break`: an operator puts the holder out.

use leaselock::{Break, Broken, LockInfo, LockState};

use crate::args::{BreakLease, Global};
use crate::exit::Failure;
use crate::{ls, people};

pub(crate) async fn break_lease(global: &Global, args: &BreakLease) -> Result<u8, Failure> {
    let store = crate::open(global).await?;
    let mut order = match args.expect_token {
        Some(token) => Break::expecting(token),
        None => Break::force(),
    };
    order = order.by(people::user_at_host());
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
