//! A real terminal: tmux, with a server of its own that ends with the test.

use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::programs::system;
use crate::scratch::Scratch;
use crate::wait::eventually;

/// One terminal, in which one command runs.
#[derive(Debug)]
pub struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// Opens a terminal of 80x24 and runs a line of shell in it. What the line ends with stays in sight, and so does the
    /// state of the terminal after it.
    #[must_use]
    pub fn run(scratch: &Scratch, line: &str) -> Self {
        // A server that ends takes a moment to let its socket go.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("tmux-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let terminal = Self { socket: scratch.path(&name) };
        let script = format!("{line}; echo \"ended with $?\"; stty -a; exec cat");
        let started = terminal.tmux(&["new-session", "-d", "-x", "80", "-y", "24", &script]);
        assert!(started.status.success(), "{started:?}");
        terminal
    }

    /// What is on the screen.
    #[must_use]
    pub fn screen(&self) -> String {
        self.said(&["capture-pane", "-p"])
    }

    /// The same, with colours as escape sequences.
    #[must_use]
    pub fn coloured_screen(&self) -> String {
        self.said(&["capture-pane", "-p", "-e"])
    }

    /// Waits until the screen has this text, and returns the screen.
    pub async fn shows(&self, text: &str) -> String {
        let last = std::sync::Mutex::new(String::new());
        let looking = || {
            let screen = self.screen();
            last.lock().unwrap().clone_from(&screen);
            std::future::ready(screen.contains(text).then_some(screen))
        };
        let what = format!("the screen shows {text:?}");
        tokio::select! {
            screen = eventually(&what, looking) => screen,
            // A pause: no pause but the deadline of a look.
            () = tokio::time::sleep(std::time::Duration::from_secs(25)) => {
                panic!("{text:?} is not on the screen:\n{}", last.lock().unwrap())
            }
        }
    }

    /// Presses keys, by tmux's names: `f`, `Enter`, `Escape`, `C-c`.
    pub fn press(&self, keys: &[&str]) {
        self.said(&[&["send-keys"], keys].concat());
    }

    /// Types a text.
    pub fn type_text(&self, text: &str) {
        self.said(&["send-keys", "-l", text]);
    }

    /// Gives the terminal another size.
    pub fn resize(&self, width: u16, height: u16) {
        self.said(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// Sends a signal to the program that runs in it.
    pub fn signal(&self, signal: Signal) {
        let shell = self.said(&["display-message", "-p", "#{pane_pid}"]);
        let children = system("pgrep").args(["-P", shell.trim()]).output().unwrap();
        let child = String::from_utf8(children.stdout).unwrap();
        kill(Pid::from_raw(child.trim().parse().unwrap()), signal).unwrap();
    }

    /// Waits for the end of the program, and fails unless the terminal is as it was before.
    pub async fn is_given_back(&self) -> String {
        let screen = self.shows("ended with ").await;
        let state = self.said(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1", "the other screen is left, the cursor is shown: {screen}");
        let screen = self.shows("isig").await;
        // A mode that is off has a `-` before it.
        let modes: Vec<_> = screen.split_whitespace().collect();
        for mode in ["icanon", "echo", "isig", "icrnl", "opost"] {
            assert!(modes.contains(&mode), "{mode}: {screen}");
        }
        screen
    }

    fn said(&self, arguments: &[&str]) -> String {
        let output = self.tmux(arguments);
        assert!(output.status.success(), "tmux {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        let mut tmux = system("tmux");
        tmux.env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .env_remove("NO_COLOR");
        tmux.args(["-f", "/dev/null", "-S"]).arg(&self.socket).args(arguments);
        tmux.output().unwrap()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}
