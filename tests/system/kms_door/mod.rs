//! KMS's own wire form: every AWS SDK signs through the gate, and knows of it only what the
//! environment says.

mod clients;
mod command_line;
mod emulator;
mod refusals;
mod sdk;
mod strangers;
mod wire;

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;
use system_tests::programs::repository;
use system_tests::{ProxyBuilder, World, journal};

/// The key pair of the caller `local:sdk`.
const ID: &str = "AKIALOCALCALLER00001";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// Where an emulator's keys are. Ours are in every region.
const REGION: &str = "eu-test-1";

/// Adds a local door at which `local:sdk` signs with its key pair.
fn with_key_pair<'w>(world: &World, builder: ProxyBuilder<'w>) -> ProxyBuilder<'w> {
    let file = world.scratch.write("sdk.secret", format!("{SECRET}\n"));
    let proof =
        format!("access_key_id = \"{ID}\"\nsecret_access_key_file = \"{}\"", file.display());
    builder.local("127.0.0.1:0", &[("sdk", &proof)])
}

/// What a client of KMS has to be told to come here: three variables, and its region.
fn environment(command: &mut Command, place: &str, (id, secret): (&str, &str)) {
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("AWS_ENDPOINT_URL_KMS", format!("http://{place}"))
        .env("AWS_ACCESS_KEY_ID", id)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_REGION", REGION)
        .env("AWS_DEFAULT_REGION", REGION)
        .env("AWS_EC2_METADATA_DISABLED", "true");
}

/// AWS's own clients that are driven from outside: all are asked and answer in the same form.
#[derive(Clone, Copy, Debug)]
enum Sdk {
    Boto3,
    CommandLine,
    Node,
}

impl Sdk {
    /// Those that are driven from a script, one process for all calls.
    const SCRIPTED: [Self; 2] = [Self::Boto3, Self::Node];

    /// What it gets for these calls: `[["sign", {...}], ...]`.
    fn ask(self, place: &str, key_pair: (&str, &str), calls: &Value) -> Vec<Value> {
        let mut program = match self {
            Self::Boto3 => journal::python("tests/kms/boto.py"),
            Self::CommandLine => return command_line::ask(place, key_pair, calls),
            Self::Node => Command::new("node"),
        };
        environment(&mut program, place, key_pair);
        if let Self::Node = self {
            let modules = repository().join("target/tools/node/node_modules");
            assert!(modules.exists(), "run ./tests/run.sh, which installs {}", modules.display());
            program.env("NODE_PATH", modules).arg(repository().join("tests/kms/node.cjs"));
        }
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = program.spawn().unwrap();
        running.stdin.take().unwrap().write_all(calls.to_string().as_bytes()).unwrap();
        let output = running.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{self:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
