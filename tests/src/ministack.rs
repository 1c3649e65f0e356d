//! `ministack`, an emulator of AWS that others wrote: what it and the proxy agree
//! on is on the wire, and not an opinion that our own test KMS shares.

use std::net::TcpListener;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::post_plain;
use crate::kms::{Key, Kind};
use crate::process::Process;
use crate::programs::repository;
use crate::scratch::Scratch;
use crate::wait::eventually;

/// A free port is taken by someone else in between at most so often in a row.
const ATTEMPTS: usize = 5;

/// Nobody checks the signature; account and region are read from the credential.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 \
    Credential=test/20260101/eu-test-1/kms/aws4_request, SignedHeaders=host, Signature=00";

/// A running emulator. It ends with its owner, and its keys with it.
#[derive(Debug)]
pub struct Ministack {
    /// The process.
    pub process: Process,
    /// Its endpoint: `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// The same without a scheme.
    pub address: String,
    _scratch: Scratch,
}

impl Ministack {
    /// Starts one on loopback.
    pub async fn start() -> Self {
        for _ in 0..ATTEMPTS {
            if let Some(started) = Self::try_start().await {
                return started;
            }
        }
        panic!("ministack found no free port");
    }

    /// None if somebody took the port after it was chosen.
    async fn try_start() -> Option<Self> {
        let program = repository().join("target/tools/ministack/bin/ministack");
        assert!(
            program.exists(),
            "{} is missing: run ./tests/run.sh, which installs it",
            program.display()
        );
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let endpoint = format!("http://{address}");
        let scratch = Scratch::new();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("GATEWAY_PORT", port.to_string())
            // Without these two it listens on every interface.
            .env("BIND_HOST", "127.0.0.1")
            .env("IOT_MTLS_ENABLED", "0")
            .env("TMPDIR", scratch.dir())
            .current_dir(scratch.dir());
        let mut process = Process::start(command);
        let serves = format!("Running on {endpoint} ");
        let has_started = eventually("ministack serves or ends", || {
            let ended = process.has_said_all();
            let said = process.output();
            assert!(!ended || said.contains("already in use"), "ministack ended:\n{said}");
            std::future::ready((said.contains(&serves) || ended).then_some(!ended))
        })
        .await;
        has_started.then_some(Self { process, endpoint, address, _scratch: scratch })
    }

    /// Calls an operation of KMS, which has to succeed.
    pub async fn call(&self, operation: &str, input: &Value) -> Value {
        let target = format!("TrentService.{operation}");
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", &target),
            ("authorization", AUTHORIZATION),
        ];
        let answer = post_plain(&self.address, &headers, input).await;
        assert_eq!(answer.status, 200, "{operation}: {answer:?}");
        answer.body
    }

    /// Makes a key.
    pub async fn key(&self, kind: Kind) -> Key {
        let wanted = json!({"KeySpec": kind.key_spec(), "KeyUsage": "SIGN_VERIFY"});
        let made = self.call("CreateKey", &wanted).await;
        let id = made["KeyMetadata"]["KeyId"].as_str().unwrap();
        let public = self.call("GetPublicKey", &json!({"KeyId": id})).await;
        let spki_der = STANDARD.decode(public["PublicKey"].as_str().unwrap()).unwrap();
        Key::foreign(id, kind, &spki_der)
    }
}
