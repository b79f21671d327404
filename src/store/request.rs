//! One request to the object store, with a time limit, and what its failure means.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Attributes, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, PutResult,
};

#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
use super::connector::CredentialTrouble;
use super::directory::OutsideRoot;
use super::facts::{Facts, NoAnswer, Seen, StoreNow};
use crate::clock::{Clock, timeout};
use crate::error::{Error, ErrorKind};
use crate::telemetry;

type Cause = Box<dyn StdError + Send + Sync>;

/// Why a request did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A conditional read found the version known.
    NotModified { now: Option<StoreNow> },
    /// There is no such object.
    Absent { now: Option<StoreNow> },
    /// The store refused the condition. Or so it says: it may talk about a second copy of the
    /// request.
    Refused(Cause),
    /// No clear answer: the request may have been applied, or may yet be.
    Unclear(Cause),
    /// The store denies access.
    Denied {
        /// Whether an earlier copy of the request may have been applied.
        applied_before: bool,
        cause: Cause,
    },
    /// The request was not applied and never will be.
    NotApplied {
        kind: ErrorKind,
        /// Whether trying again soon may help.
        passing: bool,
        message: &'static str,
        cause: Cause,
    },
}

/// An object as it was read.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) meta: ObjectMeta,
    pub(crate) attributes: Attributes,
    /// `None` when it is larger than asked for.
    pub(crate) body: Option<Bytes>,
}

/// Sends requests to one object store.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    objects: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    /// Whether our connector sees the requests.
    observed: bool,
    /// Whether the store is of a kind that never repeats a request by itself.
    ours: bool,
    #[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
    credentials: Option<CredentialTrouble>,
}

impl Requests {
    /// Requests to a store without exchanges: a directory, or memory.
    pub(crate) fn local(objects: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Self {
        Self { ours: true, ..Self::unobserved(objects, clock) }
    }

    /// Requests to a store whose exchanges cannot be observed.
    pub(crate) fn unobserved(objects: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            objects,
            clock,
            observed: false,
            ours: false,
            #[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
            credentials: None,
        }
    }

    /// Requests to a store that was built with our connector.
    #[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
    pub(crate) fn observed(
        objects: Arc<dyn ObjectStore>,
        clock: Arc<dyn Clock>,
        credentials: CredentialTrouble,
    ) -> Self {
        Self { objects, clock, observed: true, ours: true, credentials: Some(credentials) }
    }

    /// Whether nothing lies between here and the store that might send a request twice.
    pub(crate) fn is_direct(&self) -> bool {
        self.ours && !self.observed
    }

    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Reads an object of up to `most` bytes.
    pub(crate) async fn get(
        &self,
        key: &Path,
        if_none_match: Option<String>,
        most: usize,
        limit: Duration,
    ) -> Result<(Got, Option<StoreNow>), Failure> {
        let kind = if if_none_match.is_some() { "poll" } else { "get" };
        let facts = Facts::default();
        let extensions = facts.extensions();
        let options = GetOptions { if_none_match, extensions, ..GetOptions::default() };
        let work = async {
            let result = self.objects.get_opts(key, options).await?;
            let (meta, attributes) = (result.meta.clone(), result.attributes.clone());
            let fits = meta.size <= most as u64;
            let body = if fits { Some(result.bytes().await?) } else { None };
            Ok(Got { meta, attributes, body })
        };
        let got = self.send(kind, &facts, limit, work).await.map_err(|failure| match failure {
            // A read's answer is what it says.
            Failure::Refused(cause) => Failure::Unclear(cause),
            other => other,
        })?;
        // Without either nothing can be written over it.
        if got.meta.e_tag.is_none() && got.meta.version.is_none() {
            return Err(Failure::Unclear("the store answered a read without an ETag".into()));
        }
        Ok((got, facts.seen().now))
    }

    /// Writes an object under a condition.
    pub(crate) async fn put(
        &self,
        key: &Path,
        body: PutPayload,
        mode: PutMode,
        attributes: Attributes,
        limit: Duration,
    ) -> Result<PutResult, Failure> {
        let facts = Facts::default();
        let kind = if mode == PutMode::Create { "create" } else { "update" };
        let options = PutOptions {
            mode,
            attributes,
            extensions: facts.extensions(),
            ..PutOptions::default()
        };
        let work = self.objects.put_opts(key, body, options);
        self.send(kind, &facts, limit, work).await.map_err(|failure| match failure {
            Failure::Absent { .. } => Failure::Refused("there is nothing to update".into()),
            other => other,
        })
    }

    /// Deletes a scratch object; best effort, as what stays behind is small and no lock.
    pub(crate) async fn delete(&self, key: &Path, limit: Duration) {
        let deleted = timeout(&*self.clock, limit, self.objects.delete(key)).await;
        tracing::trace!(%key, ?deleted, "deleted an object");
    }

    async fn send<T>(
        &self,
        kind: &'static str,
        facts: &Facts,
        limit: Duration,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failure> {
        let result = match timeout(&*self.clock, limit, work).await {
            Ok(result) => result.map_err(|error| self.meaning(error, facts.seen())),
            Err(timed_out) => Err(self.never_sent(facts.seen(), timed_out.into())),
        };
        telemetry::request(kind, result.as_ref().map_or_else(Failure::word, |_| "ok"));
        result
    }

    /// What an error means that no facts are known about.
    pub(crate) fn explain(&self, error: object_store::Error) -> Failure {
        // One send, without an answer: nothing can be concluded from it.
        self.meaning(error, Seen { sends: 1, ..Seen::default() })
    }

    fn meaning(&self, error: object_store::Error, seen: Seen) -> Failure {
        use object_store::Error as E;
        let now = seen.now;
        match error {
            E::NotModified { .. } => Failure::NotModified { now },
            E::NotFound { .. } if mentions(&error, BUCKET_ABSENT) => Failure::NotApplied {
                kind: ErrorKind::StoreAbsent,
                passing: false,
                message: "the bucket or container does not exist",
                cause: error.into(),
            },
            E::NotFound { .. } => Failure::Absent { now },
            E::AlreadyExists { .. } | E::Precondition { .. } => Failure::Refused(error.into()),
            E::PermissionDenied { .. } if caused_by::<OutsideRoot>(&error) => Failure::NotApplied {
                kind: ErrorKind::OutsideRoot,
                passing: false,
                message: "a symbolic link leads out of the store's directory",
                cause: error.into(),
            },
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Failure::Denied {
                // A client that repeats requests by itself may have had the first one applied.
                applied_before: !self.observed && !self.ours || seen.sends > 1,
                cause: error.into(),
            },
            E::NotImplemented { .. } | E::NotSupported { .. } => Failure::NotApplied {
                kind: ErrorKind::UnfitStore,
                passing: false,
                message: "the store cannot write conditionally",
                cause: error.into(),
            },
            E::InvalidPath { .. } => Failure::NotApplied {
                kind: ErrorKind::InvalidName,
                passing: false,
                message: "the store cannot have such a key",
                cause: error.into(),
            },
            E::UnknownConfigurationKey { .. } => Failure::NotApplied {
                kind: ErrorKind::InvalidUrl,
                passing: false,
                message: "the store does not know an option",
                cause: error.into(),
            },
            other => self.never_sent(seen, other.into()),
        }
    }

    /// Tells a request that never reached the store from one that may have.
    fn never_sent(&self, seen: Seen, cause: Cause) -> Failure {
        if !self.observed {
            return Failure::Unclear(cause);
        }
        match seen {
            Seen { sends: 0, .. } => self.no_credentials(cause),
            Seen { no_answer: Some(NoAnswer::NeverConnected), sends: 1, .. } => {
                Failure::NotApplied {
                    kind: ErrorKind::Unavailable,
                    passing: true,
                    message: "no connection to the store",
                    cause,
                }
            }
            Seen { status: Some(300..400), sends: 1, .. } => Failure::NotApplied {
                kind: ErrorKind::InvalidUrl,
                passing: false,
                message: "the store sent us elsewhere: region or endpoint are probably wrong",
                cause,
            },
            Seen { status: Some(400), sends: 1, .. } => {
                let denied = mentions(&*cause, CREDENTIALS_REJECTED);
                Failure::NotApplied {
                    kind: if denied { ErrorKind::PermissionDenied } else { ErrorKind::Unavailable },
                    passing: !denied,
                    message: "the store rejected the request",
                    cause,
                }
            }
            _ => Failure::Unclear(cause),
        }
    }

    fn no_credentials(&self, cause: Cause) -> Failure {
        #[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
        if let Some(trouble) = self.credentials.as_ref().and_then(CredentialTrouble::get) {
            return Failure::NotApplied {
                kind: ErrorKind::MissingCredentials,
                passing: false,
                message: "there are no credentials for the store",
                cause: trouble.into(),
            };
        }
        Failure::NotApplied {
            kind: ErrorKind::Unavailable,
            passing: true,
            message: "the request could not be sent",
            cause,
        }
    }
}

impl Failure {
    /// Whether the store may have applied a write that failed like this.
    pub(crate) fn may_have_been_applied(&self) -> bool {
        match self {
            Self::NotApplied { .. } => false,
            Self::Denied { applied_before, .. } => *applied_before,
            _ => true,
        }
    }

    /// Whether the store has clearly refused the condition.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Whether even the answer is missing or says nothing.
    pub(crate) fn is_unclear(&self) -> bool {
        matches!(self, Self::Unclear(_))
    }

    /// Whether trying again soon may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::NotApplied { passing, .. } => *passing,
            Self::Denied { .. } => false,
            _ => true,
        }
    }

    /// The error for a caller.
    pub(crate) fn into_error(self, key: &Path) -> Error {
        match self {
            Self::NotApplied { kind, message, cause, .. } => {
                Error::new(kind, format!("{message} ({key})")).caused_by(cause)
            }
            Self::Denied { cause, .. } => {
                Error::new(ErrorKind::PermissionDenied, format!("the store denied access ({key})"))
                    .caused_by(cause)
            }
            Self::Unclear(cause) | Self::Refused(cause) => Error::new(
                ErrorKind::Unavailable,
                format!("no clear answer from the store ({key})"),
            )
            .caused_by(cause),
            Self::NotModified { .. } | Self::Absent { .. } => {
                Error::new(ErrorKind::Unavailable, format!("the store has nothing at {key}"))
            }
        }
    }

    fn word(failure: &Self) -> &'static str {
        match failure {
            Self::NotModified { .. } => "not_modified",
            Self::Absent { .. } => "absent",
            Self::Refused(_) => "refused",
            Self::Unclear(_) => "unclear",
            Self::Denied { .. } => "denied",
            Self::NotApplied { .. } => "not_applied",
        }
    }
}

/// How stores say that it is not the object that is missing. With the markup, so that a key of
/// such a name does not look like it.
const BUCKET_ABSENT: &[&str] = &[">NoSuchBucket<", ">ContainerNotFound<"];
/// What S3 answers with 400 though it means 403.
const CREDENTIALS_REJECTED: &[&str] = &[
    ">ExpiredToken<",
    ">InvalidToken<",
    ">TokenRefreshRequired<",
    ">AuthorizationHeaderMalformed<",
    ">RequestTimeTooSkewed<",
];

fn mentions(error: &(dyn StdError + 'static), words: &[&str]) -> bool {
    any_cause(error, |cause| {
        let text = cause.to_string();
        words.iter().any(|word| text.contains(word))
    })
}

fn caused_by<T: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    any_cause(error, |cause| cause.is::<T>())
}

/// Whether an error or anything behind it passes a test.
fn any_cause(
    error: &(dyn StdError + 'static),
    test: impl Fn(&(dyn StdError + 'static)) -> bool,
) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if test(cause) {
            return true;
        }
        next = cause.source();
    }
    false
}
