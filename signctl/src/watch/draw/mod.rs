//! From what is known to a picture: pure, and whatever a proxy says, nothing in it is obeyed by a terminal.
//!
//! The rows go by need: the headline and the last line always, then what is wrong, then signers, numbers and events in
//! what is left.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use signing_core::Moment;
use signing_core::admin::{ProxyStatus, SessionHealth, SignerHealth, UpstreamCalls};
use text::counted;
use time::OffsetDateTime;

use super::rates::{LastMinute, Rates};
use super::view::{Mode, Seen, View};
use crate::show;

/// Rows that banners may take, of a high terminal.
const BANNER_ROWS_MAX: usize = 8;
/// Rows of one banner.
const BANNER_EACH_MAX: usize = 2;
/// Rows that events have at least, with their title, where there is room.
const EVENT_ROWS_MIN: usize = 5;

/// Styles: without colours, all is said by words, bold and reverse.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    coloured: bool,
}

/// How a row looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowStyle {
    Plain,
    Title,
    Good,
    Warns,
    Bad,
    /// It stops signing, or is not known: seen first.
    Alarm,
}

/// One row.
struct Row {
    look: RowStyle,
    text: String,
}

impl Palette {
    pub(super) fn new(coloured: bool) -> Self {
        Self { coloured }
    }

    fn style(self, look: RowStyle, is_old: bool) -> Style {
        let coloured = |colour| if self.coloured { Style::new().fg(colour) } else { Style::new() };
        let style = match look {
            RowStyle::Plain => Style::new(),
            RowStyle::Title => Style::new().add_modifier(Modifier::BOLD),
            RowStyle::Good => coloured(Color::Green),
            RowStyle::Warns => coloured(Color::Yellow).add_modifier(Modifier::BOLD),
            RowStyle::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
            RowStyle::Alarm => {
                coloured(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED)
            }
        };
        if is_old { Style::new().add_modifier(Modifier::DIM) } else { style }
    }
}

/// Draws all of it.
pub(super) fn draw(
    view: &View,
    (now, wall): (Moment, OffsetDateTime),
    palette: &Palette,
    area: Rect,
    buffer: &mut Buffer,
) {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    if width == 0 || height == 0 {
        return;
    }
    let silence = view.silence(now);
    let is_old = silence.is_some();
    let mut top = vec![headline(view, wall, is_old, width)];
    let banners = match silence {
        Some((silent, since, why)) => vec![silent_banner(view, silent.as_secs(), since, why)],
        None => view.seen.as_ref().map(|seen| banners(seen, now)).unwrap_or_default(),
    };
    let most = BANNER_ROWS_MAX.min(height / 3).max(1);
    let banners = banners.into_iter().flat_map(|Row { look, text }| {
        wrapped(&text, width, BANNER_EACH_MAX).into_iter().map(move |text| Row { look, text })
    });
    top.extend(banners.take(most));
    let bottom = last_rows(view, width);
    let room = height.saturating_sub(top.len() + bottom.len());
    let middle = middle(view, now, is_old, room);
    let mut pen = Pen { palette: *palette, area, buffer, y: 0 };
    top.truncate(height.saturating_sub(bottom.len().min(height - 1)).max(1));
    top.iter().for_each(|row| pen.row(row, false));
    middle.iter().for_each(|row| pen.row(row, is_old));
    pen.y = height.saturating_sub(bottom.len()).max(1);
    bottom.iter().for_each(|row| pen.row(row, false));
}

/// What stands between the top and the last line.
fn middle(view: &View, now: Moment, is_old: bool, room: usize) -> Vec<Row> {
    let Some(seen) = &view.seen else { return Vec::new() };
    let signers = signer_rows(&seen.health.signers);
    let numbers = number_rows(view, seen, is_old);
    let conditions = show::conditions(&seen.health.conditions);
    let numbers: Vec<_> = numbers
        .into_iter()
        .chain(conditions.into_iter().map(|text| Row { look: RowStyle::Warns, text }))
        .collect();
    let mut rows = Vec::new();
    if let Some((_, since, _)) = view.silence(now) {
        rows.push(titled(format!(
            "OLD: what follows is of {}, and may not be true any more",
            clock(since)
        )));
    }
    // Of many signers, those that are not well stand first, and are what is shown.
    let kept = EVENT_ROWS_MIN + numbers.len().min(room / 3) + rows.len();
    let of_signers = room.saturating_sub(kept).max(room / 3).max(2);
    rows.extend(cut(signers, of_signers, "more rows of signers; signctl status has all"));
    let left = room.saturating_sub(rows.len());
    let of_numbers = left.saturating_sub(EVENT_ROWS_MIN).max(left / 2);
    rows.extend(cut(numbers, of_numbers, "more lines; signctl status has all"));
    let left = room.saturating_sub(rows.len());
    rows.extend(event_rows(view, left));
    rows.truncate(room);
    if is_old {
        // Without colours or dim letters it still shows which rows are old.
        for row in &mut rows {
            row.text.insert_str(0, "~ ");
        }
    }
    rows
}

fn headline(view: &View, wall: OffsetDateTime, is_old: bool, width: usize) -> Row {
    let time = clock(wall);
    let told = match &view.seen {
        Some(Seen { health, proxy, .. }) => format!(
            "{} · {} · up {}",
            proxy.deployment,
            show::verdict(health),
            show::age(proxy.uptime_s)
        ),
        None => "not known".to_owned(),
    };
    let told =
        if is_old { "NOT KNOWN: the proxy does not answer".into() } else { text::line(&told) };
    let gap = width.saturating_sub(columns(&told) + columns(&time)).max(1);
    Row { look: RowStyle::Title, text: format!("{told}{}{time}", " ".repeat(gap)) }
}

fn silent_banner(view: &View, silent: u64, since: OffsetDateTime, why: &str) -> Row {
    let what = if view.seen.is_some() { "NO ANSWER since" } else { "NO ANSWER YET, asked since" };
    let text = format!("{what} {} ({}): {why}", clock(since), show::age(silent));
    Row { look: RowStyle::Alarm, text }
}

/// What is wrong or out of the ordinary, the worst first.
fn banners(seen: &Seen, now: Moment) -> Vec<Row> {
    let Seen { health, proxy, at, .. } = seen;
    let mut rows = Vec::new();
    let mut alarm = |text: String| rows.push(Row { look: RowStyle::Alarm, text });
    if let Some(freeze) = &health.freeze {
        let of_fleet = if freeze.of_fleet { " BY THE FLEET" } else { "" };
        alarm(format!(
            "FROZEN{of_fleet} since {} by {}: {}",
            freeze.since, freeze.by, freeze.reason
        ));
    }
    if let Some(trouble) = &proxy.audit.trouble {
        alarm(format!("THE JOURNAL RECORDS NOTHING after record {}: {trouble}", proxy.audit.size));
    }
    if let Some(session) = &health.breakglass {
        alarm(session_line(session, now.since(*at).as_secs()));
        for kid in session.upstreams_back.iter().flatten() {
            alarm(format!(
                "the upstream of {kid} is BACK: end the session: signctl breakglass end --reason ..."
            ));
        }
    }
    let mut warn = |text: String| rows.push(Row { look: RowStyle::Warns, text });
    if let Some(open) = &proxy.incident {
        warn(format!(
            "INCIDENT {} since {} by {}: {}",
            open.incident, open.since, open.by, open.reason
        ));
    }
    show::outage(&health.signers, proxy.min_outage_s).into_iter().for_each(&mut warn);
    show::emergency_keys(proxy).into_iter().for_each(&mut warn);
    rows
}

/// A session, with the time that is left by now.
fn session_line(session: &SessionHealth, passed: u64) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let left = session.expires_in_s.map_or_else(
        || format!("until {}", session.expires_at),
        |left| format!("{} left", show::age(left.saturating_sub(passed))),
    );
    let quota = match (session.remaining, session.max_signatures) {
        (Some(left), Some(most)) => format!("{left} of {most} signatures left"),
        (_, _) => "signatures left: unknown".to_owned(),
    };
    format!(
        "BREAK-GLASS {} ({}): {left} · {quota} · {} signs in place of {}",
        text(&session.session),
        text(&session.incident),
        session.emergency_kid,
        session.replaces.as_deref().unwrap_or_default().join(", ")
    )
}

/// The signers as `signctl status` shows them, those that are not well first.
fn signer_rows(signers: &[SignerHealth]) -> Vec<Row> {
    let mut sorted: Vec<&SignerHealth> = signers.iter().collect();
    sorted.sort_by_key(|signer| (rank(signer), signer.signer_kid.clone()));
    let mut looks = vec![RowStyle::Title];
    for signer in &sorted {
        looks.push(match rank(signer) {
            0 => RowStyle::Bad,
            1 => RowStyle::Warns,
            _ => RowStyle::Good,
        });
        let several = signer.upstreams.iter().filter(|_| signer.upstreams.len() > 1);
        looks.extend(several.map(|one| if one.ok { RowStyle::Plain } else { RowStyle::Bad }));
    }
    let sorted: Vec<_> = sorted.into_iter().cloned().collect();
    let table = show::signers(&sorted);
    table.lines().zip(looks).map(|(line, look)| Row { look, text: line.to_owned() }).collect()
}

fn rank(signer: &SignerHealth) -> u8 {
    match (signer.reason.is_some() && !signer.replaced, signer.upstreams.iter().all(|one| one.ok)) {
        (true, _) => 0,
        (false, false) => 1,
        (false, true) => 2,
    }
}

/// Rates, refusals, quota, journal and trail.
fn number_rows(view: &View, Seen { proxy, .. }: &Seen, is_old: bool) -> Vec<Row> {
    let plain = |text: String| Row { look: RowStyle::Plain, text };
    let rates = match view.rates.per_second() {
        // A rate is of now, and nothing is known of now.
        Some([signed, refused]) if !is_old => {
            format!("{signed:.1} signed/s · {refused:.1} refused/s")
        }
        _ => "rates not known".to_owned(),
    };
    let mut rows = vec![
        titled("last minute".to_owned()),
        plain(format!(
            "requests   {rates} · {} in flight · {}",
            proxy.requests_in_flight,
            counted(proxy.connections, "connection")
        )),
    ];
    let refused: Vec<_> =
        view.rates.refused().iter().map(|one| format!("{} {}", one.count, one.reason)).collect();
    rows.push(match refused.is_empty() {
        true => plain("refused    none".to_owned()),
        false => Row { look: RowStyle::Warns, text: format!("refused    {}", refused.join(", ")) },
    });
    rows.extend(upstream_rows(&view.rates));
    rows.push(plain(journal(proxy)));
    rows.extend(trail_rows(view.trail.as_ref()));
    rows
}

fn upstream_rows(rates: &Rates) -> Vec<Row> {
    let row = |(calls, lately): (&UpstreamCalls, LastMinute)| {
        let quota = calls.quota_left_percent.map(|left| format!("quota {left} % · "));
        let look = match (lately.throttled, lately.failed, calls.quota_left_percent) {
            (0, 0, left) if left.is_none_or(|left| left >= 10) => RowStyle::Plain,
            _ => RowStyle::Warns,
        };
        let text = format!(
            "calls      {} {}: {}{} throttled · {} failed · {} ok",
            calls.signer_kid,
            calls.region,
            quota.unwrap_or_default(),
            lately.throttled,
            lately.failed,
            lately.signed
        );
        Row { look, text }
    };
    let mut rows: Vec<_> = rates.upstreams().into_iter().map(row).collect();
    // Those with something to say first; the order of the configuration otherwise.
    rows.sort_by_key(|row| row.look != RowStyle::Warns);
    rows
}

fn journal(proxy: &ProxyStatus) -> String {
    let audit = &proxy.audit;
    format!(
        "journal    {} on disk · {} wait to be written",
        counted(audit.size, "record"),
        audit.queued
    )
}

fn trail_rows(trail: Option<&Result<Vec<String>, String>>) -> Vec<Row> {
    let row = |look, text: &str| Row { look, text: format!("trail      {text}") };
    match trail {
        None => vec![row(RowStyle::Plain, "not asked; --trail HOST:PORT names its metrics")],
        Some(Err(why)) => vec![row(RowStyle::Warns, &format!("NO ANSWER: {why}"))],
        Some(Ok(lines)) => lines.iter().map(|line| row(RowStyle::Plain, line)).collect(),
    }
}

/// The newest events, the newest last, in so many rows.
fn event_rows(view: &View, rows: usize) -> Vec<Row> {
    let Some(room) = rows.checked_sub(1).filter(|room| *room > 0) else { return Vec::new() };
    let mut all = vec![match &view.events_trouble {
        None => titled("events".to_owned()),
        Some(why) => Row { look: RowStyle::Warns, text: format!("events: NONE COME: {why}") },
    }];
    let first = view.events.len().saturating_sub(room);
    all.extend(view.events.iter().skip(first).map(|event| {
        let look = match event.kind.as_str() {
            "late" | "freeze" | "fleet_freeze" | "gate" | "refusals" => RowStyle::Warns,
            _ => RowStyle::Plain,
        };
        Row { look, text: format!("{:<8}  {:<10}  {}", event.at, event.kind, event.words) }
    }));
    all
}

/// What keys do, or the reason that is typed, and what became of it.
fn last_rows(view: &View, width: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    if let Some(message) = &view.message {
        rows.extend(wrapped(message, width, 2).into_iter().map(titled));
    }
    match &view.mode {
        Mode::Looks => {
            rows.push(Row { look: RowStyle::Plain, text: "f freeze · q leave".to_owned() })
        }
        Mode::Freezes => rows.push(titled("freezing ...".to_owned())),
        Mode::Asks(reason) => {
            let text = "FREEZE stops all signing at once. Type why; Enter freezes, Esc leaves.";
            rows.push(Row { look: RowStyle::Alarm, text: text.to_owned() });
            rows.push(Row { look: RowStyle::Title, text: typed(reason, width) });
        }
    }
    rows
}

/// The end of what is typed, as far as it fits.
fn typed(reason: &str, width: usize) -> String {
    let reason = text::line(reason).into_owned();
    let mut tail: &str = &reason;
    while columns(tail) + columns("reason: _") > width && !tail.is_empty() {
        tail = tail.char_indices().nth(1).map_or("", |(at, _)| tail.get(at..).unwrap_or_default());
    }
    format!("reason: {tail}_")
}

fn titled(text: String) -> Row {
    Row { look: RowStyle::Title, text }
}

/// The first `most` of these; the last of them says how many are left out.
fn cut(mut rows: Vec<Row>, most: usize, what: &str) -> Vec<Row> {
    if rows.len() > most {
        rows.truncate(most.saturating_sub(1));
        rows.push(titled(format!("… {what}")));
    }
    rows
}

/// A text in rows of that width, at most so many; nothing hidden is in it.
fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let text = text::line(text);
    let mut rows = vec![String::new()];
    let mut used = 0;
    for letter in text.chars() {
        let wide = columns(letter.encode_utf8(&mut [0; 4]));
        if used + wide > width && used > 0 {
            if rows.len() == most {
                break;
            }
            rows.push(String::new());
            used = 0;
        }
        if let Some(row) = rows.last_mut() {
            row.push(letter);
        }
        used += wide;
    }
    rows
}

fn columns(text: &str) -> usize {
    Span::raw(text).width()
}

/// `17:32:05Z`.
fn clock(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{:02}:{:02}:{:02}Z", at.hour(), at.minute(), at.second())
}

/// Where the next row goes.
struct Pen<'b> {
    palette: Palette,
    area: Rect,
    buffer: &'b mut Buffer,
    y: usize,
}

impl Pen<'_> {
    fn row(&mut self, Row { look, text }: &Row, is_old: bool) {
        let Some(y) = u16::try_from(self.y).ok().filter(|y| *y < self.area.height) else { return };
        self.y += 1;
        // Here everything passes: what a terminal would obey is escaped, whoever said it.
        let shown = wrapped(text, usize::from(self.area.width), 1).concat();
        let line = Line::styled(shown, self.palette.style(*look, is_old));
        self.buffer.set_line(self.area.x, self.area.y + y, &line, self.area.width);
    }
}

#[cfg(test)]
mod tests;
