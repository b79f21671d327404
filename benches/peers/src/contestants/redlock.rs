//! Redlock: a majority of independent Redis servers, as its description and node-redlock have it.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use futures::future::{join_all, try_join_all};
use redis::aio::MultiplexedConnection;

use super::redis::{connect, delete, set, unique};
use crate::clock::{self, Nanos};
use crate::contestant::{Contestant, Held};

/// The defaults of node-redlock: 200 ms, and up to 100 ms more or less.
const ASKS_AFTER_MILLIS: std::ops::RangeInclusive<u64> = 100..=300;

pub struct Redlock {
    connections: Vec<MultiplexedConnection>,
    ttl: Duration,
}

struct Majority {
    connections: Vec<MultiplexedConnection>,
    name: String,
    value: String,
    set_at: Nanos,
}

impl Redlock {
    /// `addresses` are separated by commas.
    pub async fn open(addresses: &str, ttl: Duration) -> Result<Self> {
        let connections = try_join_all(addresses.split(',').map(connect)).await?;
        Ok(Self { connections, ttl })
    }

    /// How long the lock is surely held, once all have been asked.
    fn validity(&self) -> Duration {
        let drift = self.ttl / 100 + Duration::from_millis(2);
        self.ttl.saturating_sub(drift)
    }
}

impl Majority {
    /// Asks all at once; a server that fails has not granted.
    async fn ask(&mut self, ttl: Duration) -> usize {
        let (name, value) = (&self.name, &self.value);
        let answers = join_all(self.connections.iter_mut().map(|one| set(one, name, value, ttl)));
        answers.await.into_iter().filter(|answer| matches!(answer, Ok(true))).count()
    }

    async fn give_back(&mut self) -> usize {
        let (name, value) = (&self.name, &self.value);
        let answers = join_all(self.connections.iter_mut().map(|one| delete(one, name, value)));
        answers.await.into_iter().filter(|answer| matches!(answer, Ok(true))).count()
    }

    fn is_reached(&self, votes: usize) -> bool {
        votes > self.connections.len() / 2
    }
}

#[async_trait]
impl Contestant for Redlock {
    async fn lock(&self, name: &str) -> Result<Box<dyn Held>> {
        loop {
            let mut majority = Majority {
                connections: self.connections.clone(),
                name: name.to_owned(),
                value: unique(),
                set_at: clock::now(),
            };
            let votes = majority.ask(self.ttl).await;
            if majority.is_reached(votes) && clock::since(majority.set_at) < self.validity() {
                return Ok(Box::new(majority));
            }
            majority.give_back().await;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(ASKS_AFTER_MILLIS))).await;
        }
    }
}

#[async_trait]
impl Held for Majority {
    async fn unlock(mut self: Box<Self>) -> Result<()> {
        let votes = self.give_back().await;
        anyhow::ensure!(self.is_reached(votes), "only {votes} had it still");
        Ok(())
    }

    fn renewed(&self) -> Option<Nanos> {
        Some(self.set_at)
    }
}
