//! Pictures of a view, on a terminal in memory.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;
use signing_core::admin::incident::Open;
use signing_core::admin::{
    Condition, Event, Events, FreezeInForce, Health, Level, RefusedFor, SignerHealth,
    UpstreamHealth,
};
use signing_core::gate::Extent;

use super::super::view::{Key, News};
use super::*;
use crate::show::examples;

const WALL: OffsetDateTime = time::macros::datetime!(2026-11-26 17:32:05 UTC);

/// Whatever a person would not see, or a terminal would obey.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;x\u{7}a\u{202e}b\u{200b}c\r\nd\u{9b}31m日本";

fn at(seconds: u64) -> Moment {
    Moment::from_nanos((1_000 + seconds) * 1_000_000_000)
}

fn heard(health: Health, proxy: ProxyStatus) -> View {
    let mut view = View::default();
    view.hear(News::Status(Ok(Box::new((health, proxy)))), at(0), WALL);
    view
}

fn well() -> View {
    let health =
        Health { signers: vec![examples::signer("payments", "open")], ..examples::health() };
    heard(health, examples::proxy())
}

/// What a terminal of that size shows, and whether anything of it has a colour.
fn shown(view: &View, now: Moment, (width, height): (u16, u16), coloured: bool) -> (String, bool) {
    let palette = Palette::new(coloured);
    if width == 0 || height == 0 {
        let none = Rect::new(0, 0, width, height);
        draw(view, (now, WALL), &palette, none, &mut Buffer::empty(none));
        return (String::new(), false);
    }
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let drawn = terminal
        .draw(|frame| draw(view, (now, WALL), &palette, frame.area(), frame.buffer_mut()))
        .unwrap();
    let has_colour = drawn.buffer.content.iter().any(|cell| cell.fg != Color::Reset);
    (terminal.backend().to_string(), has_colour)
}

/// The rows of a terminal of 80x24, without what surrounds them.
fn rows(view: &View, now: Moment) -> Vec<String> {
    let (picture, _) = shown(view, now, (80, 24), true);
    let rows = picture.lines().map(|row| row.trim_matches('"').trim_end().to_owned());
    rows.collect()
}

#[track_caller]
fn has(rows: &[String], what: &str) {
    assert!(rows.iter().any(|row| row.contains(what)), "{what:?} is not in:\n{}", rows.join("\n"));
}

#[track_caller]
fn has_not(rows: &[String], what: &str) {
    assert!(!rows.iter().any(|row| row.contains(what)), "{what:?} is in:\n{}", rows.join("\n"));
}

fn full_view() -> View {
    let mut proxy = examples::proxy();
    proxy.activity.signed = 10;
    proxy.activity.upstreams = vec![UpstreamCalls {
        signer_kid: "payments".to_owned(),
        upstream: "aws-kms".to_owned(),
        region: "eu-central-1".to_owned(),
        signed: 10,
        quota_left_percent: Some(83),
        ..UpstreamCalls::default()
    }];
    let down = UpstreamHealth { region: "eu-west-1".to_owned(), ..examples::upstream(false) };
    let signer = SignerHealth {
        upstreams: vec![examples::upstream(true), down],
        outage: Extent::Partial,
        ..examples::signer("payments", "open")
    };
    let health = Health { outage: Extent::Partial, signers: vec![signer], ..examples::health() };
    let mut view = heard(health.clone(), proxy.clone());
    proxy.activity.signed = 130;
    proxy.activity.refused = vec![RefusedFor { reason: "frozen".to_owned(), count: 7 }];
    proxy.activity.upstreams[0].signed = 130;
    proxy.activity.upstreams[0].failed = 4;
    proxy.activity.upstreams[0].throttled = 3;
    view.hear(News::Status(Ok(Box::new((health, proxy)))), at(10), WALL);
    let event = Event {
        seq: 3,
        at: "2026-11-26T17:31:02.000001Z".to_owned(),
        r#type: "gate".to_owned(),
        data: json!({"signer_kid": "payments", "from": "probing", "to": "open", "detail": ""}),
    };
    let events =
        Events { log: "l".to_owned(), size: 3, next: 3, missed_through: None, events: vec![event] };
    view.hear(News::Events(Ok(events)), at(10), WALL);
    view.hear(
        News::Trail(Ok(vec!["postgres proxy: record 3, 0 behind (0 s)".to_owned()])),
        at(10),
        WALL,
    );
    view
}

#[test]
fn one_screen_of_80x24_has_all_that_is_asked_at_night() {
    let rows = rows(&full_view(), at(10));
    assert_eq!(rows.len(), 24);
    assert!(rows[0].starts_with("d · signing, PARTIAL outage · up 9s"), "{}", rows[0]);
    assert!(rows[0].ends_with("17:32:05Z"), "{}", rows[0]);
    for what in [
        "payments  open  7s   1 of 2 (partial outage)",
        "aws-kms eu-west-1",
        "12.0 signed/s · 0.7 refused/s",
        "refused    7 frozen",
        "calls      payments eu-central-1: quota 83 % · 3 throttled · 4 failed · 120 ok",
        "journal    3 records on disk · 0 wait to be written",
        "trail      postgres proxy: record 3, 0 behind (0 s)",
        "17:31:02  gate        payments probing -> open",
    ] {
        has(&rows, what);
    }
    assert_eq!(rows[23], "f freeze · q leave");
}

#[test]
fn what_stops_signing_stands_first_and_a_session_counts_down() {
    let freeze = FreezeInForce {
        id: None,
        reason: "INC-42: wrong signatures".to_owned(),
        by: "uid 0 (root)".to_owned(),
        since: "2026-11-26T17:00:00Z".to_owned(),
        of_fleet: false,
    };
    let session = SessionHealth {
        emergency_kid: "emergency".to_owned(),
        expires_at: "2026-11-26T18:00:00Z".to_owned(),
        session: Some("INC-42-0a".to_owned()),
        incident: Some("INC-42".to_owned()),
        under_freeze: None,
        replaces: Some(vec!["payments".to_owned()]),
        expires_in_s: Some(185),
        upstreams_back: Some(vec!["payments".to_owned()]),
        remaining: Some(997),
        max_signatures: Some(1_000),
    };
    let health = Health {
        frozen: true,
        freeze: Some(freeze),
        breakglass: Some(session),
        signers: vec![examples::signer("payments", "shut")],
        ..examples::health()
    };
    let mut proxy = examples::proxy();
    proxy.audit.trouble = Some("the disk is full".to_owned());
    proxy.incident = Some(Open {
        incident: "INC-42".to_owned(),
        reason: "signing fails".to_owned(),
        by: "uid 0".to_owned(),
        since: "2026-11-26T17:00:00Z".to_owned(),
        captured: None,
        missing: Vec::new(),
    });
    let view = heard(health, proxy);
    let rows = rows(&view, at(3));
    assert!(
        rows[1].starts_with("FROZEN since 2026-11-26T17:00:00Z by uid 0 (root): INC-42: wr"),
        "{}",
        rows[1]
    );
    has(&rows, "BREAK-GLASS INC-42-0a (INC-42): 3m 02s left · 997 of 1000 signatures left");
    has(&rows, "the upstream of payments is BACK");
    has(&rows, "THE JOURNAL RECORDS NOTHING after record 3: the disk is full");
    has(&rows, "INCIDENT INC-42 since");
}

#[test]
fn an_old_answer_is_never_shown_as_a_new_one() {
    let mut view = full_view();
    view.hear(News::Status(Err("no answer within 3 s".to_owned())), at(14), WALL);
    let (picture, _) = shown(&view, at(22), (80, 24), false);
    let rows: Vec<_> = picture.lines().map(|row| row.trim_matches('"').to_owned()).collect();
    assert!(rows[0].starts_with("NOT KNOWN: the proxy does not answer"), "{}", rows[0]);
    assert!(
        rows[1].starts_with("NO ANSWER since 17:32:05Z (12s): no answer within 3 s"),
        "{}",
        rows[1]
    );
    has(&rows, "OLD: what follows is of 17:32:05Z");
    has_not(&rows, "signed/s");
    for row in rows.iter().filter(|row| row.contains("open") || row.contains("on disk")) {
        assert!(row.starts_with("~ "), "{row}");
    }
    // Without a word of the thread that asks it is old as well, after a while.
    let view = well();
    has_not(&self::rows(&view, at(4)), "NO ANSWER");
    has(&self::rows(&view, at(5)), "NO ANSWER since 17:32:05Z (5s): it does not answer");
    // Nothing was ever heard.
    let mut view = View::default();
    view.hear(News::Status(Err("is signing-proxy running?".to_owned())), at(0), WALL);
    let rows = self::rows(&view, at(2));
    has(&rows, "NO ANSWER YET, asked since 17:32:05Z (2s): is signing-proxy running?");
    assert_eq!(rows[23], "f freeze · q leave", "it can freeze all the same");
}

#[test]
fn nothing_that_a_proxy_says_is_obeyed_by_the_terminal() {
    let said = || HOSTILE.to_owned();
    let mut signer = examples::signer(HOSTILE, HOSTILE);
    signer.detail = Some(said());
    signer.reason = Some(said());
    let condition = Condition {
        component: said(),
        state: Level::Degraded,
        since: said(),
        detail: Some(said()),
    };
    let freeze =
        FreezeInForce { id: None, reason: said(), by: said(), since: said(), of_fleet: false };
    let health = Health {
        ok: false,
        reason: Some(said()),
        freeze: Some(freeze),
        signers: vec![signer],
        conditions: vec![condition],
        ..examples::health()
    };
    let mut proxy = examples::proxy();
    proxy.deployment = said();
    proxy.audit.trouble = Some(said());
    proxy.activity.refused = vec![RefusedFor { reason: said(), count: 1 }];
    let calls = UpstreamCalls {
        signer_kid: said(),
        upstream: said(),
        region: said(),
        ..UpstreamCalls::default()
    };
    proxy.activity.upstreams = vec![calls];
    let mut view = heard(health, proxy.clone());
    let event = Event { seq: 1, at: said(), r#type: said(), data: json!({HOSTILE: HOSTILE}) };
    let events =
        Events { log: said(), size: 1, next: 1, missed_through: None, events: vec![event] };
    view.hear(News::Events(Ok(events)), at(0), WALL);
    view.hear(News::Trail(Ok(vec![said()])), at(0), WALL);
    view.hear(News::Froze(Err(said())), at(0), WALL);
    let plain = |view: &View, now| {
        for size in [(80, 24), (20, 6), (300, 100)] {
            let (picture, _) = shown(view, now, size, true);
            assert!(!picture.contains(|c| c != '\n' && text::is_hidden(c)), "{picture:?}");
        }
    };
    plain(&view, at(1));
    view.hear(News::Status(Err(said())), at(2), WALL);
    view.hear(News::Events(Err(said())), at(2), WALL);
    view.hear(News::Trail(Err(said())), at(2), WALL);
    view.press(Key::Char('f'));
    HOSTILE.chars().for_each(|typed| drop(view.press(Key::Char(typed))));
    plain(&view, at(3));
}

#[test]
fn any_size_is_drawn_and_the_headline_and_the_keys_stay() {
    let mut view = full_view();
    let mut asking = full_view();
    asking.press(Key::Char('f'));
    "INC-42".chars().for_each(|typed| drop(asking.press(Key::Char(typed))));
    for now in [at(10), at(60)] {
        for width in [0, 1, 2, 7, 20, 80, 500] {
            for height in [0, 1, 2, 3, 4, 5, 9, 24, 200] {
                let (picture, _) = shown(&view, now, (width, height), true);
                if width >= 20 && height >= 2 {
                    let last = picture.lines().last().unwrap();
                    assert!(last.contains("f freeze · q leave"), "{width}x{height}: {picture}");
                }
                let (picture, _) = shown(&asking, now, (width, height), true);
                if width >= 20 && height >= 3 {
                    let last = picture.lines().last().unwrap();
                    assert!(last.contains("reason: INC-42_"), "{width}x{height}: {picture}");
                }
            }
        }
    }
    view.message = Some("x".repeat(500));
    let (picture, _) = shown(&view, at(10), (80, 24), true);
    assert!(picture.contains("f freeze · q leave") && picture.contains("d · signing"), "{picture}");
}

#[test]
fn of_many_signers_those_that_are_not_well_are_shown() {
    let mut signers: Vec<_> =
        (0..200).map(|number| examples::signer(&format!("well-{number:03}"), "open")).collect();
    signers[150] = SignerHealth {
        reason: Some("upstream_unhealthy".to_owned()),
        ..examples::signer("not-well", "shut")
    };
    let view = heard(Health { ok: false, signers, ..examples::health() }, examples::proxy());
    let rows = rows(&view, at(1));
    has(&rows, "not-well  shut");
    has(&rows, "… more rows of signers; signctl status has all");
    has(&rows, "journal");
    has(&rows, "events");
}

#[test]
fn without_colours_it_says_the_same() {
    let view = full_view();
    let (coloured, has_colour) = shown(&view, at(10), (80, 24), true);
    let (plain, has_none) = shown(&view, at(10), (80, 24), false);
    assert_eq!(coloured, plain);
    assert!(has_colour && !has_none);
}

#[test]
fn the_end_of_a_long_reason_stays_in_sight() {
    let mut view = well();
    view.press(Key::Char('f'));
    let reason = format!("{} the end", "word ".repeat(100));
    reason.chars().for_each(|typed| drop(view.press(Key::Char(typed))));
    let rows = rows(&view, at(0));
    assert!(rows[23].starts_with("reason: ") && rows[23].ends_with("the end_"), "{}", rows[23]);
    assert!(rows[22].starts_with("FREEZE stops all signing at once."), "{}", rows[22]);
    assert_eq!(view.silence(at(0)), None::<(Duration, OffsetDateTime, &str)>);
}
