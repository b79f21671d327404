//! `leaselock break`: an operator puts the holder out.

use leaselock::{Break, Broken};

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
    let broken = match args.once {
        true => store.once(&args.lock).forget(order).await?,
        false => store.lock(&args.lock).break_lease(order).await?,
    };
    if !global.quiet {
        ls::print(&mut std::io::stdout().lock(), &told(args, &broken))?;
    }
    Ok(0)
}

fn told(args: &BreakLease, broken: &Broken) -> String {
    let name = &args.lock;
    let now = if args.once { "it may be run again" } else { "the lock is free" };
    match &broken.holder {
        Some(holder) => format!(
            "{name}: {} with token {} was put out; {now}",
            people::owner(&holder.owner),
            holder.token,
        ),
        None if broken.repaired => {
            format!("{name}: the unreadable record was replaced; {now}")
        }
        None => format!("{name}: {now}"),
    }
}
