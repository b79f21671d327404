//! What is measured: something that locks a name, and who they are.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;

use crate::clock::Nanos;
use crate::contestants::{etcd, floor, leaselock, naive, postgres, redis, redlock, zookeeper};
use crate::place::Place;
use crate::requests::Requests;

/// A lock service, as one process uses it.
#[async_trait]
pub trait Contestant: Send + Sync {
    /// Waits for the lock and takes it.
    async fn lock(&self, name: &str) -> Result<Box<dyn Held>>;

    /// Whether a call of `lock` that is dropped leaves nothing behind: neither a request that is half
    /// sent nor a lock that nobody knows of.
    fn may_be_dropped(&self) -> bool {
        false
    }

    /// What this process has sent to its store, where that is counted.
    fn requests(&self) -> Option<Requests> {
        None
    }
}

/// A lock that is held.
#[async_trait]
pub trait Held: Send + Sync {
    /// Gives it back and waits until the server has confirmed that.
    async fn unlock(self: Box<Self>) -> Result<()>;

    /// When the renewal that it now lasts from was sent, where that can be known.
    fn renewed(&self) -> Option<Nanos> {
        None
    }
}

/// Whose lock it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// leaselock, as it is without options.
    Leaselock,
    /// leaselock's queue.
    Fair,
    /// leaselock for who does not wait but tries again and again.
    Newcomer,
    /// An object that is created and deleted.
    Naive,
    /// No lock: the requests without which none could be had.
    Floor,
    Redis,
    Redlock,
    Etcd,
    ZooKeeper,
    Postgres,
}

impl Kind {
    const ALL: [(Self, &str); 10] = [
        (Self::Leaselock, "leaselock"),
        (Self::Fair, "leaselock-fair"),
        (Self::Newcomer, "leaselock-newcomer"),
        (Self::Naive, "naive"),
        (Self::Floor, "floor"),
        (Self::Redis, "redis"),
        (Self::Redlock, "redlock"),
        (Self::Etcd, "etcd"),
        (Self::ZooKeeper, "zookeeper"),
        (Self::Postgres, "postgres"),
    ];
    pub const PEERS: [Self; 5] =
        [Self::Redis, Self::Redlock, Self::Etcd, Self::ZooKeeper, Self::Postgres];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("?", |(_, name)| name)
    }

    /// The variable that tells where a peer's server listens.
    fn variable(self) -> String {
        format!("PEERS_{}", self.name().to_uppercase())
    }
}

/// One contestant: whose lock, and on which store if it needs one. Written `leaselock:file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub place: Option<Place>,
}

impl Entry {
    pub fn on(kind: Kind, place: &Place) -> Self {
        Self { kind, place: Some(place.clone()) }
    }

    pub fn peer(kind: Kind) -> Self {
        Self { kind, place: None }
    }

    /// Whether its server or store is there.
    pub fn is_there(&self) -> bool {
        match &self.place {
            Some(place) => place.is_there(),
            None => std::env::var(self.kind.variable()).is_ok(),
        }
    }

    /// Whether several processes can contend with it.
    pub fn is_shared(&self) -> bool {
        self.place.as_ref().is_none_or(Place::is_shared)
    }

    /// Connects, with leases of `ttl` where there are leases.
    pub async fn open(&self, ttl: Duration) -> Result<Arc<dyn Contestant>> {
        let place = || self.place.as_ref().context("needs a store");
        let address = || std::env::var(self.kind.variable()).context(self.kind.variable());
        Ok(match self.kind {
            Kind::Leaselock | Kind::Fair | Kind::Newcomer => {
                Arc::new(leaselock::Leaselock::open(self.kind, place()?, ttl).await?)
            }
            Kind::Naive => Arc::new(naive::Naive::open(place()?).await?),
            Kind::Floor => Arc::new(floor::Floor::open(place()?).await?),
            Kind::Redis => Arc::new(redis::Redis::open(&address()?, ttl).await?),
            Kind::Redlock => Arc::new(redlock::Redlock::open(&address()?, ttl).await?),
            Kind::Etcd => Arc::new(etcd::Etcd::open(&address()?, ttl).await?),
            Kind::ZooKeeper => Arc::new(zookeeper::ZooKeeper::open(&address()?, ttl).await?),
            Kind::Postgres => Arc::new(postgres::Postgres::open(&address()?).await?),
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        self.place.as_ref().map_or(Ok(()), |place| write!(f, ":{place}"))
    }
}

impl FromStr for Entry {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, place) = match text.split_once(':') {
            Some((name, place)) => (name, Some(place.parse()?)),
            None => (text, None),
        };
        match Kind::ALL.iter().find(|(_, known)| *known == name) {
            Some((kind, _)) => Ok(Self { kind: *kind, place }),
            None => bail!("no contestant is called {name}"),
        }
    }
}
