//! What a confined thread cannot do any more.

use std::os::unix::net::{UnixListener, UnixStream};

use breakglass_signer::keyfile;
use breakglass_signer::sandbox::{Landlock, confine};

#[test]
#[expect(clippy::disallowed_types, reason = "that there is none is what is tested")]
fn i4_a_confined_thread_reaches_no_network_no_program_and_no_other_file() {
    let dir = std::env::temp_dir().join(format!("sandbox-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let known = dir.join("known");
    std::fs::write(&known, "x").unwrap();
    let other = std::env::temp_dir().join(format!("sandbox-{}-other", std::process::id()));
    std::fs::write(&other, "x").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let unix = dir.join("s");
    let _unix = UnixListener::bind(&unix).unwrap();
    // Of this thread only: the other tests go on.
    let confined = std::thread::spawn({
        let (dir, known, other, unix) = (dir.clone(), known.clone(), other.clone(), unix.clone());
        move || {
            assert!(std::fs::read(&other).is_ok() && std::net::TcpStream::connect(address).is_ok());
            let landlock = confine(&[&known], &[dir.join(".")], &[], &[&unix]).unwrap();
            assert!(std::net::TcpStream::connect(address).is_err(), "it connects");
            assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err(), "it listens");
            assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_err(), "it sends");
            assert!(UnixStream::connect(&unix).is_err(), "it connects to a unix socket");
            assert!(
                std::os::unix::net::UnixDatagram::unbound().is_err(),
                "it sends to a unix socket"
            );
            assert!(
                UnixListener::bind(dir.join("again")).is_ok(),
                "a lost socket is not bound again"
            );
            assert!(std::process::Command::new("/bin/true").status().is_err(), "it runs something");
            assert!(std::fs::read(&known).is_ok());
            assert!(keyfile::probe(&known).is_ok() && keyfile::probe(&dir).is_err());
            assert!(std::fs::write(dir.join("new"), "x").is_ok());
            if landlock != Landlock::None {
                assert!(
                    UnixListener::bind(other.with_extension("s")).is_err(),
                    "it listens elsewhere"
                );
                assert!(std::fs::read(&other).is_err(), "it reads another file");
                assert!(std::fs::write(&other, "y").is_err(), "it writes another file");
                assert!(keyfile::probe(&other).is_err(), "it takes another file for a key's");
            }
            landlock
        }
    });
    println!("landlock: {:?}", confined.join().unwrap());
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::remove_file(&other).unwrap();
}

#[test]
fn i4_a_confined_thread_writes_a_keys_file_and_nothing_beside_it() {
    let dir = std::env::temp_dir().join(format!("sandbox-{}-keys", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (key, beside) = (dir.join("key.pem"), dir.join("approvers"));
    std::fs::write(&key, "sealed").unwrap();
    std::fs::write(&beside, "x").unwrap();
    let confined = std::thread::spawn({
        let (dir, key, beside) = (dir.clone(), key.clone(), beside.clone());
        move || {
            let landlock = confine(&[], &[], &[&key, &dir.join("gone.pem")], &[]).unwrap();
            if landlock != Landlock::None {
                assert!(std::fs::write(&beside, "y").is_err(), "it writes what is beside the key");
                assert!(std::fs::write(dir.join("new"), "x").is_err(), "it makes a file");
                assert!(std::fs::rename(&key, dir.join("other")).is_err(), "it moves the key");
            }
            assert!(keyfile::destroy(&key).unwrap(), "it does not overwrite the key");
        }
    });
    confined.join().unwrap();
    assert!(!key.exists());
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "x");
    std::fs::remove_dir_all(&dir).unwrap();
}
