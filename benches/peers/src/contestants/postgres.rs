//! PostgreSQL: advisory locks of a session. A session is one contender, so everybody who holds or
//! waits has a connection.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use async_trait::async_trait;
use tokio_postgres::{Client, NoTls, Statement};

use crate::contestant::{Contestant, Held};

pub struct Postgres {
    settings: String,
    /// Connections that hold nothing.
    idle: Arc<Mutex<Vec<Session>>>,
}

struct Session {
    client: Client,
    lock: Statement,
    unlock: Statement,
}

struct Locked {
    name: String,
    session: Session,
    idle: Arc<Mutex<Vec<Session>>>,
}

impl Postgres {
    /// `settings` are those of libpq.
    pub async fn open(settings: &str) -> Result<Self> {
        Ok(Self { settings: settings.to_owned(), idle: Arc::default() })
    }

    async fn session(&self) -> Result<Session> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(session) => Ok(session),
            None => Session::open(&self.settings).await,
        }
    }
}

impl Session {
    async fn open(settings: &str) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(settings, NoTls).await?;
        // Ends with the client.
        tokio::spawn(connection);
        let lock = client.prepare("SELECT pg_advisory_lock(hashtextextended($1, 0))").await?;
        let unlock = client.prepare("SELECT pg_advisory_unlock(hashtextextended($1, 0))").await?;
        Ok(Self { client, lock, unlock })
    }
}

#[async_trait]
impl Contestant for Postgres {
    async fn lock(&self, name: &str) -> Result<Box<dyn Held>> {
        let session = self.session().await?;
        session.client.query_one(&session.lock, &[&name]).await?;
        Ok(Box::new(Locked { name: name.to_owned(), session, idle: Arc::clone(&self.idle) }))
    }
}

#[async_trait]
impl Held for Locked {
    async fn unlock(self: Box<Self>) -> Result<()> {
        let Self { name, session, idle } = *self;
        let row = session.client.query_one(&session.unlock, &[&name]).await?;
        anyhow::ensure!(row.get::<_, bool>(0), "it was not held");
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        Ok(())
    }
}
