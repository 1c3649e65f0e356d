//! One object, written once: whatever happened before, afterwards the bucket holds exactly these bytes under that
//! key, and says itself that they are these and how long they are locked.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use host::clock::wall_now;
use time::{Duration, OffsetDateTime};

use super::bucket::{Bucket, Kept, Object};
use super::error::{ArchiveError, Failed};

/// By how much the end of a lock may differ: whole seconds, and the time that a call takes.
const TOLERANCE: Duration = Duration::minutes(1);

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It was written now.
    Written,
    /// It was there: a run before wrote it, and did not hear so or was killed.
    WasThere,
}

impl Object {
    pub(super) fn new(
        key: String,
        body: impl Into<Bytes>,
        kind: &'static str,
        missing: u64,
    ) -> Self {
        let body = body.into();
        let sha256 = sha256(&body);
        Self { key, body, sha256, kind, missing }
    }
}

/// SHA-256, as S3 has it.
pub(super) fn sha256(body: &[u8]) -> String {
    STANDARD.encode(digest(&SHA256, body))
}

impl Bucket {
    /// Brings an object into the bucket.
    ///
    /// Dying before the bucket has it: it is written by the next run. Dying after, before the answer: the next run
    /// finds that it is there, and checks it.
    pub(super) async fn bring(
        &self,
        object: &Object,
        retention_days: u64,
    ) -> Result<Put, ArchiveError> {
        let until = end_of_lock(wall_now(), retention_days);
        let put = match self.put(object, until).await {
            Ok(()) => Put::Written,
            Err(Failed::Exists) => Put::WasThere,
            Err(failed) => return Err(failed.error("PutObject")),
        };
        let kept = self.same(object).await?;
        if is_locked(&kept, until) {
            return Ok(put);
        }
        if put == Put::WasThere && kept.locked_until.is_some() {
            // It was written a while ago, or for fewer days. A lock can only be made longer.
            self.lock(&object.key, until).await?;
            if self.same(object).await.is_ok_and(|kept| is_locked(&kept, until)) {
                return Ok(put);
            }
        }
        let found = match kept.locked_until {
            Some(until) => format!("is locked until {until} only"),
            None => "is not locked in COMPLIANCE mode".to_owned(),
        };
        let what = format!("the bucket says that it {found}, and it has to be until {until}");
        Err(ArchiveError::object(&object.key, what))
    }

    /// What the bucket says of it, if that is what was brought.
    async fn same(&self, object: &Object) -> Result<Kept, ArchiveError> {
        let wrong = |what: &str| ArchiveError::object(&object.key, what);
        let kept = self.kept(&object.key).await?;
        let kept = kept.ok_or_else(|| wrong("the bucket accepted it, and does not have it"))?;
        let found = match &kept.sha256 {
            Some(found) => found.clone(),
            // Somebody else wrote it, without a checksum.
            None => match self.read(&object.key, kept.version.as_deref()).await? {
                Some(body) => sha256(&body),
                None => return Err(wrong("the bucket lists it, and does not have it")),
            },
        };
        if found != object.sha256 || kept.bytes != object.body.len() as u64 {
            return Err(wrong(
                "the bucket holds other bytes under this key than the journal has; nothing is written over: find out who wrote it",
            ));
        }
        Ok(kept)
    }
}

fn end_of_lock(now: OffsetDateTime, retention_days: u64) -> OffsetDateTime {
    let days = i64::try_from(retention_days).unwrap_or(i64::MAX);
    // The longest retention that a configuration may name is a hundred years.
    now.checked_add(Duration::days(days.min(36_500))).unwrap_or(now)
}

fn is_locked(kept: &Kept, until: OffsetDateTime) -> bool {
    kept.locked_until.is_some_and(|found| found + TOLERANCE >= until)
}
