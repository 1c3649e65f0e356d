//! The three packaged units, run by a real systemd: it hears that they serve, restarts one that hangs, has them
//! read their files again, never gives up, and its journal knows the level of each line.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use system_tests::audit_key::audit_entry;
use system_tests::breakglass::{PASSPHRASE, SignerBuilder};
use system_tests::client::plain;
use system_tests::postgres::Postgres;
use system_tests::programs::{repository, system};
use system_tests::{Client, Key, Kind, Profile, Protocol, World, eventually};

use super::machine::Machine;
use crate::ALICE;

const PROXY: &str = "signing-proxy";
const SIGNER: &str = "breakglass-signer";
const TRAIL: &str = "signing-trail";
const UNITS: [&str; 3] = [SIGNER, PROXY, TRAIL];
/// Their users. No user of this machine has these ids.
const USERS: [(&str, u32); 3] = [(SIGNER, 64_801), (PROXY, 64_802), (TRAIL, 64_803)];
const CONFIG: &str = "/etc/signing-proxy/signing-proxy.toml";
const PIN: &str = "271828-a-pin";
const AWS_SECRET: &str = "an-aws-secret-access-key";

/// What runs on the machine.
struct Site {
    machine: Machine,
    world: World,
    key: Key,
    postgres: Postgres,
    /// What nobody may ever read in a log.
    secrets: Vec<String>,
}

impl Site {
    async fn new() -> Self {
        let machine = Machine::prepare(&USERS);
        let world = World::new();
        let key = world.kms.key(Kind::Ed25519);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = ["listen_addresses=127.0.0.1".to_owned(), format!("port={port}")];
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        let postgres = Postgres::start_with(&settings).await;
        let secrets = [PIN, AWS_SECRET, PASSPHRASE].map(str::to_owned).to_vec();
        let mut site = Self { machine, world, key, postgres, secrets };
        site.write(port);
        site
    }

    fn put(&mut self, program: &str, file: &str, text: &str) {
        let _ = self.machine.put(&format!("etc/{program}/{file}"), text);
        if text.contains("PRIVATE KEY") {
            self.secrets
                .extend(text.lines().filter(|line| !line.contains("-----")).map(str::to_owned));
        }
    }

    /// The files of all three, as docs/operating/packaging.md lays them out.
    fn write(&mut self, port: u16) {
        let signer = SignerBuilder::new(&self.world.scratch).min_outage_s(300);
        // Where a machine lets no limit be lifted, memory is not locked.
        let lifted = system("prlimit").args(["--memlock=unlimited:unlimited", "true"]).output();
        let signer = if lifted.unwrap().status.success() { signer.production() } else { signer };
        let signer = signer.replaces("payments", &self.key);
        let proxy = self.world.proxy().signer("payments", &self.key).caller(ALICE, &["payments"]);
        let proxy = proxy.breakglass("signer_socket = \"/run/breakglass-signer/signer.sock\"\n");
        let entries = signer.registry_entries();
        let proxy = entries.into_iter().fold(proxy, system_tests::ProxyBuilder::registered);
        let (proxy, signer) = (proxy.write(), signer.write());
        let mut trail_entry = audit_entry(&self.world.scratch.path("trail.key"));
        trail_entry["signer_kid"] = json!("trail-audit");
        let read = |file: &Path| fs::read_to_string(file).unwrap();
        let mut registry: Value =
            serde_json::from_str(&read(&proxy.with_file_name("signers.json"))).unwrap();
        registry["signers"].as_array_mut().unwrap().push(trail_entry);
        for program in UNITS {
            self.put(program, "signers.json", &registry.to_string());
        }
        let laid_out = |file: &Path, name: &str| {
            let text = read(file)
                .replace("\"state\"", &format!("\"/var/lib/{name}\""))
                .replace("\"journal\"", &format!("\"/var/lib/{name}/journal\""));
            ["admin", "signer", "operator"].iter().fold(text, |text, socket| {
                text.replace(
                    &format!("\"{socket}.sock\""),
                    &format!("\"/run/{name}/{socket}.sock\""),
                )
            })
        };
        self.put(PROXY, "signing-proxy.toml", &laid_out(&proxy, PROXY));
        for file in ["server.pem", "server.key", "ca.pem", "audit.key"] {
            self.put(PROXY, file, &read(&proxy.with_file_name(file)));
        }
        let text = laid_out(&signer, SIGNER)
            .replacen("allowed_uids = [0]", "allowed_uids = [64802]", 1)
            .replace("\"emergency.pem\"", "\"/var/lib/breakglass-signer/keys/emergency.pem\"");
        self.put(SIGNER, "breakglass-signer.toml", &text);
        for file in ["approvers", "audit.key"] {
            self.put(SIGNER, file, &read(&signer.with_file_name(file)));
        }
        let sealed = read(&signer.with_file_name("emergency.pem"));
        let _ = self.machine.put("var/lib/breakglass-signer/keys/emergency.pem", &sealed);
        self.put(
            TRAIL,
            "signing-trail.toml",
            &format!(
                "[journals]\nproxy = \"/var/lib/signing-proxy/journal\"\n\
                 signer = \"/var/lib/breakglass-signer/journal\"\n[audit]\nkey_file = \"trail.key\"\n\
                 [registry]\nfile = \"signers.json\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n[postgres]\n\
                 url = \"postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable\"\n"
            ),
        );
        self.put(TRAIL, "trail.key", &read(&self.world.scratch.path("trail.key")));
        // What an administrator adds: systemctl edit signing-proxy.
        self.put(PROXY, "hsm-pin", PIN);
        let _ = self.machine.put(
            "etc/systemd/system/signing-proxy.service.d/override.conf",
            &format!(
                "[Service]\nLoadCredential=hsm-pin:/etc/signing-proxy/hsm-pin\n\
                 Environment=AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY={AWS_SECRET}\n\
                 Environment=AWS_EC2_METADATA_DISABLED=true\n"
            ),
        );
    }

    /// As the page says: files for the group only, then the journals, once.
    async fn boot(&mut self) {
        self.machine.boot().await;
        for (name, _) in USERS {
            let words = format!(
                "chown -R root:{name} /etc/{name} && chmod -R u=rwX,g=rX,o= /etc/{name} && \
                 install -d -m 0700 -o {name} -g {name} /var/lib/{name} && chown -R {name}:{name} /var/lib/{name}"
            );
            let _ = self.machine.said(&["sh", "-c", &words]);
        }
        // For root alone: the service has it from systemd.
        let _ = self.machine.said(&["chown", "root:root", "/etc/signing-proxy/hsm-pin"]);
        let _ = self.machine.said(&["chmod", "0600", "/etc/signing-proxy/hsm-pin"]);
        for name in [SIGNER, PROXY] {
            let config = format!("/etc/{name}/{name}.toml");
            let said = self.machine.said_as(name, &[name, "init", "--config", &config]);
            assert!(said.contains(" begins"), "{said}");
        }
    }

    /// Where the proxy that runs now listens.
    async fn place(&self, key: &str) -> String {
        eventually("the line that it serves", || {
            let line = self.machine.line(PROXY, "serving");
            std::future::ready(line.and_then(|line| Some(line[key].as_str()?.to_owned())))
        })
        .await
    }

    async fn signs(&self, kid: &str) {
        let certificate = self.world.pki.issue(&Profile::client(ALICE));
        eventually("a signature", || async {
            let listen = self.place("listen").await;
            let ca = &self.world.pki.ca_pem;
            let client = Client::connect(&listen, ca, &certificate, Protocol::Http1).await;
            let answer = client.ok()?.sign_message(kid, b"hello").await;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Asks systemd to have the proxy's configuration read again, and waits for what systemd shows of that.
    async fn reloads(&self, config: &str, status: &str) {
        self.machine.replace(CONFIG, config);
        let _ = self.machine.said(&["systemctl", "reload", PROXY]);
        self.machine.comes_to(PROXY, "StatusText", status).await;
        assert_eq!(self.machine.shows(PROXY, "ActiveState"), "active");
    }

    fn restarts(&self, unit: &str) -> u32 {
        self.machine.shows(unit, "NRestarts").parse().unwrap()
    }

    /// Files and directories of the running units, as they see them.
    fn looks_as_the_page_says(&self) {
        for (path, expected) in [
            ("/run/signing-proxy", "750 signing-proxy:signing-proxy"),
            ("/run/breakglass-signer", "750 breakglass-signer:breakglass-signer"),
            ("/run/signing-trail", "750 signing-trail:signing-trail"),
            ("/var/lib/signing-proxy", "700 signing-proxy:signing-proxy"),
            ("/var/lib/breakglass-signer", "700 breakglass-signer:breakglass-signer"),
            ("/var/lib/signing-trail", "700 signing-trail:signing-trail"),
            ("/run/signing-proxy/admin.sock", "660 signing-proxy:signing-proxy"),
            ("/run/breakglass-signer/signer.sock", "660 breakglass-signer:breakglass-signer"),
        ] {
            let found = self.machine.said(&["stat", "--format=%a %U:%G", path]);
            assert_eq!(found.trim(), expected, "{path}");
        }
        // The credential is its own, or root's with an access control list, whose mask shows as the group's bits.
        let pid = self.machine.shows(PROXY, "MainPID");
        let credential = format!("/proc/{pid}/root/run/credentials/signing-proxy.service/hsm-pin");
        assert_eq!(self.machine.said(&["cat", &credential]), PIN);
        let mode = self.machine.said(&["stat", "--format=%a", &credential]);
        assert!(["400\n", "440\n"].contains(&mode.as_str()), "{mode}");
        for unit in UNITS {
            let pid = self.machine.shows(unit, "MainPID");
            let status = self.machine.said(&["cat", &format!("/proc/{pid}/status")]);
            assert!(status.contains("NoNewPrivs:\t1\n"), "{unit}: {status}");
            let rights = if unit == TRAIL { "0000000000000004" } else { "0000000000000000" };
            assert!(status.contains(&format!("CapEff:\t{rights}\n")), "{unit}: {status}");
        }
    }

    /// At rest each takes less memory than the pod of the sidecar asks for it: docs/operating/topologies.md.
    fn rests_in_what_a_pod_asks_for(&self) {
        let pod = repository().join("config/kubernetes/sidecar/statefulset.yaml");
        let pod = fs::read_to_string(pod).unwrap();
        for unit in UNITS {
            let serves = format!("args: [serve, --config, /etc/{unit}/{unit}.toml]");
            let (_, container) = pod.split_once(&serves).unwrap();
            let (_, asked) = container.split_once("requests: ").unwrap();
            let (_, asked) = asked.split_once("memory: ").unwrap();
            let asked: u64 = asked.split_once("Mi }").unwrap().0.parse().unwrap();
            let pid = self.machine.shows(unit, "MainPID");
            let status = self.machine.said(&["cat", &format!("/proc/{pid}/status")]);
            let taken = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            let taken: u64 = taken.trim().trim_end_matches(" kB").parse().unwrap();
            println!("{unit}: {taken} KiB of {asked} MiB");
            assert!(status.contains("THP_enabled:\t0"), "{unit}: {status}");
            assert!(taken < asked << 10, "{unit}: {taken} KiB, and a pod asks for {asked} MiB");
        }
    }
}

#[tokio::test]
async fn the_packaged_units_serve_reload_and_are_restarted_by_a_real_systemd() {
    let mut site = Site::new().await;
    site.boot().await;
    let machine = &site.machine;
    // A start has succeeded once the program has said that it serves.
    for unit in UNITS {
        let _ = machine.said(&["systemctl", "start", unit]);
        for (property, value) in
            [("Type", "notify"), ("ActiveState", "active"), ("StatusText", "serving")]
        {
            assert_eq!(machine.shows(unit, property), value, "{unit}: {property}");
        }
        assert!(machine.line(unit, "serving").is_some(), "{unit}");
    }
    site.looks_as_the_page_says();
    site.signs("payments").await;
    let metrics = site.place("metrics").await;
    eventually("the proxy is connected to the emergency signer", || async {
        let shown = plain(&metrics, "/metrics").await.text;
        shown.contains("\nbreakglass_signer_connected 1\n").then_some(())
    })
    .await;
    eventually("rows of both journals", || {
        let rows = site.postgres.psql("SELECT count(*) FROM signing_proxy.audit_events");
        let rows = String::from_utf8_lossy(&rows.stdout).trim().parse::<u64>();
        std::future::ready(rows.is_ok_and(|rows| rows > 0).then_some(()))
    })
    .await;
    site.rests_in_what_a_pod_asks_for();

    // A reload, and one of a bad file: the old configuration stays.
    let before = machine.said(&["cat", CONFIG]);
    let alias = |name: &str| {
        format!("{}\n[aliases]\n\"{name}\" = \"payments\"\n", before.replacen("[aliases]", "", 1))
    };
    site.reloads(&alias("pay"), "serving; the configuration was reloaded").await;
    site.signs("pay").await;
    let bad = alias("other") + "\n[misspelt]\n";
    site.reloads(&bad, "serving; the newest reload was refused: see the log").await;
    site.signs("pay").await;
    let levels = |message: &str| {
        let entries = machine.entries(PROXY).into_iter();
        let of = entries.filter(|(_, line)| line.contains(&format!("\"message\":\"{message}\"")));
        of.map(|(level, _)| level).collect::<Vec<_>>()
    };
    // syslog's numbers: information, warning, error.
    assert_eq!(
        [levels("serving"), levels("reloaded"), levels("not reloaded")],
        [["6"], ["4"], ["3"]]
    );

    it_never_gives_up(&site, (&alias("pay"), &bad)).await;
    what_hangs_is_restarted(&site).await;

    // An orderly end.
    for unit in [PROXY, TRAIL, SIGNER] {
        let _ = machine.said(&["systemctl", "stop", unit]);
        let ended = ["ActiveState", "Result"].map(|property| machine.shows(unit, property));
        assert_eq!(ended, ["inactive", "success"], "{unit}");
    }
    assert!(machine.line(PROXY, "stopped").is_some());
    let all: String =
        UNITS.iter().flat_map(|unit| machine.log(unit)).map(|line| line.to_string()).collect();
    for secret in &site.secrets {
        assert!(!all.contains(secret.as_str()), "a secret is in the journal");
    }
}

/// A configuration that is mistaken at a restart: systemd tries for as long as it is, and needs nobody once it is not.
async fn it_never_gives_up(site: &Site, (good, bad): (&str, &str)) {
    let before = site.restarts(PROXY);
    site.machine.signal(&[PROXY], "KILL");
    eventually("more restarts than systemd allows by default", || {
        std::future::ready((site.restarts(PROXY) > before + 6).then_some(()))
    })
    .await;
    // Why, and as an error.
    let entries = site.machine.entries(PROXY);
    let why = entries
        .iter()
        .find(|(_, line)| line.contains("misspelt: "))
        .unwrap_or_else(|| panic!("{bad}: {entries:?}"));
    assert_eq!(why.0, "3", "{why:?}");
    site.machine.replace(CONFIG, good);
    site.machine.comes_to(PROXY, "ActiveState", "active").await;
    site.signs("pay").await;
}

/// A process that does not move for the time of the watchdog: nothing else ends one that is stopped.
async fn what_hangs_is_restarted(site: &Site) {
    let before = UNITS.map(|unit| site.restarts(unit));
    site.machine.signal(&UNITS, "STOP");
    for (unit, before) in UNITS.into_iter().zip(before) {
        eventually(&format!("{unit} is restarted"), || {
            let is_new =
                site.restarts(unit) > before && site.machine.shows(unit, "StatusText") == "serving";
            std::future::ready(is_new.then_some(()))
        })
        .await;
    }
    site.signs("pay").await;
}
