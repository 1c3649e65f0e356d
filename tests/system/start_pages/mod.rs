//! The pages for beginners are true: each is pasted as it stands, block by block.

mod first_signature;
mod hsm;

use std::process::Command;

use system_tests::programs::{ours, repository, system};
use system_tests::{Process, Scratch};

/// The blocks of code of a page, in order, each with its language.
fn blocks(page: &str) -> Vec<(String, String)> {
    let page = std::fs::read_to_string(repository().join(page)).unwrap();
    let blocks = page.split("\n```").skip(1).step_by(2);
    blocks
        .map(|block| {
            let (language, text) = block.split_once('\n').unwrap();
            (language.to_owned(), text.to_owned())
        })
        .collect()
}

/// A shell in which a page is pasted.
struct Shell {
    scratch: Scratch,
    /// What stays from one block to the next: variables and the directory.
    stays: String,
}

impl Shell {
    /// In a directory that has the programs where the page's reader has them.
    fn where_it_was_built() -> Self {
        let shell = Self { scratch: Scratch::new(), stays: String::new() };
        std::fs::create_dir(shell.scratch.path("target")).unwrap();
        let built = ours("signing-proxy").parent().unwrap().to_owned();
        std::os::unix::fs::symlink(built, shell.scratch.path("target/release")).unwrap();
        shell
    }

    fn bash(&self, block: &str) -> Command {
        let mut bash = system("bash");
        bash.arg("-c").arg(format!("set -e -o pipefail\n{}{block}", self.stays));
        bash.current_dir(self.scratch.dir());
        bash
    }

    fn paste(&mut self, block: &str) -> String {
        let output = self.bash(block).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{block}\n{said}");
        let lines =
            block.lines().filter(|line| ["export ", "cd "].iter().any(|w| line.starts_with(w)));
        lines.for_each(|line| self.stays.push_str(&format!("{line}\n")));
        said
    }

    /// Pastes a block that goes on until it is stopped.
    fn begin(&self, block: &str) -> Process {
        Process::start(self.bash(&format!("exec {block}")))
    }
}
