//! Why a bucket cannot be used: named by what is known, with the fix. No word of a credential is in it.

use std::error::Error as StdError;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// Longest text of others in an error.
const WORDS_MAX_BYTES: usize = 200;

/// What went wrong with a bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The bucket does not keep what it is given.
    #[error(
        "archive.bucket: {0} has no S3 Object Lock, so whoever may write to it may also delete evidence; make a bucket with Object Lock and name that"
    )]
    Unlocked(String),
    /// There is no such bucket.
    #[error(
        "archive.bucket: {0} does not exist in this region and account; make it with Object Lock, or correct the name"
    )]
    NoBucket(String),
    /// The bucket is elsewhere.
    #[error("archive.region: {0} is in another region ({1}); name the region of the bucket")]
    Region(String, String),
    /// No answer in time.
    #[error("{operation}: no answer within {millis} ms (archive.timeout_ms)")]
    Slow {
        /// What was asked.
        operation: &'static str,
        /// How long it waited.
        millis: u128,
    },
    /// Nobody answered.
    #[error("{operation}: the bucket's endpoint cannot be reached: {words}")]
    Unreachable {
        /// What was asked.
        operation: &'static str,
        /// What the connection says.
        words: String,
    },
    /// There is nothing to sign a request with.
    #[error("{operation}: no AWS credentials can be had: {words}")]
    NoCredentials {
        /// What was asked.
        operation: &'static str,
        /// What the chain says.
        words: String,
    },
    /// The credentials do not let it in.
    #[error(
        "{operation}: the bucket refuses the credentials ({code}); docs/reference/trail.md lists what they have to allow"
    )]
    Denied {
        /// What was asked.
        operation: &'static str,
        /// The bucket's code.
        code: String,
    },
    /// It asks for fewer requests.
    #[error("{operation}: the bucket is throttling ({code})")]
    Throttled {
        /// What was asked.
        operation: &'static str,
        /// The bucket's code.
        code: String,
    },
    /// Any other answer.
    #[error("{operation}: the bucket answers {status} {code}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
        /// The bucket's code, if it gave one.
        code: String,
    },
    /// An object is not as it has to be.
    #[error("{key}: {what}")]
    Object {
        /// Its key.
        key: String,
        /// What is wrong, to end the sentence.
        what: String,
    },
    /// A file of the configuration cannot be used.
    #[error("{0}")]
    Settings(String),
}

impl ArchiveError {
    /// The word for programs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unlocked(_) => "unlocked",
            Self::NoBucket(_) => "no_bucket",
            Self::Region(..) => "region",
            Self::Slow { .. } => "slow",
            Self::Unreachable { .. } => "unreachable",
            Self::NoCredentials { .. } => "no_credentials",
            Self::Denied { .. } => "denied",
            Self::Throttled { .. } => "throttled",
            Self::Refused { .. } => "refused",
            Self::Object { .. } => "object",
            Self::Settings(_) => "settings",
        }
    }

    /// An object is not as it has to be.
    pub(super) fn object(key: &str, what: impl Into<String>) -> Self {
        Self::Object { key: key.to_owned(), what: what.into() }
    }
}

/// What came of a call that did not succeed.
#[derive(Debug)]
pub(super) enum Failed {
    /// There is no such object.
    Absent,
    /// An object of that key is there already.
    Exists,
    /// Everything else.
    Error(ArchiveError),
}

impl From<ArchiveError> for Failed {
    fn from(error: ArchiveError) -> Self {
        Self::Error(error)
    }
}

impl Failed {
    /// The error, where neither absence nor presence was asked for.
    pub(super) fn error(self, operation: &'static str) -> ArchiveError {
        let refused = |status| ArchiveError::Refused { operation, status, code: String::new() };
        match self {
            Self::Absent => refused(404),
            Self::Exists => refused(412),
            Self::Error(error) => error,
        }
    }

    /// What the SDK's error tells.
    pub(super) fn of<E>(
        operation: &'static str,
        bucket: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let words = || words(error);
        Self::Error(match error {
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or_default();
                return of_answer(operation, bucket, service.raw().status().as_u16(), code);
            }
            SdkError::ConstructionFailure(_) => {
                ArchiveError::NoCredentials { operation, words: words() }
            }
            SdkError::DispatchFailure(failure)
                if failure
                    .as_connector_error()
                    .is_some_and(|error| error.is_timeout() || error.is_io()) =>
            {
                ArchiveError::Unreachable { operation, words: words() }
            }
            SdkError::DispatchFailure(_) if words().contains("credential") => {
                ArchiveError::NoCredentials { operation, words: words() }
            }
            _ => ArchiveError::Unreachable { operation, words: words() },
        })
    }
}

fn of_answer(operation: &'static str, bucket: &str, status: u16, code: &str) -> Failed {
    let code = text::clipped(code, WORDS_MAX_BYTES);
    Failed::Error(match (status, &*code) {
        (_, "NoSuchBucket") => ArchiveError::NoBucket(bucket.to_owned()),
        (_, "ObjectLockConfigurationNotFoundError") => ArchiveError::Unlocked(bucket.to_owned()),
        (301 | 307, _) | (_, "AuthorizationHeaderMalformed") => {
            let code = if code.is_empty() { status.to_string() } else { code };
            ArchiveError::Region(bucket.to_owned(), code)
        }
        (412, _) => return Failed::Exists,
        (404, _) => return Failed::Absent,
        (429 | 503, _) => ArchiveError::Throttled { operation, code },
        (401 | 403, _) | (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
            ArchiveError::Denied {
                operation,
                code: if code.is_empty() { status.to_string() } else { code },
            }
        }
        _ => ArchiveError::Refused { operation, status, code },
    })
}

/// The innermost cause, which says most.
fn words(error: &dyn StdError) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    text::clipped(&innermost.to_string(), WORDS_MAX_BYTES)
}
