//! The members of a fleet side by side: totals of each, and pictures that stay readable however many there
//! are. A picture shows the worst of each short piece of the time, so that nothing short is lost in it.

use std::collections::{BTreeMap, BTreeSet};

use plotters::style::RGBColor;
use serde_json::{Value, json};
use text::counted;
use time::{Duration, OffsetDateTime};

use super::facts::Facts;
use super::health::{Lane, Outage};
use super::load::Load;
use super::member::Member;
use super::page::Block;
use super::picture::{self, Bar, LANES_MAX};
use crate::scope::{Window, lasted};
use crate::show::table;

/// So many pieces a picture has.
const PIECES: usize = 240;
/// The states from the best to the worst. The last one is also what no other is: stopped, or of a later
/// version. Where nothing is known yet, there is no state.
const STATES: [&str; 4] = ["open", "probing", "shut", "sealed"];

/// The worst state of each piece, as its place in [`STATES`].
type Worst = [Option<usize>; PIECES];

/// The part about the members.
///
/// # Errors
/// If a picture cannot be drawn.
pub(super) fn members(window: &Window, facts: &Facts) -> anyhow::Result<Vec<Block>> {
    if !facts.is_fleet() {
        return Ok(Vec::new());
    }
    let rows = facts.members.iter().map(|member| {
        let own = totals(window, member);
        let bare = |log: &str| log.rsplit('/').next().unwrap_or(log).to_owned();
        let logs = member.logs.iter();
        let logs: Vec<_> =
            logs.map(|(journal, log)| format!("{} {}", journal.word(), bare(log))).collect();
        vec![
            member.cell(),
            member.deployment.clone(),
            own.signed.to_string(),
            own.unsigned.to_string(),
            own.withheld.to_string(),
            own.emergency.to_string(),
            own.outages.to_string(),
            own.longest_in_words(),
            logs.join("; "),
        ]
    });
    let head = &[
        "member",
        "deployment",
        "signed",
        "without a signature",
        "withheld",
        "by an emergency key",
        "outages",
        "the longest",
        "its journals",
    ];
    let mut rows: Vec<_> = rows.collect();
    let count = rows.len();
    let all = facts.members.iter().map(|member| totals(window, member)).fold(
        Totals::default(),
        |mut all, own| {
            all.add(&own);
            all
        },
    );
    rows.push(vec![
        format!("all {}", counted(count, "member")),
        facts.deployment(),
        all.signed.to_string(),
        all.unsigned.to_string(),
        all.withheld.to_string(),
        all.emergency.to_string(),
        all.outages.to_string(),
        all.longest_in_words(),
        String::new(),
    ]);
    let mut blocks = vec![Block::Table(head, rows)];
    blocks.extend(pictures(window, facts)?);
    Ok(blocks)
}

/// The members for programs.
pub(super) fn to_json(window: &Window, facts: &Facts) -> Value {
    let one = |member: &Member| {
        let own = totals(window, member);
        let logs: Vec<_> = member.logs.iter().map(|(_, log)| log).collect();
        json!({
            "member": member.name, "deployment": member.deployment, "logs": logs,
            "signed": own.signed, "unsigned": own.unsigned, "withheld": own.withheld,
            "emergency": own.emergency, "outages": own.outages,
        })
    };
    facts.members.iter().map(one).collect()
}

/// The members for a person.
pub(super) fn in_words(window: &Window, facts: &Facts) -> String {
    let head = ["MEMBER", "SIGNED", "UNSIGNED", "WITHHELD", "EMERGENCY", "OUTAGES", "LONGEST"];
    let rows = facts.members.iter().map(|member| {
        let own = totals(window, member);
        let counts = [own.signed, own.unsigned, own.withheld, own.emergency, own.outages];
        let counts = counts.map(|count| count.to_string());
        [member.cell()].into_iter().chain(counts).chain([own.longest_in_words()]).collect()
    });
    let head = head.map(str::to_owned).to_vec();
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// What became of the requests of a member, and how long it was out.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    signed: u64,
    unsigned: u64,
    withheld: u64,
    emergency: u64,
    outages: u64,
    /// The longest outage; the whole rest of the time, if that has not ended.
    longest: Option<Duration>,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.signed = self.signed.saturating_add(other.signed);
        self.unsigned = self.unsigned.saturating_add(other.unsigned);
        self.withheld = self.withheld.saturating_add(other.withheld);
        self.emergency = self.emergency.saturating_add(other.emergency);
        self.outages = self.outages.saturating_add(other.outages);
        self.longest = self.longest.max(other.longest);
    }

    fn longest_in_words(&self) -> String {
        self.longest.map_or_else(|| "-".to_owned(), lasted)
    }
}

fn totals(window: &Window, member: &Member) -> Totals {
    let Load { signed, withheld, signed_in_session, refused, .. } = &member.load;
    let is_within = |outage: &&Outage| outage.is_in(window) && !outage.is_drill;
    let outages = member.health.outages.iter().filter(is_within);
    let by_signer = u64::try_from(member.ceremony.signatures.len()).unwrap_or(u64::MAX);
    let lasted = |outage: &Outage| outage.open.unwrap_or(window.to) - outage.shut;
    Totals {
        signed: *signed,
        unsigned: refused.values().fold(0, |sum, count| sum.saturating_add(*count)),
        withheld: *withheld,
        // Each journal may be the one that is not here.
        emergency: by_signer.max(*signed_in_session),
        outages: u64::try_from(outages.clone().count()).unwrap_or(u64::MAX),
        longest: outages.map(lasted).max(),
    }
}

/// How many members each signer has in which state, and the worst state of each member.
fn pictures(window: &Window, facts: &Facts) -> anyhow::Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let lanes: BTreeSet<&Lane> =
        facts.members.iter().flat_map(|member| member.health.states.keys()).collect();
    if !lanes.is_empty() {
        let lanes: Vec<_> = lanes.iter().take(LANES_MAX).collect();
        let names: Vec<_> = lanes.iter().map(|lane| lane.name()).collect();
        let caption = "Each signer and region: what part of the members is in which state. Light is open, above it probing, \
                       shut, and black for sealed or stopped. A piece of time counts by its worst state.";
        let svg = picture::rows(window, &names, |row| {
            let of = |member: &Member| {
                Some(worst(window, member.health.states.get(*lanes.get(row).copied()?)?))
            };
            shares(window, &facts.members.iter().filter_map(of).collect::<Vec<_>>())
        })?;
        blocks.push(Block::Picture(caption.to_owned(), svg));
    }
    let mut worsts: Vec<_> = facts.members.iter().map(|it| (it, of_member(window, it))).collect();
    // If not all fit, those that were out for longest are shown.
    let out = |worst: &Worst| worst.iter().flatten().filter(|state| **state > 0).count();
    let more = worsts.len().saturating_sub(LANES_MAX);
    if more > 0 {
        worsts.sort_by_key(|(_, worst)| std::cmp::Reverse(out(worst)));
        worsts.truncate(LANES_MAX);
    }
    // The first row is at the bottom.
    worsts.reverse();
    let more = match more {
        0 => String::new(),
        more => format!(" The {} that were out the least are not drawn.", counted(more, "member")),
    };
    let caption = format!(
        "Each member: the worst of its gates. The higher and darker, the worse: low and light is open, half is probing, \
         high is shut, high and black is sealed or stopped.{more}"
    );
    let names: Vec<_> = worsts.iter().map(|(member, _)| member.cell()).collect();
    let svg = picture::rows(window, &names, |row| {
        worsts.get(row).map(|(_, worst)| lane(window, worst)).unwrap_or_default()
    })?;
    blocks.push(Block::Picture(caption, svg));
    Ok(blocks)
}

/// The worst state of each piece.
fn worst(window: &Window, states: &[(OffsetDateTime, String)]) -> Worst {
    let mut worst = [None; PIECES];
    for (from, to, name) in picture::stretches(window, states) {
        let state = STATES.iter().position(|state| *state == name).unwrap_or(STATES.len() - 1);
        let begins = |piece: usize| begin(window, piece);
        for (piece, kept) in worst.iter_mut().enumerate() {
            if from < begins(piece + 1) && begins(piece) < to {
                *kept = (*kept).max(Some(state));
            }
        }
    }
    worst
}

/// The worst of all gates of a member.
fn of_member(window: &Window, member: &Member) -> Worst {
    let gates = member.health.states.iter().filter(|(lane, _)| lane.upstream.is_none());
    let gates = gates.map(|(_, states)| worst(window, states));
    gates.fold([None; PIECES], |mut all, gate| {
        for (kept, state) in all.iter_mut().zip(gate) {
            *kept = (*kept).max(state);
        }
        all
    })
}

/// What part of the members is in which state, over time.
fn shares(window: &Window, members: &[Worst]) -> Vec<Bar> {
    let all = picture::number(u64::try_from(members.len()).unwrap_or(u64::MAX)).max(1.0);
    let mut pieces = Vec::new();
    for piece in 0..PIECES {
        let mut counts = BTreeMap::<usize, u64>::new();
        for state in members.iter().filter_map(|worst| worst.get(piece).copied().flatten()) {
            *counts.entry(state).or_default() += 1;
        }
        let mut low = 0.0;
        let bars = counts.into_iter().map(|(state, count)| {
            let from = low;
            low += 0.8 * picture::number(count) / all;
            (from, low, shade(state))
        });
        pieces.push(bars.collect());
    }
    joined(window, &pieces)
}

/// A state over time.
fn lane(window: &Window, worst: &Worst) -> Vec<Bar> {
    let pieces: Vec<_> = worst
        .iter()
        .map(|state| {
            let state = state.and_then(|state| STATES.get(state)).map(|name| picture::state(name));
            state.map(|(height, shade)| (0.0, height, shade)).into_iter().collect()
        })
        .collect();
    joined(window, &pieces)
}

fn shade(state: usize) -> RGBColor {
    picture::state(STATES.get(state).copied().unwrap_or_default()).1
}

/// What stands in a piece: from which height to which, and its shade.
type Piece = Vec<(f64, f64, RGBColor)>;

/// The bars of pieces that follow each other; equal neighbours are one.
fn joined(window: &Window, pieces: &[Piece]) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut first = 0;
    while let Some(piece) = pieces.get(first) {
        let rest = pieces.iter().skip(first);
        let next = first + rest.take_while(|other| *other == piece).count();
        let (from, to) = (begin(window, first), begin(window, next));
        bars.extend(piece.iter().map(|(low, high, shade)| {
            let (low, high, shade) = (*low, *high, *shade);
            Bar { from, to, low, high, shade }
        }));
        first = next.max(first + 1);
    }
    bars
}

/// When a piece begins, in seconds.
fn begin(window: &Window, piece: usize) -> f64 {
    let of = |count: usize| picture::number(u64::try_from(count).unwrap_or(u64::MAX));
    picture::length(window) * of(piece) / of(PIECES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::moment;

    fn window() -> Window {
        let at = |minute: u8| moment(&format!("2026-11-26T05:{minute:02}:00.000000Z")).unwrap();
        Window { from: at(0), to: at(40), since: at(0), until: at(40), is_over: true }
    }

    fn states(all: &[(i64, &str)]) -> Vec<(OffsetDateTime, String)> {
        let at = |second| window().from + Duration::seconds(second);
        all.iter().map(|(second, name)| (at(*second), (*name).to_owned())).collect()
    }

    #[test]
    fn a_second_in_which_a_gate_was_shut_is_seen_and_what_is_not_known_is_no_state() {
        // A piece is ten seconds.
        let worst = worst(&window(), &states(&[(10, "open"), (601, "shut"), (602, "open")]));
        assert_eq!((worst[0], worst[1], worst[59]), (None, Some(0), Some(0)));
        assert_eq!((worst[60], worst[61], worst[PIECES - 1]), (Some(2), Some(0), Some(0)));
        let bars = lane(&window(), &worst);
        let times: Vec<_> = bars.iter().map(|bar| (bar.from, bar.to)).collect();
        assert_eq!(times, [(10.0, 600.0), (600.0, 610.0), (610.0, 2400.0)]);
    }

    #[test]
    fn the_shares_of_the_members_stand_one_on_the_other() {
        let of = |all: &[(i64, &str)]| worst(&window(), &states(all));
        let members = [of(&[(0, "open")]), of(&[(0, "open"), (1200, "sealed")])];
        let bars = shares(&window(), &members);
        let all: Vec<_> = bars.iter().map(|bar| (bar.from, bar.low, bar.high)).collect();
        assert_eq!(all, [(0.0, 0.0, 0.8), (1200.0, 0.0, 0.4), (1200.0, 0.4, 0.8)]);
        assert_ne!(bars[1].shade, bars[2].shade);
    }

    #[test]
    fn members_that_are_more_than_fit_are_counted_and_each_has_its_line() {
        let member = |number| {
            let mut member = Member::named(Some(format!("m-{number}")));
            let lane = Lane { signer_kid: "k".to_owned(), upstream: None };
            member.health.states.insert(lane, states(&[(0, "open")]));
            member
        };
        let facts = Facts::of((0..LANES_MAX + 2).map(member).collect());
        let blocks = members(&window(), &facts).unwrap();
        let [Block::Table(_, rows), Block::Picture(..), Block::Picture(caption, _)] = &blocks[..]
        else {
            panic!("{blocks:?}")
        };
        assert_eq!(rows.len(), LANES_MAX + 3);
        assert!(caption.contains("The 2 members that were out the least"), "{caption}");
        assert_eq!(in_words(&window(), &facts).lines().count(), LANES_MAX + 3);
        assert_eq!(to_json(&window(), &facts).as_array().unwrap().len(), LANES_MAX + 2);
    }
}
