//! etcd: a lease that is kept alive, and the lock service of its API, which lines up those who wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use etcd_client::{Client, LockOptions};
use tokio::task::JoinHandle;

use crate::contestant::{Contestant, Held};

pub struct Etcd {
    client: Client,
    ttl: Duration,
    /// Leases that hold nothing. A lease is one contender, so tasks cannot share one.
    idle: Arc<Mutex<Vec<Lease>>>,
}

struct Lease {
    id: i64,
    keeper: JoinHandle<()>,
}

struct Key {
    client: Client,
    key: Vec<u8>,
    lease: Option<Lease>,
    idle: Arc<Mutex<Vec<Lease>>>,
}

impl Etcd {
    pub async fn open(address: &str, ttl: Duration) -> Result<Self> {
        let client = Client::connect([address], None).await?;
        Ok(Self { client, ttl, idle: Arc::default() })
    }

    async fn lease(&self) -> Result<Lease> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(lease) => Ok(lease),
            None => Lease::grant(&self.client, self.ttl).await,
        }
    }
}

impl Lease {
    async fn grant(client: &Client, ttl: Duration) -> Result<Self> {
        let mut client = client.clone();
        let id = client.lease_grant(ttl.as_secs() as i64, None).await?.id();
        let (mut keeper, mut answers) = client.lease_keep_alive(id).await?;
        let keeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(ttl / 3).await;
                if keeper.keep_alive().await.is_err() || answers.message().await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { id, keeper })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

#[async_trait]
impl Contestant for Etcd {
    async fn lock(&self, name: &str) -> Result<Box<dyn Held>> {
        let lease = self.lease().await?;
        let mut client = self.client.clone();
        let options = LockOptions::new().with_lease(lease.id);
        let key = client.lock(name, Some(options)).await?.key().to_vec();
        Ok(Box::new(Key { client, key, lease: Some(lease), idle: Arc::clone(&self.idle) }))
    }

    fn may_be_dropped(&self) -> bool {
        true
    }
}

#[async_trait]
impl Held for Key {
    async fn unlock(mut self: Box<Self>) -> Result<()> {
        self.client.unlock(std::mem::take(&mut self.key)).await?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.lease.take());
        Ok(())
    }
}
