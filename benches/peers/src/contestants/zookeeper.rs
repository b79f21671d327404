//! ZooKeeper: the recipe with ephemeral sequential nodes, in which everybody watches the one before.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use zookeeper_client::{Acls, Client, CreateMode, LockOptions, LockPrefix};

use crate::contestant::{Contestant, Held};

pub struct ZooKeeper(Arc<Client>);

struct Node {
    client: Arc<Client>,
    path: String,
}

impl ZooKeeper {
    pub async fn open(address: &str, ttl: Duration) -> Result<Self> {
        let client = Client::connector().with_session_timeout(ttl).connect(address).await?;
        Ok(Self(Arc::new(client)))
    }
}

#[async_trait]
impl Contestant for ZooKeeper {
    async fn lock(&self, name: &str) -> Result<Box<dyn Held>> {
        let directory = format!("/{name}");
        let prefix = LockPrefix::new_curator(&directory, "lock-")?;
        let above = CreateMode::Persistent.with_acls(Acls::anyone_all());
        let options = LockOptions::new(Acls::anyone_all()).with_ancestor_options(above)?;
        let node = self.0.lock(prefix, b"", options).await?;
        let path = node.lock_path().to_owned();
        // It would delete the node when dropped, and nobody could wait for that.
        std::mem::forget(node);
        Ok(Box::new(Node { client: Arc::clone(&self.0), path }))
    }

    fn may_be_dropped(&self) -> bool {
        true
    }
}

#[async_trait]
impl Held for Node {
    async fn unlock(self: Box<Self>) -> Result<()> {
        Ok(self.client.delete(&self.path, None).await?)
    }
}
