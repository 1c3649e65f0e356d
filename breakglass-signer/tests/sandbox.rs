//! What a confined thread can not do any more.

use std::os::unix::net::UnixStream;

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
    let _unix = std::os::unix::net::UnixListener::bind(&unix).unwrap();
    // Of this thread only: the other tests go on.
    let confined = std::thread::spawn({
        let (dir, known, other, unix) = (dir.clone(), known.clone(), other.clone(), unix.clone());
        move || {
            assert!(std::fs::read(&other).is_ok() && std::net::TcpStream::connect(address).is_ok());
            let landlock = confine(&[&known], &[dir.join(".")]).unwrap();
            assert!(std::net::TcpStream::connect(address).is_err(), "it connects");
            assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err(), "it listens");
            assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_err(), "it sends");
            assert!(UnixStream::connect(&unix).is_err(), "it connects to a unix socket");
            assert!(std::process::Command::new("/bin/true").status().is_err(), "it runs something");
            assert!(std::fs::read(&known).is_ok());
            assert!(std::fs::write(dir.join("new"), "x").is_ok());
            if landlock != Landlock::None {
                assert!(std::fs::read(&other).is_err(), "it reads another file");
                assert!(std::fs::write(&other, "y").is_err(), "it writes another file");
            }
            landlock
        }
    });
    println!("landlock: {:?}", confined.join().unwrap());
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::remove_file(&other).unwrap();
}
