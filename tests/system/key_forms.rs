//! A key or certificate in another form than is wanted: `check` of both daemons says what the file holds,
//! and the command that it names mends the file.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use system_tests::breakglass::succeeds;
use system_tests::programs::system;
use system_tests::{Kind, World};

use crate::ALICE;

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Daemon {
    Proxy,
    Signer,
}

/// A file that a configuration names, and the same in another form.
struct Row {
    daemon: Daemon,
    file: &'static str,
    /// Makes OUT of FILE, and of CERT, which is the server's certificate.
    made_by: &'static str,
    says: &'static str,
}

const fn row(daemon: Daemon, file: &'static str, made_by: &'static str, says: &'static str) -> Row {
    Row { daemon, file, made_by, says }
}

const PROXY: Daemon = Daemon::Proxy;
const SIGNER: Daemon = Daemon::Signer;

const ENCRYPTED: &str = "openssl pkcs8 -topk8 -v2 aes256 -in FILE -out OUT -passout pass:x";
const DER: &str = "openssl pkcs8 -topk8 -nocrypt -outform DER -in FILE -out OUT";
const ENCRYPTED_DER: &str =
    "openssl pkcs8 -topk8 -v2 aes256 -outform DER -in FILE -out OUT -passout pass:x";
const PKCS12: &str = "openssl pkcs12 -export -nocerts -inkey FILE -out OUT -passout pass:x";
const UTF16: &str = "iconv -f UTF-8 -t UTF-16 FILE > OUT";

const ROWS: &[Row] = &[
    row(PROXY, "server.key", ENCRYPTED, "holds an encrypted private key, and nobody is there to"),
    row(
        PROXY,
        "server.key",
        "openssl ec -aes128 -in FILE -out OUT -passout pass:x",
        "holds a private key that is encrypted in an old way (RFC 1421), and nobody is there to",
    ),
    row(PROXY, "server.key", DER, "holds a private key in DER, not PEM; convert it: "),
    row(PROXY, "server.key", ENCRYPTED_DER, "holds an encrypted private key in DER, not PEM, and"),
    row(PROXY, "server.key", PKCS12, "holds a PKCS#12 archive; take its key out: "),
    row(PROXY, "server.key", UTF16, "holds text in UTF-16; convert it: "),
    row(
        PROXY,
        "server.pem",
        "openssl x509 -outform DER -in FILE -out OUT",
        "holds a certificate in DER, not PEM; convert it: ",
    ),
    row(
        PROXY,
        "server.pem",
        "openssl pkcs12 -export -nokeys -in FILE -out OUT -passout pass:x",
        "holds a PKCS#12 archive; take its certificates out: ",
    ),
    row(
        PROXY,
        "ca.pem",
        "openssl crl2pkcs7 -nocrl -certfile FILE -out OUT",
        "holds PKCS#7; take its certificates out: ",
    ),
    row(PROXY, "audit.key", ENCRYPTED, "holds an encrypted private key, and nobody is there to"),
    row(PROXY, "audit.key", DER, "holds a private key in DER, not PEM; convert it: "),
    row(PROXY, "audit.key", PKCS12, "holds a PKCS#12 archive; take its key out: "),
    row(SIGNER, "audit.key", ENCRYPTED, "holds an encrypted private key, and nobody is there to"),
    row(SIGNER, "audit.key", DER, "holds a private key in DER, not PEM; convert it: "),
    row(SIGNER, "audit.key", ENCRYPTED_DER, "holds an encrypted private key in DER, not PEM, and"),
    row(SIGNER, "audit.key", PKCS12, "holds a PKCS#12 archive; take its key out: "),
    // Here it has to be encrypted.
    row(
        SIGNER,
        "emergency.pem",
        "cp FILE OUT",
        "holds a private key without a passphrase; encrypt it: ",
    ),
    row(SIGNER, "emergency.pem", DER, "holds a private key in DER, not PEM; encrypt it: "),
    row(
        SIGNER,
        "emergency.pem",
        ENCRYPTED_DER,
        "holds an encrypted private key in DER, not PEM; convert it: ",
    ),
    row(SIGNER, "emergency.pem", PKCS12, "holds a PKCS#12 archive; take its key out: "),
];

/// Both daemons' configurations.
struct Site {
    world: World,
    proxy: PathBuf,
    signer: PathBuf,
}

impl Site {
    fn new() -> Self {
        let world = World::new();
        let key = world.kms.key(Kind::Ed25519);
        let proxy = world.proxy().signer("payments", &key).caller(ALICE, &["payments"]);
        let proxy = proxy.tls("client_crl_files = [\"crl.pem\"]\n").write();
        world.scratch.write("proxy/crl.pem", world.pki.revocation_list(&[], 30));
        let signer = world.signer().replaces("payments", &key).write();
        Self { world, proxy, signer }
    }

    fn file(&self, daemon: Daemon, name: &str) -> PathBuf {
        let config = if daemon == PROXY { &self.proxy } else { &self.signer };
        config.with_file_name(name)
    }

    /// The mistakes and notes of `check`.
    fn checked(&self, daemon: Daemon) -> (Vec<String>, Vec<String>) {
        let mut check = match daemon {
            Daemon::Proxy => self.world.proxy().verb("check", &self.proxy),
            Daemon::Signer => self.world.signer().verb("check", &self.signer),
        };
        let output = check.arg("--json").output().unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let texts = |key: &str| serde_json::from_value(found[key].clone()).unwrap();
        (texts("mistakes"), texts("notes"))
    }
}

fn shell(command: &str, directory: &Path) {
    let mut shell = system("sh");
    let _ = succeeds(shell.args(["-e", "-c", command]).current_dir(directory));
}

/// The command at the end of a mistake. Its key's passphrase comes from here.
fn named(mistake: &str) -> String {
    let begins = ["openssl ", "iconv "].iter().find_map(|program| mistake.find(program)).unwrap();
    let command = &mistake[begins..];
    let asks = command.contains("pkcs12") || command.contains("pkey") || command.contains("pkcs8");
    let writes = command.contains("-noenc") || command.contains("-nokeys");
    match (asks, writes) {
        (true, false) => format!("{command} -passin pass:x -passout pass:x"),
        (true, true) => format!("{command} -passin pass:x"),
        (false, _) => command.to_owned(),
    }
}

#[test]
fn another_form_of_key_or_certificate_is_named_and_the_command_that_check_says_mends_it() {
    let site = Site::new();
    let directory = site.world.scratch.path("");
    let _ = (system("openssl"), system("iconv"));
    for Row { daemon, file, made_by, says } in ROWS {
        let path = site.file(*daemon, file);
        let before = fs::read(&path).unwrap();
        let plain = directory.join("plain.pem");
        if *file == "emergency.pem" {
            let mut make = system("openssl");
            let _ = succeeds(make.args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&plain));
        } else {
            fs::write(&plain, &before).unwrap();
        }
        shell(&made_by.replace("FILE", "plain.pem").replace("OUT", "other"), &directory);
        fs::copy(directory.join("other"), &path).unwrap();
        let (mistakes, _) = site.checked(*daemon);
        let [mistake] = &mistakes[..] else { panic!("{file} by {made_by}: {mistakes:#?}") };
        let shown = path.display().to_string();
        assert!(mistake.contains(&format!("{shown} {says}")), "{file} by {made_by}: {mistake}");
        shell(&named(mistake), &directory);
        fs::copy(directory.join("NEW"), &path).unwrap();
        let (mistakes, _) = site.checked(*daemon);
        assert_eq!(mistakes, Vec::<String>::new(), "{file} by {made_by}, mended");
        fs::remove_file(directory.join("NEW")).unwrap();
        fs::write(&path, before).unwrap();
    }
}

#[test]
fn a_byte_order_mark_is_taken_before_any_pem_json_or_toml() {
    let site = Site::new();
    let of_proxy = [
        "server.key",
        "server.pem",
        "ca.pem",
        "crl.pem",
        "audit.key",
        "signers.json",
        "signing-proxy.toml",
    ];
    let of_signer =
        ["audit.key", "emergency.pem", "signers.json", "approvers", "breakglass-signer.toml"];
    let of_proxy = of_proxy.map(|file| (PROXY, file));
    for (daemon, file) in of_proxy.into_iter().chain(of_signer.map(|file| (SIGNER, file))) {
        let (before, path) = (site.checked(daemon), site.file(daemon, file));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("\u{feff}{text}")).unwrap();
        assert_eq!(site.checked(daemon), before, "{file} of {daemon:?}");
        fs::write(&path, text).unwrap();
    }
}
