//! From an entry on record to a guard.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::Contender;
use crate::clock::Moment;
use crate::error::Result;
use crate::guard::{Keeping, LockGuard, WeakKeeping};
use crate::hold::Hold;
use crate::keeper::{Entry, Reserved};
use crate::protocol::lock::Own;
use crate::record::{Kind, Record};
use crate::session::{OpenSession, Place, Tenant};
use crate::store::Version;
use crate::telemetry;

impl Contender {
    /// We hold the lock: from here on its keeper, or its session, sees to it.
    pub(super) fn enter(
        &self,
        record: Record,
        version: Version,
        sent: Moment,
        started: Moment,
    ) -> Result<LockGuard> {
        let token = record.lease(self.id).map_or(record.token, |lease| lease.token);
        let name = &self.target.name;
        self.client().memory.issued(&self.key, record.token);
        if self.target.kind != Kind::Session {
            telemetry::acquired(self.clock().now().since(started));
        }
        tracing::info!(lock = %name, %token, holder = %self.id, "acquired");
        let clock = Arc::clone(self.clock());
        let hold = Hold::new(name.clone(), self.id, token, sent, &self.terms, clock);
        let hold = if self.target.sharing.is_some() { hold.shared() } else { hold };
        let own = Own { id: self.id, renewals: 0, unresolved: false };
        let guard = match &self.session {
            Some(session) => self.lodge(session, hold, own, &record, version),
            None => self.keep(hold, own, record, version),
        };
        // A shutdown that began meanwhile may have missed this guard, which gives itself back.
        self.client().ensure_open().map(|()| guard)
    }

    /// Held under a lease of its own, which a keeper renews.
    fn keep(&self, hold: Hold, own: Own, record: Record, version: Version) -> LockGuard {
        let (client, key, hold) = (self.client(), self.key.clone(), Arc::new(hold));
        let entry = Entry::new(client, key, hold, &self.terms, self.renews_in, record, version);
        LockGuard::kept(client, self.target.kind, Entry { own, ..entry })
    }

    /// Held under the lease of a session.
    fn lodge(
        &self,
        session: &Arc<OpenSession>,
        hold: Hold,
        own: Own,
        record: &Record,
        version: Version,
    ) -> LockGuard {
        let hold = Arc::new(hold.under(Arc::clone(&session.hold)));
        let tenant = Arc::new_cyclic(|tenant| {
            let weak = WeakKeeping::Session(tenant.clone());
            Tenant {
                client: Arc::clone(self.client()),
                session: Arc::clone(session),
                key: self.key.clone(),
                hold: Arc::clone(&hold),
                min_hold: self.terms.min_hold,
                request_timeout: self.terms.request_timeout,
                reserved: Reserved::by(record),
                place: Mutex::new(Place::new(own, record, version)),
                _registration: self.client().register(self.target.kind, Arc::clone(&hold), weak),
            }
        });
        if hold.is_limited() {
            self.client().spawn(tenant.leftover().clear_when_limited());
        }
        LockGuard::new(hold, Keeping::Session(tenant))
    }
}
