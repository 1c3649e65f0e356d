//! A process without a file descriptor left destroys no key half: its file is overwritten when
//! there is one. A test of its own, since the limit is the whole process's.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;

use breakglass_signer::keyfile::destroy;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[test]
fn a_key_that_cannot_be_overwritten_now_stays_until_it_can() {
    let name = format!("breakglass-shortage-{}", std::process::id());
    let file = std::env::temp_dir().join(name);
    fs::write(&file, "a sealed key").unwrap();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // The first number that is free is the first that may not be used.
    let free = File::open("/dev/null").unwrap().as_raw_fd();
    setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(free).unwrap(), most).unwrap();
    let said = destroy(&file).unwrap_err().to_string();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    assert!(said.contains("LimitNOFILE"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), b"a sealed key");
    assert!(destroy(&file).unwrap(), "it is overwritten");
    assert!(!file.exists());
}
