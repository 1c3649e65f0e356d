//! An archive as whoever checks it reads it: a bucket, with every version of every object, or files that were downloaded
//! from one or exported from a journal.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use host::clock::wall_now;

use super::bucket::{Bucket, Version};
use super::files;
use super::listing::{Listing, Pair, Place};
use super::name::{Name, Part};
use super::put::sha256;
use super::verify::{Found, Records, Verifier};

pub use super::listing::{ReadError, ReadObserver};

/// Where an archive is read.
#[derive(Debug)]
pub enum Archive {
    /// In its bucket.
    Bucket(Bucket),
    /// In a directory, or in one file of `audit export`.
    Files(PathBuf),
}

impl Archive {
    /// Verifies all of it.
    ///
    /// # Errors
    /// [`ReadError`] if it cannot be read. What is wrong with what was read is in what is found.
    pub async fn verify(
        &self,
        mut verifier: Verifier<'_>,
        hear: &mut dyn ReadObserver,
    ) -> Result<Found, ReadError> {
        if let Self::Files(path) = self
            && path.is_file()
        {
            files::exported(path, &mut verifier, hear)?;
            return Ok(verifier.finish());
        }
        let listing = match self {
            Self::Bucket(bucket) => listed(bucket, verifier.found()).await?,
            Self::Files(path) => files::listed(path, verifier.found())?,
        };
        if listing.parts.is_empty() && listing.events.is_empty() {
            return Err(ReadError::Empty(match self {
                Self::Bucket(_) => "the bucket".to_owned(),
                Self::Files(path) => path.display().to_string(),
            }));
        }
        let (mut read, of) = (0, listing.objects());
        let mut parts = listing.parts.iter().peekable();
        while let Some((part, pair)) = parts.next() {
            let is_newest = parts.peek().is_none_or(|(next, _)| next.log != part.log);
            self.part(*part, pair, is_newest, &mut verifier, hear).await?;
            read += 1;
            hear.progress(read, of);
        }
        for (id, place) in &listing.events {
            if let Some(body) = self.read(place, &mut verifier).await?
                && let Some(payload) = verifier.event(&place.key, id, &body)
            {
                hear.event(id, &payload);
            }
            read += 1;
            hear.progress(read, of);
        }
        Ok(verifier.finish())
    }

    async fn part(
        &self,
        part: Part,
        pair: &Pair,
        is_newest: bool,
        verifier: &mut Verifier<'_>,
        hear: &mut dyn ReadObserver,
    ) -> Result<(), ReadError> {
        let Some(records) = &pair.records else {
            let key = pair.checkpoint.as_ref().map_or_else(String::new, |place| place.key.clone());
            verifier.found().defect(format!("{key}: the records that it covers are not there"));
            return Ok(());
        };
        let Some(body) = self.read(records, verifier).await? else { return Ok(()) };
        let note = match &pair.checkpoint {
            Some(place) => self.read(place, verifier).await?,
            None => None,
        };
        let of = Records { key: &records.key, part, body: &body, note: note.as_deref(), is_newest };
        verifier.records(&of, &mut |log, leaf| hear.record(log, leaf));
        Ok(())
    }

    /// An object's bytes; of a bucket also how it is kept.
    async fn read(
        &self,
        place: &Place,
        verifier: &mut Verifier<'_>,
    ) -> Result<Option<Bytes>, ReadError> {
        match self {
            Self::Files(root) => {
                let path = root.join(&place.key);
                let body = files::read(&path)?;
                Ok(Some(body))
            }
            Self::Bucket(bucket) => {
                let version = place.version.as_deref();
                let kept = bucket.kept_as(&place.key, version).await?;
                let body = bucket.read(&place.key, version).await?;
                let (Some(kept), Some(body)) = (kept, body) else {
                    let what = "the bucket lists it, and does not have it";
                    verifier.found().defect(format!("{}: {what}", place.key));
                    return Ok(None);
                };
                match kept.locked_until {
                    None => verifier
                        .found()
                        .defect(format!("{}: it is not locked in COMPLIANCE mode", place.key)),
                    Some(until) if until <= wall_now() => verifier.found().unlocked_by_age += 1,
                    Some(_) => {}
                }
                if kept.sha256.is_some_and(|kept| kept != sha256(&body)) {
                    let what = "its bytes have not the checksum that the bucket names";
                    verifier.found().defect(format!("{}: {what}", place.key));
                }
                Ok(Some(body))
            }
        }
    }
}

/// The objects of a bucket, each as it was written first: what was written over it or hides it is a defect.
async fn listed(bucket: &Bucket, found: &mut Found) -> Result<Listing, ReadError> {
    let mut by_key: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    for version in bucket.versions().await? {
        if Name::parse(&version.key).is_some() {
            by_key.entry(version.key.clone()).or_default().push(version);
        }
    }
    let mut listing = Listing::default();
    for (key, versions) in by_key {
        if versions.iter().any(|one| one.is_newest && one.tag.is_none()) {
            found
                .defect(format!("{key}: somebody deleted it; the locked versions are still there"));
        }
        let written: Vec<_> = versions.iter().filter(|one| one.tag.is_some()).collect();
        // A listing has the newest first.
        let Some(first) = written.last() else { continue };
        let mut sums = Vec::new();
        if written.len() > 1 {
            for one in &written {
                let kept = bucket.kept_as(&key, Some(&one.id)).await?;
                sums.push(kept.and_then(|kept| kept.sha256).or_else(|| one.tag.clone()));
            }
        }
        if sums.windows(2).any(|two| two.first() != two.last()) {
            found.defect(format!(
                "{key}: it was written over: {} versions differ; the first is looked at",
                written.len()
            ));
        } else if written.len() > 1 {
            found.note(format!(
                "{key}: it was deleted and written again; all versions are the same"
            ));
        }
        let version = Some(first.id.clone()).filter(|id| !id.is_empty() && id != "null");
        if let Some(name) = Name::parse(&key) {
            listing.add(name, Place { key, version }, found);
        }
    }
    Ok(listing)
}
