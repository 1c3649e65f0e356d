//! Pictures as SVG, by a plotting library. They are to be read without colour and on paper: a state is a shade
//! of grey with its own height, and what is counted is a bar with its number.

use std::fmt::Display;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use time::{Duration, OffsetDateTime};

use super::health::Lane;
use super::load::{Calls, Counts, PARTS};
use crate::scope::{Window, shown};

const WIDTH: u32 = 960;
/// What a lane of states takes, and a picture of numbers.
const LANE_HEIGHT: u32 = 34;
const CHART_HEIGHT: u32 = 220;
/// So many lanes are drawn at most; the timeline has all of them.
pub(super) const LANES_MAX: usize = 24;
const LABEL_CHARS: usize = 30;
const FONT: (&str, i32) = ("sans-serif", 13);

/// An SVG that this file made: nobody else writes markup into a page.
#[derive(Clone, Debug)]
pub(super) struct Svg(String);

impl Svg {
    pub(super) fn markup(&self) -> &str {
        &self.0
    }
}

/// A state's height in its lane, of 1, and its shade.
pub(super) fn state(name: &str) -> (f64, RGBColor) {
    match name {
        "open" => (0.25, RGBColor(208, 208, 208)),
        "probing" => (0.5, RGBColor(136, 136, 136)),
        "shut" => (0.8, RGBColor(72, 72, 72)),
        // Sealed, stopped, and what a later version may say.
        _ => (0.8, BLACK),
    }
}

/// The states of each lane over time.
pub(super) fn lanes<'h>(
    window: &Window,
    lanes: impl Iterator<Item = (&'h Lane, &'h Vec<(OffsetDateTime, String)>)>,
) -> anyhow::Result<Svg> {
    let lanes: Vec<_> = lanes.take(LANES_MAX).collect();
    let names = lanes.iter().map(|(lane, _)| lane.name()).collect::<Vec<_>>();
    rows(window, &names, |row| {
        let states = lanes.get(row).map_or(&[][..], |(_, states)| states.as_slice());
        let bars = stretches(window, states).map(|(from, to, name)| {
            let (height, shade) = state(name);
            Bar { from, to, low: 0.0, high: height, shade }
        });
        bars.collect()
    })
}

/// A piece of a row: from when to when, in seconds, and at which height, of 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) shade: RGBColor,
}

/// Rows over time, each with its name and its bars.
pub(super) fn rows(
    window: &Window,
    names: &[String],
    bars: impl Fn(usize) -> Vec<Bar>,
) -> anyhow::Result<Svg> {
    let count = u32::try_from(names.len()).unwrap_or(1).max(1);
    draw(LANE_HEIGHT * count + 60, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(30)
            .x_label_area_size(30)
            .y_label_area_size(230)
            .build_cartesian_2d(0.0..length(window), 0.0..f64::from(count))
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_labels(7)
            .x_label_formatter(&|x| clock(window, *x))
            .disable_y_axis()
            .label_style(FONT)
            .draw()
            .map_err(failed)?;
        for (row, name) in names.iter().enumerate() {
            let base = f64::from(u32::try_from(row).unwrap_or(u32::MAX)) + 0.1;
            let bars = bars(row).into_iter().map(|Bar { from, to, low, high, shade }| {
                Rectangle::new([(from, base + low), (to, base + high)], shade.filled())
            });
            chart.draw_series(bars).map_err(failed)?;
            let (_, y) = chart.backend_coord(&(0.0, base + 0.6));
            let name = Text::new(label(name), (8, y), FONT.into_font());
            area.draw(&name).map_err(failed)?;
        }
        Ok(())
    })
}

/// The stretches of a lane within the window: from, to, and the state.
pub(super) fn stretches<'s>(
    window: &'s Window,
    states: &'s [(OffsetDateTime, String)],
) -> impl Iterator<Item = (f64, f64, &'s str)> {
    let ends = states.iter().skip(1).map(|(at, _)| *at).chain([window.to]);
    let stretches = states.iter().zip(ends).map(|((from, name), to)| {
        let within = |at: OffsetDateTime| seconds(at - window.from).clamp(0.0, length(window));
        (within(*from), within(to), name.as_str())
    });
    stretches.filter(|(from, to, _)| from < to)
}

/// How many there were in each part of the time.
pub(super) fn bars(window: &Window, counts: &Counts, what: &str) -> anyhow::Result<Svg> {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let whole = |y: f64| format!("{y:.0}");
    over_time(window, number(most), (what, &whole), |chart| {
        let width = length(window) / number(PARTS as u64);
        let bars =
            counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(part, count)| {
                let from = number(part as u64) * width;
                let shade = RGBColor(72, 72, 72).filled();
                Rectangle::new([(from, 0.0), (from + width * 0.9, number(*count))], shade)
            });
        chart.draw_series(bars).map_err(failed)?;
        Ok(())
    })
}

/// How long calls took in each part of the time: a line for the mean, a cross for the slowest.
pub(super) fn latency(window: &Window, parts: &[Calls; PARTS]) -> anyhow::Result<Svg> {
    let width = length(window) / number(PARTS as u64);
    let called = || {
        let parts = parts.iter().enumerate().filter(|(_, calls)| calls.count > 0);
        parts.map(move |(part, calls)| ((number(part as u64) + 0.5) * width, *calls))
    };
    let most = parts.iter().map(|calls| calls.slowest_us).max().unwrap_or(0).max(1);
    let ms = |us: u64| number(us) / 1000.0;
    // A call takes a fraction of a millisecond, or seconds.
    let plain = |y: f64| if most < 10_000 { format!("{y:.2}") } else { format!("{y:.0}") };
    over_time(window, ms(most), ("ms", &plain), |chart| {
        let mean = called().map(|(x, calls)| (x, ms(calls.sum_us / calls.count.max(1))));
        chart
            .draw_series([PathElement::new(mean.collect::<Vec<_>>(), BLACK.stroke_width(2))])
            .map_err(failed)?;
        let slowest = called().map(|(x, calls)| Cross::new((x, ms(calls.slowest_us)), 4, BLACK));
        chart.draw_series(slowest).map_err(failed)?;
        Ok(())
    })
}

/// Numbers over time.
type Chart<'c, 's> = ChartContext<'c, SVGBackend<'s>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws a frame for numbers up to `most`, and in it what `paint` adds. `what` they are stands beside
/// the axis, each as it is `written`.
fn over_time(
    window: &Window,
    most: f64,
    (what, written): (&str, &dyn Fn(f64) -> String),
    paint: impl FnOnce(&mut Chart<'_, '_>) -> anyhow::Result<()>,
) -> anyhow::Result<Svg> {
    draw(CHART_HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(30)
            .x_label_area_size(30)
            .y_label_area_size(80)
            .build_cartesian_2d(0.0..length(window), 0.0..most * 1.1)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .x_labels(9)
            .x_label_formatter(&|x| clock(window, *x))
            .y_labels(5)
            .y_label_formatter(&|y| written(*y))
            .y_desc(what)
            .label_style(FONT)
            .draw()
            .map_err(failed)?;
        paint(&mut chart)
    })
}

/// An area that the library writes as SVG.
type Area<'s> = DrawingArea<SVGBackend<'s>, plotters::coord::Shift>;

fn draw(height: u32, paint: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<Svg> {
    let mut markup = String::new();
    {
        let area = SVGBackend::with_string(&mut markup, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        paint(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(Svg(markup))
}

fn failed(error: impl Display) -> anyhow::Error {
    anyhow::anyhow!("a picture cannot be drawn: {error}")
}

/// As much of a name as fits beside a lane.
fn label(name: &str) -> String {
    let name = text::line(name);
    if name.chars().count() <= LABEL_CHARS {
        return name.into_owned();
    }
    name.chars().take(LABEL_CHARS - 1).chain(['…']).collect()
}

/// The time of day at so many seconds.
fn clock(window: &Window, x: f64) -> String {
    let at = window.from.checked_add(Duration::seconds_f64(x)).unwrap_or(window.from);
    shown(at).get(11..19).unwrap_or_default().to_owned()
}

/// How long it is, in seconds.
pub(super) fn length(window: &Window) -> f64 {
    seconds(window.to - window.from).max(1.0)
}

fn seconds(duration: Duration) -> f64 {
    duration.as_seconds_f64()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a length of a picture is shown, not each unit of it"
)]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::moment;

    fn window() -> Window {
        let at = |minute: u8| moment(&format!("2026-11-26T05:{minute:02}:00.000000Z")).unwrap();
        Window { from: at(0), to: at(10), since: at(0), until: at(10), is_over: true }
    }

    #[test]
    fn a_lane_shows_each_state_from_its_beginning_to_the_next() {
        let at = |minute: i64| window().from + Duration::minutes(minute);
        let states = [(-5, "open"), (2, "shut"), (4, "probing"), (12, "open")];
        let states = states.map(|(minute, name)| (at(minute), name.to_owned()));
        let window = window();
        let found: Vec<_> = stretches(&window, &states).collect();
        assert_eq!(
            found,
            [(0.0, 120.0, "open"), (120.0, 240.0, "shut"), (240.0, 600.0, "probing")]
        );
        let lane = Lane { signer_kid: "<script>&\"\u{202e}".to_owned(), upstream: None };
        let svg = lanes(&window, [(&lane, &states.to_vec())].into_iter()).unwrap();
        assert!(svg.markup().contains("&lt;script&gt;&amp;"), "{}", svg.markup());
        assert!(!svg.markup().contains("<script"), "{}", svg.markup());
    }

    #[test]
    fn a_picture_of_nothing_can_be_drawn() {
        assert!(lanes(&window(), std::iter::empty()).is_ok());
        assert!(bars(&window(), &[0; PARTS], "signatures").is_ok());
        assert!(latency(&window(), &[Calls::default(); PARTS]).is_ok());
        let none = Window { to: window().from, ..window() };
        let most = [Calls { count: 1, sum_us: u64::MAX, slowest_us: u64::MAX }; PARTS];
        assert!(latency(&none, &most).is_ok());
        assert!(bars(&none, &[u64::MAX; PARTS], "refusals").is_ok());
    }

    #[test]
    fn what_is_long_is_cut() {
        assert_eq!(label(&"x".repeat(80)).chars().count(), LABEL_CHARS);
        assert_eq!(clock(&window(), 61.0), "05:01:01");
    }
}
