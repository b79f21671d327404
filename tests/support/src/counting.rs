//! A store that counts what is asked of it, holds writes back, and fails when told to.

use std::fmt;
use std::ops::{Range, Sub};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use tokio::sync::watch;

/// How often a store was asked for what. Refused and failed requests count as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads without a condition (ranges and heads too).
    pub gets: u64,
    /// Reads with `if_none_match`, `if_match` or a date.
    pub conditional_gets: u64,
    /// Conditional reads answered with "not modified".
    pub not_modified: u64,
    /// Writes that may only create.
    pub creates: u64,
    /// Writes that may only replace one version.
    pub updates: u64,
    /// Writes without a condition (copies and multipart uploads too).
    pub overwrites: u64,
    /// Deleted keys.
    pub deletes: u64,
    /// Listings.
    pub lists: u64,
}

impl Counts {
    /// Every read.
    pub fn reads(&self) -> u64 {
        self.gets + self.conditional_gets
    }

    /// Every write, without the deletions.
    pub fn writes(&self) -> u64 {
        self.creates + self.updates + self.overwrites
    }

    /// Every request.
    pub fn total(&self) -> u64 {
        self.reads() + self.writes() + self.deletes + self.lists
    }
}

impl Sub for Counts {
    type Output = Self;

    /// What came in between. Saturates when the counters were reset in between.
    fn sub(self, earlier: Self) -> Self {
        Self {
            gets: self.gets.saturating_sub(earlier.gets),
            conditional_gets: self.conditional_gets.saturating_sub(earlier.conditional_gets),
            not_modified: self.not_modified.saturating_sub(earlier.not_modified),
            creates: self.creates.saturating_sub(earlier.creates),
            updates: self.updates.saturating_sub(earlier.updates),
            overwrites: self.overwrites.saturating_sub(earlier.overwrites),
            deletes: self.deletes.saturating_sub(earlier.deletes),
            lists: self.lists.saturating_sub(earlier.lists),
        }
    }
}

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailKind {
    /// Nothing is written; a generic error, as from a timeout.
    BeforeGeneric,
    /// Written if its condition holds; then a generic error all the same.
    AfterGeneric,
    /// Written if its condition holds; then "already exists", as a client that sends again gets
    /// about its own write.
    AfterAlreadyExists,
    /// Written if its condition holds; then "precondition failed", as a client that sends again
    /// gets about its own write.
    AfterPrecondition,
    /// Nothing is written; "already exists", as object_store makes of a 409 from S3, although
    /// there may be nothing.
    BeforeConflict409,
    /// Nothing is written; "permission denied".
    BeforeDenied,
    /// Nothing is written; "not supported".
    BeforeNotSupported,
}

type Hook = dyn Fn(&Path, &PutOptions, &[u8]) + Send + Sync;

/// What is held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Gate {
    puts: bool,
    answers: bool,
}

/// A write whose caller gave up while it was held back.
#[derive(Debug)]
struct Abandoned {
    path: Path,
    payload: PutPayload,
    options: PutOptions,
}

#[derive(Default)]
struct State {
    counts: Counts,
    fail_puts: u64,
    fail_kind: Option<FailKind>,
    fail_gets: bool,
    racy: bool,
    hook: Option<Arc<Hook>>,
    abandoned: Vec<Abandoned>,
}

struct Shared {
    inner: Arc<dyn ObjectStore>,
    state: Mutex<State>,
    gate: watch::Sender<Gate>,
    /// Writes waiting at either gate.
    waiting: watch::Sender<usize>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wraps a store; clones share everything, so a test keeps one and gives another away.
#[derive(Clone)]
pub struct CountingStore {
    shared: Arc<Shared>,
    ignored: Option<Arc<str>>,
}

impl fmt::Debug for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountingStore")
            .field("inner", &self.shared.inner)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CountingStore({})", self.shared.inner)
    }
}

impl CountingStore {
    /// Counts what `inner` is asked.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            shared: Arc::new(Shared {
                inner,
                state: Mutex::default(),
                gate: watch::Sender::new(Gate::default()),
                waiting: watch::Sender::new(0),
            }),
            ignored: None,
        }
    }

    /// Counts what a new store in memory is asked.
    pub fn in_memory() -> Self {
        Self::new(Arc::new(object_store::memory::InMemory::new()))
    }

    /// Lets everything about keys that contain this text past: not counted, not held back, not
    /// failed, not shown to the hook. For this handle and its later clones.
    #[must_use]
    pub fn ignoring(mut self, text: &str) -> Self {
        self.ignored = Some(text.into());
        self
    }

    /// A handle as the library takes it.
    pub fn as_store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.clone())
    }

    /// The counts since the start or the last [`CountingStore::reset`].
    pub fn counts(&self) -> Counts {
        self.shared.state().counts
    }

    /// From now on, checks the condition of a write first and writes a little later: what some
    /// stores do that honour conditions, but not atomically.
    pub fn break_atomicity(&self) {
        self.shared.state().racy = true;
    }

    async fn without_atomicity(
        &self,
        location: &Path,
        mut options: PutOptions,
    ) -> Result<PutOptions> {
        if !self.shared.state().racy {
            return Ok(options);
        }
        let found = self.shared.inner.head(location).await.ok().and_then(|meta| meta.e_tag);
        match &options.mode {
            PutMode::Create if found.is_some() => return Err(already_exists(location)),
            PutMode::Update(expected) if found != expected.e_tag => {
                let (path, source) = (location.to_string(), "another version".into());
                return Err(Error::Precondition { path, source });
            }
            _ => options.mode = PutMode::Overwrite,
        }
        tokio::task::yield_now().await;
        Ok(options)
    }

    /// How many handles there are, this one included: who still holds on to the store.
    pub fn handles(&self) -> usize {
        Arc::strong_count(&self.shared)
    }

    /// Sets the counts to zero.
    pub fn reset(&self) {
        self.shared.state().counts = Counts::default();
    }

    /// Shows every write to this function before anything else happens to it. It must not wait.
    pub fn on_put(&self, hook: impl Fn(&Path, &PutOptions, &[u8]) + Send + Sync + 'static) {
        self.shared.state().hook = Some(Arc::new(hook));
    }

    /// From now on a write waits before it is forwarded, until [`CountingStore::release_puts`].
    pub fn hold_puts(&self) {
        self.shared.gate.send_modify(|gate| gate.puts = true);
    }

    /// From now on a write is forwarded at once and its answer waits until
    /// [`CountingStore::release_puts`].
    pub fn hold_put_answers(&self) {
        self.shared.gate.send_modify(|gate| gate.answers = true);
    }

    /// Lets every held write and answer go, and holds no more. Writes that were abandoned while
    /// held are not forwarded: see [`CountingStore::land_abandoned`].
    pub fn release_puts(&self) {
        self.shared.gate.send_replace(Gate::default());
    }

    /// How many writes or answers are being held.
    pub fn held(&self) -> usize {
        *self.shared.waiting.borrow()
    }

    /// Waits until at least `n` writes or answers are being held.
    pub async fn wait_for_held(&self, n: usize) {
        let mut waiting = self.shared.waiting.subscribe();
        // The sender lives as long as this handle.
        let _ = waiting.wait_for(|held| *held >= n).await;
    }

    /// How many writes were given up by their caller while they were held, and not yet landed.
    pub fn abandoned(&self) -> usize {
        self.shared.state().abandoned.len()
    }

    /// Forwards the writes that were given up by their caller while they were held, in that
    /// order, with the conditions they carry: writes that land late.
    pub async fn land_abandoned(&self) -> Vec<Result<PutResult>> {
        let writes = std::mem::take(&mut self.shared.state().abandoned);
        let mut results = Vec::with_capacity(writes.len());
        for Abandoned { path, payload, options } in writes {
            results.push(self.shared.inner.put_opts(&path, payload, options).await);
        }
        results
    }

    /// The next `n` writes fail like this. Replaces what an earlier call left over.
    pub fn fail_next_puts(&self, n: u64, kind: FailKind) {
        let mut state = self.shared.state();
        state.fail_puts = n;
        state.fail_kind = Some(kind);
    }

    /// While on, every read fails with a generic error.
    pub fn fail_gets(&self, on: bool) {
        self.shared.state().fail_gets = on;
    }

    fn ignores(&self, path: &Path) -> bool {
        self.ignored.as_deref().is_some_and(|text| path.as_ref().contains(text))
    }

    fn ignores_prefix(&self, prefix: Option<&Path>) -> bool {
        prefix.is_some_and(|prefix| self.ignores(prefix))
    }

    fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.shared.state().counts);
    }

    /// Waits at a gate until it opens.
    async fn wait_while(&self, closed: impl Fn(&Gate) -> bool) {
        let mut gate = self.shared.gate.subscribe();
        if !closed(&gate.borrow()) {
            return;
        }
        let _waiting = Waiting::new(&self.shared.waiting);
        // The sender lives as long as this handle.
        let _ = gate.wait_for(|gate| !closed(gate)).await;
    }
}

/// Counts a write as waiting while it lives.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|waiting| *waiting += 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

/// Keeps a held write for [`CountingStore::land_abandoned`] when its caller gives up.
struct Held<'a> {
    shared: &'a Shared,
    write: Option<Abandoned>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(write) = self.write.take() {
            self.shared.state().abandoned.push(write);
        }
    }
}

fn generic(what: &'static str) -> Error {
    Error::Generic { store: "CountingStore", source: what.into() }
}

fn already_exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "a failure on request".into() }
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let inner = &self.shared.inner;
        if self.ignores(location) {
            return inner.put_opts(location, payload, opts).await;
        }
        let (hook, fail) = {
            let mut state = self.shared.state();
            match opts.mode {
                PutMode::Create => state.counts.creates += 1,
                PutMode::Update(_) => state.counts.updates += 1,
                PutMode::Overwrite => state.counts.overwrites += 1,
            }
            let fail = if state.fail_puts > 0 {
                state.fail_puts -= 1;
                state.fail_kind
            } else {
                None
            };
            (state.hook.clone(), fail)
        };
        if let Some(hook) = hook {
            hook(location, &opts, &Bytes::from(payload.clone()));
        }
        match fail {
            Some(FailKind::BeforeGeneric) => return Err(generic("a failure before the write")),
            Some(FailKind::BeforeConflict409) => return Err(already_exists(location)),
            Some(FailKind::BeforeDenied) => {
                let (path, source) = (location.to_string(), "a failure on request".into());
                return Err(Error::PermissionDenied { path, source });
            }
            Some(FailKind::BeforeNotSupported) => {
                return Err(Error::NotSupported { source: "a failure on request".into() });
            }
            _ => {}
        }
        let mut held = Held {
            shared: &self.shared,
            write: Some(Abandoned { path: location.clone(), payload, options: opts }),
        };
        self.wait_while(|gate| gate.puts).await;
        let Some(Abandoned { payload, options, .. }) = held.write.take() else {
            return Err(generic("a write held twice"));
        };
        let options = self.without_atomicity(location, options).await?;
        let result = inner.put_opts(location, payload, options).await;
        self.wait_while(|gate| gate.answers).await;
        match fail {
            Some(FailKind::AfterGeneric) => Err(generic("a failure after the write")),
            Some(FailKind::AfterAlreadyExists) => Err(already_exists(location)),
            Some(FailKind::AfterPrecondition) => Err(Error::Precondition {
                path: location.to_string(),
                source: "a failure on request".into(),
            }),
            _ => result,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if !self.ignores(location) {
            self.count(|counts| counts.overwrites += 1);
        }
        self.shared.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.ignores(location) {
            return self.shared.inner.get_opts(location, options).await;
        }
        let conditional = options.if_match.is_some()
            || options.if_none_match.is_some()
            || options.if_modified_since.is_some()
            || options.if_unmodified_since.is_some();
        let fail = {
            let mut state = self.shared.state();
            if conditional {
                state.counts.conditional_gets += 1;
            } else {
                state.counts.gets += 1;
            }
            state.fail_gets
        };
        if fail {
            return Err(generic("reads fail on request"));
        }
        let result = self.shared.inner.get_opts(location, options).await;
        if matches!(result, Err(Error::NotModified { .. })) {
            self.count(|counts| counts.not_modified += 1);
        }
        result
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if !self.ignores(location) {
            let fail = {
                let mut state = self.shared.state();
                state.counts.gets += 1;
                state.fail_gets
            };
            if fail {
                return Err(generic("reads fail on request"));
            }
        }
        self.shared.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let counted = locations.inspect(move |location| {
            if location.as_ref().is_ok_and(|location| !this.ignores(location)) {
                this.count(|counts| counts.deletes += 1);
            }
        });
        self.shared.inner.delete_stream(counted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if !self.ignores_prefix(prefix) {
            self.count(|counts| counts.lists += 1);
        }
        self.shared.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        if !self.ignores_prefix(prefix) {
            self.count(|counts| counts.lists += 1);
        }
        self.shared.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        if !self.ignores_prefix(prefix) {
            self.count(|counts| counts.lists += 1);
        }
        self.shared.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if !self.ignores(to) {
            self.count(|counts| counts.overwrites += 1);
        }
        self.shared.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::UpdateVersion;

    use super::*;

    fn create() -> PutOptions {
        PutOptions::from(PutMode::Create)
    }

    #[tokio::test]
    async fn counts_each_kind() {
        let store = CountingStore::in_memory().ignoring("probe");
        let path = Path::from("a");
        let put = store.put_opts(&path, "1".into(), create()).await.expect("a new key");
        let again = store.put_opts(&path, "1".into(), create()).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })));
        let e_tag = put.e_tag.clone();
        let version = UpdateVersion { e_tag: put.e_tag, version: put.version };
        let update = PutOptions::from(PutMode::Update(version));
        let put = store.put_opts(&path, "2".into(), update).await.expect("the current version");
        store.put(&path, "2".into()).await.expect("an overwrite");
        store.put(&Path::from("probe/x"), "2".into()).await.expect("an overwrite");
        let meta = store.head(&path).await.expect("the key");
        assert_ne!(meta.e_tag, e_tag);
        assert_ne!(meta.e_tag, put.e_tag);
        let options = GetOptions { if_none_match: meta.e_tag, ..Default::default() };
        let unchanged = store.get_opts(&path, options).await;
        assert!(matches!(unchanged, Err(Error::NotModified { .. })));
        assert_eq!(store.list(None).count().await, 2);
        let before = store.counts();
        store.delete(&path).await.expect("the key");
        let deletes = Counts { deletes: 1, ..Default::default() };
        assert_eq!(store.counts() - before, deletes);
        let expected = Counts {
            gets: 1,
            conditional_gets: 1,
            not_modified: 1,
            creates: 2,
            updates: 1,
            overwrites: 1,
            deletes: 1,
            lists: 1,
        };
        assert_eq!(store.counts(), expected);
        assert_eq!((expected.reads(), expected.writes(), expected.total()), (2, 4, 8));
        store.reset();
        assert_eq!(store.counts(), Counts::default());
    }

    #[tokio::test]
    async fn fails_before_and_after() {
        let store = CountingStore::in_memory();
        for (name, kind, written) in [
            ("a", FailKind::BeforeGeneric, false),
            ("b", FailKind::AfterGeneric, true),
            ("c", FailKind::AfterAlreadyExists, true),
            ("d", FailKind::AfterPrecondition, true),
            ("e", FailKind::BeforeConflict409, false),
        ] {
            store.fail_next_puts(1, kind);
            let path = Path::from(name);
            let error = store.put_opts(&path, "1".into(), create()).await.expect_err("a failure");
            let fits = match kind {
                FailKind::BeforeGeneric | FailKind::AfterGeneric => {
                    matches!(error, Error::Generic { .. })
                }
                FailKind::AfterPrecondition => matches!(error, Error::Precondition { .. }),
                _ => matches!(error, Error::AlreadyExists { .. }),
            };
            assert!(fits, "{kind:?}: {error}");
            assert_eq!(store.head(&path).await.is_ok(), written, "{kind:?}");
        }
        store.put_opts(&Path::from("f"), "1".into(), create()).await.expect("no more failures");
        store.fail_gets(true);
        assert!(store.get(&Path::from("f")).await.is_err());
        store.fail_gets(false);
        assert!(store.get(&Path::from("f")).await.is_ok());
    }

    #[tokio::test]
    async fn holds_writes_and_answers() {
        let store = CountingStore::in_memory();
        let path = Path::from("a");
        let put = |store: &CountingStore| {
            let (store, path) = (store.clone(), path.clone());
            tokio::spawn(async move { store.put(&path, "1".into()).await })
        };
        store.hold_puts();
        let held = put(&store);
        store.wait_for_held(1).await;
        assert!(store.head(&path).await.is_err());
        store.release_puts();
        held.await.expect("no panic").expect("a write");
        assert!(store.head(&path).await.is_ok());
        assert_eq!(store.held(), 0);

        store.delete(&path).await.expect("the key");
        store.hold_put_answers();
        let held = put(&store);
        store.wait_for_held(1).await;
        assert!(store.head(&path).await.is_ok());
        assert!(!held.is_finished());
        store.release_puts();
        held.await.expect("no panic").expect("a write");
    }

    #[tokio::test]
    async fn a_write_given_up_while_held_lands_late() {
        let store = CountingStore::in_memory();
        let path = Path::from("a");
        store.hold_puts();
        let held = tokio::spawn({
            let (store, path) = (store.clone(), path.clone());
            async move { store.put_opts(&path, "late".into(), create()).await }
        });
        store.wait_for_held(1).await;
        held.abort();
        assert!(held.await.expect_err("aborted").is_cancelled());
        store.release_puts();
        assert_eq!((store.abandoned(), store.held()), (1, 0));
        assert!(store.head(&path).await.is_err());
        assert!(store.land_abandoned().await.remove(0).is_ok());
        let body = store.get(&path).await.expect("the key").bytes().await.expect("its bytes");
        assert_eq!(body, "late");
        assert_eq!(store.abandoned(), 0);
    }

    #[tokio::test]
    async fn shows_each_write() {
        let store = CountingStore::in_memory();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let hook = Arc::clone(&seen);
        store.on_put(move |path, options, bytes| {
            let create = options.mode == PutMode::Create;
            hook.lock().expect("no panic").push((path.to_string(), create, bytes.to_vec()));
        });
        store.put_opts(&Path::from("a"), "xy".into(), create()).await.expect("a new key");
        let seen = seen.lock().expect("no panic");
        assert_eq!(*seen, [("a".to_owned(), true, b"xy".to_vec())]);
    }
}
