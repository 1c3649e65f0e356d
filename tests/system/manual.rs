//! Man pages and completions, as a package has them: of every program and every verb, in a form that the
//! formatter of man takes, and from the same description as the help.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use system_tests::Scratch;
use system_tests::programs::{ours, repository, system};

use crate::output::{PROGRAMS, below, help};

/// What packaging/manual.sh writes of the programs that are tested.
fn share(scratch: &Scratch) -> PathBuf {
    let share = scratch.path("share");
    let built = ours("signctl").parent().unwrap().to_owned();
    let mut command = system("bash");
    command.arg(repository().join("packaging/manual.sh")).arg(built).arg(&share);
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    share
}

/// `verb` and all below it, those with verbs of their own too.
fn all(verb: &str, help_of_it: &str) -> Vec<(String, String)> {
    let mut found = vec![(verb.to_owned(), help_of_it.to_owned())];
    for name in below(help_of_it) {
        let verb = format!("{verb} {name}");
        let help = help(&verb);
        found.extend(all(&verb, &help));
    }
    found
}

#[test]
fn every_verb_of_every_program_has_a_man_page_with_every_flag_of_its_help() {
    let scratch = Scratch::new();
    let pages = share(&scratch).join("man/man1");
    let programs = PROGRAMS.into_iter().chain(["pkcs11-worker"]);
    let verbs: Vec<_> = programs.flat_map(|program| all(program, &help(program))).collect();
    assert!(verbs.len() > 60, "{}", verbs.len());
    let mut expected = BTreeSet::new();
    for (verb, help) in verbs {
        let name = format!("{}.1", verb.replace(' ', "-"));
        let page = fs::read_to_string(pages.join(&name)).unwrap_or_else(|_| panic!("no {name}"));
        let plain = page.replace("\\-", "-");
        // Those that it declares, and not those that a sentence about another verb names.
        let declared = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        for flag in declared.flat_map(|line| line.split([' ', ',', '='])) {
            if flag.starts_with("--") {
                assert!(plain.contains(flag), "{name} has no {flag}");
            }
        }
        // What the formatter warns of, a reader sees.
        let mut groff = system("groff");
        groff.args(["-man", "-Tutf8", "-ww", "-z"]).arg(pages.join(&name));
        let formatted = groff.output().unwrap();
        let said = String::from_utf8_lossy(&formatted.stderr);
        assert!(formatted.status.success() && said.is_empty(), "{name}: {said}");
        expected.insert(name);
    }
    let there = fs::read_dir(&pages).unwrap();
    let there: BTreeSet<_> =
        there.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, expected);
}

#[test]
fn a_page_reads_as_a_man_page_does() {
    let scratch = Scratch::new();
    let share = share(&scratch);
    let read = |page: &str| {
        let formatted = system("groff")
            .args(["-man", "-Tascii", "-P-cbou", "-rLL=200n"])
            .arg(share.join("man/man1").join(page))
            .output()
            .unwrap();
        String::from_utf8(formatted.stdout).unwrap()
    };
    let page = read("signctl-freeze.1");
    for part in ["signctl-freeze - Stop all signing at once\n", "--reason <REASON>", "EXAMPLES\n"] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    // Two examples stay two lines.
    let page = read("signctl.1");
    let examples = page.split("EXAMPLES\n").nth(1).unwrap();
    assert!(
        examples.contains("       signctl status\n       signctl freeze --reason \"INC-42"),
        "{page}"
    );
    let page = read("pkcs11-worker.1");
    assert!(page.contains("pkcs11-worker measure START.json SECONDS"), "{page}");
}

#[test]
fn completions_of_every_program_are_there_and_bash_takes_them() {
    let scratch = Scratch::new();
    let share = share(&scratch);
    for (program, begun, whole) in [
        ("signctl", "unfr", "unfreeze"),
        ("signing-proxy", "che", "check"),
        ("breakglass-signer", "key", "keygen"),
        ("signing-trail", "regi", "register"),
    ] {
        for file in [
            format!("zsh/site-functions/_{program}"),
            format!("fish/vendor_completions.d/{program}.fish"),
        ] {
            let script = fs::read_to_string(share.join(&file)).unwrap();
            assert!(script.contains(whole), "{file}");
        }
        let script = share.join("bash-completion/completions").join(program);
        // The script says which function completes.
        let asks = "source \"$1\" && COMP_WORDS=(\"$2\" \"$3\") COMP_CWORD=1 \
                    && $(complete -p \"$2\" | sed -E 's/.* -F ([^ ]+) .*/\\1/') \"$2\" \"$3\" \"$2\" \
                    && echo \"${COMPREPLY[@]}\"";
        let output =
            system("bash").args(["-c", asks, "bash"]).arg(script).args([program, begun]).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), whole, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    for program in PROGRAMS {
        let mut command = std::process::Command::new(ours(program));
        let output = command.args(["manual", "--out", "/dev/null/share"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("--out /dev/null/share: it cannot be written"), "{said}");
    }
}
