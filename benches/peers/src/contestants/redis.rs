//! One Redis: `SET NX PX`, and a script that deletes what is still one's own. As redis-py's `Lock`:
//! who waits asks every 100 ms, and nobody renews.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use redis::aio::MultiplexedConnection;

use crate::clock::{self, Nanos};
use crate::contestant::{Contestant, Held};

/// The default of redis-py's `Lock`.
const ASKS_EVERY: Duration = Duration::from_millis(100);

const DELETE_IF_MINE: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

pub struct Redis {
    connection: MultiplexedConnection,
    ttl: Duration,
}

struct Key {
    connection: MultiplexedConnection,
    name: String,
    value: String,
    set_at: Nanos,
}

impl Redis {
    pub async fn open(address: &str, ttl: Duration) -> Result<Self> {
        Ok(Self { connection: connect(address).await?, ttl })
    }
}

#[async_trait]
impl Contestant for Redis {
    async fn lock(&self, name: &str) -> Result<Box<dyn Held>> {
        let value = unique();
        let mut connection = self.connection.clone();
        loop {
            let set_at = clock::now();
            if set(&mut connection, name, &value, self.ttl).await? {
                return Ok(Box::new(Key { connection, name: name.to_owned(), value, set_at }));
            }
            tokio::time::sleep(ASKS_EVERY).await;
        }
    }
}

#[async_trait]
impl Held for Key {
    async fn unlock(mut self: Box<Self>) -> Result<()> {
        let deleted = delete(&mut self.connection, &self.name, &self.value).await?;
        anyhow::ensure!(deleted, "the key was not ours any more");
        Ok(())
    }

    fn renewed(&self) -> Option<Nanos> {
        Some(self.set_at)
    }
}

pub async fn connect(address: &str) -> Result<MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://{address}/"))?;
    Ok(client.get_multiplexed_async_connection().await?)
}

/// What nobody else writes.
pub fn unique() -> String {
    format!("{}-{:032x}", std::process::id(), fastrand::u128(..))
}

pub async fn set(
    connection: &mut MultiplexedConnection,
    name: &str,
    value: &str,
    ttl: Duration,
) -> Result<bool> {
    let mut set = redis::cmd("SET");
    set.arg(name).arg(value).arg("NX").arg("PX").arg(ttl.as_millis() as u64);
    let answer: Option<String> = set.query_async(connection).await?;
    Ok(answer.is_some())
}

pub async fn delete(
    connection: &mut MultiplexedConnection,
    name: &str,
    value: &str,
) -> Result<bool> {
    // Sent by its hash, as the client libraries do.
    static SCRIPT: std::sync::LazyLock<redis::Script> =
        std::sync::LazyLock::new(|| redis::Script::new(DELETE_IF_MINE));
    let deleted: u64 = SCRIPT.key(name).arg(value).invoke_async(connection).await?;
    Ok(deleted == 1)
}
