//! The terminal: taken over for the view, and given back however the program ends: by a key, an error, a panic or a
//! signal.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::{cursor, execute, terminal};
use host::signals;
use nix::unistd::isatty;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::view::Key;

/// How long giving it back may take: a terminal that does not take a byte keeps no process alive.
const GIVE_BACK_MAX: Duration = Duration::from_millis(500);

/// The terminal while the view has it.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<File>>,
    taken: Taken,
}

/// Whether it has to be given back still.
#[derive(Clone)]
struct Taken(Arc<AtomicBool>);

/// What came from the terminal.
pub(super) enum Input {
    Key(Key),
    /// All is to be drawn anew: another size, or Ctrl-L.
    Redraw,
    Nothing,
}

/// Why the view cannot be shown here.
pub(super) fn unusable() -> Option<&'static str> {
    if !io::stdin().is_terminal() {
        return Some("standard input is no terminal");
    }
    if !isatty(io::stderr()).unwrap_or(false) && File::open("/dev/tty").is_err() {
        return Some("this process has no terminal");
    }
    if !is_standard_output_a_terminal() {
        return Some("standard output is no terminal");
    }
    match std::env::var("TERM") {
        Ok(term) if !term.is_empty() && term != "dumb" => None,
        _ => Some("TERM names no terminal that can be drawn on"),
    }
}

fn is_standard_output_a_terminal() -> bool {
    // Only looked at, never printed through: that is host::out's.
    File::open("/proc/self/fd/1").is_ok_and(|out| out.is_terminal())
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn take() -> io::Result<Self> {
        let taken = Taken(Arc::new(AtomicBool::new(true)));
        // Whatever ends the process from here on gives it back first.
        let of_signal = taken.clone();
        signals::undo_before_end(move || of_signal.give_back());
        let of_panic = taken.clone();
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            of_panic.give_back();
            before(info);
        }));
        let entered = Self::enter(taken.clone());
        if entered.is_err() {
            taken.give_back();
        }
        entered
    }

    fn enter(taken: Taken) -> io::Result<Self> {
        let mut tty = tty()?;
        terminal::enable_raw_mode()?;
        execute!(tty, terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(tty))?, taken })
    }

    /// Shows what is drawn.
    pub(super) fn draw(&mut self, draw: impl FnOnce(Rect, &mut Buffer)) -> io::Result<()> {
        if !self.taken.is_taken() {
            // A thread of this program panicked, and the terminal is the shell's again.
            return Err(io::Error::other("a part of this program died"));
        }
        self.terminal.draw(|frame| draw(frame.area(), frame.buffer_mut())).map(drop)
    }

    /// Has all of it drawn anew.
    pub(super) fn redraw(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.taken.give_back();
        signals::nothing_to_undo();
    }
}

impl Taken {
    fn is_taken(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Gives the terminal back, once.
    fn give_back(&self) {
        if !self.0.swap(false, Ordering::SeqCst) {
            return;
        }
        let (done, is_done) = sync_channel(1);
        let giving = thread::Builder::new().name("terminal".to_owned()).spawn(move || {
            // Each for itself: what fails of one says nothing of the other, and nobody could be told.
            let _ = terminal::disable_raw_mode();
            if let Ok(mut tty) = tty() {
                let _ = execute!(tty, terminal::LeaveAlternateScreen, cursor::Show);
                let _ = tty.flush();
            }
            let _ = done.send(());
        });
        if giving.is_ok() {
            let _ = is_done.recv_timeout(GIVE_BACK_MAX);
        }
    }
}

fn tty() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/tty")
}

/// Waits for a key, at most `within`.
pub(super) fn input(within: Duration) -> io::Result<Input> {
    if !event::poll(within)? {
        return Ok(Input::Nothing);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => pressed(key),
        Event::Resize(..) => Input::Redraw,
        _ => Input::Nothing,
    })
}

fn pressed(KeyEvent { code, modifiers, .. }: KeyEvent) -> Input {
    let control = modifiers.contains(KeyModifiers::CONTROL);
    match (code, control) {
        (KeyCode::Char('c' | 'd'), true) => Input::Key(Key::Leave),
        (KeyCode::Char('l'), true) => Input::Redraw,
        (KeyCode::Char(typed), false) if !modifiers.contains(KeyModifiers::ALT) => {
            Input::Key(Key::Char(typed))
        }
        (KeyCode::Enter, _) => Input::Key(Key::Enter),
        (KeyCode::Esc, _) => Input::Key(Key::Escape),
        (KeyCode::Backspace, _) => Input::Key(Key::Backspace),
        _ => Input::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    const TEST: &str = "watch::terminal::tests::a_panic_gives_the_terminal_back_before_it_is_told";
    /// Set for the copy of this test that runs in a terminal.
    const INSIDE: &str = "SIGNCTL_TEST_PANICS";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        if std::env::var_os(INSIDE).is_some() {
            let mut screen = Screen::take().unwrap();
            screen.draw(|_, _| ()).unwrap();
            panic!("as a defect would");
        }
        let socket = std::env::temp_dir().join(format!("signctl-tmux-{}", std::process::id()));
        let me = std::env::current_exe().unwrap();
        let line = format!(
            "{INSIDE}=1 {} --exact {TEST} --nocapture; stty -a; echo all was said; exec cat",
            me.display()
        );
        let tmux = |arguments: &[&str]| {
            let mut tmux = Command::new("tmux");
            tmux.args(["-f", "/dev/null", "-S"]).arg(&socket).args(arguments);
            let output = tmux.env("TERM", "xterm").env_remove("TMUX").output();
            let output = output.expect("tmux is missing: run ./tests/run.sh, which installs it");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        tmux(&["new-session", "-d", "-x", "100", "-y", "60", &line]);
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut shown = String::new();
        while !shown.contains("all was said") && Instant::now() < deadline {
            shown = tmux(&["capture-pane", "-p"]);
        }
        let state = tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        tmux(&["kill-server"]);
        assert_eq!(state.trim(), "0 1", "{shown}");
        let modes: Vec<_> = shown.split_whitespace().collect();
        for mode in ["icanon", "echo", "isig"] {
            assert!(modes.contains(&mode), "{mode}: {shown}");
        }
        assert!(
            shown.contains("as a defect would"),
            "the message is on the shell's screen: {shown}"
        );
    }
}
