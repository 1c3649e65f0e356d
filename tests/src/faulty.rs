//! A library between a token's own and the worker, which makes faults when it is told to.

use std::path::{Path, PathBuf};

use crate::programs::{repository, system};
use crate::softhsm::done;

/// The library, and where it is told what to do.
#[derive(Debug)]
pub struct Faulty {
    directory: PathBuf,
    /// The library to load.
    pub module: PathBuf,
    real: PathBuf,
}

impl Faulty {
    /// Builds it into that directory, before the library of a token.
    #[must_use]
    pub fn new(directory: &Path, real: &Path) -> Self {
        let module = directory.join("faulty.so");
        let source = repository().join("tests/pkcs11/faulty.c");
        let mut cc = system("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&module).arg(source).arg("-ldl");
        done(cc.output());
        Self { directory: directory.to_owned(), module, real: real.to_owned() }
    }

    /// What it needs to find in its environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.directory.join(name).display().to_string();
        vec![
            ("FAULTY_REAL", self.real.display().to_string()),
            ("FAULTY_CONTROL", path("control")),
            ("FAULTY_LOG", path("log")),
        ]
    }

    /// Orders a fault: `hang`, `crash`, `flip`, `fork`, `sign=CODE`, `login=CODE`, `flags=BITS`,
    /// `delay=MS`, `serial=MS`, `init=CODE`, `info=CODE`, `clock`, `slotless`, `count`,
    /// `hang-initialize`, `hang-open`, `hang-login`, `hang-find`, all numbers in hex, for every call,
    /// or with `once ` before it for one.
    pub fn order(&self, fault: &str) {
        // Whole at once: the library may be reading.
        let new = self.directory.join("control.new");
        std::fs::write(&new, fault).unwrap();
        std::fs::rename(new, self.directory.join("control")).unwrap();
    }

    /// No more faults.
    pub fn mend(&self) {
        // A fault ordered once removed it already.
        let _ = std::fs::remove_file(self.directory.join("control"));
    }

    /// How often the library has said `what`: `C_Login`, or a fault that took effect.
    #[must_use]
    pub fn said(&self, what: &str) -> usize {
        self.who_said(what).len()
    }

    /// The processes that have said `what`: a helper says `helper`.
    #[must_use]
    pub fn who_said(&self, what: &str) -> Vec<u32> {
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let words = log.lines().filter_map(|line| line.split_once(' '));
        let of_them = words.filter(|(said, _)| *said == what);
        of_them.map(|(_, id)| id.parse().unwrap()).collect()
    }
}
