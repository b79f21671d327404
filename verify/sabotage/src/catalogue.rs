//! The sabotages: mistakes that others have made, or that would be easy to make.

/// One mistake.
pub(crate) struct Sabotage {
    pub(crate) name: &'static str,
    /// What is wrong with the library then.
    pub(crate) what: &'static str,
    pub(crate) how: How,
}

pub(crate) enum How {
    /// Edits of the library's source.
    Library(&'static [Edit]),
    /// A fault of the simulated store, by the name of the simulation's option.
    Store(&'static str),
}

/// Replaces a text that is in a file exactly once.
pub(crate) struct Edit {
    pub(crate) file: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

const fn library(name: &'static str, what: &'static str, edits: &'static [Edit]) -> Sabotage {
    Sabotage { name, what, how: How::Library(edits) }
}

const fn store(name: &'static str, what: &'static str) -> Sabotage {
    Sabotage { name, what, how: How::Store(name) }
}

const fn edit(file: &'static str, from: &'static str, to: &'static str) -> Edit {
    Edit { file, from, to }
}

pub(crate) const ALL: &[Sabotage] = &[
    library(
        "no-read-back",
        "a refused write is believed to be somebody else's doing",
        &[edit(
            "src/store/mod.rs",
            "(Content::Record { record, version, .. }, _) if record.nonce == self.nonce => {",
            "(Content::Record { record, version, .. }, _) if false && record.nonce == self.nonce => {",
        ), edit(
            "src/keeper/entry.rs",
            "if landed || tried.is_some_and(|tried| tried == lease) {",
            "if landed || tried.is_some_and(|tried| false && tried == lease) {",
        )],
    ),
    library(
        "resumed-from-response",
        "a lease that was left and is gone on with is counted from the answer to its renewal",
        &[edit(
            "src/detached.rs",
            "Hold::new(name, holder, lease.token, decided, &terms, clock)",
            "Hold::new(name, holder, lease.token, clock.now(), &terms, clock)",
        )],
    ),
    library(
        "releases-whoever-holds",
        "a lease that was left is given back by putting out whoever holds by then",
        &[edit(
            "src/detached.rs",
            "match release(found, Own::on_record(found, holder), None, nonce, now) {",
            "let holder = found.holders.first().map_or(holder, |lease| lease.id);
            match release(found, Own::on_record(found, holder), None, nonce, now) {",
        )],
    ),
    library(
        "deadline-from-response",
        "a lease is counted from the answer to its write",
        &[
            edit(
                "src/acquire.rs",
                "Ok(Written::Landed { record: Box::new(record), version, sent: decided })",
                "Ok(Written::Landed { record: Box::new(record), version, sent: self.clock().now() })",
            ),
            edit(
                "src/keeper/entry.rs",
                "if self.hold.extend(decided) {",
                "if self.hold.extend(self.store.clock().now()) {",
            ),
        ],
    ),
    library(
        "no-contender-margin",
        "a contender waits for the TTL and no longer",
        &[edit("src/protocol/expiry.rs", "ttl + ttl / 50 + Duration::from_millis(50)", "ttl")],
    ),
    library(
        "no-holder-margin",
        "a holder relies on its lease for the whole TTL",
        &[edit("src/protocol/expiry.rs", "ttl / 10 * 9", "ttl")],
    ),
    library(
        "nonce-reused",
        "every write of an acquisition carries the same nonce",
        &[
            edit(
                "src/acquire.rs",
                "nonce: self.store().nonce(),",
                "nonce: self.id.to_string().replace('-', \"\").parse().expect(\"is hexadecimal\"),",
            ),
            edit(
                "src/keeper/entry.rs",
                "let (nonce, decided) = (self.store.nonce(), self.store.clock().now());",
                "let nonce = self.own.id.to_string().replace('-', \"\").parse();
            let (nonce, decided) = (nonce.expect(\"is hexadecimal\"), self.store.clock().now());",
            ),
        ],
    ),
    library(
        "release-by-delete",
        "a release deletes the record",
        &[
            edit(
                "src/keeper/entry.rs",
                "            let patience = Patience { until, ..self.patience(u32::MAX) };\n",
                "            if matches!(how, End::Release) {
                self.store.delete(&self.key, self.request_timeout).await;
                return Ok(Last::Landed);
            }
            let patience = Patience { until, ..self.patience(u32::MAX) };\n",
            ),
        ],
    ),
    library(
        "renewal-recreates",
        "a renewal that finds no record makes one",
        &[edit(
            "src/keeper/entry.rs",
            "                Swap::Conflict(read) => {
                    if let Some(reason) = self.adopt(*read, record.lease(self.own.id)) {
                        return Err(self.lose(reason));
                    }
                }
                Swap::Unknown(error) => {",
            "                Swap::Conflict(read) if matches!(read.content, Content::Absent) => {
                    let patience = self.patience(1);
                    let made = self.store.swap(&self.key, None, &record, patience).await?;
                    if let Swap::Won { version } = made {
                        self.own = self.own.having_written(record.lease(self.own.id));
                        (self.record, self.version) = (*record, version);
                        return Ok(decided);
                    }
                }
                Swap::Conflict(read) => {
                    if let Some(reason) = self.adopt(*read, record.lease(self.own.id)) {
                        return Err(self.lose(reason));
                    }
                }
                Swap::Unknown(error) => {",
        )],
    ),
    library(
        "timer-from-send",
        "a contender's timer starts when the read is sent",
        &[edit(
            "src/store/mod.rs",
            "        let answer = self.requests.get(key, if_none_match, kind.max_bytes(), limit).await;
        let received = self.clock.now().boot;",
            "        let received = self.clock.now().boot;
        let answer = self.requests.get(key, if_none_match, kind.max_bytes(), limit).await;",
        )],
    ),
    library(
        "timer-not-reset",
        "a renewal does not restart a contender's timer",
        &[edit(
            "src/protocol/expiry.rs",
            "(seen.id, seen.token, seen.renewals) == (lease.id, lease.token, lease.renewals)",
            "let _ = seen.renewals;
                (seen.id, seen.token) == (lease.id, lease.token)",
        )],
    ),
    library(
        "belief-until-release-acknowledged",
        "a holder relies on its lease until its release is acknowledged",
        &[edit(
            "src/guard.rs",
            "        if let Err(reason) = self.hold.begin_release() {
            return Ok(Release::AlreadyLost(reason));
        }
        let (done, answer) = oneshot::channel();
        self.keeping.order_here(Command::Release { done: Some(done), after: None });
        answer.await.unwrap_or(Ok(Release::Unconfirmed))",
            "        let (done, answer) = oneshot::channel();
        self.keeping.order_here(Command::Release { done: Some(done), after: None });
        let answer = answer.await.unwrap_or(Ok(Release::Unconfirmed));
        let _ = self.hold.begin_release();
        answer",
        )],
    ),
    library(
        "token-reset",
        "a new record starts from token 1",
        &[edit(
            "src/acquire/start.rs",
            "    u64::try_from(at_most.micros()).ok().and_then(FencingToken::new).ok_or_else(|| {",
            "    u64::try_from(at_most.micros() * 0).ok().and_then(FencingToken::new).ok_or_else(|| {",
        )],
    ),
    store("reused-etag", "equal content has equal ETags"),
    store("ignored-if-match", "the store ignores If-Match"),
    library(
        "no-store-clock-margin",
        "the store's clock is believed to the second",
        &[edit(
            "src/store/probe.rs",
            "            Self::Answers | Self::Probe(_) => RESOLUTION + TOLERANCE,",
            "            Self::Answers | Self::Probe(_) => Duration::ZERO * { let _ = TOLERANCE; 1 },",
        )],
    ),
    library(
        "door-left-open",
        "an acquisition is given up without looking after its doubtful write",
        &[edit(
            "src/acquire/door.rs",
            "        let doubt = self.doubt.take();",
            "        self.doubt = None;
        if !self.queued {
            return;
        }
        let doubt = self.doubt.take();",
        )],
    ),
    library(
        "late-answer-revives",
        "a late answer to a renewal revives a lease that was lost",
        &[edit(
            "src/hold.rs",
            "            if !state.is_live() {
                return false;
            }
            telemetry::renewed();",
            "            if matches!(state.phase, LeasePhase::Released) {
                return false;
            }
            telemetry::renewed();",
        )],
    ),
    library(
        "extended-without-answer",
        "a renewal without an answer extends the lease",
        &[edit(
            "src/keeper/entry.rs",
            "                    self.own.unresolved = true;
                    return Err(error);",
            "                    self.own.unresolved = true;
                    self.hold.extend(self.store.clock().now());
                    return Err(error);",
        )],
    ),
    library(
        "first-write-forgotten",
        "a contender forgets when it first wrote when a later write of its own is refused",
        &[edit(
            "src/acquire.rs",
            "                // What refused it may be an earlier write of ours: the view tells.
                self.outage.over();",
            "                self.settled();
                self.first_sent = None;",
        )],
    ),
    library(
        "identity-kept",
        "an acquisition that may have been in the record and put out goes on under the same id",
        &[edit(
            "src/acquire/view.rs",
            "        if self.first_sent.take().is_some() {",
            "        if self.first_sent.take().is_some() && false {",
        )],
    ),
    library(
        "result-ignored",
        "work is run again although its result is on record",
        &[edit(
            "src/protocol/lock.rs",
            "is_some_and(|done| !is_past(done, evidence.store))",
            "is_some_and(|done| false && !is_past(done, evidence.store))",
        )],
    ),
    library(
        "result-of-anybody",
        "a result is recorded whoever runs the work by now",
        &[edit(
            "src/protocol/once.rs",
            "let Some(lease) = entry(&mut record, own) else {",
            "let Some(lease) = record.holders.first_mut() else {
        let _ = entry;",
        )],
    ),
    library(
        "no-retention-margin",
        "a result is past to the second of the store's clock",
        &[edit(
            "src/protocol/expiry.rs",
            "retention.saturating_add(store.margin)",
            "retention",
        )],
    ),
    library(
        "several-stand-on-one",
        "several locks are held for as long as one of them is",
        &[edit("src/all.rs", "needed: members.len(),", "needed: 1,")],
    ),
    library(
        "arrival-counts-again",
        "a member that arrives again counts again",
        &[edit(
            "src/protocol/gathering.rs",
            "if gathering.has(arrival.member) {",
            "if false && gathering.has(arrival.member) {",
        )],
    ),
    library(
        "refused-arrival-believed",
        "a refused arrival is believed to count",
        &[edit(
            "src/gathering.rs",
            "                            view = self.contend(other, &mut contention).await?
                        }
                        Written::Failed => view = self.look().await?,
                    }
                }
            }",
            "                            return Ok(self.settled(other, false));
                        }
                        Written::Failed => view = self.look().await?,
                    }
                }
            }",
        )],
    ),
    library(
        "arrivals-carried-over",
        "who has arrived in an epoch is taken over into the next",
        &[edit("src/record/gathering.rs", "self.arrived.clear();", "self.arrived.truncate(1);")],
    ),
    library(
        "any-end-is-an-opening",
        "whatever follows a latch's epoch is taken for its opening",
        &[edit(
            "src/protocol/gathering.rs",
            "let all = passed == present - seen.epoch;",
            "let all = passed < u64::MAX;",
        )],
    ),
    library(
        "claim-skipped",
        "a holder does not put its token on an object before it reads it for change",
        &[edit(
            "src/fencing/fence.rs",
            "                Claim::Write(stamp) => stamp,",
            "                Claim::Write(_) if found.is_some() => {
                    return Ok(self.claimed(path, found.ok_or_else(internal)?));
                }
                Claim::Write(stamp) => stamp,",
        )],
    ),
    library(
        "no-padding",
        "a claim changes nothing but metadata where ETags are digests of bodies",
        &[edit(
            "src/store/objects.rs",
            "mark.filter(|_| new.pad && self.e_tags == ETags::OfBodies)",
            "mark.filter(|_| false && new.pad && self.e_tags == ETags::OfBodies)",
        )],
    ),
    library(
        "marks-ignored",
        "a write that landed and was superseded is taken for one that was refused",
        &[edit(
            "src/protocol/fencing.rs",
            "    if marks.contains(&mark) {",
            "    if false && marks.contains(&mark) {",
        )],
    ),
    library(
        "session-not-ended",
        "what is held under a session that has run out is taken without ending it first",
        &[edit(
            "src/protocol/queue.rs",
            "Some(Standing::Open(Verdict::Expired(_))) => Err(Unclear::End(session)),",
            "Some(Standing::Open(Verdict::Expired(_))) => Ok(None),",
        )],
    ),
    library(
        "session-changed-while-waiting",
        "who has lost its session goes on waiting by its old ticket, and holds under a new session",
        &[
            edit(
                "src/acquire/sessions.rs",
                "        self.begin_anew();
        Ok(())",
                "        self.session = None;
        Ok(())",
            ),
            edit(
                "src/acquire.rs",
                "under == Some(session.id) && session.hold.is_held()",
                "under.is_some() && session.hold.is_held()",
            ),
        ],
    ),
    library(
        "lease-under-session-by-time",
        "what is held under a session is judged by the time since it was acquired",
        &[edit(
            "src/protocol/queue.rs",
            "            Some(session) => match standing(session, evidence) {",
            "            Some(session) if false => match standing(session, evidence) {",
        ), edit(
            "src/protocol/queue.rs",
            "            None => match judge(lease, evidence) {",
            "            _ => match judge(lease, evidence) {",
        )],
    ),
    library(
        "break-without-session",
        "an operator puts out who holds under a session without ending that",
        &[edit(
            "src/admin.rs",
            "                    end_session(client, session).await?;",
            "                    let _ = (&session, end_session);",
        )],
    ),
    library(
        "session-ended-while-used",
        "a session that the process shares is ended although something is held under it",
        &[edit(
            "src/session/implied.rs",
            "            Some(open) if Arc::strong_count(open) == 1 || !open.hold.is_live() => {
                present.take();",
            "            Some(open) => {
                open.hold.end(crate::hold::LossReason::SessionClosed);
                present.take();",
        )],
    ),
    library(
        "loss-of-session-unheard",
        "a guard does not hear that its session is lost",
        &[edit(
            "src/hold.rs",
            "LeasePhase::Lost(reason) => return Some(reason.clone()),
                LeasePhase::Released => return",
            "LeasePhase::Lost(_) => {}
                LeasePhase::Released => return",
        )],
    ),
    library(
        "loss-beside-another-change-unheard",
        "who hears of a change of its own does not hear of its session's loss just before that",
        &[edit(
            "src/hold.rs",
            "        let Seen { session, .. } = self.seen();
        self.settle();",
            "        let Seen { session, .. } = self.seen();",
        )],
    ),
    library(
        "token-not-advanced-on-local-hand-over",
        "a lease is handed on inside a process under the token that it had",
        &[edit("src/protocol/handover.rs", "        self.last = self.last.next();\n", "")],
    ),
    library(
        "block-not-reserved",
        "tokens are handed on inside a process that no write has reserved",
        &[edit(
            "src/protocol/handover.rs",
            "        if self.last >= self.reserved {",
            "        if false && self.last >= self.reserved {",
        )],
    ),
    library(
        "failed-reservation-believed",
        "tokens are handed on inside a process although the write failed that was to reserve them",
        &[edit(
            "src/keeper.rs",
            "done.has(result.is_ok().then(|| Reserved::by(&self.record)));",
            "let mut reserved = Reserved::by(&self.record);
                if result.is_err() {
                    reserved.up_to = reserved.up_to.plus(more);
                }
                done.has(Some(reserved));",
        )],
    ),
    library(
        "turn-without-end",
        "a process keeps a lock for as long as somebody in it wants it",
        &[edit(
            "src/protocol/handover.rs",
            "let over = now.since(self.began) >= TURN;",
            "let over = now.since(self.began) >= TURN * 1000;",
        )],
    ),
    library(
        "lease-handed-on-after-it-was-lost",
        "a lease is handed on inside a process although it was lost",
        &[edit(
            "src/local/bench.rs",
            "        if !lease.hold().is_held() {",
            "        if false && !lease.hold().is_held() {",
        )],
    ),
    library(
        "lease-counted-from-hand-over",
        "whoever a lease is handed on to counts it from then",
        &[edit(
            "src/hold.rs",
            "            session: Some(Arc::clone(lease)),
            told: Told::Holding,",
            "            session: None,
            told: Told::Holding,",
        )],
    ),
    library(
        "queue-not-told-of-loss",
        "whoever waits in a process is not told that the lease is lost that is to be handed on",
        &[edit("src/local/bench.rs", "    ended.await;", "    ended.await;\n    std::mem::forget(watching);")],
    ),
    library(
        "hand-over-without-token",
        "a release hands over without a new token",
        &[edit(
            "src/protocol/queue.rs",
            "        record.token = record.token.next();\n",
            "",
        )],
    ),
    library(
        "readers-pass-writers",
        "readers enter past writers that wait",
        &[edit(
            "src/protocol/queue.rs",
            "    for index in (0..own.unwrap_or(record.waiters.len())).rev() {",
            "    for index in (0..own.unwrap_or(record.waiters.len())).rev() {
        if found.kind == Kind::RwLock && want.mode == Mode::Shared {
            break;
        }",
        )],
    ),
    library(
        "permits-not-counted",
        "permits are not counted",
        &[edit(
            "src/protocol/queue.rs",
            "            return held <= u64::from(self.limit) && self.holders.len() < MAX_HOLDERS;",
            "            return held > 0 && self.holders.len() < MAX_HOLDERS;",
        )],
    ),
    library(
        "writers-beside-readers",
        "a writer enters beside readers",
        &[edit(
            "src/protocol/queue.rs",
            "let all_share = beside(mode) && self.holders",
            "let all_share = self.holders",
        )],
    ),
    library(
        "dead-waiters-kept",
        "a waiter whose session has ended keeps its place in the queue",
        &[edit(
            "src/protocol/queue.rs",
            "            Ok(None) => drop(record.waiters.remove(index)),",
            "            Ok(None) => return WayIn::Closed { record, until: evidence.now.boot },",
        )],
    ),
    library(
        "ticket-left",
        "who gives up leaves its ticket in the queue",
        &[edit(
            "src/acquire.rs",
            "        self.doubt.is_some() || self.queued",
            "        self.doubt.is_some()",
        )],
    ),
    library(
        "limit-under-session-ignored",
        "what is lost to a limit of its own stays on record under its session",
        &[edit("src/hold.rs", "self.max_hold.is_some() || self.progress_within.is_some()", "false")],
    ),
    library(
        "downgrade-without-readers",
        "a writer that becomes a reader stays a writer on record",
        &[edit(
            "src/protocol/lock.rs",
            "    lease.mode = Mode::Shared;",
            "    let _ = &mut lease.mode;",
        )],
    ),
    library(
        "quorum-without-read-phase",
        "a token is proposed to several stores by what is known without asking them",
        &[edit(
            "src/quorum/round.rs",
            "let told = self.seats.iter().flatten().filter_map(Report::floor);",
            "let told = self.seats.iter().flatten().filter_map(Report::floor).take(0);",
        )],
    ),
    library(
        "quorum-votes-for-any-token",
        "one of several stores votes for a token although it has issued that or a larger one",
        &[
            edit(
                "src/acquire/member.rs",
                "this.decide_by(&seen, proposed, acquire).await;
            let written = match decision {",
                "this.decide_by(&seen, proposed, |found, evidence, intent| {
                    join(found, evidence, intent, proposed.next())
                }).await;
            let written = match decision {",
            ),
            edit(
                "src/acquire/member.rs",
                "takeover } if is_vote(&record, proposed) => {",
                "takeover } if { let _ = is_vote; true } => {",
            ),
        ],
    ),
    library(
        "quorum-of-a-minority",
        "a lock over several stores is held with fewer than half of them",
        &[edit("src/quorum/mod.rs", "self.members.len() / 2 + 1\n", "self.members.len() / 2\n")],
    ),
    library(
        "quorum-stands-on-one",
        "a lock over several stores is held for as long as one of them is",
        &[
            edit("src/hold/parts.rs", "if left < self.needed &&", "if left == 0 &&"),
            edit(
                "src/hold/parts.rs",
                "readings[..self.needed].iter()",
                "readings[..self.needed.min(readings.len())].iter()",
            ),
        ],
    ),
    library(
        "quorum-votes-kept",
        "who did not get a majority keeps the stores that it got",
        &[edit(
            "src/quorum/contest.rs",
            "            // Entries of ours would be in the way of the next round.
            self.give_back(guards).await?;",
            "            std::mem::forget(guards);",
        )],
    ),
];
