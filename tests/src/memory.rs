//! Where in the memory of a process bytes are. All that can be read is read, page by page where a
//! mapping has pages that cannot.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

const PAGE: usize = 4096;
/// How much is read at once.
const CHUNK: usize = 1 << 20;
/// No secret is longer; each read begins so much before the end of the one before.
const OVERLAP: usize = 4096;

/// What was found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Names of secrets, and the lines of `/proc/PID/maps` that have them.
    pub found: Vec<(String, String)>,
    /// How many bytes could be read.
    pub bytes: u64,
}

impl Scan {
    /// Whether a secret of that name is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.found.iter().any(|(found, _)| found == name)
    }
}

/// Looks for `secrets`, each with a name, in all memory of the process.
#[must_use]
pub fn scan(pid: u32, secrets: &[(String, Vec<u8>)]) -> Scan {
    scan_while(pid, secrets, || ())
}

/// The same, with `each` called before each piece is read.
#[must_use]
pub fn scan_while(pid: u32, secrets: &[(String, Vec<u8>)], mut each: impl FnMut()) -> Scan {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let (mut scan, mut buffer) = (Scan::default(), vec![0; CHUNK]);
    for line in maps.lines() {
        let mut words = line.split(' ');
        let (from, to) = words.next().unwrap().split_once('-').unwrap();
        if !words.next().unwrap().starts_with('r') {
            continue;
        }
        let [mut from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        while from < to {
            each();
            let length = usize::try_from(to - from).unwrap_or(CHUNK).min(CHUNK);
            scan.bytes += read(&memory, from, &mut buffer[..length]);
            for (name, secret) in secrets {
                if holds(&buffer[..length], secret) {
                    scan.found.push((name.clone(), line.to_owned()));
                }
            }
            from += if length < CHUNK { length as u64 } else { (CHUNK - OVERLAP) as u64 };
        }
    }
    scan
}

/// Reads what can be read; the rest is zeros. How many bytes that were.
fn read(memory: &File, from: u64, buffer: &mut [u8]) -> u64 {
    if memory.read_exact_at(buffer, from).is_ok() {
        return buffer.len() as u64;
    }
    let mut bytes = 0;
    for (number, page) in buffer.chunks_mut(PAGE).enumerate() {
        match memory.read_exact_at(page, from + (number * PAGE) as u64) {
            Ok(()) => bytes += page.len() as u64,
            Err(_) => page.fill(0),
        }
    }
    bytes
}

/// Whether `secret` is in these bytes.
#[must_use]
pub fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    let Some(first) = secret.first() else { return false };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = &rest[at..];
        if rest.starts_with(secret) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}
