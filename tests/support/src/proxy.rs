//! An HTTP/1.1 proxy that misbehaves on request, in front of one store.
//!
//! [`FaultProxy`] runs on a thread and a runtime of its own, so it works in front of any test:
//! one that pauses tokio's time, one that blocks, one without a runtime, one in another process.
//! What it does with each request is decided by a plan, which may be replaced at any time.
//!
//! A request that is to reach the store is forwarded in a task of its own: once sent on its way it
//! lands, whether or not the client is still there to hear about it. [`FaultProxy::in_flight`]
//! counts the ones that have not finished.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// What happens to one request.
///
/// "Commit" means that the request is forwarded and its complete answer awaited, so whatever it
/// did in the store is done before the fault shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Forwarded, and the answer given back as it came.
    Pass,
    /// Forwarded; the answer is thrown away and this status sent instead.
    CommitThenStatus(u16),
    /// Forwarded; then the connection is closed without an answer.
    CommitThenClose,
    /// Forwarded; then the connection is reset (RST).
    CommitThenReset,
    /// Forwarded; the answer is given back only after this long.
    CommitThenDelay(Duration),
    /// Forwarded; the answer's head and a part of its body, then the connection is closed. An
    /// answer that cannot have a body is cut in its head. Clients that do not read the body of a
    /// successful write notice nothing: see [`Fault::CommitThenHalfHead`].
    CommitThenHalfBody,
    /// Forwarded; a part of the answer's head, then the connection is closed.
    CommitThenHalfHead,
    /// Forwarded; then the proxy's side of the connection is closed without an answer, while what
    /// the client goes on sending is still read.
    CommitThenHalfClose,
    /// Not forwarded: this status is sent, with an error body as S3 writes them.
    Status(u16),
    /// Not forwarded: the connection is closed.
    CloseBefore,
    /// Not forwarded: the connection is reset (RST).
    ResetBefore,
    /// Forwarded only after this long, even when the client is gone by then: a write that lands
    /// late.
    DelayBefore(Duration),
    /// Forwarded without its preconditions (`If-Match`, `If-None-Match`, `If-Modified-Since`,
    /// `If-Unmodified-Since`, `x-goog-if-generation-match`, `ifGenerationMatch=`): a store that
    /// ignores them. Only in front of a store that does not verify signatures: these headers are
    /// signed.
    StripPreconditions,
    /// Forwarded; the answer is given back without this header.
    StripResponseHeader(&'static str),
    /// Forwarded; the answer is given back with this header, which replaces one of the same name.
    AddResponseHeader(&'static str, String),
    /// Forwarded twice, one after the other; the second answer is given back: a load balancer
    /// that sends again.
    Twice,
}

impl Fault {
    /// The variant's name, as the log has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pass => "Pass",
            Self::CommitThenStatus(_) => "CommitThenStatus",
            Self::CommitThenClose => "CommitThenClose",
            Self::CommitThenReset => "CommitThenReset",
            Self::CommitThenDelay(_) => "CommitThenDelay",
            Self::CommitThenHalfBody => "CommitThenHalfBody",
            Self::CommitThenHalfHead => "CommitThenHalfHead",
            Self::CommitThenHalfClose => "CommitThenHalfClose",
            Self::Status(_) => "Status",
            Self::CloseBefore => "CloseBefore",
            Self::ResetBefore => "ResetBefore",
            Self::DelayBefore(_) => "DelayBefore",
            Self::StripPreconditions => "StripPreconditions",
            Self::StripResponseHeader(_) => "StripResponseHeader",
            Self::AddResponseHeader(..) => "AddResponseHeader",
            Self::Twice => "Twice",
        }
    }
}

/// What a plan sees of a request.
#[derive(Clone, Debug)]
pub struct RequestView {
    /// The method, upper case.
    pub method: String,
    /// The path as sent (percent-encoded), without the query.
    pub path: String,
    /// The query without its `?`; empty when there is none.
    pub query: String,
    /// The headers in the order they came.
    pub headers: Vec<(String, String)>,
    /// Whether this is a PUT or POST that carries a precondition.
    pub is_conditional_put: bool,
    /// The request's number since the proxy started, from 1.
    pub seq: u64,
    /// For a PUT or POST: its number among those to the same object, from 1. Otherwise 0.
    pub put_seq: u64,
}

impl RequestView {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Whether this is a PUT or POST.
    pub fn is_put(&self) -> bool {
        matches!(self.method.as_str(), "PUT" | "POST")
    }

    /// Whether this is a GET or HEAD.
    pub fn is_get(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD")
    }
}

/// One line of the log: a request that has been dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The method, upper case.
    pub method: String,
    /// The path as sent, without the query.
    pub path: String,
    /// The status sent to the client; `None` when it got no status.
    pub status: Option<u16>,
    /// The status the store answered; `None` when it was not asked or did not answer.
    pub upstream: Option<u16>,
    /// The fault's name ([`Fault::name`]), or `Refused`.
    pub fault: &'static str,
    /// Whether it was a PUT or POST with a precondition.
    pub conditional: bool,
}

type Plan = dyn Fn(&RequestView) -> Fault + Send + Sync;

/// How many entries the log keeps; older ones are dropped.
const LOG_LIMIT: usize = 100_000;
/// How much of a head is read before the message is given up.
const HEAD_LIMIT: usize = 256 * 1024;
/// How long a connection to the store is kept for the next request: shorter than any server's own
/// limit, so that none is used just as the server closes it.
const KEEP_UPSTREAM: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Numbers {
    requests: u64,
    by_method: HashMap<String, u64>,
    puts: HashMap<String, u64>,
}

struct Shared {
    upstream: SocketAddr,
    plan: Mutex<Arc<Plan>>,
    log: Mutex<VecDeque<Entry>>,
    numbers: Mutex<Numbers>,
    connections: AtomicU64,
    in_flight: AtomicU64,
    refusing: AtomicBool,
    cut: watch::Sender<u64>,
    kept: Mutex<Vec<(TcpStream, SystemTime)>>,
}

/// An HTTP/1.1 proxy on a free loopback port in front of one store. Dropping it closes the port
/// and every connection.
pub struct FaultProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy")
            .field("addr", &self.addr)
            .field("upstream", &self.shared.upstream)
            .finish_non_exhaustive()
    }
}

impl FaultProxy {
    /// Starts a proxy in front of `upstream`; it passes everything until a plan says otherwise.
    ///
    /// # Panics
    /// When no loopback port or thread is to be had.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .expect("a free loopback port for the proxy");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let addr = listener.local_addr().expect("the proxy's own address");
        let shared = Arc::new(Shared {
            upstream,
            plan: Mutex::new(Arc::new(|_: &RequestView| Fault::Pass)),
            log: Mutex::default(),
            numbers: Mutex::default(),
            connections: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            refusing: AtomicBool::new(false),
            cut: watch::Sender::new(0),
            kept: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime for the proxy");
        let accepting = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("fault-proxy".into())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        _ = stopped => {}
                        () = accept(listener, accepting) => {}
                    }
                });
            })
            .expect("a thread for the proxy");
        Self { addr, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Starts a proxy in front of the store that `url` names, and gives the URL that goes through
    /// it.
    ///
    /// # Panics
    /// When the URL names no loopback address.
    #[track_caller]
    pub fn in_front_of(url: &str) -> (Self, String) {
        let upstream = Self::upstream_of(url).expect("a store URL with a loopback endpoint in it");
        let proxy = Self::start(upstream);
        let through = proxy.rewrite(url);
        (proxy, through)
    }

    /// The address the proxy listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address the proxy forwards to.
    pub fn upstream(&self) -> SocketAddr {
        self.shared.upstream
    }

    /// The store URL with the proxy's address in place of the store's, wherever and however
    /// percent-encoded it appears.
    ///
    /// # Panics
    /// When the store's address is not in the URL: the test would go past the proxy.
    #[track_caller]
    pub fn rewrite(&self, url: &str) -> String {
        let upstream = self.shared.upstream;
        let mut out = String::with_capacity(url.len() + 8);
        let mut copied = 0;
        for place in addresses(url) {
            if place.addr.port() == upstream.port() {
                out.push_str(&url[copied..place.range.start]);
                out.push_str(&format!("{}{}{}", self.addr.ip(), place.colon, self.addr.port()));
                copied = place.range.end;
            }
        }
        assert!(copied > 0, "the store URL does not contain the proxied address {upstream}");
        out.push_str(&url[copied..]);
        out
    }

    /// The first loopback address (`127.0.0.1:port` or `localhost:port`, percent-encoded or not)
    /// in a store URL.
    pub fn upstream_of(url: &str) -> Option<SocketAddr> {
        addresses(url).first().map(|place| place.addr)
    }

    /// Decides every request from now on by this function. It runs on the proxy's only thread: it
    /// must not wait.
    pub fn plan(&self, plan: impl Fn(&RequestView) -> Fault + Send + Sync + 'static) {
        *lock(&self.shared.plan) = Arc::new(plan);
    }

    /// Passes everything from now on.
    pub fn pass(&self) {
        self.plan(|_| Fault::Pass);
    }

    /// The `n`-th conditional write from now (the next one is 1) gets this fault; everything else
    /// passes.
    ///
    /// # Panics
    /// When `n` is 0.
    #[track_caller]
    pub fn on_put(&self, n: u64, fault: Fault) {
        assert!(n > 0, "conditional writes are counted from 1");
        let seen = AtomicU64::new(0);
        self.plan(move |request| {
            if request.is_conditional_put && seen.fetch_add(1, Ordering::SeqCst) + 1 == n {
                fault.clone()
            } else {
                Fault::Pass
            }
        });
    }

    /// Every conditional write gets this fault; everything else passes.
    pub fn on_all_puts(&self, fault: Fault) {
        self.plan(
            move |request| {
                if request.is_conditional_put { fault.clone() } else { Fault::Pass }
            },
        );
    }

    /// Every GET and HEAD (listings too) gets this fault; everything else passes.
    pub fn on_gets(&self, fault: Fault) {
        self.plan(move |request| if request.is_get() { fault.clone() } else { Fault::Pass });
    }

    /// Of a thousand requests of any kind, `per_mille` get one of these faults. The same seed
    /// treats the same sequence of requests alike.
    ///
    /// # Panics
    /// When `faults` is empty.
    #[track_caller]
    pub fn random(&self, seed: u64, per_mille: u32, faults: &[Fault]) {
        assert!(!faults.is_empty(), "no faults to choose from");
        let faults = faults.to_vec();
        let seen = AtomicU64::new(0);
        self.plan(move |_| {
            let drawn = draw(seed, seen.fetch_add(1, Ordering::SeqCst));
            if drawn % 1000 < u64::from(per_mille) {
                faults[(drawn >> 32) as usize % faults.len()].clone()
            } else {
                Fault::Pass
            }
        });
    }

    /// What happened so far, in the order in which it was finished (at most the last 100,000
    /// requests). A request is entered just before its answer is sent.
    pub fn log(&self) -> Vec<Entry> {
        lock(&self.shared.log).iter().cloned().collect()
    }

    /// Empties the log. The counters stay.
    pub fn clear_log(&self) {
        lock(&self.shared.log).clear();
    }

    /// How many requests of this method came since the start.
    pub fn requests(&self, method: &str) -> u64 {
        lock(&self.shared.numbers).by_method.get(method).copied().unwrap_or(0)
    }

    /// How many requests came since the start.
    pub fn total_requests(&self) -> u64 {
        lock(&self.shared.numbers).requests
    }

    /// How many client connections were accepted since the start; refused ones do not count.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many requests are being dealt with: not yet in the log. Counts writes held back by
    /// [`Fault::DelayBefore`] even when their client is gone.
    pub fn in_flight(&self) -> u64 {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    /// Drops every client connection now. Requests already on their way to the store land.
    pub fn cut_all(&self) {
        self.shared.cut.send_modify(|cuts| *cuts += 1);
    }

    /// While on: existing connections are dropped and new ones are reset as soon as they are
    /// made. Requests already on their way to the store land.
    pub fn refuse(&self, on: bool) {
        self.shared.refusing.store(on, Ordering::SeqCst);
        if on {
            self.cut_all();
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A number drawn from a seed and a position: the same for the same two.
pub fn draw(seed: u64, position: u64) -> u64 {
    let mut z = seed.wrapping_add(position.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A time as the `Date` header has it, for [`Fault::AddResponseHeader`].
pub fn http_date(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let secs = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let days = secs / 86_400;
    // Days counted from 0000-03-01, in eras of 400 years.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 2 } else { from_march - 10 };
    let year = year_of_era + era * 400 + u64::from(month < 2);
    let clock = secs % 86_400;
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize],
        clock / 3600,
        clock / 60 % 60,
        clock % 60
    )
}

#[allow(clippy::disallowed_methods, reason = "the proxy lives in real time, outside the library")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[allow(clippy::disallowed_methods, reason = "the proxy lives in real time, outside the library")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A loopback address found in a text.
struct Place {
    range: Range<usize>,
    addr: SocketAddr,
    /// How the colon is written there.
    colon: &'static str,
}

fn addresses(url: &str) -> Vec<Place> {
    let mut found: Vec<Place> = Vec::new();
    for host in ["127.0.0.1", "localhost"] {
        for (start, _) in url.match_indices(host) {
            let rest = &url[start + host.len()..];
            let colon = [":", "%3A", "%3a", "%253A", "%253a"].into_iter();
            let Some(colon) = colon.into_iter().find(|colon| rest.starts_with(colon)) else {
                continue;
            };
            let digits = rest[colon.len()..].bytes().take_while(u8::is_ascii_digit).count();
            let port = &rest[colon.len()..colon.len() + digits];
            if let Ok(port) = port.parse() {
                let range = start..start + host.len() + colon.len() + digits;
                let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
                found.push(Place { range, addr, colon });
            }
        }
    }
    found.sort_by_key(|place| place.range.start);
    found
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("the proxy's listener in its runtime");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or the client was gone already.
            pause(Duration::from_millis(5)).await;
            continue;
        };
        if shared.refusing.load(Ordering::SeqCst) {
            let _ = stream.set_zero_linger();
            continue;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let cut = shared.cut.subscribe();
        tokio::spawn(converse(BufReader::new(stream), Arc::clone(&shared), cut));
    }
}

/// Serves one client connection until either side has had enough.
async fn converse(
    mut client: BufReader<TcpStream>,
    shared: Arc<Shared>,
    mut cut: watch::Receiver<u64>,
) {
    loop {
        let request = tokio::select! {
            biased;
            _ = cut.changed() => return,
            request = read_request(&mut client) => request,
        };
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let answer = made_up(400, None, "").bytes("GET");
                let _ = client.get_mut().write_all(&answer).await;
                return;
            }
            Err(_) => return,
        };
        let last = request.says_close();
        let working = InFlight::new(&shared);
        let view = shared.view(&request);
        let fault = if shared.refusing.load(Ordering::SeqCst) {
            None
        } else {
            let plan = Arc::clone(&lock(&shared.plan));
            Some(plan(&view))
        };
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                let _working = working;
                shared.serve(request, &view, fault).await
            }
        });
        let answer = tokio::select! {
            biased;
            _ = cut.changed() => return,
            answer = task => answer,
        };
        match answer {
            Ok(Answer::Whole(bytes)) => {
                if client.get_mut().write_all(&bytes).await.is_err() || last {
                    return;
                }
            }
            Ok(Answer::Part(bytes)) => {
                let _ = client.get_mut().write_all(&bytes).await;
                return;
            }
            Ok(Answer::HalfClose) => {
                let _ = client.get_mut().shutdown().await;
                let mut nowhere = tokio::io::sink();
                tokio::select! {
                    _ = cut.changed() => {}
                    _ = tokio::io::copy(&mut client, &mut nowhere) => {}
                }
                return;
            }
            Ok(Answer::Reset) => {
                let _ = client.get_mut().set_zero_linger();
                return;
            }
            Ok(Answer::Close) | Err(_) => return,
        }
    }
}

/// Counts a request as being dealt with while it lives.
struct InFlight(Arc<Shared>);

impl InFlight {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.in_flight.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the client gets to see.
enum Answer {
    /// This, and the connection stays open.
    Whole(Vec<u8>),
    /// This, and the connection is closed.
    Part(Vec<u8>),
    /// The connection is closed.
    Close,
    /// Nothing more is sent, but read.
    HalfClose,
    /// The connection is reset.
    Reset,
}

impl Shared {
    fn view(&self, request: &Request) -> RequestView {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let mut view = RequestView {
            method: request.method.clone(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: request.headers.clone(),
            is_conditional_put: false,
            seq: 0,
            put_seq: 0,
        };
        view.is_conditional_put = view.is_put() && request.is_conditional();
        let mut numbers = lock(&self.numbers);
        numbers.requests += 1;
        view.seq = numbers.requests;
        *numbers.by_method.entry(view.method.clone()).or_default() += 1;
        if view.is_put() {
            // An upload to Google's JSON interface names its object in the query.
            let name = query.split('&').find(|pair| pair.starts_with("name=")).unwrap_or("");
            let count = numbers.puts.entry(format!("{path}?{name}")).or_default();
            *count += 1;
            view.put_seq = *count;
        }
        view
    }

    fn record(
        &self,
        view: &RequestView,
        fault: &'static str,
        status: Option<u16>,
        up: Option<u16>,
    ) {
        let mut log = lock(&self.log);
        if log.len() >= LOG_LIMIT {
            log.pop_front();
        }
        log.push_back(Entry {
            method: view.method.clone(),
            path: view.path.clone(),
            status,
            upstream: up,
            fault,
            conditional: view.is_conditional_put,
        });
    }

    async fn serve(
        &self,
        mut request: Request,
        view: &RequestView,
        fault: Option<Fault>,
    ) -> Answer {
        let Some(fault) = fault else {
            self.record(view, "Refused", None, None);
            return Answer::Reset;
        };
        let name = fault.name();
        match fault {
            Fault::Status(status) => {
                self.record(view, name, Some(status), None);
                return Answer::Whole(made_up(status, None, &view.path).bytes(&view.method));
            }
            Fault::CloseBefore => {
                self.record(view, name, None, None);
                return Answer::Close;
            }
            Fault::ResetBefore => {
                self.record(view, name, None, None);
                return Answer::Reset;
            }
            Fault::DelayBefore(time) => pause(time).await,
            Fault::StripPreconditions => request.strip_preconditions(),
            Fault::Twice => {
                let _ = self.forward(&request).await;
            }
            _ => {}
        }
        let Ok(mut response) = self.forward(&request).await else {
            // The store is not there, or went away: so does the connection.
            self.record(view, name, None, None);
            return Answer::Close;
        };
        let upstream = response.status;
        let method = view.method.as_str();
        let (sent, answer) = match fault {
            Fault::CommitThenStatus(status) => {
                let date = header(&response.headers, "date").map(str::to_owned);
                (Some(status), Answer::Whole(made_up(status, date, &view.path).bytes(method)))
            }
            Fault::CommitThenClose => (None, Answer::Close),
            Fault::CommitThenReset => (None, Answer::Reset),
            Fault::CommitThenHalfClose => (None, Answer::HalfClose),
            Fault::CommitThenHalfHead => (None, Answer::Part(response.half_head(method))),
            Fault::CommitThenHalfBody => match response.half_body(method) {
                Some(bytes) => (Some(upstream), Answer::Part(bytes)),
                None => (None, Answer::Part(response.half_head(method))),
            },
            Fault::CommitThenDelay(time) => {
                pause(time).await;
                (Some(upstream), Answer::Whole(response.bytes(method)))
            }
            Fault::StripResponseHeader(unwanted) => {
                response.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(unwanted));
                (Some(upstream), Answer::Whole(response.bytes(method)))
            }
            Fault::AddResponseHeader(added, value) => {
                response.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(added));
                response.headers.push((added.to_owned(), value));
                (Some(upstream), Answer::Whole(response.bytes(method)))
            }
            _ => (Some(upstream), Answer::Whole(response.bytes(method))),
        };
        self.record(view, name, sent, Some(upstream));
        answer
    }

    /// Sends the request to the store and reads the whole answer.
    async fn forward(&self, request: &Request) -> io::Result<Response> {
        let bytes = request.bytes();
        if let Some(stream) = self.kept_connection() {
            match self.exchange(stream, request, &bytes).await {
                // Closed just as it was used. What only reads may be asked again.
                Err(_) if matches!(request.method.as_str(), "GET" | "HEAD") => {}
                result => return result,
            }
        }
        let stream = TcpStream::connect(self.upstream).await?;
        let _ = stream.set_nodelay(true);
        self.exchange(stream, request, &bytes).await
    }

    async fn exchange(
        &self,
        stream: TcpStream,
        request: &Request,
        bytes: &[u8],
    ) -> io::Result<Response> {
        let mut store = BufReader::new(stream);
        store.get_mut().write_all(bytes).await?;
        let (response, reusable) = read_response(&mut store, &request.method).await?;
        if reusable && store.buffer().is_empty() {
            lock(&self.kept).push((store.into_inner(), now()));
        }
        Ok(response)
    }

    fn kept_connection(&self) -> Option<TcpStream> {
        let mut kept = lock(&self.kept);
        while let Some((stream, since)) = kept.pop() {
            let fresh = now().duration_since(since).is_ok_and(|age| age < KEEP_UPSTREAM);
            // Nothing to read and not at its end: the store still has it open.
            let open = stream
                .try_read(&mut [0; 1])
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            if fresh && open {
                return Some(stream);
            }
        }
        None
    }
}

type Headers = Vec<(String, String)>;

struct Request {
    method: String,
    target: String,
    old: bool,
    headers: Headers,
    body: Vec<u8>,
}

const PRECONDITIONS: [&str; 6] = [
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "x-goog-if-generation-match",
    "x-goog-if-metageneration-match",
];

impl Request {
    fn is_conditional(&self) -> bool {
        self.target.contains("ifGenerationMatch=")
            || PRECONDITIONS.iter().any(|name| header(&self.headers, name).is_some())
    }

    fn strip_preconditions(&mut self) {
        self.headers
            .retain(|(name, _)| !PRECONDITIONS.iter().any(|gone| name.eq_ignore_ascii_case(gone)));
        if let Some((path, query)) = self.target.split_once('?') {
            let query: Vec<_> =
                query.split('&').filter(|pair| !pair.starts_with("ifGenerationMatch=")).collect();
            self.target = format!("{path}?{}", query.join("&"));
        }
    }

    fn says_close(&self) -> bool {
        match header(&self.headers, "connection") {
            Some(value) if has_token(value, "close") => true,
            Some(value) if has_token(value, "keep-alive") => false,
            _ => self.old,
        }
    }

    /// As it goes to the store: every header but the ones that belong to the connection.
    fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            if !is_of_connection(name) && !name.eq_ignore_ascii_case("expect") {
                out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        let had_body = header(&self.headers, "content-length").is_some()
            || header(&self.headers, "transfer-encoding").is_some();
        if had_body {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

struct Response {
    status: u16,
    reason: String,
    headers: Headers,
    body: Vec<u8>,
}

impl Response {
    /// The answer's head, announcing a body of this length.
    fn head(&self, method: &str, length: usize) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {} {}\r\n", self.status, self.reason).into_bytes();
        for (name, value) in &self.headers {
            if !is_of_connection(name) {
                out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        if has_body(method, self.status) {
            out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        } else if let Some(length) = header(&self.headers, "content-length") {
            // What the body would be: a HEAD is answered with the object's size.
            if self.status != 204 {
                out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    fn bytes(&self, method: &str) -> Vec<u8> {
        let mut out = self.head(method, self.body.len());
        if has_body(method, self.status) {
            out.extend_from_slice(&self.body);
        }
        out
    }

    fn half_head(&self, method: &str) -> Vec<u8> {
        let mut head = self.head(method, self.body.len());
        head.truncate(head.len() / 2);
        head
    }

    fn half_body(&self, method: &str) -> Option<Vec<u8>> {
        if !has_body(method, self.status) {
            return None;
        }
        let body: &[u8] = if self.body.is_empty() { b"<?xml version=" } else { &self.body };
        let mut out = self.head(method, body.len());
        out.extend_from_slice(&body[..body.len() / 2]);
        Some(out)
    }
}

/// An answer of the proxy's own, as S3 would word it.
fn made_up(status: u16, date: Option<String>, resource: &str) -> Response {
    let (reason, code, message) = match status {
        200 => ("OK", "", ""),
        204 => ("No Content", "", ""),
        304 => ("Not Modified", "", ""),
        400 => ("Bad Request", "InvalidRequest", "The request is not valid."),
        401 => ("Unauthorized", "AccessDenied", "The request is not signed."),
        403 => ("Forbidden", "AccessDenied", "Access Denied"),
        404 => ("Not Found", "NoSuchKey", "The specified key does not exist."),
        408 => ("Request Timeout", "RequestTimeout", "The request was not read in time."),
        409 => (
            "Conflict",
            "ConditionalRequestConflict",
            "The conditional request cannot succeed due to a conflicting operation against this \
             resource.",
        ),
        412 => (
            "Precondition Failed",
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold",
        ),
        429 => ("Too Many Requests", "TooManyRequests", "Please reduce your request rate."),
        500 => (
            "Internal Server Error",
            "InternalError",
            "We encountered an internal error. Please try again.",
        ),
        501 => ("Not Implemented", "NotImplemented", "This is not implemented."),
        502 => ("Bad Gateway", "InternalError", "The store behind the gateway did not answer."),
        503 => ("Service Unavailable", "SlowDown", "Please reduce your request rate."),
        504 => ("Gateway Timeout", "InternalError", "The store did not answer in time."),
        _ => ("Fault", "InternalError", "A fault was asked for."),
    };
    let mut headers = vec![("Date".to_owned(), date.unwrap_or_else(|| http_date(now())))];
    let mut body = Vec::new();
    if !code.is_empty() {
        headers.push(("Content-Type".into(), "application/xml".into()));
        let resource = resource.replace('&', "&amp;").replace('<', "&lt;");
        body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
             <Message>{message}</Message><Resource>{resource}</Resource>\
             <RequestId>fault-proxy</RequestId></Error>"
        )
        .into_bytes();
    }
    Response { status, reason: reason.into(), headers, body }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
}

fn has_token(value: &str, token: &str) -> bool {
    value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Headers that say how a message travels over one connection; written anew on the next.
fn is_of_connection(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
    ];
    NAMES.iter().any(|of| name.eq_ignore_ascii_case(of))
}

fn has_body(method: &str, status: u16) -> bool {
    method != "HEAD" && status >= 200 && status != 204 && status != 304
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// One line without its end; `None` at the end of the stream.
async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut limited = stream.take(HEAD_LIMIT as u64);
    if limited.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        let cut = if line.len() + 1 >= HEAD_LIMIT { "a line too long" } else { "a line cut short" };
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, cut));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

async fn read_headers(stream: &mut BufReader<TcpStream>) -> io::Result<Headers> {
    let mut headers = Vec::new();
    let mut size = 0;
    loop {
        let line = read_line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(headers);
        }
        size += line.len();
        if size > HEAD_LIMIT {
            return Err(malformed("a head too long"));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("a header"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

async fn read_sized(stream: &mut BufReader<TcpStream>, length: u64) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if stream.take(length).read_to_end(&mut body).await? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body)
}

async fn read_chunks(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| malformed("a chunk's size"))?;
        if size == 0 {
            // Trailers, if any, and the empty line.
            read_headers(stream).await?;
            return Ok(body);
        }
        body.extend(read_sized(stream, size).await?);
        read_line(stream).await?;
    }
}

fn length_of(headers: &Headers) -> io::Result<Option<u64>> {
    header(headers, "content-length")
        .map(|length| length.trim().parse().map_err(|_| malformed("a length")))
        .transpose()
}

fn is_chunked(headers: &Headers) -> bool {
    header(headers, "transfer-encoding").is_some_and(|value| has_token(value, "chunked"))
}

/// The next request; `None` when the client has closed the connection instead.
async fn read_request(client: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let Some(line) = read_line(client).await? else {
        return Ok(None);
    };
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(malformed("a request line"));
    };
    if !version.starts_with("HTTP/1.") {
        return Err(malformed("a version"));
    }
    let headers = read_headers(client).await?;
    if header(&headers, "expect").is_some_and(|value| has_token(value, "100-continue")) {
        client.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let body = if is_chunked(&headers) {
        read_chunks(client).await?
    } else {
        read_sized(client, length_of(&headers)?.unwrap_or(0)).await?
    };
    Ok(Some(Request {
        method: method.to_owned(),
        target: target.to_owned(),
        old: version == "HTTP/1.0",
        headers,
        body,
    }))
}

/// The whole answer, and whether the connection may be used again.
async fn read_response(
    store: &mut BufReader<TcpStream>,
    method: &str,
) -> io::Result<(Response, bool)> {
    loop {
        let line = read_line(store).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|status| status.parse::<u16>().ok());
        let status = status.ok_or_else(|| malformed("a status line"))?;
        let reason = words.next().unwrap_or_default().to_owned();
        let headers = read_headers(store).await?;
        if status < 200 {
            continue;
        }
        let mut reusable = version == "HTTP/1.1"
            && !header(&headers, "connection").is_some_and(|value| has_token(value, "close"));
        let body = if !has_body(method, status) {
            Vec::new()
        } else if is_chunked(&headers) {
            read_chunks(store).await?
        } else if let Some(length) = length_of(&headers)? {
            read_sized(store, length).await?
        } else {
            reusable = false;
            let mut body = Vec::new();
            store.read_to_end(&mut body).await?;
            body
        };
        return Ok((Response { status, reason, headers, body }, reusable));
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    /// A store of one connection per task with the preconditions of S3.
    #[derive(Default)]
    struct Upstream {
        objects: Mutex<HashMap<String, (u64, Vec<u8>)>>,
        /// Method, target, headers.
        seen: Mutex<Vec<(String, String, Headers)>>,
        connections: AtomicU64,
    }

    impl Upstream {
        async fn start() -> (Arc<Self>, SocketAddr) {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let addr = listener.local_addr().expect("an address");
            let this = Arc::new(Self::default());
            let serving = Arc::clone(&this);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    serving.connections.fetch_add(1, Ordering::SeqCst);
                    let this = Arc::clone(&serving);
                    tokio::spawn(async move {
                        let mut client = BufReader::new(stream);
                        while let Ok(Some(request)) = read_request(&mut client).await {
                            let close = request.target.starts_with("/until-close");
                            let answer = this.answer(request);
                            if client.get_mut().write_all(&answer).await.is_err() || close {
                                return;
                            }
                        }
                    });
                }
            });
            (this, addr)
        }

        fn answer(&self, request: Request) -> Vec<u8> {
            let (method, target) = (request.method.clone(), request.target.clone());
            lock(&self.seen).push((method.clone(), target.clone(), request.headers.clone()));
            if target == "/chunked" {
                return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"c\"\r\n\r\n\
                         3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n"
                    .to_vec();
            }
            if target == "/until-close" {
                return b"HTTP/1.1 200 OK\r\n\r\nto the end".to_vec();
            }
            let mut objects = lock(&self.objects);
            let have = objects.get(&target).cloned();
            let condition = |name| header(&request.headers, name).map(str::to_owned);
            let tag = have.as_ref().map(|(version, _)| format!("\"{version}\""));
            let (status, tag, body) = match method.as_str() {
                "PUT" => {
                    let none = condition("if-none-match").is_none_or(|_| have.is_none());
                    let same = condition("if-match").is_none_or(|want| Some(want) == tag);
                    if none && same {
                        let version = have.map_or(0, |(version, _)| version) + 1;
                        objects.insert(target, (version, request.body));
                        (200, Some(format!("\"{version}\"")), Vec::new())
                    } else {
                        (412, None, b"<Error/>".to_vec())
                    }
                }
                "DELETE" => {
                    objects.remove(&target);
                    (204, None, Vec::new())
                }
                _ => match have {
                    Some(_) if condition("if-none-match") == tag => (304, tag, Vec::new()),
                    Some((_, body)) => (200, tag, body),
                    None => (404, None, b"<Error/>".to_vec()),
                },
            };
            let mut out = format!("HTTP/1.1 {status} X\r\nDate: {}\r\n", http_date(now()));
            if let Some(tag) = tag {
                out.push_str(&format!("ETag: {tag}\r\n"));
            }
            if status != 304 && status != 204 {
                out.push_str(&format!("Content-Length: {}\r\n", body.len()));
            }
            out.push_str("\r\n");
            let mut out = out.into_bytes();
            if has_body(&method, status) {
                out.extend(body);
            }
            out
        }

        fn body(&self, target: &str) -> Option<Vec<u8>> {
            lock(&self.objects).get(target).map(|(_, body)| body.clone())
        }

        fn version(&self, target: &str) -> u64 {
            lock(&self.objects).get(target).map_or(0, |(version, _)| *version)
        }
    }

    /// A client of one connection.
    struct Client(BufReader<TcpStream>);

    impl Client {
        async fn new(proxy: &FaultProxy) -> Self {
            Self(BufReader::new(TcpStream::connect(proxy.addr()).await.expect("the proxy")))
        }

        async fn send(&mut self, head: &str, body: &str) -> io::Result<Response> {
            let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
            let method = line.split(' ').next().expect("a method");
            let mut text = format!("{line} HTTP/1.1\r\nHost: locks.example:1\r\n");
            for header in headers.lines() {
                text.push_str(&format!("{header}\r\n"));
            }
            if method == "PUT" {
                text.push_str(&format!("Content-Length: {}\r\n", body.len()));
            }
            let body = if method == "PUT" { body } else { "" };
            text.push_str(&format!("\r\n{body}"));
            self.0.get_mut().write_all(text.as_bytes()).await?;
            read_response(&mut self.0, method).await.map(|(response, _)| response)
        }

        async fn status(&mut self, head: &str, body: &str) -> u16 {
            self.send(head, body).await.expect("an answer").status
        }
    }

    const CREATE: &str = "PUT /locks/a?x=1\nIf-None-Match: *";

    fn fails_with<T>(result: io::Result<T>, kind: io::ErrorKind) {
        let error = result.err().expect("a failure");
        assert_eq!(error.kind(), kind, "{error}");
    }

    async fn soon(what: &str, is: impl Fn() -> bool) {
        for _ in 0..500 {
            if is() {
                return;
            }
            pause(Duration::from_millis(10)).await;
        }
        panic!("{what}: not within five seconds");
    }

    #[tokio::test]
    async fn passes_requests_and_answers() {
        let (store, addr) = Upstream::start().await;
        let proxy = FaultProxy::start(addr);
        let mut client = Client::new(&proxy).await;
        let put = client.send(CREATE, "hello").await.expect("an answer");
        assert_eq!((put.status, header(&put.headers, "etag")), (200, Some("\"1\"")));
        assert_eq!(client.status(CREATE, "again").await, 412);
        let get = client.send("GET /locks/a?x=1", "").await.expect("an answer");
        assert_eq!((get.status, &*get.body), (200, &b"hello"[..]));
        let head = client.send("HEAD /locks/a?x=1", "").await.expect("an answer");
        assert_eq!((head.status, header(&head.headers, "content-length")), (200, Some("5")));
        let same = "GET /locks/a?x=1\nIf-None-Match: \"1\"";
        assert_eq!(client.status(same, "").await, 304);
        assert_eq!(client.status("DELETE /locks/a?x=1", "").await, 204);
        let chunked = client.send("GET /chunked", "").await.expect("an answer");
        assert_eq!((chunked.status, &*chunked.body), (200, &b"abcdefg"[..]));
        assert_eq!(header(&chunked.headers, "etag"), Some("\"c\""));
        let to_end = client.send("GET /until-close", "").await.expect("an answer");
        assert_eq!(&*to_end.body, b"to the end");
        assert_eq!(client.status("GET /none", "").await, 404);

        let (_, target, headers) = lock(&store.seen)[0].clone();
        assert_eq!(target, "/locks/a?x=1");
        assert_eq!(header(&headers, "host"), Some("locks.example:1"));
        assert_eq!(proxy.connections(), 1);
        assert_eq!(store.connections.load(Ordering::SeqCst), 2, "kept until the store closed one");
        assert_eq!((proxy.requests("PUT"), proxy.requests("GET")), (2, 5));
        assert_eq!((proxy.total_requests(), proxy.in_flight()), (9, 0));
        let log = proxy.log();
        assert_eq!(log.len(), 9);
        let first = Entry {
            method: "PUT".into(),
            path: "/locks/a".into(),
            status: Some(200),
            upstream: Some(200),
            fault: "Pass",
            conditional: true,
        };
        assert_eq!(log[0], first);
        proxy.clear_log();
        assert!(proxy.log().is_empty());
    }

    #[tokio::test]
    async fn reads_chunked_requests_and_expectations() {
        let (store, addr) = Upstream::start().await;
        let proxy = FaultProxy::start(addr);
        let mut client = Client::new(&proxy).await;
        let text = "PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
                    Expect: 100-continue\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        client.0.get_mut().write_all(text.as_bytes()).await.expect("sent");
        let line = read_line(&mut client.0).await.expect("a line").expect("a line");
        assert_eq!(line, "HTTP/1.1 100 Continue");
        read_line(&mut client.0).await.expect("an empty line");
        let (response, _) = read_response(&mut client.0, "PUT").await.expect("an answer");
        assert_eq!(response.status, 200);
        assert_eq!(store.body("/c").as_deref(), Some(&b"hello world"[..]));
        client.0.get_mut().write_all(b"nonsense\r\n\r\n").await.expect("sent");
        let (response, _) = read_response(&mut client.0, "GET").await.expect("an answer");
        assert_eq!(response.status, 400);
    }

    #[tokio::test]
    async fn commits_and_then_fails() {
        use io::ErrorKind::{ConnectionReset, UnexpectedEof};
        let (store, addr) = Upstream::start().await;
        let proxy = FaultProxy::start(addr);
        let mut version = 0;
        for (fault, kind) in [
            (Fault::CommitThenClose, UnexpectedEof),
            (Fault::CommitThenHalfClose, UnexpectedEof),
            (Fault::CommitThenReset, ConnectionReset),
            (Fault::CommitThenHalfBody, UnexpectedEof),
            (Fault::CommitThenHalfHead, UnexpectedEof),
        ] {
            proxy.on_put(2, fault.clone());
            let mut client = Client::new(&proxy).await;
            let put = |v: u64| format!("PUT /k\nIf-Match: \"{v}\"");
            if version == 0 {
                assert_eq!(client.status("PUT /k", "0").await, 200);
                version = 1;
            }
            assert_eq!(client.status(&put(version), "1").await, 200);
            fails_with(client.send(&put(version + 1), "2").await, kind);
            version += 2;
            assert_eq!(store.version("/k"), version, "{fault:?} came after the write");
            let mut client = Client::new(&proxy).await;
            assert_eq!(client.status(&put(version), "3").await, 200, "passes again");
            version += 1;
            let log = proxy.log();
            let entry = log.iter().find(|entry| entry.fault == fault.name());
            assert_eq!(entry.expect("an entry").upstream, Some(200));
        }
        proxy.on_put(1, Fault::CommitThenStatus(500));
        let mut client = Client::new(&proxy).await;
        let answer = client.send(CREATE, "x").await.expect("an answer");
        assert_eq!(answer.status, 500);
        assert!(String::from_utf8_lossy(&answer.body).contains("<Code>InternalError</Code>"));
        assert!(header(&answer.headers, "date").is_some());
        assert_eq!(client.status(CREATE, "x").await, 412, "the first one counted");

        // Answers without a body are cut in their head.
        proxy.on_gets(Fault::CommitThenHalfBody);
        let mut client = Client::new(&proxy).await;
        let same = "GET /locks/a?x=1\nIf-None-Match: \"1\"";
        fails_with(client.send(same, "").await, UnexpectedEof);

        proxy.on_all_puts(Fault::CommitThenDelay(Duration::from_millis(80)));
        let mut client = Client::new(&proxy).await;
        let began = now();
        assert_eq!(client.status(CREATE, "x").await, 412);
        assert!(began.elapsed().expect("time goes on") >= Duration::from_millis(80));
    }

    #[tokio::test]
    async fn fails_without_forwarding() {
        use io::ErrorKind::{ConnectionReset, UnexpectedEof};
        let (store, addr) = Upstream::start().await;
        let proxy = FaultProxy::start(addr);
        proxy.on_all_puts(Fault::Status(409));
        let mut client = Client::new(&proxy).await;
        let answer = client.send(CREATE, "x").await.expect("an answer");
        assert_eq!(answer.status, 409);
        assert!(String::from_utf8_lossy(&answer.body).contains("ConditionalRequestConflict"));
        assert_eq!(client.status("PUT /free", "x").await, 200, "has no condition");
        proxy.on_gets(Fault::Status(503));
        assert_eq!(client.status("GET /free", "").await, 503);
        assert_eq!(client.status("HEAD /free", "").await, 503);
        proxy.on_put(1, Fault::CloseBefore);
        fails_with(client.send(CREATE, "x").await, UnexpectedEof);
        proxy.on_put(1, Fault::ResetBefore);
        let mut client = Client::new(&proxy).await;
        fails_with(client.send(CREATE, "x").await, ConnectionReset);
        assert_eq!(store.version("/locks/a?x=1"), 0);
        assert_eq!(lock(&store.seen).len(), 1);
        let none = proxy.log().iter().filter(|entry| entry.upstream.is_none()).count();
        assert_eq!(none, 5);
    }

    #[tokio::test]
    async fn a_delayed_write_lands_when_its_client_is_gone() {
        let (store, addr) = Upstream::start().await;
        let proxy = FaultProxy::start(addr);
        proxy.on_put(1, Fault::DelayBefore(Duration::from_millis(150)));
        let mut client = Client::new(&proxy).await;
        let text = "PUT /late HTTP/1.1\r\nIf-None-Match: *\r\nContent-Length: 1\r\n\r\nx";
        client.0.get_mut().write_all(text.as_bytes()).await.expect("sent");
        soon("the request arrives", || proxy.in_flight() == 1).await;
        drop(client);
        proxy.cut_all();
        assert_eq!(store.version("/late"), 0);
        soon("the write lands", || store.version("/late") == 1).await;
        soon("the request is over", || proxy.in_flight() == 0).await;
        assert_eq!(proxy.log()[0].fault, "DelayBefore");
    }

    #[tokio::test]
    async fn changes_what_it_forwards() {
        let (store, addr) = Upstream::start().await;
        let proxy = FaultProxy::start(addr);
        let mut client = Client::new(&proxy).await;
        proxy.on_put(1, Fault::Twice);
        assert_eq!(client.status(CREATE, "1").await, 412, "the second of two");
        assert_eq!(store.version("/locks/a?x=1"), 1);
        proxy.on_all_puts(Fault::StripPreconditions);
        assert_eq!(client.status(CREATE, "2").await, 200, "the condition is gone");
        let json = "POST /upload?name=a&ifGenerationMatch=0&b=c";
        client.send(json, "").await.expect("an answer");
        let (_, target, _) = lock(&store.seen).last().expect("a request").clone();
        assert_eq!(target, "/upload?name=a&b=c");

        proxy.on_gets(Fault::StripResponseHeader("etag"));
        let answer = client.send("GET /locks/a?x=1", "").await.expect("an answer");
        assert!(header(&answer.headers, "etag").is_none());
        assert!(header(&answer.headers, "date").is_some());
        let past = http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
        assert_eq!(past, "Sun, 06 Nov 1994 08:49:37 GMT");
        proxy.on_gets(Fault::AddResponseHeader("date", past.clone()));
        let answer = client.send("GET /locks/a?x=1", "").await.expect("an answer");
        let dates: Vec<_> =
            answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("date")).collect();
        assert_eq!(dates, [&("date".to_owned(), past)]);
    }

    #[tokio::test]
    async fn plans_see_requests_numbered() {
        let (_store, addr) = Upstream::start().await;
        let proxy = FaultProxy::start(addr);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let plan = Arc::clone(&seen);
        proxy.plan(move |request| {
            let numbers = (request.seq, request.put_seq, request.is_conditional_put);
            lock(&plan).push((request.path.clone(), request.query.clone(), numbers));
            assert_eq!(request.header("HOST"), Some("locks.example:1"));
            Fault::Pass
        });
        let mut client = Client::new(&proxy).await;
        for head in [CREATE, "GET /locks/a", "PUT /b", CREATE] {
            client.send(head, "x").await.expect("an answer");
        }
        let of = |path: &str, query: &str, numbers| (path.to_owned(), query.to_owned(), numbers);
        let expected = [
            of("/locks/a", "x=1", (1, 1, true)),
            of("/locks/a", "", (2, 0, false)),
            of("/b", "", (3, 1, false)),
            of("/locks/a", "x=1", (4, 2, true)),
        ];
        assert_eq!(*lock(&seen), expected);
    }

    #[tokio::test]
    async fn chance_repeats_with_its_seed() {
        let (_store, addr) = Upstream::start().await;
        let mut rounds = Vec::new();
        for seed in [7, 7, 8] {
            let proxy = FaultProxy::start(addr);
            proxy.random(seed, 300, &[Fault::Status(500), Fault::Status(503)]);
            let mut client = Client::new(&proxy).await;
            let mut round = Vec::new();
            for _ in 0..200 {
                round.push(client.status("GET /none", "").await);
            }
            rounds.push(round);
        }
        assert_eq!(rounds[0], rounds[1]);
        assert_ne!(rounds[0], rounds[2]);
        let passed = rounds[0].iter().filter(|status| **status == 404).count();
        assert!((110..=170).contains(&passed), "{passed} of 200 passed");
        assert!(rounds[0].contains(&500) && rounds[0].contains(&503));
    }

    #[tokio::test]
    async fn cuts_and_refuses() {
        let (store, addr) = Upstream::start().await;
        let proxy = FaultProxy::start(addr);
        let mut client = Client::new(&proxy).await;
        assert_eq!(client.status("GET /none", "").await, 404);
        proxy.cut_all();
        assert!(client.send("GET /none", "").await.is_err());
        let mut client = Client::new(&proxy).await;
        assert_eq!(client.status("GET /none", "").await, 404);

        proxy.refuse(true);
        assert!(client.send("GET /none", "").await.is_err());
        // The reset may come before the connection is known to be made.
        if let Ok(stream) = TcpStream::connect(proxy.addr()).await {
            let mut refused = Client(BufReader::new(stream));
            assert!(refused.send("GET /none", "").await.is_err());
        }
        assert_eq!((proxy.connections(), lock(&store.seen).len()), (2, 2));
        proxy.refuse(false);
        let mut client = Client::new(&proxy).await;
        assert_eq!(client.status("GET /none", "").await, 404);

        let gone = proxy.addr();
        drop(proxy);
        assert!(client.send("GET /none", "").await.is_err());
        assert!(TcpStream::connect(gone).await.is_err());
    }

    #[tokio::test]
    async fn a_store_that_is_not_there_closes_the_connection() {
        // Bound, so that nobody else gets the port, but not listening.
        let unused = TcpSocket::new_v4().expect("a socket");
        unused.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let addr = unused.local_addr().expect("an address");
        let proxy = FaultProxy::start(addr);
        let mut client = Client::new(&proxy).await;
        fails_with(client.send("GET /none", "").await, io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn many_at_once() {
        let (store, addr) = Upstream::start().await;
        let proxy = Arc::new(FaultProxy::start(addr));
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let proxy = Arc::clone(&proxy);
                tokio::spawn(async move {
                    let mut client = Client::new(&proxy).await;
                    for _ in 0..50 {
                        assert_eq!(client.status(&format!("PUT /{task}"), "x").await, 200);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        assert_eq!((0..16).map(|task| store.version(&format!("/{task}"))).sum::<u64>(), 800);
        assert!(store.connections.load(Ordering::SeqCst) <= 32, "connections are kept");
    }

    #[test]
    fn urls_lead_through_the_proxy() {
        for (url, port) in [
            ("s3://locks/t?aws_endpoint=http://127.0.0.1:4566&aws_region=us-east-1", 4566),
            ("s3://locks?aws_endpoint=http%3a%2f%2flocalhost%3a4566", 4566),
            ("az://locks?azure_storage_endpoint=http%3A%2F%2F127.0.0.1%3A10000%2Fdev", 10_000),
            (
                "gs://locks?google_service_account_key=%7B%22gcs_base_url%22%3A%22http%3A%2F%2F\
                 127.0.0.1%3A4443%22%2C%22disable_oauth%22%3Atrue%7D",
                4443,
            ),
        ] {
            let upstream = FaultProxy::upstream_of(url).expect("an address");
            assert_eq!(upstream, SocketAddr::from(([127, 0, 0, 1], port)), "{url}");
            let (proxy, through) = FaultProxy::in_front_of(url);
            assert_eq!(proxy.upstream(), upstream);
            assert_eq!(FaultProxy::upstream_of(&through), Some(proxy.addr()), "{through}");
            assert!(!through.contains(&port.to_string()), "{through}");
            let back = through
                .replace(&proxy.addr().port().to_string(), &port.to_string())
                .replace("127.0.0.1", "localhost");
            assert_eq!(back, url.replace("127.0.0.1", "localhost"));
        }
        assert_eq!(FaultProxy::upstream_of("memory:///"), None);
        assert_eq!(FaultProxy::upstream_of("s3://locks?aws_endpoint=http://127.0.0.1/"), None);
    }

    #[test]
    fn starts_and_stops_without_a_runtime() {
        let proxy = FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], 9)));
        let began = now();
        drop(proxy);
        assert!(began.elapsed().expect("time goes on") < Duration::from_secs(2));
    }
}
