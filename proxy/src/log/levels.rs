//! `RUST_LOG`: which levels are logged. What cannot be read is never taken as "nothing": then the
//! default applies, and the log says so.

use std::ffi::OsStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// The level without a setting, and of every target that a setting does not name.
pub(super) const DEFAULT: LevelFilter = LevelFilter::INFO;

/// Longest part of a setting that is repeated.
const SHOWN_MAX_BYTES: usize = 200;

/// What a line's `target` begins with: our own, and the libraries' that log.
const TARGETS: [&str; 21] = [
    "admin",
    "audit",
    "aws_",
    "breakglass",
    "condition",
    "config",
    "credentials",
    "fleet",
    "gate",
    "h2",
    "hyper",
    "log",
    "outcome",
    "pkcs11",
    "refusal",
    "rustls",
    "signing_core",
    "signing_proxy",
    "tokio",
    "traces",
    "trail",
];

/// What is logged.
#[derive(Debug)]
pub(super) struct Levels {
    pub(super) targets: Targets,
    /// Why the default applies in place of the setting.
    pub(super) set_aside: Option<String>,
}

impl Levels {
    /// By the value of `RUST_LOG`; none: it is not set.
    pub(super) fn of(setting: Option<&OsStr>) -> Self {
        let read = setting.map(|setting| match setting.to_str() {
            Some(text) => read(text),
            None => Err("is not UTF-8".to_owned()),
        });
        match read {
            None => Self { targets: default(), set_aside: None },
            Some(Ok(targets)) => Self { targets, set_aside: None },
            Some(Err(why)) => Self { targets: default(), set_aside: Some(why) },
        }
    }
}

fn default() -> Targets {
    Targets::new().with_default(DEFAULT)
}

/// Reads `LEVEL` and `TARGET=LEVEL`, with commas between them.
fn read(setting: &str) -> Result<Targets, String> {
    let mut targets = default();
    let parts = setting.split(',').map(str::trim).filter(|part| !part.is_empty());
    let mut count = 0;
    for part in parts {
        count += 1;
        targets = match part.split_once('=') {
            None => targets.with_default(level(part)?),
            Some((target, word)) => targets.with_target(known(target.trim())?, level(word.trim())?),
        };
    }
    if count == 0 { Err("is empty".to_owned()) } else { Ok(targets) }
}

fn level(word: &str) -> Result<LevelFilter, String> {
    let words = ["off", "error", "warn", "info", "debug", "trace"];
    let is_one = words.iter().any(|one| word.eq_ignore_ascii_case(one));
    let level = is_one.then(|| word.parse().ok()).flatten();
    level.ok_or_else(|| format!("{:?} is not one of the levels {}", shown(word), words.join(", ")))
}

fn known(target: &str) -> Result<&str, String> {
    let is_known = TARGETS.iter().any(|known| target.starts_with(known));
    is_known.then_some(target).ok_or_else(|| {
        format!("nothing logs as {:?}; targets are {}", shown(target), TARGETS.join(", "))
    })
}

fn shown(text: &str) -> String {
    text::clipped(text, SHOWN_MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn of(setting: &str) -> Levels {
        Levels::of(Some(OsStr::new(setting)))
    }

    #[test]
    fn what_can_be_read_counts_and_what_it_does_not_name_has_the_default() {
        for (setting, info, gate_debug) in [
            ("info", true, false),
            ("WARN", false, false),
            ("off", false, false),
            (" debug ", true, true),
            ("gate=debug", true, true),
            ("warn,gate=debug", false, true),
            ("gate = debug , error,", false, true),
        ] {
            let Levels { targets, set_aside } = of(setting);
            assert_eq!(set_aside, None, "{setting}");
            assert_eq!(targets.would_enable("admin", &Level::INFO), info, "{setting}");
            assert_eq!(targets.would_enable("gate", &Level::DEBUG), gate_debug, "{setting}");
        }
        assert_eq!(Levels::of(None).set_aside, None);
    }

    #[test]
    fn what_cannot_be_read_leaves_the_default_and_says_why() {
        for (setting, why) in [
            ("", "is empty"),
            (" , ", "is empty"),
            ("inof", "\"inof\" is not one of the levels off, error"),
            ("info,admin=debgu", "\"debgu\" is not one of the levels"),
            ("signing_proxi=debug", "nothing logs as \"signing_proxi\"; targets are admin"),
            ("=info", "nothing logs as \"\""),
            ("gate=", "\"\" is not one of the levels"),
            ("[span]=info", "nothing logs as"),
            ("3", "\"3\" is not one of the levels"),
            ("in\u{202e}fo", "in\\\\u{202e}fo"),
        ] {
            let Levels { targets, set_aside } = of(setting);
            let said = set_aside.unwrap_or_else(|| panic!("{setting:?} was read"));
            assert!(said.contains(why), "{setting:?}: {said}");
            assert_eq!(targets, default(), "{setting:?}");
        }
        use std::os::unix::ffi::OsStrExt as _;
        let said = Levels::of(Some(OsStr::from_bytes(b"\xff"))).set_aside;
        assert_eq!(said.as_deref(), Some("is not UTF-8"));
    }

    /// The sources of a crate that logs in this process, as one text.
    fn sources(room: &str) -> String {
        fn walk(directory: &std::path::Path, all: &mut String) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, all);
                } else if let Ok(text) = std::fs::read_to_string(&path) {
                    *all += &text;
                }
            }
        }
        let mut all = String::new();
        walk(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(room), &mut all);
        all
    }

    /// Those that are not this crate: without a target, their lines would have their own names as one.
    const OTHERS: [&str; 5] = ["breakglass", "monitor", "server", "sign", "upstream"];

    #[test]
    fn every_target_that_we_log_as_is_known() {
        let others = OTHERS.iter().map(|room| sources(&format!("../{room}/src")));
        let all: String = others.chain([sources("src")]).collect();
        let found: Vec<_> = all.split("target: \"").skip(1).collect();
        assert!(found.len() > 10, "{found:?}");
        for target in found.iter().filter_map(|rest| rest.split('"').next()) {
            assert!(known(target).is_ok(), "{target}");
        }
    }

    #[test]
    fn what_another_crate_logs_names_its_target() {
        for room in OTHERS {
            let text = sources(&format!("../{room}/src"));
            for level in ["trace", "debug", "info", "warn", "error"] {
                for event in text.split(&format!("tracing::{level}!(")).skip(1) {
                    let line: String = event.chars().take(80).collect();
                    assert!(line.trim_start().starts_with("target:"), "{room}: {line}");
                }
            }
        }
    }
}
