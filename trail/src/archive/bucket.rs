//! A bucket, call by call. Each call has a deadline, each answer a bound, and nothing is tried again here: who
//! ships waits and begins anew, since every step may be made twice.

use std::future::Future;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Region;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ObjectLockEnabled, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode,
};
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::bounded::{ANSWER_MAX_BYTES, Bounded};
use super::error::{ArchiveError, Failed};
use super::place::Place;

/// Keys in one answer, as S3 has it.
const PAGE: i32 = 1_000;
/// What a listing is called.
const LIST: &str = "ListObjectsV2";
/// Pages of one listing at most: a day of one log has a few hundred, with an object each second.
const PAGES_MAX: usize = 10_000;

/// A bucket, and the place of the archive in it.
#[derive(Clone, Debug)]
pub struct Bucket {
    client: Client,
    name: String,
    prefix: String,
    timeout: Duration,
}

/// What a bucket says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// SHA-256 of its bytes, base64; none where the bucket was given none.
    pub sha256: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// Until when it is locked in COMPLIANCE mode; none: it is not.
    pub locked_until: Option<OffsetDateTime>,
    /// What the trail noted beside it: records that were gone before they were archived.
    pub missing: u64,
    /// Its version.
    pub version: Option<String>,
}

/// An object to be written.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) body: Bytes,
    /// SHA-256 of the body, base64.
    pub(super) sha256: String,
    pub(super) kind: &'static str,
    pub(super) missing: u64,
}

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The key, below the prefix.
    pub key: String,
    /// Which version.
    pub id: String,
    /// What it holds is the same if this is the same; none: the version says that the key was deleted.
    pub tag: Option<String>,
    /// Whether it is the newest.
    pub is_newest: bool,
}

/// A page of a listing.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    /// Keys, below the prefix.
    pub(super) keys: Vec<String>,
    /// Directories, below the prefix.
    pub(super) directories: Vec<String>,
    next: Option<String>,
}

impl Bucket {
    /// Prepares connections. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ArchiveError::Settings`].
    pub async fn new(place: &Place) -> Result<Self, ArchiveError> {
        let mut store = TrustStore::empty();
        match &place.ca_file {
            None => store = store.with_native_roots(true),
            Some(file) => {
                let pem = host::files::read(file).map_err(|error| {
                    ArchiveError::Settings(format!("archive.ca_file: {}: {error}", file.display()))
                })?;
                store = store.with_pem_certificate(pem);
            }
        }
        let context = TlsContext::builder().with_trust_store(store).build().map_err(|error| {
            ArchiveError::Settings(format!("archive.ca_file: it holds no authorities: {error}"))
        })?;
        let aws_lc = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
        let https = aws_smithy_http_client::Builder::new();
        let https = https.tls_provider(aws_lc).tls_context(context).build_https();
        let shared = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(place.region.clone()))
            .http_client(Bounded(https))
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .load()
            .await;
        let mut config = aws_sdk_s3::config::Builder::from(&shared);
        if let Some(endpoint) = &place.endpoint {
            // A bucket in the host's name needs a name server and a certificate for each.
            config = config.endpoint_url(endpoint).force_path_style(true);
        }
        Ok(Self {
            client: Client::from_conf(config.build()),
            name: place.bucket.clone(),
            prefix: place.prefix.clone(),
            timeout: place.timeout,
        })
    }

    /// The whole key of what is at `key` below the prefix.
    fn whole(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Whether the bucket keeps what it is given.
    ///
    /// # Errors
    /// [`ArchiveError::Unlocked`] if it does not.
    pub async fn is_locked(&self) -> Result<(), ArchiveError> {
        const OPERATION: &str = "GetObjectLockConfiguration";
        let asked = self.client.get_object_lock_configuration().bucket(&self.name).send();
        let answer = match self.within(OPERATION, asked).await {
            Ok(answer) => answer,
            Err(Failed::Absent) => return Err(ArchiveError::Unlocked(self.name.clone())),
            Err(failed) => return Err(failed.error(OPERATION)),
        };
        let enabled = answer.object_lock_configuration.and_then(|lock| lock.object_lock_enabled);
        match enabled {
            Some(ObjectLockEnabled::Enabled) => Ok(()),
            _ => Err(ArchiveError::Unlocked(self.name.clone())),
        }
    }

    /// The keys and directories in a directory, all of them; with `flat`, keys of directories below too.
    pub(super) async fn list(&self, under: &str, flat: bool) -> Result<Page, ArchiveError> {
        let mut all = Page::default();
        for _ in 0..PAGES_MAX {
            let page = self.page(under, flat, all.next.take()).await?;
            all.keys.extend(page.keys);
            all.directories.extend(page.directories);
            all.next = page.next;
            if all.next.is_none() {
                return Ok(all);
            }
        }
        let code = "a listing without an end".to_owned();
        Err(ArchiveError::Refused { operation: LIST, status: 200, code })
    }

    async fn page(
        &self,
        under: &str,
        flat: bool,
        next: Option<String>,
    ) -> Result<Page, ArchiveError> {
        let asked = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .prefix(self.whole(under))
            .set_delimiter((!flat).then(|| "/".to_owned()))
            .max_keys(PAGE)
            .set_continuation_token(next)
            .send();
        let answer = self.within(LIST, asked).await.map_err(|failed| failed.error(LIST))?;
        let below = |key: &str| key.strip_prefix(&*self.prefix).map(str::to_owned);
        Ok(Page {
            keys: answer.contents().iter().filter_map(|object| below(object.key()?)).collect(),
            directories: answer
                .common_prefixes()
                .iter()
                .filter_map(|common| below(common.prefix()?))
                .collect(),
            next: match answer.is_truncated() {
                Some(true) => answer.next_continuation_token,
                _ => None,
            },
        })
    }

    /// Every version of every key in the archive: what was deleted or written over is among them.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub async fn versions(&self) -> Result<Vec<Version>, ArchiveError> {
        const OPERATION: &str = "ListObjectVersions";
        let (mut all, mut key, mut version) = (Vec::new(), None, None);
        loop {
            let asked = self
                .client
                .list_object_versions()
                .bucket(&self.name)
                .prefix(self.whole(super::name::ROOT))
                .max_keys(PAGE)
                .set_key_marker(key.take())
                .set_version_id_marker(version.take())
                .send();
            let answer =
                self.within(OPERATION, asked).await.map_err(|failed| failed.error(OPERATION))?;
            let below = |key: Option<&str>| key?.strip_prefix(&*self.prefix).map(str::to_owned);
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            all.extend(answer.versions().iter().filter_map(|one| {
                Some(Version {
                    key: below(one.key())?,
                    id: text(one.version_id()),
                    tag: Some(text(one.e_tag())),
                    is_newest: one.is_latest() == Some(true),
                })
            }));
            all.extend(answer.delete_markers().iter().filter_map(|one| {
                Some(Version {
                    key: below(one.key())?,
                    id: text(one.version_id()),
                    tag: None,
                    is_newest: one.is_latest() == Some(true),
                })
            }));
            if answer.is_truncated() != Some(true) {
                return Ok(all);
            }
            (key, version) = (answer.next_key_marker, answer.next_version_id_marker);
            if key.is_none() {
                return Err(ArchiveError::Refused {
                    operation: OPERATION,
                    status: 200,
                    code: "a page without an end".to_owned(),
                });
            }
        }
    }

    /// Writes an object that must not be there yet, locked until `until`.
    pub(super) async fn put(&self, object: &Object, until: OffsetDateTime) -> Result<(), Failed> {
        let asked = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(self.whole(&object.key))
            .body(ByteStream::from(object.body.clone()))
            .content_type(object.kind)
            // Who locks has to name it.
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(&object.sha256)
            .if_none_match("*")
            .metadata(MISSING, object.missing.to_string())
            .object_lock_mode(ObjectLockMode::Compliance)
            .object_lock_retain_until_date(date(until))
            .send();
        self.within("PutObject", asked).await.map(|_| ())
    }

    /// What the bucket says of an object; none: there is no such object.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub async fn kept(&self, key: &str) -> Result<Option<Kept>, ArchiveError> {
        self.kept_as(key, None).await
    }

    /// The same of one version.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub async fn kept_as(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<Kept>, ArchiveError> {
        const OPERATION: &str = "HeadObject";
        let asked = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(self.whole(key))
            .set_version_id(version.map(str::to_owned))
            .checksum_mode(ChecksumMode::Enabled)
            .send();
        let answer = match self.within(OPERATION, asked).await {
            Ok(answer) => answer,
            Err(Failed::Absent) => return Ok(None),
            Err(failed) => return Err(failed.error(OPERATION)),
        };
        let is_compliance = answer.object_lock_mode() == Some(&ObjectLockMode::Compliance);
        let until = answer.object_lock_retain_until_date().filter(|_| is_compliance);
        let noted = answer.metadata().and_then(|all| all.get(MISSING)?.parse().ok());
        Ok(Some(Kept {
            sha256: answer.checksum_sha256().map(str::to_owned),
            bytes: answer.content_length().and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
            locked_until: until.and_then(instant),
            missing: noted.unwrap_or_default(),
            version: answer.version_id().map(str::to_owned),
        }))
    }

    /// Locks an object for longer.
    pub(super) async fn lock(&self, key: &str, until: OffsetDateTime) -> Result<(), ArchiveError> {
        const OPERATION: &str = "PutObjectRetention";
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Compliance)
            .retain_until_date(date(until))
            .build();
        let asked = self
            .client
            .put_object_retention()
            .bucket(&self.name)
            .key(self.whole(key))
            .retention(retention)
            .send();
        let answered = self.within(OPERATION, asked).await;
        answered.map(|_| ()).map_err(|failed| failed.error(OPERATION))
    }

    /// An object's bytes; none: there is no such object.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub async fn read(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<Bytes>, ArchiveError> {
        const OPERATION: &str = "GetObject";
        let asked = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(self.whole(key))
            .set_version_id(version.map(str::to_owned))
            .send();
        let read = async {
            let answer = match asked.await {
                Ok(answer) => answer,
                Err(error) => return Err(Failed::of(OPERATION, &self.name, &error)),
            };
            let body = Limited::new(answer.body.into_inner(), ANSWER_MAX_BYTES).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|error| {
                let words = text::clipped(&error.to_string(), 200);
                Failed::Error(ArchiveError::Unreachable { operation: OPERATION, words })
            })
        };
        match self.deadline(OPERATION, read).await {
            Ok(body) => Ok(Some(body)),
            Err(Failed::Absent) => Ok(None),
            Err(failed) => Err(failed.error(OPERATION)),
        }
    }

    async fn within<T, E>(
        &self,
        operation: &'static str,
        asked: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failed>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let answered =
            async { asked.await.map_err(|error| Failed::of(operation, &self.name, &error)) };
        self.deadline(operation, answered).await
    }

    /// The SDK has no deadline of its own; this one also holds while credentials are looked for.
    async fn deadline<T>(
        &self,
        operation: &'static str,
        asked: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, Failed> {
        let millis = self.timeout.as_millis();
        let slow = |_| Failed::Error(ArchiveError::Slow { operation, millis });
        timeout(self.timeout, asked).await.map_err(slow)?
    }
}

/// What the trail notes beside an object.
const MISSING: &str = "missing-records";

fn date(at: OffsetDateTime) -> DateTime {
    DateTime::from_secs(at.unix_timestamp())
}

fn instant(at: &DateTime) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(at.secs()).ok()
}
