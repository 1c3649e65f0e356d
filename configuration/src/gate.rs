//! `[gate]`: when gates shut and open, and how they are probed.

use std::ops::RangeInclusive;
use std::time::Duration;

use signing_core::gate::{Thresholds, WindowLimits};
use signing_core::monitor::Probe;

use host::section::Section;

/// What a lease has to have beside a probe's interval and time-out.
const LEASE_SLACK_MS: u64 = 1_000;

pub(super) fn read(mut section: Section) -> (Thresholds, Probe) {
    let lease_ms = section.number("lease_ms", 8_000, 100..=600_000);
    let interval_ms = section.number("probe_interval_ms", 5_000, 10..=300_000);
    let timeout_ms = section.number("probe_timeout_ms", 2_000, 10..=60_000);
    let recovery_ms = section.number("recovery_probe_interval_ms", 500, 10..=60_000);
    // Asked before a relation is found wrong, which says nothing against the other.
    let probes = section.sound(&["lease_ms", "probe_interval_ms", "probe_timeout_ms"]);
    let recovery = section.sound(&["lease_ms", "recovery_probe_interval_ms", "probe_timeout_ms"]);
    let needed_ms = interval_ms + timeout_ms + LEASE_SLACK_MS;
    if probes && lease_ms < needed_ms {
        section.mistake(
            "lease_ms",
            format!(
                "is {lease_ms}, expected at least {needed_ms} = probe_interval_ms {interval_ms} \
                 + probe_timeout_ms {timeout_ms} + {LEASE_SLACK_MS}, or one slow probe shuts the gate"
            ),
        );
    }
    if recovery && recovery_ms + timeout_ms >= lease_ms {
        section.mistake(
            "recovery_probe_interval_ms",
            format!(
                "is {recovery_ms}; with probe_timeout_ms {timeout_ms} it must stay below \
                 lease_ms {lease_ms}, or a gate never opens again"
            ),
        );
    }
    let recovery_min = millis(&mut section, "recovery_min_ms", 1_000, 0..=600_000);
    let recovery_max = millis(&mut section, "recovery_max_ms", 60_000, 0..=600_000);
    if section.sound(&["recovery_min_ms", "recovery_max_ms"]) && recovery_max < recovery_min {
        section.mistake(
            "recovery_max_ms",
            format!(
                "is {}, expected at least recovery_min_ms {}, which it grows from",
                recovery_max.as_millis(),
                recovery_min.as_millis()
            ),
        );
    }
    let thresholds = Thresholds {
        lease: Duration::from_millis(lease_ms),
        failures_to_shut: small(&mut section, "failures_to_shut", 3),
        successes_to_open: small(&mut section, "successes_to_open", 3),
        recovery_min,
        recovery_max,
        flap_window: millis(&mut section, "flap_window_ms", 60_000, 0..=3_600_000),
        window: window(&mut section),
    };
    let key_state_interval = millis(&mut section, "key_state_interval_ms", 60_000, 100..=3_600_000);
    section.finish();
    let probe = Probe {
        interval: Duration::from_millis(interval_ms),
        recovery_interval: Duration::from_millis(recovery_ms),
        timeout: Duration::from_millis(timeout_ms),
        key_state_interval,
    };
    (thresholds, probe)
}

fn window(section: &mut Section) -> WindowLimits {
    let percent = |section: &mut Section, key, default| {
        u32::try_from(section.number(key, default, 1..=100)).unwrap_or(100)
    };
    WindowLimits {
        length: millis(section, "window_ms", 10_000, 100..=600_000),
        calls_min: u32::try_from(section.number("window_calls_min", 20, 1..=1_000_000))
            .unwrap_or(u32::MAX),
        error_percent_max: percent(section, "error_percent_max", 50),
        slow_call: millis(section, "slow_call_ms", 1_000, 1..=60_000),
        slow_percent_max: percent(section, "slow_percent_max", 80),
    }
}

fn millis(
    section: &mut Section,
    key: &'static str,
    default_ms: u64,
    range: RangeInclusive<u64>,
) -> Duration {
    Duration::from_millis(section.number(key, default_ms, range))
}

fn small(section: &mut Section, key: &'static str, default: u64) -> u32 {
    u32::try_from(section.number(key, default, 1..=1_000)).unwrap_or(1)
}
