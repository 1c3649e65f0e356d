//! `signctl sign` and `signctl verify`, as somebody with a certificate and the registry uses them.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::{Key, Kind, Process, Profile, Proxy, Scratch, World, openssl, programs};

use crate::ALICE;

/// The variables of a caller, and its directory.
pub(crate) struct Caller {
    directory: PathBuf,
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Caller {
    pub(crate) fn of(world: &World, proxy: &Proxy<'_>) -> Self {
        let client = world.pki.issue(&Profile::client(ALICE));
        let file = |name: &str, text: &str| {
            world.scratch.write(&format!("caller/{name}"), text).to_str().unwrap().to_owned()
        };
        let registry = world.scratch.path("proxy/signers.json").to_str().unwrap().to_owned();
        let variables = vec![
            ("SIGNING_PROXY_URL", format!("https://{}", proxy.listen)),
            ("SIGNING_PROXY_CA", file("ca.pem", &world.pki.ca_pem)),
            ("SIGNING_PROXY_CLIENT_CERT", file("client.pem", &client.certificate_pem)),
            ("SIGNING_PROXY_CLIENT_KEY", file("client.key", &client.key_pem)),
            ("SIGNCTL_SIGNERS", registry),
        ];
        Self { directory: world.scratch.path("caller"), variables }
    }

    /// Runs it with what is fed to it: whether it exits 0, and all that it said.
    pub(crate) fn run(&self, words: &[&str], fed: &[u8]) -> (bool, String) {
        run(&self.directory, &self.variables, words, fed)
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let (ok, said) = self.run(&[&["--json"], words].concat(), b"");
        assert!(ok, "{said}");
        serde_json::from_str(&said).unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.directory.join(name), bytes).unwrap();
    }

    #[track_caller]
    pub(crate) fn refuses(&self, words: &[&str], expected: &str) {
        let (ok, said) = self.run(words, b"");
        assert!(!ok && said.contains(expected), "{words:?}: {said}");
    }
}

fn run(
    directory: &std::path::Path,
    variables: &[(&'static str, String)],
    words: &[&str],
    fed: &[u8],
) -> (bool, String) {
    let mut command = Command::new(programs::ours("signctl"));
    command.args(words).current_dir(directory).env_clear();
    command.envs(variables.iter().map(|(name, value)| (*name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(fed).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn signature(said: &Value) -> Vec<u8> {
    STANDARD.decode(said["signature"].as_str().unwrap()).unwrap()
}

async fn with_keys<'w>(world: &'w World, keys: &[(&str, &Key)]) -> (Proxy<'w>, Caller) {
    let kids: Vec<_> = keys.iter().map(|(kid, _)| *kid).collect();
    let builder = keys.iter().fold(world.proxy(), |builder, (kid, key)| builder.signer(kid, key));
    let proxy = builder.caller(ALICE, &kids).start().await;
    let caller = Caller::of(world, &proxy);
    (proxy, caller)
}

#[tokio::test]
async fn what_it_says_is_signed_verifies_by_openssl_and_by_its_own_verify() {
    let world = World::new();
    let (ed, p384, rsa) =
        (world.kms.key(Kind::Ed25519), world.kms.key(Kind::P384), world.kms.key(Kind::Rsa2048));
    let ml65 = world.kms.key(Kind::MlDsa65);
    let keys = [("ed", &ed), ("p384", &p384), ("rsa", &rsa), ("ml65", &ml65)];
    let (proxy, caller) = with_keys(&world, &keys).await;
    let long = vec![7_u8; 3 << 20];
    caller.write("short", b"hello");
    caller.write("long", &long);
    // ML-DSA signs it as it is: it has to fit into a request.
    let longer = vec![7_u8; 100_000];
    caller.write("longer", &longer);
    for (kid, key, file, message) in [
        ("ed", &ed, "short", &b"hello"[..]),
        ("p384", &p384, "short", b"hello"),
        ("p384", &p384, "long", &long),
        ("rsa", &rsa, "long", &long),
        ("ml65", &ml65, "short", b"hello"),
        ("ml65", &ml65, "longer", &longer),
    ] {
        let receipt = format!("{kid}-{file}.receipt");
        let said = caller.json(&["sign", file, "--signer", kid, "--receipt", &receipt]);
        assert_eq!((&said["signer_kid"], &said["mode"]), (&json!(kid), &json!("normal")));
        assert_eq!(said["verified"], true, "{said}");
        assert!(openssl::verifies(key, message, &signature(&said)), "{kid} {file}");
        let registry = world.scratch.path("proxy/signers.json");
        let registry = registry.to_str().unwrap();
        let words = ["receipt", "verify", &receipt, "--input", file, "--signers", registry];
        let (fits, said) = caller.run(&words, b"");
        assert!(fits && said.contains("it fits"), "{said}");
        let verified = caller.json(&["verify", file, "--answer", &receipt]);
        assert_eq!((&verified["ok"], &verified["signer_kid"]), (&json!(true), &json!(kid)));
        let other = if file == "short" { "long" } else { "short" };
        let (ok, said) = caller.run(&["verify", other, "--answer", &receipt], b"");
        assert!(!ok, "{said}");
    }
    // For people: what, by which key, in which mode. The default signer, from standard input.
    let (ok, said) = caller.run(&["sign", "-"], b"hello");
    assert!(ok, "{said}");
    for words in
        ["standard input (5 bytes, sha256:2cf24dba", "ed, ED25519_SHA_512", "normal", "verified"]
    {
        assert!(said.contains(words), "missing: {words}\n{said}");
    }
    // A digest; RSA by name.
    let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let pss = ["--algorithm", "RSASSA_PSS_SHA_256"];
    let words = [&["sign", "--digest", digest, "--signer", "rsa"][..], &pss].concat();
    let said = caller.json(&words);
    assert!(openssl::verifies_as(&rsa, pss[1], b"hello", &signature(&said)));
    let encoded = said["signature"].as_str().unwrap();
    let words = ["verify", "short", "--signature", encoded, "--signer", "rsa", pss[0], pss[1]];
    assert_eq!(caller.json(&words)["algorithm"], pss[1]);
    // What is not signed says why, and what to do.
    let digits = "--digest \"$(sha256sum FILE";
    caller.refuses(&["sign", "long", "--signer", "ed"], digits);
    caller.refuses(&["sign", "long"], "use an ECDSA, RSA or ML-DSA signer");
    caller.refuses(&["sign", "long", "--signer", "ml65"], "body_too_large");
    caller.refuses(&["sign", "short", "--signer", "none"], "signer_unknown");
    caller.refuses(&["sign", "short", "--receipt", "rsa-long.receipt"], "name a new file");
    caller.refuses(&["sign", "--digest", "abcd"], "64, 96 or 128 hex digits");
    caller.refuses(&["sign", "nowhere"], "nowhere");
    proxy.admin("POST", "/v1/freeze", json!({"reason": "a test"})).await;
    caller.refuses(&["sign", "short"], "frozen");
}

/// The registry on this machine decides, not the proxy.
#[tokio::test]
async fn i1_a_signature_of_a_key_that_the_registry_here_does_not_have_is_not_called_signed() {
    let world = World::new();
    let (key, other) = (world.kms.key(Kind::P256), world.kms.key(Kind::P256));
    let (_proxy, mut caller) = with_keys(&world, &[("k", &key)]).await;
    caller.write("file", b"hello");
    let (ok, good) = caller.run(&["--json", "sign", "file"], b"");
    assert!(ok, "{good}");
    caller.write("good.json", good.as_bytes());
    let registry = |kid: &str, key: &Key| {
        json!({"signers": [{
            "signer_kid": kid, "algorithm": "ecdsa-p256-sha256", "public_key_pem": key.public_key_pem,
        }]})
    };
    for (document, expected) in [
        (registry("k", &other), "does not verify under the registered key of k"),
        (registry("another", &key), "which this registry does not have"),
    ] {
        caller.write("signers.json", document.to_string().as_bytes());
        caller.variables.retain(|(name, _)| *name != "SIGNCTL_SIGNERS");
        caller.variables.push(("SIGNCTL_SIGNERS", "signers.json".to_owned()));
        let (ok, said) = caller.run(&["sign", "file", "--receipt", "receipt"], b"");
        assert!(!ok && said.contains("NOT VERIFIED") && said.contains(expected), "{said}");
        let signed: Value = serde_json::from_str(&good).unwrap();
        assert!(!said.contains(signed["signature"].as_str().unwrap()), "{said}");
        assert!(!caller.directory.join("receipt").exists());
        caller.refuses(&["verify", "file", "--answer", "good.json"], "under the registry");
    }
}

/// `dev` in a directory of its own, as a new user starts it.
async fn dev(scratch: &Scratch) -> Process {
    let mut command = Command::new(programs::ours("signing-proxy"));
    command.args(["dev", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]);
    let mut process = Process::start({
        command.current_dir(scratch.dir());
        command
    });
    process.line("ready", |line| line.strip_prefix("ready ").map(str::to_owned)).await;
    process
}

#[tokio::test]
async fn its_exit_status_says_whether_it_makes_sense_to_come_back() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let caller = Caller::of(&world, &proxy);
    caller.write("file", b"hello");
    let status = |words: &[&str]| {
        let mut command = Command::new(programs::ours("signctl"));
        command.args(words).current_dir(&caller.directory).env_clear();
        command.envs(caller.variables.iter().map(|(name, value)| (*name, value)));
        command.output().unwrap().status.code()
    };
    let sign = ["sign", "file", "--signer", "ec"];
    assert_eq!(status(&sign), Some(0));
    assert_eq!(status(&["sign", "file", "--signer", "none"]), Some(1));
    assert_eq!(proxy.signctl(&["freeze", "--reason", "a test"]).0, 0);
    assert_eq!(status(&sign), Some(75));
}

#[tokio::test]
async fn after_dev_it_signs_a_file_without_flags_and_without_variables() {
    let scratch = Scratch::new();
    let _process = dev(&scratch).await;
    scratch.write("file", "hello");
    let env = scratch.path(".signing-proxy/env");
    assert_eq!(std::fs::metadata(&env).unwrap().permissions().mode() & 0o777, 0o600);
    let signctl = |words: &[&str]| run(scratch.dir(), &[], words, b"");
    let (ok, said) = signctl(&["sign", "file"]);
    assert!(ok && said.contains("dev-ed25519, ED25519_SHA_512"), "{said}");
    let (ok, said) = signctl(&["--json", "sign", "file", "--signer", "dev-rsa"]);
    assert!(ok, "{said}");
    scratch.write("answer.json", &said);
    let (ok, said) = signctl(&["verify", "file", "--answer", "answer.json"]);
    assert!(ok && said.contains("dev-rsa, RSASSA_PKCS1_V1_5_SHA_256"), "{said}");
    // From elsewhere by a shell.
    let bin = programs::ours("signctl");
    let script = format!(
        ". {}; cd /; {} status && {} sign {}",
        env.display(),
        bin.display(),
        bin.display(),
        scratch.path("file").display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What others could have written, or what leads elsewhere, names no proxy and no registry.
    let text = std::fs::read_to_string(&env).unwrap();
    let mode =
        |bits| std::fs::set_permissions(&env, std::fs::Permissions::from_mode(bits)).unwrap();
    mode(0o640);
    let (ok, said) = signctl(&["sign", "file"]);
    assert!(!ok && said.contains("have to belong to you"), "{said}");
    mode(0o600);
    std::fs::write(&env, text.replace("https://127.0.0.1:", "https://203.0.113.9:")).unwrap();
    let (ok, said) = signctl(&["sign", "file"]);
    assert!(!ok && said.contains("leads to another machine"), "{said}");
    std::fs::write(&env, format!("{text}rm -rf /\n")).unwrap();
    let (ok, said) = signctl(&["sign", "file"]);
    assert!(!ok && said.contains("is not as `signing-proxy dev` writes it"), "{said}");
    std::fs::remove_file(&env).unwrap();
    let (ok, said) = signctl(&["sign", "file"]);
    assert!(!ok && said.contains("no proxy is named"), "{said}");
}
