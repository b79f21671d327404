//! What comes from the store: names, locks, troubles, and what became of a break.

use std::time::Duration;

use futures::StreamExt;
use leaselock::{Break, Store};
use tokio::sync::{mpsc, watch};

use crate::clock::{self, Moment};
use crate::exit::Failure;
use crate::people;
use crate::watch::model::Target;
use crate::watch::requests::Requests;
use crate::watch::rota::{NAMES, Rota};
use crate::watch::seen::Seen;

/// As many as `leaselock ls` reads at a time.
const AT_A_TIME: usize = 16;

#[derive(Debug)]
pub(crate) enum News {
    Listed {
        names: Vec<String>,
        /// Whether there are more.
        is_cut: bool,
    },
    Unlisted(Failure),
    Lock(Box<Seen>),
    Unread(String),
    /// What has become of a break.
    Told(String),
}

/// Reads round after round, until nobody listens.
pub(crate) async fn read(
    store: Store,
    prefix: String,
    every: Duration,
    requests: Requests,
    selected: watch::Receiver<Option<String>>,
    news: mpsc::Sender<News>,
) {
    let mut rota = Rota::default();
    while !news.is_closed() {
        let next = Moment::now().plus(every);
        if rota.listing_is_due() {
            let listed = list(&store, &prefix, &requests).await;
            if let Ok((names, _)) = &listed {
                rota.listed(names.clone());
            }
            let listed = match listed {
                Ok((names, is_cut)) => News::Listed { names, is_cut },
                Err(failure) => News::Unlisted(failure),
            };
            if news.send(listed).await.is_err() {
                return;
            }
        }
        let first = selected.borrow().clone();
        let round = rota.round(first.as_deref());
        let mut found =
            futures::stream::iter(round).map(|name| look(&store, name)).buffer_unordered(AT_A_TIME);
        while let Some(found) = found.next().await {
            if news.send(found).await.is_err() {
                return;
            }
        }
        clock::sleep(next.left(Moment::now())).await;
    }
}

/// Puts the holder out who was shown, and looks again.
pub(crate) async fn break_lease(store: Store, target: Target, news: mpsc::Sender<News>) {
    let order = Break::expecting(target.token).by(people::user_at_host());
    let name = people::plain(&target.name);
    let told = match store.lock(&target.name).break_lease(order).await {
        Ok(_) => format!("{name}: {} with token {} was put out", target.holder, target.token),
        Err(error) => Failure::from(error).message().to_owned(),
    };
    // Nobody listens any more: the screen is gone.
    let _ = news.send(News::Told(told)).await;
    let _ = news.send(look(&store, target.name).await).await;
}

async fn look(store: &Store, name: String) -> News {
    match store.lock(&name).inspect().await {
        Ok(info) => News::Lock(Box::new(Seen::read(&info, Moment::now()))),
        Err(error) => {
            let failure = Failure::from(error);
            News::Unread(format!("{}: {}", people::plain(&name), failure.message()))
        }
    }
}

/// The names below `prefix`, and whether there are more than are wanted.
async fn list(
    store: &Store,
    prefix: &str,
    requests: &Requests,
) -> Result<(Vec<String>, bool), Failure> {
    let mut found = store.names(prefix);
    let mut names = Vec::new();
    let mut is_cut = false;
    let mut failed = None;
    while let Some(name) = found.next().await {
        match name {
            Ok(_) if names.len() == NAMES => {
                is_cut = true;
                break;
            }
            Ok(name) => names.push(name),
            Err(error) => failed = Some(error),
        }
    }
    requests.listed(names.len() + usize::from(is_cut));
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok((names, is_cut))
}
