//! The PIN of a token as a systemd credential: laid out as systemd does it, handed over by a
//! real systemd, and refused where it cannot be one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use system_tests::containers::OWN_CGROUPS;
use system_tests::programs::{ours, system};
use system_tests::softhsm::PIN;
use system_tests::{Key, Kind, ProxyBuilder, Scratch, SoftHsm, World};

use crate::ALICE;
use crate::hsm_act::signs;

const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

fn builder<'w>(world: &'w World, hsm: &SoftHsm, key: &Key, name: &str) -> ProxyBuilder<'w> {
    world.proxy().token("ec", hsm, key, "").caller(ALICE, &["ec"]).pin_credential(hsm, name)
}

fn token() -> (SoftHsm, Key) {
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    (hsm, key)
}

/// A directory of credentials with one in it, only ever readable.
fn credentials(scratch: &Scratch, pin: &str, (directory, file): (u32, u32)) -> PathBuf {
    let path = scratch.write("credentials/hsm-pin", pin);
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(&path, file);
    mode(path.parent().unwrap(), directory);
    path.parent().unwrap().to_owned()
}

/// What `check` says of it, and whether it passes.
fn check(builder: &ProxyBuilder<'_>) -> (bool, String) {
    let output = builder.verb("check", &builder.write()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn a_pin_is_read_from_where_systemd_puts_credentials() {
    let world = World::new();
    let (hsm, key) = token();
    // Owned by the service's user, or by root with an access control list, whose mask shows
    // as the group's bits.
    for (name, pin, modes) in [
        ("owned", PIN.to_owned(), (0o500, 0o400)),
        ("listed", format!("{PIN}\n"), (0o550, 0o440)),
        ("crlf", format!("{PIN}\r\n"), (0o500, 0o400)),
    ] {
        let scratch = Scratch::new();
        let directory = credentials(&scratch, &pin, modes).display().to_string();
        let builder = builder(&world, &hsm, &key, "hsm-pin").directory(name);
        let builder = builder.environment(CREDENTIALS, &directory);
        let (passed, said) = check(&builder);
        assert!(passed && !said.contains("pin_"), "{name}: {said}");
        let proxy = builder.start().await;
        signs(&proxy, &key).await;
        assert!(!proxy.process.output().contains(PIN), "{name}");
    }
    assert_eq!(hsm.said("C_Login"), 3, "one login each");
}

#[tokio::test]
async fn a_credential_that_holds_no_pin_is_named_and_tries_none() {
    let world = World::new();
    let (hsm, key) = token();
    let scratch = Scratch::new();
    let directory = credentials(&scratch, "", (0o500, 0o400));
    let builder = builder(&world, &hsm, &key, "hsm-pin");
    let builder = builder.environment(CREDENTIALS, &directory.display().to_string());
    let proxy = builder.start_shut().await;
    let file = directory.join("hsm-pin");
    let is_refused = async |words: &str| {
        proxy.process.says(&format!("{} {words}", file.display())).await;
        proxy.unhealthy_for("key_unavailable").await;
        let answer = proxy.client(ALICE).await.sign_message("ec", b"hi").await;
        assert_eq!((answer.status, answer.reason()), (503, "key_unavailable"), "{answer:?}");
    };
    is_refused("is empty; write the PIN").await;
    fs::write(&file, "1".repeat(1025)).unwrap();
    is_refused("is longer than 1024 bytes").await;
    fs::remove_file(&file).unwrap();
    is_refused("cannot be read").await;
    assert_eq!(hsm.said("C_Login"), 0);
    fs::write(&file, PIN).unwrap();
    signs(&proxy, &key).await;
    assert_eq!(hsm.said("C_Login"), 1);
}

#[tokio::test]
async fn a_name_or_a_directory_that_systemd_never_gives_is_a_mistake() {
    let world = World::new();
    let (hsm, key) = token();
    let here = world.scratch.dir().display().to_string();
    for (name, directory, expected) in [
        ("hsm-pin", "", "is \"hsm-pin\", but CREDENTIALS_DIRECTORY is not set"),
        (
            "hsm-pin",
            "run/credentials",
            "is \"hsm-pin\", but CREDENTIALS_DIRECTORY is \"run/credentials\", expected",
        ),
        ("../pin", &here, "is \"../pin\", expected the name of a LoadCredential= line"),
        ("/etc/pin", &here, "is \"/etc/pin\", expected the name"),
        ("..", &here, "is \"..\", expected the name"),
        (".", &here, "is \".\", expected the name"),
    ] {
        let builder = builder(&world, &hsm, &key, name).environment(CREDENTIALS, directory);
        let (passed, said) = check(&builder);
        assert!(!passed && said.contains(&format!("pin_credential: {expected}")), "{said}");
        let output = builder.verb("serve", &builder.write()).output().unwrap();
        assert!(!output.status.success(), "it serves all the same: {name:?} in {directory:?}");
    }
}

#[tokio::test]
async fn a_credential_that_others_may_read_is_noted() {
    let world = World::new();
    let (hsm, key) = token();
    let scratch = Scratch::new();
    let directory = credentials(&scratch, PIN, (0o555, 0o444)).display().to_string();
    let builder = builder(&world, &hsm, &key, "hsm-pin").environment(CREDENTIALS, &directory);
    let (passed, said) = check(&builder);
    assert!(passed && said.contains("pin_file: every user may read"), "{said}");
    assert!(said.contains("chmod it to 0400"), "{said}");
}

/// A systemd as the first process of its own namespaces, which runs one service: `UNIT` is
/// its text, `LOG` what it says, `SEALED` where an encrypted credential is to be.
const BOOT: &str = r#"
set -e
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
# Where the key of encrypted credentials is made: not this machine's.
mount -t tmpfs -o mode=755 tmpfs /var/lib/systemd
systemd-creds setup 2>/dev/null
systemd-creds encrypt --with-key=host --name=hsm-pin "$PIN_FILE" "$SEALED" 2>/dev/null
# A first process raises this machine's limits; not this one.
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
# Wherever the build is, the service's user may run it here.
for program in signing-proxy pkcs11-worker; do
  : >/run/$program
  mount --bind "$BUILT/$program" /run/$program
done
mkdir -p /run/systemd/system "$CGROUPS"
OWN_CGROUPS
cp "$UNIT" /run/systemd/system/proxy.service
: >"$LOG"
tail --follow=name "$LOG" &
exec env container=test /lib/systemd/systemd --system --unit=proxy.service --log-target=null
"#;

#[tokio::test]
async fn a_real_systemd_hands_the_pin_over_plain_and_encrypted() {
    let _ = (system("unshare"), system("systemd-creds"));
    for (line, source) in [("LoadCredential", "pin"), ("LoadCredentialEncrypted", "sealed")] {
        let world = World::new();
        let (hsm, key) = token();
        let path = |name: &str| world.scratch.path(name);
        let builder = builder(&world, &hsm, &key, "hsm-pin");
        // Checked when its journal is made; systemd sets its own.
        let builder = builder.environment(CREDENTIALS, "/run/credentials/proxy.service");
        let _ = builder.command();
        // Only root reads it; the service's user has it from systemd alone.
        world.scratch.write("secret/pin", PIN);
        fs::set_permissions(path("secret"), Permissions::from_mode(0o700)).unwrap();
        fs::remove_file(hsm.pin_file()).unwrap();
        for directory in [path("proxy"), hsm.module.parent().unwrap().to_owned()] {
            give_to_nobody(&directory);
        }
        let environment: String = hsm
            .environment()
            .iter()
            .map(|(variable, value)| format!("Environment={variable}={value}\n"))
            .collect();
        let here = world.scratch.dir().display().to_string();
        let unit = format!(
            "[Unit]\nDefaultDependencies=no\nSuccessAction=exit-force\nFailureAction=exit-force\n\
             [Service]\nType=exec\nUser=nobody\n{line}=hsm-pin:{here}/secret/{source}\n{environment}\
             ExecStart=/run/signing-proxy serve --config {here}/proxy/signing-proxy.toml\n\
             StandardOutput=append:{here}/log\nStandardError=append:{here}/log\n"
        );
        let mut boot = system("unshare");
        boot.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--cgroup"]);
        boot.args(["--uts", "--ipc", "bash", "-c", &BOOT.replace("OWN_CGROUPS", OWN_CGROUPS)]);
        boot.env("CGROUPS", "/run/cgroups");
        boot.env("UNIT", world.scratch.write("proxy.service", unit)).env("LOG", path("log"));
        boot.env("BUILT", ours("signing-proxy").parent().unwrap());
        boot.env("PIN_FILE", path("secret/pin")).env("SEALED", path("secret/sealed"));
        let proxy = builder.started(boot).await;
        signs(&proxy, &key).await;
        looks_as_expected(proxy.process.pid());
        // The namespace's first process: all in it end with it.
        proxy.process.signal(Signal::SIGKILL);
    }
}

/// What systemd laid out, as the proxy sees it: the tests above imitate it.
fn looks_as_expected(unshare: u32) {
    let systemd = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    let root = PathBuf::from(format!("/proc/{}/root", systemd.trim()));
    let directory = root.join("run/credentials/proxy.service");
    let [directory, file] = [&directory, &directory.join("hsm-pin")].map(|path| {
        fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    });
    let modes = (directory.mode() & 0o777, file.mode() & 0o777);
    assert!([(0o500, 0o400), (0o550, 0o440)].contains(&modes), "{modes:?}");
    assert_eq!(file.len(), PIN.len() as u64);
}

fn give_to_nobody(path: &Path) {
    const NOBODY: u32 = 65_534;
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give_to_nobody(&entry.unwrap().path()));
    }
}
