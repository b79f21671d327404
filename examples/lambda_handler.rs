//! A handler for AWS Lambda and its like: `cargo run --example lambda_handler [STORE-URL]`.
//!
//! The platform freezes a function between its calls, so nothing renews in the background: the lease is
//! longer than a call may last, and is given back before the answer. With the crate `lambda_runtime`,
//! `main` is `run(service_fn(|event: LambdaEvent<Event>| handle(&store, event.payload))).await`.
//! `lambda_style` goes further: it keeps the lock from one call to the next.

use std::time::Duration;

use leaselock::{Attempt, Release, Store};

/// For a function that may take 60 s: a holder trusts nine tenths of it.
const TTL: Duration = Duration::from_secs(70);

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Event {
    table: String,
    row: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let default = format!("file://{}", directory.path().display());
    // Once for each environment, and not in the handler: the check of the store is made once, too.
    let store = leaselock::open(std::env::args().nth(1).unwrap_or(default)).await?;

    let event = |row: &str| Event { table: "orders".to_owned(), row: row.to_owned() };
    println!("first: {}", handle(&store, event("1")).await?);
    println!("second: {}", handle(&store, event("2")).await?);
    let elsewhere = store.lock("tables/orders").try_acquire().await?;
    println!("while another instance is at it: {}", handle(&store, event("3")).await?);
    drop(elsewhere);
    let table = store.objects().read("orders").await?.ok_or("there is a table")?;
    assert_eq!(table.bytes().as_ref(), b"1\n2\n");
    Ok(())
}

/// One call.
async fn handle(store: &Store, event: Event) -> Result<&'static str, Failure> {
    let lock = store.lock(format!("tables/{}", event.table));
    // A call that is killed leaves a lease that ends by itself.
    let lock = lock.ttl(TTL).keeper(false);
    let Attempt::Acquired(guard) = lock.try_acquire().await? else {
        // The platform calls again later, if what it is told is an error.
        return Ok("busy");
    };
    // Whatever freezes this call now: its write is refused once another has claimed the table.
    let mut table = guard.fence(&store.objects()).claim(event.table).await?;
    let mut rows = table.bytes().map(|old| old.to_vec()).unwrap_or_default();
    rows.extend(format!("{}\n", event.row).bytes());
    table.put(rows).await?;
    match guard.release().await? {
        Release::Released | Release::Unconfirmed => Ok("written"),
        Release::AlreadyLost(_) => Ok("written, and somebody else holds the lock already"),
    }
}
