//! What the evidence says of each component: pure, with the time as an argument.

use host::clock::rfc3339;
use host::log_thread::LogState;
use mtls::Dated;
use release::SinkError;
use signing_core::Moment;
use signing_core::fleet::{Member, OnLoss};
use telemetry::conditions::{Component, Level};
use time::{Duration, OffsetDateTime};

/// What expires sooner than this is said beforehand.
const SOON: Duration = Duration::days(14);
/// How far the wall clock may be from where it should be.
const CLOCK_MAX: Duration = Duration::seconds(60);

/// How a component is, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) component: Component,
    pub(super) level: Level,
    pub(super) detail: String,
}

impl Verdict {
    fn ok(component: Component) -> Self {
        Self { component, level: Level::Ok, detail: String::new() }
    }

    fn degraded(component: Component, detail: String) -> Self {
        Self { component, level: Level::Degraded, detail }
    }

    fn failed(component: Component, detail: String) -> Self {
        Self { component, level: Level::Failed, detail }
    }

    /// The worst of what is wrong decides the level; all of it is said.
    fn of(component: Component, wrong: Vec<(Level, String)>) -> Self {
        let level = wrong.iter().map(|(level, _)| *level).max().unwrap_or(Level::Ok);
        let details: Vec<_> = wrong.into_iter().map(|(_, detail)| detail).collect();
        Self { component, level, detail: details.join("; ") }
    }
}

/// What becomes of a file of `[server.tls]` that is replaced.
const READS: &str =
    "The proxy reads the file by itself within seconds (with watch = false: signctl reload)";

pub(super) fn server_certificate(certificate: &Dated, now: OffsetDateTime) -> Verdict {
    let component = Component::ServerCertificate;
    match told_of(certificate, now) {
        Some((what, false)) => Verdict::failed(
            component,
            format!("{what}: callers refuse it; put a valid one and its key there. {READS}"),
        ),
        Some((what, true)) => Verdict::degraded(component, format!("{what}; renew it. {READS}")),
        None => Verdict::ok(component),
    }
}

/// An authority that does not count admits nobody: all of them together decide whether anybody
/// gets in.
pub(super) fn client_authorities(authorities: &[Dated], now: OffsetDateTime) -> Verdict {
    let wrong: Vec<_> = authorities.iter().filter_map(|dated| told_of(dated, now)).collect();
    let admit_nobody = wrong.iter().filter(|(_, counts)| !counts).count();
    let level = if admit_nobody == authorities.len() { Level::Failed } else { Level::Degraded };
    let told = wrong.into_iter().map(|(what, counts)| {
        let consequence = if counts { "" } else { ": its clients are refused" };
        let detail = format!("{what}{consequence}; put its successor into the file. {READS}");
        (level, detail)
    });
    Verdict::of(Component::ClientAuthorities, told.collect())
}

/// A list that is due refuses the clients of its issuer. Whether others get in shows only when
/// they come: it does not count as a failure of all.
pub(super) fn revocation_lists(lists: &[Dated], now: OffsetDateTime) -> Verdict {
    // Lists are short-lived: they are renewed shortly before they are due.
    let due = lists.iter().filter(|list| list.ends <= now || list.begins > now);
    let told = due.filter_map(|list| told_of(list, now)).map(|(what, _)| {
        let detail = format!(
            "{what}: clients are refused unless another current list of their issuer is there; \
             fetch the current list. {READS}"
        );
        (Level::Degraded, detail)
    });
    Verdict::of(Component::RevocationLists, told.collect())
}

pub(super) fn admin_socket(lost: Option<&str>) -> Verdict {
    let component = Component::AdminSocket;
    match lost {
        Some(why) => Verdict::degraded(
            component,
            format!(
                "no operator can freeze through it: {why}; the proxy binds it again once nothing else is at that path"
            ),
        ),
        None => Verdict::ok(component),
    }
}

/// `connected` is None where break-glass is not configured; `refused` is why its log is not believed.
pub(super) fn emergency_signer(connected: Option<bool>, refused: Option<&str>) -> Verdict {
    let component = Component::EmergencySigner;
    if let (Some(false), Some(why)) = (connected, refused) {
        return Verdict::degraded(
            component,
            format!(
                "breakglass-signer is refused: {why}: no break-glass can begin; look at signctl \
                 breakglass status; bring its newest state and journal back, or accept it: signctl \
                 breakglass accept-signer --reason WHY"
            ),
        );
    }
    match connected {
        Some(false) => Verdict::degraded(
            component,
            "breakglass-signer does not answer at breakglass.signer_socket: no break-glass can \
             begin; start it, and look at its log"
                .to_owned(),
        ),
        Some(true) | None => Verdict::ok(component),
    }
}

/// Without a word of the fleet nobody freezes this member together with the others.
pub(super) fn fleet(member: &Member, now: Moment) -> Verdict {
    let component = Component::Fleet;
    let on_loss = member.rules().map(|rules| rules.on_loss);
    let consequence = match on_loss.filter(|_| member.is_lost(now)) {
        None => return Verdict::ok(component),
        Some(OnLoss::Keep) => "freezes of the fleet do not reach this member",
        Some(OnLoss::Freeze) => "this member does not sign (fleet.on_loss = \"freeze\")",
    };
    Verdict::degraded(
        component,
        format!(
            "the fleet was not heard within fleet.lease_s: {consequence}; look at signing-trail on this \
             machine, its log, and its database"
        ),
    )
}

/// Without the word of a required sink no signature leaves: callers are refused.
pub(super) fn required_trail(error: Option<&SinkError>) -> Verdict {
    let component = Component::RequiredTrail;
    match error {
        Some(why) => Verdict::failed(
            component,
            format!(
                "nothing is signed, since the required sink of the trail does not take records: {why}; look at \
                 signing-trail on this machine, its log, and its database"
            ),
        ),
        None => Verdict::ok(component),
    }
}

pub(super) fn log(state: LogState) -> Verdict {
    let component = Component::Log;
    let lost = "log lines are lost, records are not";
    match state {
        LogState::Written => Verdict::ok(component),
        LogState::Failing(why) => Verdict::degraded(
            component,
            format!("stderr takes no log lines: {why}; {lost}; fix the program that reads it"),
        ),
        LogState::Stuck(seconds) => Verdict::degraded(
            component,
            format!(
                "stderr has taken no log line for {seconds} s; {lost}; fix the program that reads it"
            ),
        ),
    }
}

/// The certificates before are in force; the day they expire is another component's.
pub(super) fn tls_files(refused: Option<&str>) -> Verdict {
    let component = Component::TlsFiles;
    match refused {
        Some(why) => Verdict::degraded(
            component,
            format!(
                "the files of [server.tls] were swapped and cannot be used: {why}; the files before are in force; \
                 put good ones there, they are read by themselves"
            ),
        ),
        None => Verdict::ok(component),
    }
}

pub(super) fn reload(refused: Option<&str>) -> Verdict {
    let component = Component::Reload;
    match refused {
        Some(why) => Verdict::degraded(
            component,
            format!(
                "{why}; the previous configuration is still in force; correct the file, then: signctl reload"
            ),
        ),
        None => Verdict::ok(component),
    }
}

/// `newest_write` is when this machine last wrote the journal before the start, and `set` how far
/// the wall clock went ahead of the boot-time clock since the start or the newest reload.
pub(super) fn clock(
    now: OffsetDateTime,
    newest_write: Option<OffsetDateTime>,
    set: Duration,
) -> Verdict {
    let component = Component::Clock;
    if let Some(newest) = newest_write
        && newest - now > CLOCK_MAX
    {
        let detail = format!(
            "the wall clock says {}, but the journal was written at {}: certificates and sessions \
             are judged by a wrong time; set the clock",
            rfc3339(now),
            rfc3339(newest)
        );
        return Verdict::degraded(component, detail);
    }
    if set.abs() > CLOCK_MAX {
        let (by, to) =
            (set.abs().whole_seconds(), if set.is_negative() { "back" } else { "ahead" });
        let detail = format!(
            "the wall clock was set {to} by {by} s since the configuration was read: certificates \
             and sessions are judged by it; compare it with a time server; if it is right now: \
             signctl reload"
        );
        return Verdict::degraded(component, detail);
    }
    Verdict::ok(component)
}

/// What has to be said of something dated, and whether it counts now.
fn told_of(dated: &Dated, now: OffsetDateTime) -> Option<(String, bool)> {
    let Dated { what, begins, ends } = dated;
    if *ends <= now {
        Some((format!("{what} expired at {}", rfc3339(*ends)), false))
    } else if *begins > now {
        Some((format!("{what} is valid only from {}", rfc3339(*begins)), false))
    } else if *ends - now < SOON {
        Some((format!("{what} expires at {}", rfc3339(*ends)), true))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-11-25 12:00 UTC);

    fn dated(begins: Duration, ends: Duration) -> Dated {
        Dated { what: "file".to_owned(), begins: NOW + begins, ends: NOW + ends }
    }

    fn valid() -> Dated {
        dated(Duration::days(-1), Duration::days(90))
    }

    fn expired() -> Dated {
        dated(Duration::days(-2), Duration::days(-1))
    }

    fn early() -> Dated {
        dated(Duration::days(1), Duration::days(90))
    }

    fn soon() -> Dated {
        dated(Duration::days(-1), Duration::days(1))
    }

    #[test]
    fn what_callers_cannot_pass_is_a_failure_and_what_an_operator_has_to_do_is_none() {
        use Level::{Degraded, Failed, Ok};
        for (dated, of_server, of_list) in [
            (valid(), Ok, Ok),
            (soon(), Degraded, Ok),
            (expired(), Failed, Degraded),
            (early(), Failed, Degraded),
            // The last moment counts as over: no certificate is used in it.
            (dated(Duration::days(-1), Duration::ZERO), Failed, Degraded),
        ] {
            assert_eq!(server_certificate(&dated, NOW).level, of_server, "{dated:?}");
            let list = revocation_lists(std::slice::from_ref(&dated), NOW);
            assert_eq!(list.level, of_list, "{dated:?}");
            assert_eq!(list.detail.is_empty(), of_list == Ok, "{list:?}");
        }
        for (authorities, level) in [
            (vec![valid()], Ok),
            (vec![valid(), soon()], Degraded),
            (vec![soon()], Degraded),
            (vec![valid(), expired()], Degraded),
            (vec![expired(), early()], Failed),
            (vec![expired()], Failed),
        ] {
            let verdict = client_authorities(&authorities, NOW);
            assert_eq!(verdict.level, level, "{authorities:?}");
        }
        assert_eq!(revocation_lists(&[], NOW).level, Ok);
    }

    #[test]
    fn a_clock_that_was_set_or_is_behind_is_said_until_it_is_right() {
        let minute = Duration::minutes(1);
        let level = |newest, set| clock(NOW, newest, set).level;
        assert_eq!(level(None, Duration::ZERO), Level::Ok);
        assert_eq!(level(Some(NOW + minute), minute), Level::Ok);
        for set in [minute * 2, -minute * 2] {
            assert_eq!(level(None, set), Level::Degraded);
        }
        assert_eq!(level(Some(NOW + minute * 2), Duration::ZERO), Level::Degraded);
    }

    #[test]
    fn each_trouble_says_what_to_do() {
        for verdict in [
            admin_socket(Some("gone")),
            emergency_signer(Some(false), None),
            emergency_signer(Some(false), Some("its log is another")),
            log(LogState::Failing("broken pipe".to_owned())),
            log(LogState::Stuck(7)),
            tls_files(Some("no key")),
            reload(Some("refused")),
        ] {
            assert_eq!(verdict.level, Level::Degraded, "{verdict:?}");
            assert!(verdict.detail.contains("; "), "{verdict:?}");
        }
        let silent = required_trail(Some(&SinkError::Silent));
        assert_eq!(silent.level, Level::Failed);
        assert!(silent.detail.contains("; "), "{silent:?}");
        assert_eq!(required_trail(None).level, Level::Ok);
        for verdict in
            [admin_socket(None), emergency_signer(None, None), log(LogState::Written), reload(None)]
        {
            assert_eq!((verdict.level, verdict.detail.as_str()), (Level::Ok, ""));
        }
    }
}
