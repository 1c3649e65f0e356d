//! `moto`, a second emulator of S3 that others wrote: what the trail, it and `ministack` agree on is no opinion of one.

use std::net::TcpListener;
use std::process::Command;

use crate::process::Process;
use crate::programs::repository;
use crate::scratch::Scratch;
use crate::wait::eventually;

/// A free port is taken by someone else in between at most so often in a row.
const ATTEMPTS: usize = 5;

/// A running emulator. It ends with its owner, and its buckets with it.
#[derive(Debug)]
pub struct Moto {
    /// The process.
    pub process: Process,
    /// `127.0.0.1:PORT`.
    pub address: String,
    _scratch: Scratch,
}

impl Moto {
    /// Starts one on loopback.
    pub async fn start() -> Self {
        for _ in 0..ATTEMPTS {
            if let Some(started) = Self::try_start().await {
                return started;
            }
        }
        panic!("moto found no free port");
    }

    /// None if somebody took the port after it was chosen.
    async fn try_start() -> Option<Self> {
        let program = repository().join("target/tools/moto/bin/moto_server");
        let file = program.display();
        assert!(program.exists(), "{file} is missing: run ./tests/run.sh, which installs it");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let scratch = Scratch::new();
        let mut command = Command::new(program);
        command
            .env_clear()
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env("TMPDIR", scratch.dir())
            .current_dir(scratch.dir());
        let mut process = Process::start(command);
        let has_started = eventually("moto serves or ends", || {
            let ended = process.has_said_all();
            let said = process.output();
            assert!(!ended || said.contains("in use"), "moto ended:\n{said}");
            let serves = said.contains(&format!("Running on http://{address}"));
            std::future::ready((serves || ended).then_some(!ended))
        })
        .await;
        has_started.then_some(Self { process, address, _scratch: scratch })
    }
}
