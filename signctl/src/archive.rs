//! An archive that signing-trail wrote: in its bucket, or in files that were downloaded from there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail};
use host::environment::Environment;
use tokio::runtime::Runtime;
use trail::archive::bucket::Bucket;
use trail::archive::place::Place;
use trail::archive::read::Archive;

/// The longest that one call to a bucket may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An archive.
#[derive(clap::Args)]
#[group(requires = "archive")]
pub(crate) struct ArchiveFlags {
    /// The archive that signing-trail writes: s3://BUCKET/PREFIX, a directory with files that were downloaded
    /// from there, or a file of `audit export`. A bucket is read with the AWS credentials of this process; to read is
    /// enough.
    #[arg(long, value_name = "WHERE", env = "SIGNCTL_ARCHIVE", required = false)]
    archive: String,
    /// The bucket's region; without it AWS_REGION.
    #[arg(long, value_name = "REGION")]
    archive_region: Option<String>,
    /// Where the bucket is served, if not by AWS.
    #[arg(long, value_name = "URL")]
    archive_endpoint: Option<String>,
    /// The authorities behind that endpoint, in place of the platform's.
    #[arg(long, value_name = "FILE")]
    archive_ca: Option<PathBuf>,
}

impl ArchiveFlags {
    /// Reads nothing of it yet.
    ///
    /// # Errors
    /// If the flags name no archive.
    pub(crate) fn open(&self, runtime: &Runtime) -> anyhow::Result<Archive> {
        let named = &self.archive;
        if !named.starts_with("s3://") {
            let path = PathBuf::from(named);
            if !path.exists() {
                bail!(
                    "--archive {named}: there is no such file or directory; a bucket is s3://BUCKET/PREFIX"
                );
            }
            return Ok(Archive::Files(path));
        }
        let place = Place::of_url(
            named,
            self.archive_region.as_deref(),
            self.archive_endpoint.as_deref(),
            self.archive_ca.as_deref().map(Path::new),
            &Environment::of_process(),
            TIMEOUT,
        );
        let place = place.map_err(|why| anyhow!("--archive {named} {why}"))?;
        Ok(Archive::Bucket(runtime.block_on(Bucket::new(&place))?))
    }
}
