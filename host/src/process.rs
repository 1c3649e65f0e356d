//! What the kernel says of this process, as the metrics that every exporter of Prometheus calls by these
//! names. Read when somebody asks, and never by what signs.
//!
//! All of it stays readable for a process that is not dumpable: the kernel lets a process list its own
//! `/proc/self/fd` whoever owns it (proc(5)). What cannot be had is left out, and nothing stands in for it.

use std::fmt::Write as _;
use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use time::OffsetDateTime;

use crate::clock::wall_now;

/// Each metric: its name, its type and its help.
const DESCRIPTIONS: [(&str, &str, &str); 7] = [
    (
        "process_cpu_seconds_total",
        "counter",
        "User and system CPU time of this process, in seconds.",
    ),
    (
        "process_resident_memory_bytes",
        "gauge",
        "Memory of this process that is resident, in bytes.",
    ),
    ("process_virtual_memory_bytes", "gauge", "Address space of this process, in bytes."),
    ("process_start_time_seconds", "gauge", "When this process started, in seconds since 1970."),
    ("process_open_fds", "gauge", "File descriptors that are open."),
    ("process_max_fds", "gauge", "File descriptors that may be open: the soft limit."),
    ("process_threads", "gauge", "Threads of this process."),
];

/// This process, from its start on.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    started: OffsetDateTime,
}

impl Process {
    /// To be called while the program starts: the start time is that of this call.
    #[must_use]
    pub fn started() -> Self {
        Self { started: wall_now() }
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn metrics(self) -> String {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |name| field(&status, name).map(|kib| (kib * 1024).to_string());
        let values = [
            cpu_seconds().map(|seconds| format!("{seconds:.6}")),
            kib("VmRSS"),
            kib("VmSize"),
            Some(format!("{:.3}", self.seconds())),
            open_fds().map(|count| count.to_string()),
            max_fds(),
            field(&status, "Threads").map(|count| count.to_string()),
        ];
        let mut text = String::new();
        for ((name, kind, help), value) in DESCRIPTIONS.iter().zip(values) {
            if let Some(value) = value {
                // Writing to a text does not fail.
                let _ =
                    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
            }
        }
        text
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^52")]
    fn seconds(self) -> f64 {
        (self.started.unix_timestamp_nanos() / 1_000_000) as f64 / 1000.0
    }
}

/// A number of `/proc/self/status`: `VmRSS:      1234 kB`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of CPU time are far below 2^52")]
fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let of = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Some(of(usage.user_time()) + of(usage.system_time()))
}

/// Without the one that lists them.
fn open_fds() -> Option<usize> {
    let listed = fs::read_dir("/proc/self/fd").ok()?.filter(Result::is_ok).count();
    Some(listed.saturating_sub(1))
}

fn max_fds() -> Option<String> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    Some(if soft == nix::sys::resource::rlim_t::MAX { "+Inf".to_owned() } else { soft.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_the_status_is_found_by_its_whole_name() {
        let status = "VmPeak:\t  9 kB\nVmRSS:\t 1234 kB\nnonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t3\n";
        assert_eq!(field(status, "VmRSS"), Some(1234));
        assert_eq!(field(status, "voluntary_ctxt_switches"), Some(3));
        assert_eq!(field(status, "Vm"), None);
        assert_eq!(field("VmRSS:\t\n", "VmRSS"), None);
    }

    #[test]
    fn a_descriptor_more_is_one_more() {
        let text = Process::started().metrics();
        for (name, ..) in DESCRIPTIONS {
            assert!(text.contains(&format!("\n{name} ")), "{name} is missing in {text}");
        }
        // Other tests of this process open files too: at least these are there.
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(open_fds().unwrap() >= held.len());
    }
}
