//! The HTTP connector of the stores that the library opens: it feeds what it sees of every
//! exchange into [`Facts`], and the dates into the [`StoreClock`].

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use http::uri::Authority;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

use super::facts::{Facts, NoAnswer};
use super::time::{RESOLUTION, StoreClock};
use crate::clock::{Clock, Wall};

#[derive(Clone, Debug)]
pub(crate) struct Connector {
    clock: Arc<dyn Clock>,
    store_clock: Arc<StoreClock>,
    /// Where the store is, once a request has gone there.
    store: Arc<OnceLock<Option<Authority>>>,
    credentials: CredentialTrouble,
}

/// Why the last request for credentials failed, if it did. Such requests carry no facts: they are
/// `object_store`'s own.
#[derive(Clone, Debug, Default)]
pub(crate) struct CredentialTrouble(Arc<Mutex<Option<String>>>);

impl CredentialTrouble {
    pub(crate) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, trouble: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

impl Connector {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            store_clock: Arc::default(),
            store: Arc::default(),
            credentials: CredentialTrouble::default(),
        }
    }

    pub(crate) fn credential_trouble(&self) -> CredentialTrouble {
        self.credentials.clone()
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Observer { client, connector: self.clone() }))
    }
}

#[derive(Debug)]
struct Observer {
    client: HttpClient,
    connector: Connector,
}

#[async_trait]
impl HttpService for Observer {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Some(facts) = request.extensions().get::<Facts>().cloned() else {
            return self.unaccompanied(request).await;
        };
        let Connector { clock, store_clock, store, .. } = &self.connector;
        store.get_or_init(|| request.uri().authority().cloned());
        facts.update(|seen| {
            seen.sends += 1;
            // Until an answer comes: what a caller concludes that stops waiting for it.
            seen.no_answer = Some(NoAnswer::Broken);
            (seen.status, seen.now) = (None, None);
        });
        let sent = clock.now().boot;
        let answer = self.client.execute(request).await;
        let received = clock.now().boot;
        match &answer {
            Ok(response) => {
                let now = date_of(response.headers())
                    .and_then(|date| store_clock.note(date, RESOLUTION, sent, received));
                facts.update(|seen| {
                    seen.no_answer = None;
                    seen.status = Some(response.status().as_u16());
                    seen.now = now;
                });
            }
            Err(error) if error.kind() == HttpErrorKind::Connect => {
                facts.update(|seen| seen.no_answer = Some(NoAnswer::NeverConnected));
            }
            Err(_) => {}
        }
        answer
    }
}

impl Observer {
    /// A request of `object_store`'s own: a listing, or one for credentials.
    async fn unaccompanied(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let store = self.connector.store.get().and_then(Option::as_ref);
        if store.is_some() && store == request.uri().authority() {
            return self.client.execute(request).await;
        }
        let host = request.uri().host().unwrap_or_default().to_owned();
        // What stands if the caller stops waiting.
        let trouble = &self.connector.credentials;
        trouble.set(Some(format!("no answer from {host}, which was asked for credentials")));
        let answer = self.client.execute(request).await;
        trouble.set(match &answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => {
                Some(format!("{host}, asked for credentials, said {}", response.status()))
            }
            Err(error) => Some(format!("{host}, asked for credentials: {error}")),
        });
        answer
    }
}

/// The answer's `Date`, unless a cache or a proxy may have kept it (hazard H24).
pub(crate) fn date_of(headers: &http::HeaderMap) -> Option<Wall> {
    if headers.contains_key(http::header::AGE) || headers.contains_key(http::header::VIA) {
        return None;
    }
    let text = headers.get(http::header::DATE)?.to_str().ok()?;
    httpdate::parse_http_date(text).ok().map(Wall::from)
}
