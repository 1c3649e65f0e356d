//! Programs that tests run: our own binaries, and Debian's.

use std::path::PathBuf;
use std::process::Command;

/// The directory of our own binaries: the one this test was built into.
fn target_dir() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let directory = me.parent().unwrap();
    // target/release/deps/system-... -> target/release; programs lie there themselves.
    let of_a_test = directory.file_name().is_some_and(|name| name == "deps");
    if of_a_test { directory.parent().unwrap() } else { directory }.to_owned()
}

/// The path of one of our own binaries.
#[must_use]
pub fn ours(name: &str) -> PathBuf {
    let path = target_dir().join(name);
    assert!(
        path.exists(),
        "{} is missing: run ./tests/run.sh, which builds it first",
        path.display()
    );
    path
}

/// A command of the system; a missing one fails the test by its name.
#[must_use]
pub fn system(name: &str) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).exists()));
    assert!(found, "the program {name} is missing: run ./tests/run.sh, which installs it");
    Command::new(name)
}

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The library that shows a process another wall clock, wherever Debian has it for this machine.
#[must_use]
pub fn libfaketime() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib").unwrap().find_map(|entry| {
        let file = entry.unwrap().path().join("faketime/libfaketimeMT.so.1");
        file.exists().then_some(file)
    });
    found.unwrap_or_else(|| panic!("libfaketime is missing: run ./tests/run.sh, which installs it"))
}
