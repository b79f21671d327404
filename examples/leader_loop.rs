//! Two candidates of which one leads at a time, and somebody who watches: `cargo run --example
//! leader_loop`.

use std::time::Duration;

use futures::StreamExt;
use leaselock::{Break, Election, FencingToken, Leadership, Payload};

const WORK: Duration = Duration::from_millis(1000);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let url = format!("file://{}", directory.path().display());

    let mut news = candidate(&url, "nobody").await?.observe();
    let watching = tokio::spawn(async move {
        while let Some(news) = news.next().await {
            match news {
                Ok(Some(leader)) => println!(
                    "observed: {} leads, term {}, at {}",
                    leader.owner.label,
                    leader.term,
                    leader.payload.map_or("?".to_owned(), |address| address.to_json()),
                ),
                Ok(None) => println!("observed: nobody leads"),
                Err(error) => println!("observed: {error}"),
            }
        }
    });

    let ada = tokio::spawn(lead(candidate(&url, "ada").await?));
    let grace = tokio::spawn(lead(candidate(&url, "grace").await?));
    pause(WORK / 4).await;
    // An operator puts whoever leads out of it. That candidate notices at its next renewal, while the
    // next may lead already: only the terms tell whom to obey. Then it campaigns again.
    let order = Break::force().reason("to show what happens");
    leaselock::open(&url).await?.lock("orders").break_lease(order).await?;
    println!("operator: the leader was put out");
    let (ada, grace) = (ada.await??, grace.await??);
    println!("done: terms {ada} and {grace}");
    assert_ne!(ada, grace);
    watching.abort();
    Ok(())
}

/// Each stands for another process: it has opened the store by itself.
async fn candidate(url: &str, name: &'static str) -> leaselock::Result<Election> {
    let store = leaselock::open(url).await?;
    let address = Payload::from_serialize(&format!("{name}.example:8080"))?;
    // Short, so that this is over soon; with the default, a crash is noticed after 30 s.
    let ttl = Duration::from_secs(1);
    Ok(store.election("orders").ttl(ttl).owner(name).payload(address))
}

/// Leads for one whole term, as soon as it may, and answers which that was.
async fn lead(election: Election) -> leaselock::Result<u64> {
    let work = async |leadership: &Leadership| {
        let _told = Told(leadership.term());
        println!("leading, term {}", leadership.term());
        pause(WORK).await;
        println!("the work is done, term {}", leadership.term());
        leadership.term().get()
    };
    election.lead(work).await
}

/// Tells the end of the work, however it comes.
struct Told(FencingToken);

impl Drop for Told {
    fn drop(&mut self) {
        println!("not leading any more, term {}", self.0);
    }
}

#[allow(clippy::disallowed_methods, reason = "work takes real time")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
