//! Man pages and completions of a program, made from the description by which the program reads its
//! command line: what they say is what the program takes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// A shell, and where a program's completions for it go: the directory, and the file by the program's name.
type Completion = (Shell, &'static str, fn(&str) -> String);

/// Where completions belong below `/usr/share`, and what such a file is called.
const COMPLETIONS: [Completion; 3] = [
    (Shell::Bash, "bash-completion/completions", str::to_owned),
    (Shell::Zsh, "zsh/site-functions", |program| format!("_{program}")),
    (Shell::Fish, "fish/vendor_completions.d", |program| format!("{program}.fish")),
];

/// Writes below `share`, in the form of `/usr/share`: a man page of `program` and of each of its verbs, and
/// completions for three shells. Directories are made, files are replaced.
///
/// # Errors
/// If a file cannot be written.
pub fn write(program: Command, share: &Path) -> io::Result<()> {
    let name = program.get_name().to_owned();
    let pages = share.join("man/man1");
    fs::create_dir_all(&pages)?;
    let mut built = program.clone().disable_help_subcommand(true);
    built.build();
    let source = format!("{name} {}", program.get_version().unwrap_or_default());
    page_of_each(built, &source, &pages)?;
    for (shell, directory, file) in COMPLETIONS {
        let directory = share.join(directory);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(file(&name)), completions(program.clone(), shell))?;
    }
    Ok(())
}

/// A script that completes the command line of `program` in `shell`.
#[must_use]
pub fn completions(mut program: Command, shell: Shell) -> Vec<u8> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    script
}

/// Of the command, and of each command below it; `source` is the program with its version.
fn page_of_each(command: Command, source: &str, directory: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        page_of_each(below.clone(), source, directory)?;
    }
    let man = Man::new(in_short(command.clone())).source(source).manual("Signing proxy");
    let mut file = File::create(directory.join(man.get_filename()))?;
    man.render_title(&mut file)?;
    man.render_name_section(&mut file)?;
    man.render_synopsis_section(&mut file)?;
    man.render_description_section(&mut file)?;
    man.render_options_section(&mut file)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut file)?;
    }
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    if let Some(after) = after {
        examples(&after.to_string()).to_writer(&mut file)?;
    }
    file.flush()
}

/// The line NAME and a list of verbs have the first sentence; the description has all of them.
fn in_short(command: Command) -> Command {
    let short = |command: &Command| {
        let about = command.get_about()?.to_string();
        let first = about.split_once(". ").map_or(about.as_str(), |(first, _)| first);
        Some((first.trim_end_matches('.').to_owned(), about))
    };
    let verbs: Vec<_> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let command = verbs.into_iter().fold(command, |command, verb| {
        command.mut_subcommand(verb, |verb| match short(&verb) {
            Some((first, _)) => verb.about(first),
            None => verb,
        })
    });
    match short(&command) {
        Some((first, all)) => {
            let long = command.get_long_about().map_or(all, ToString::to_string);
            command.about(first).long_about(long)
        }
        None => command,
    }
}

/// What stands below the help: its lines are commands, and stay lines.
fn examples(text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in text.strip_prefix("Example: ").unwrap_or(text).lines() {
        roff.text([roman(line.trim_start())]);
    }
    roff.control("fi", []);
    roff
}
