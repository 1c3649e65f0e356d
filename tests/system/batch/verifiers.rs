//! The verifiers that docs/reference/batch.md offers, in three languages, each as it stands: a proof of
//! ours verifies, and nothing that somebody made of it does.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use signing_core::Hash;
use signing_core::journal::BatchLeaf;
use system_tests::programs::{repository, system};
use system_tests::proxy::batch_entry;
use system_tests::{Key, Kind, World, journal};

use super::{ALICE, DEPLOYMENT, KID, answers, builder, by_hand, gathered, message, proof, signer};

/// Which message the proof is of.
const AT: usize = 3;

/// Whether a verifier accepts a proof.
type Verify<'w> = Box<dyn Fn(&Tried<'_>) -> bool + 'w>;

struct Tried<'t> {
    registry: &'t Path,
    kid: &'t str,
    form: &'t str,
    proof: &'t str,
    input: &'t [u8],
}

impl Tried<'_> {
    fn by(&self, mut command: Command, world: &World) -> bool {
        let file = world.scratch.write("proof", self.proof);
        command.args([self.kid, DEPLOYMENT, self.form]).arg(file);
        command.env("SIGNCTL_SIGNERS", self.registry);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // One that refuses early does not read it.
        let _ = child.stdin.take().unwrap().write_all(self.input);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (said, errors) = (text(&output.stdout), text(&output.stderr));
        let is_verified = output.status.success();
        // It says what it does, and does not die of something else.
        assert_eq!(said == "verified\n", is_verified, "{said}{errors}");
        assert_eq!(errors.starts_with("NOT VERIFIED: "), !is_verified, "{said}{errors}");
        is_verified
    }
}

fn verifiers(world: &World) -> Vec<(&'static str, Verify<'_>)> {
    let clients = repository().join("config/clients");
    let go = world.scratch.path("verify_batch");
    let mut build = system("go");
    build.args(["build", "-o"]).arg(&go).arg("verify_batch.go").current_dir(clients.join("go"));
    build.env("GOCACHE", repository().join("target/tools/go-cache"));
    build.env("GOTOOLCHAIN", "local").env("GOPROXY", "off").env("GOFLAGS", "");
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let node = clients.join("node/verify-batch.mjs");
    vec![
        (
            "python",
            Box::new(move |tried| {
                tried.by(journal::python("config/clients/python/verify_batch.py"), world)
            }),
        ),
        (
            "node",
            Box::new(move |tried| {
                let mut command = system("node");
                command.arg(&node);
                tried.by(command, world)
            }),
        ),
        ("go", Box::new(move |tried| tried.by(Command::new(&go), world))),
    ]
}

/// A note of one leaf, signed by the key itself: what its holder could make, and a verifier must refuse.
fn signed_by_hand(world: &World, key: &Key, name: &str, index: u64, leaf: &[u8]) -> String {
    let salt = [9; 32];
    let mut bytes = b"\0signing-proxy batch v1\0".to_vec();
    bytes.extend(salt);
    bytes.extend(leaf);
    let (root, origin) = (Hash::Sha256.of(&bytes), format!("{name}/{}", "5a".repeat(16)));
    let leaf = BatchLeaf {
        index: 0,
        leaf: hex::encode(root.bytes()),
        origin: origin.clone(),
        root: hex::encode(root.bytes()),
        size: 1,
    };
    let note = leaf.note_to_be_signed(&signer(key).public_key).unwrap();
    let signature = by_hand(world, key, &note);
    let note = format!("{origin}\n1\n{}\n", STANDARD.encode(root.bytes()));
    let raw = STANDARD.decode(key.public_key_pem.lines().nth(1).unwrap()).unwrap();
    let id = Hash::Sha256.of(&[name.as_bytes(), b"\n\x01", &raw[raw.len() - 32..]].concat());
    let line = STANDARD.encode([&id.bytes()[..4], &signature].concat());
    let salt = STANDARD.encode(salt);
    format!(
        "c2sp.org/tlog-proof@v1\nextra {salt}\nindex {index}\n\n{note}\n\u{2014} {name} {line}\n"
    )
}

fn fields(kid: &str, algorithm: &str, form: &str, input: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    for text in [kid, algorithm, form] {
        all.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        all.extend(text.as_bytes());
    }
    all.extend(Hash::Sha256.of(input).bytes());
    all
}

/// The proof with one thing changed.
fn forged(good: &str, other: &str) -> Vec<(&'static str, String)> {
    let lines: Vec<&str> = good.split('\n').collect();
    let with = |at: usize, line: &str| {
        let mut changed = lines.clone();
        changed[at] = line;
        changed.join("\n")
    };
    let (mut cut, mut longer) = (lines.clone(), lines.clone());
    cut.remove(3);
    longer.insert(3, lines[3]);
    let (head, _) = good.split_once("\n\n").unwrap();
    let (_, note) = other.split_once("\n\n").unwrap();
    let zeros = STANDARD.encode([0; 32]);
    let at = lines.len() - 2;
    let (name, encoded) = lines[at].rsplit_once(' ').unwrap();
    let mut bytes = STANDARD.decode(encoded).unwrap();
    let size = note_size(good);
    let index: u64 = lines[2].strip_prefix("index ").unwrap().parse().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    vec![
        ("forged leaf", with(1, &format!("extra {zeros}"))),
        ("another index", with(2, &format!("index {}", (index + 1) % size))),
        ("index >= size", with(2, &format!("index {size}"))),
        ("a hash of the path", with(3, &zeros)),
        ("cut path", cut.join("\n")),
        ("lengthened path", longer.join("\n")),
        ("another batch's root", format!("{head}\n\n{note}")),
        ("wrong key name", good.replace(&format!("{DEPLOYMENT}/batch/"), "other/batch/")),
        ("wrong signature", with(at, &format!("{name} {}", STANDARD.encode(&bytes)))),
        ("a raw signature", STANDARD.encode(&bytes[4..])),
        ("more behind it", format!("{good}\n")),
        ("another blank in the path", with(3, &format!("{}\u{2003}", lines[3]))),
        ("an old blank in the path", with(3, &format!("{}\u{b}", lines[3]))),
        ("a blank before the path", with(3, &format!("\u{85}{}", lines[3]))),
        ("nothing", String::new()),
    ]
}

fn note_size(proof: &str) -> u64 {
    proof.split_once("\n\n").unwrap().1.split('\n').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn each_verifier_takes_our_proofs_and_nothing_that_is_made_of_them() {
    for kind in [Kind::Ed25519, Kind::P256] {
        let world = World::new();
        let world = &world;
        let (key, other) = (world.kms.key(kind), world.kms.key(kind));
        let proxy = builder(world, &key).start().await;
        let client = proxy.http2_client(ALICE).await;
        let mut proofs = Vec::new();
        for _ in 0..2 {
            let (asking, _) = gathered_again(world, &key, &client, proofs.len() * 6).await;
            let mut answers = answers(asking).await;
            let (_, answer) = answers.remove(AT);
            proofs.push(proof(&answer).to_owned());
        }
        let [good, another] = &proofs[..] else { panic!("{proofs:?}") };
        let digest = Hash::Sha256.of(b"hi");
        let of_digest = proxy.client(ALICE).await.sign_digest(KID, digest.bytes()).await;
        let of_digest = proof(&of_digest);

        let registry = |name: &str, entries: Vec<Value>| {
            world.scratch.write(name, json!({"signers": entries}).to_string())
        };
        let right =
            registry("right.json", vec![batch_entry(KID, &key), batch_entry("else", &other)]);
        let mut revoked = batch_entry(KID, &key);
        revoked["revokedAt"] = json!("2026-01-01T00:00:00Z");
        let wrong = [
            ("another key", registry("other.json", vec![batch_entry(KID, &other)])),
            (
                "no batch signer",
                registry("plain.json", vec![system_tests::proxy::entry(KID, &key)]),
            ),
            ("revoked", registry("revoked.json", vec![revoked])),
            ("not there", registry("none.json", vec![batch_entry("else", &key)])),
        ];
        let (input, swapped) = (message(AT), good.replace(&format!("/{KID}"), "/else"));
        for (name, verify) in verifiers(world) {
            let tried = |registry: &Path, kid: &str, form: &str, proof: &str, input: &[u8]| {
                verify(&Tried { registry, kid, form, proof, input })
            };
            let message = |proof: &str, input: &[u8]| tried(&right, KID, "message", proof, input);
            assert!(message(good, &input), "{name}: {good}");
            assert!(tried(&right, KID, "digest", of_digest, digest.bytes()), "{name}: {of_digest}");
            assert!(!tried(&right, KID, "digest", good, &input), "{name}: another form");
            assert!(!tried(&right, KID, "message", of_digest, b"hi"), "{name}: another form");
            assert!(!message(good, b"order 33"), "{name}: another input");
            assert!(!tried(&right, "else", "message", good, &input), "{name}: another kid");
            // The kid is swapped in the text, too, and the other key's entry is given this key.
            let same = registry("same.json", vec![batch_entry("else", &key)]);
            assert!(!tried(&same, "else", "message", &swapped, &input), "{name}: swapped kid");
            for (what, registry) in &wrong {
                assert!(!tried(registry, KID, "message", good, &input), "{name}: {what}");
            }
            for (what, forged) in forged(good, another) {
                assert!(!message(&forged, &input), "{name}: {what}: {forged}");
            }
        }
    }
}

/// A batch of six messages, of which the first was called for alone.
async fn gathered_again(
    world: &World,
    key: &Key,
    client: &system_tests::Client,
    before: usize,
) -> (Vec<super::Asking>, u64) {
    let (asking, calls) = gathered(world, key, client, 6).await;
    super::intents(world, before + 6).await;
    key.mend();
    (asking, calls)
}

/// What the key itself signed, and its holder wrote: right but for one thing, so that each check stands
/// for itself.
#[tokio::test]
async fn each_verifier_refuses_what_the_key_signed_and_the_proxy_never_would() {
    let world = World::new();
    let world = &world;
    let key = world.kms.key(Kind::Ed25519);
    let entries = vec![batch_entry(KID, &key)];
    let registry = world.scratch.write("right.json", json!({"signers": entries}).to_string());
    let name = format!("{DEPLOYMENT}/batch/{KID}");
    let leaf = |kid, algorithm, form, input| fields(kid, algorithm, form, input);
    let right = leaf(KID, "ED25519_SHA_512", "message", b"hi");
    let forged = |name: &str, index, leaf: &[u8]| signed_by_hand(world, &key, name, index, leaf);
    for (program, verify) in verifiers(world) {
        let takes = |proof: &str| {
            verify(&Tried { registry: &registry, kid: KID, form: "message", proof, input: b"hi" })
        };
        let good = forged(&name, 0, &right);
        assert!(takes(&good), "{program}: {good}");
        for (what, proof) in [
            (
                "another kid in the leaf",
                forged(&name, 0, &leaf("x", "ED25519_SHA_512", "message", b"hi")),
            ),
            ("another algorithm", forged(&name, 0, &leaf(KID, "ECDSA_SHA_256", "message", b"hi"))),
            ("another form", forged(&name, 0, &leaf(KID, "ED25519_SHA_512", "digest", b"hi"))),
            ("another input", forged(&name, 0, &leaf(KID, "ED25519_SHA_512", "message", b"ho"))),
            ("index >= size", forged(&name, 1, &right)),
            ("a key name of another deployment", forged("other/batch/bulk", 0, &right)),
            ("a key name of another kid", forged("test/batch/x", 0, &right)),
            ("a journal's key name", forged("signing-journal", 0, &right)),
        ] {
            assert!(!takes(&proof), "{program}: {what}: {proof}");
        }
    }
}
