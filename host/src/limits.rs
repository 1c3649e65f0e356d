//! What the machine lets this process have: memory and processors of its control group, and open
//! files. Whoever gives less than a configuration may need hears of it before it is missed.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Where control groups are mounted.
const MOUNTED: &str = "/sys/fs/cgroup";
/// Version 1 says "no limit" by the largest number of pages that it can count.
const NO_LIMIT: u64 = 1 << 60;

/// The soft limit of open files that this process was started with, once it has raised it.
static FILES_BEFORE: OnceLock<u64> = OnceLock::new();

/// What this process may have; None: there is no limit, or it cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes of memory, of the tightest group above it.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a processor.
    pub processor_thousandths: Option<u64>,
    /// Files and sockets that may be open at once.
    pub files: Option<u64>,
}

impl Limits {
    /// Those of this process, which raises its limit of open files as far as it may first.
    #[must_use]
    pub fn of_process() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self { files: files(), ..Self::of_groups(&groups, Path::new(MOUNTED)) }
    }

    /// As `/proc/self/cgroup` has them.
    fn of_groups(groups: &str, mounted: &Path) -> Self {
        let mut found = Self::default();
        let mut least = |slot: fn(&mut Self) -> &mut Option<u64>, value: Option<u64>| {
            let slot = slot(&mut found);
            *slot = [*slot, value].into_iter().flatten().min();
        };
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let has = |name| controllers.split(',').any(|controller| controller == name);
            if controllers.is_empty() {
                for group in above(mounted, path) {
                    least(|found| &mut found.memory_bytes, number(&group.join("memory.max")));
                    least(|found| &mut found.processor_thousandths, quota(&group.join("cpu.max")));
                }
            } else if has("memory") {
                for group in above(&mounted.join("memory"), path) {
                    let limit = number(&group.join("memory.limit_in_bytes"));
                    least(|found| &mut found.memory_bytes, limit.filter(|limit| *limit < NO_LIMIT));
                }
            } else if has("cpu") {
                let named = ["cpu", controllers].map(|name| mounted.join(name));
                let mounted = named.iter().find(|place| place.is_dir());
                for group in mounted.map(|mounted| above(mounted, path)).unwrap_or_default() {
                    let quota = number(&group.join("cpu.cfs_quota_us"));
                    let period = number(&group.join("cpu.cfs_period_us"));
                    least(|found| &mut found.processor_thousandths, thousandths(quota, period));
                }
            }
        }
        found
    }
}

/// Bytes of memory that the control group of this process lets it have.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Limits::of_groups(&groups, Path::new(MOUNTED)).memory_bytes
}

/// The group, and those above it up to the mount. A container sees its own group as the mount.
fn above(mounted: &Path, path: &str) -> Vec<PathBuf> {
    let below = Path::new(path.trim_start_matches('/'));
    below.ancestors().map(|part| mounted.join(part)).collect()
}

/// A number; None for `max` and `-1`.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// `QUOTA PERIOD` of version 2.
fn quota(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    thousandths(quota.parse().ok(), period.parse().ok())
}

fn thousandths(quota: Option<u64>, period: Option<u64>) -> Option<u64> {
    quota?.saturating_mul(1000).checked_div(period?)
}

/// The soft limit of open files that this process was started with; None: it never raised it, and
/// its children have the same.
#[must_use]
pub fn files_before() -> Option<u64> {
    FILES_BEFORE.get().copied()
}

/// Lowers this process's soft limit of open files to `most`. It can be raised again, and a lower
/// one stays.
///
/// # Errors
/// If the kernel refuses.
pub fn lower_files(most: u64) -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.min(most), hard)?)
}

fn files() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    // Whoever set the lower one meant programs that cannot count beyond it, and a child may be one.
    let _ = FILES_BEFORE.set(soft);
    let raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    Some(if raised { hard } else { soft })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let place = std::env::temp_dir().join(format!("limits-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        place
    }

    fn put(file: PathBuf, text: &str) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn the_tightest_group_above_counts_in_both_versions() {
        let place = scratch("both");
        put(place.join("pods/one/memory.max"), "max\n");
        put(place.join("pods/memory.max"), "268435456\n");
        put(place.join("pods/one/cpu.max"), "10000 100000\n");
        put(place.join("pods/cpu.max"), "max 100000\n");
        let found = Limits::of_groups("0::/pods/one\n", &place);
        assert_eq!(
            (found.memory_bytes, found.processor_thousandths),
            (Some(268_435_456), Some(100))
        );

        put(place.join("memory/memory.limit_in_bytes"), "9223372036854771712\n");
        put(place.join("memory/a/memory.limit_in_bytes"), "1048576\n");
        put(place.join("cpu,cpuacct/a/cpu.cfs_quota_us"), "-1\n");
        put(place.join("cpu,cpuacct/a/cpu.cfs_period_us"), "100000\n");
        let groups = "4:memory:/a\n2:cpu,cpuacct:/a\n1:name=systemd:/a\n";
        let found = Limits::of_groups(groups, &place);
        assert_eq!((found.memory_bytes, found.processor_thousandths), (Some(1_048_576), None));
        put(place.join("cpu,cpuacct/a/cpu.cfs_quota_us"), "250000\n");
        assert_eq!(Limits::of_groups(groups, &place).processor_thousandths, Some(2500));
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_no_limit() {
        for groups in ["", "no group", "4:memory:/a\n0::/b\n1:cpu:/c\n"] {
            assert_eq!(Limits::of_groups(groups, &scratch("none")), Limits::default(), "{groups}");
        }
    }
}
