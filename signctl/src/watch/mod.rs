//! `signctl watch`: a live view of one proxy, for the person on call. It only looks, except that it can freeze. What is
//! old is never shown as new: a proxy that does not answer is said first, and since when.

mod draw;
mod news;
mod rates;
mod terminal;
mod view;

use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use host::clock::{now, wall_now};

use crate::socket::Socket;
use draw::Palette;
use terminal::{Input, Screen};
use view::{Act, News, View};

/// How long it waits for a key before it looks for news.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// News that may wait.
const NEWS_MAX: usize = 16;

/// What to show.
#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) socket: Socket,
    /// Where signing-trail shows its metrics, to show how far it is behind.
    #[arg(long, value_name = "HOST:PORT", env = "SIGNCTL_TRAIL")]
    trail: Option<String>,
}

/// Shows until somebody leaves.
pub(crate) fn run(flags: &Flags, socket: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let instead =
        "for programs there are `signctl status --json` and GET /v1/events on the admin socket";
    if as_json {
        bail!("watch draws on a terminal and has no JSON; {instead}");
    }
    if let Some(why) = terminal::unusable() {
        bail!("watch draws on a terminal: {why}; run it in a terminal (ssh -t); {instead}");
    }
    let (send, hear) = sync_channel(NEWS_MAX);
    let palette = Palette::new(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()));
    let mut screen = Screen::take()?;
    news::ask(socket, flags.trail.as_deref(), &send)?;
    let mut view = View::default();
    loop {
        take_in(&mut view, &hear);
        let (at, wall) = (now(), wall_now());
        screen.draw(|area, buffer| draw::draw(&view, (at, wall), &palette, area, buffer))?;
        match terminal::input(LOOK_EVERY)? {
            Input::Key(key) => match view.press(key) {
                Some(Act::Leave) => return Ok(ExitCode::SUCCESS),
                Some(Act::Freeze(reason)) => news::freeze(socket, reason, &send)?,
                None => {}
            },
            Input::Redraw => screen.redraw()?,
            Input::Nothing => {}
        }
    }
}

fn take_in(view: &mut View, hear: &Receiver<News>) {
    loop {
        match hear.try_recv() {
            Ok(news) => view.hear(news, now(), wall_now()),
            // This end holds a sender for freezes: it is never disconnected.
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
        }
    }
}
