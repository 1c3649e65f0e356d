//! The stage: every process that is measured, its files, and what is sent to it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use development::DevelopmentKey;
use serde_json::{Value, json};
use signing_core::Algorithm;
use system_tests::audit_key::audit_entry;
use system_tests::client::{admin, plain};
use system_tests::{Pki, Profile, Scratch, eventually};
use tokio_rustls::TlsConnector;

use crate::alone::Alone;
use crate::child::Child;
use crate::doors::{self, ACCESS_KEY_ID, LOCAL_CALLER, SECRET_ACCESS_KEY};
use crate::kms_process::{KmsAt, KmsKey};
use crate::load::{self, CALLER, Target};
use crate::parts::{Curve, Part};

/// What is signed.
pub const DIGEST: [u8; 32] = [0x5a; 32];

/// Everything that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Stage {
    /// The KMS.
    pub kms: KmsAt,
    /// What is measured without a server, for each kind of key.
    pub alone: Vec<(Curve, Alone)>,
    proxy: ProxyAt,
    ceilings: Vec<(Part, Target)>,
    admin_socket: PathBuf,
    // Processes end before their files go.
    children: Vec<Child>,
    scratch: Scratch,
}

#[derive(Clone, Debug)]
struct ProxyAt {
    listen: String,
    local: String,
    metrics: String,
    pid: u32,
}

impl Stage {
    /// Starts everything; returns once every gate is open. With it comes the
    /// load's TLS.
    ///
    /// # Errors
    /// If a process does not start, or does not answer as it should.
    pub async fn build() -> anyhow::Result<(Self, TlsConnector)> {
        let (scratch, pki) = (Scratch::new(), Pki::new());
        let tls = load::tls(&pki)?;
        let (kms_child, kms) = Child::start(ourselves("kms")?, KmsAt::read)?;

        let server = pki.issue(&Profile::server());
        scratch.write("server.pem", &server.certificate_pem);
        scratch.write("server.key", &server.key_pem);
        scratch.write("ca.pem", &pki.ca_pem);
        std::fs::create_dir_all(scratch.path("state"))?;
        let keys = development_keys()?;
        let audit = audit_entry(&scratch.path("audit.key"));
        let registry = registry(&keys, &kms, audit).to_string();
        scratch.write("signers.json", &registry);
        scratch.write("sdk.secret", SECRET_ACCESS_KEY);
        for (curve, key) in &keys {
            let kid = Part::Development(*curve).kid();
            scratch.write(&format!("{kid}.pem"), key.to_pem()?.as_bytes());
        }
        let config = scratch.write("signing-proxy.toml", configuration(&kms));

        let proxy = std::env::current_exe()?.with_file_name("signing-proxy");
        let mut init = Command::new(&proxy);
        ensure!(init.args(["init", "--config"]).arg(&config).status()?.success(), "no journal");
        let mut command = Command::new(&proxy);
        command.args(["serve", "--config"]).arg(config).env_clear();
        let (proxy_child, (listen, local, metrics)) =
            Child::start(with_credentials(command), |line: &Value| {
                let text = |key: &str| Some(line.get(key)?.as_str()?.to_owned());
                (text("message")? == "serving")
                    .then(|| Some((text("listen")?, text("local")?, text("metrics")?)))?
            })?;
        let mut stage = Self {
            proxy: ProxyAt { listen, local, metrics, pid: proxy_child.pid() },
            kms,
            alone: keys
                .into_iter()
                .map(|(curve, key)| {
                    let kid = Part::Development(curve).kid();
                    Ok((curve, Alone::new(key, curve.algorithm(), &registry, kid)?))
                })
                .collect::<anyhow::Result<_>>()?,
            ceilings: Vec::new(),
            admin_socket: scratch.path("admin.sock"),
            children: vec![kms_child, proxy_child],
            scratch,
        };
        stage.healthy().await;
        stage.add_ceilings(&tls).await?;
        Ok((stage, tls))
    }

    /// Where the load of `part` goes; None if it has none.
    #[must_use]
    pub fn target(&self, part: Part) -> Option<Target> {
        if let Some((_, target)) = self.ceilings.iter().find(|(ceiling, _)| *ceiling == part) {
            return Some(target.clone());
        }
        let status = match part {
            Part::Refusal => 503,
            Part::Development(_)
            | Part::KmsForm
            | Part::KmsFormAtLocalDoor
            | Part::Kms(_)
            | Part::KmsBySdk => 200,
            Part::CeilingOfRefusals
            | Part::CeilingOfSignatures
            | Part::Outage
            | Part::AtCapacity
            | Part::Overload
            | Part::OverloadRefused
            | Part::KmsLoop(_)
            | Part::KmsLoopLean
            | Part::Journal
            | Part::BareSync => return None,
        };
        let ProxyAt { listen, local, pid, .. } = &self.proxy;
        let plain = part == Part::KmsFormAtLocalDoor;
        let request = match part {
            Part::KmsForm => doors::with_certificate(part),
            Part::KmsFormAtLocalDoor => doors::with_key_pair(part, local, host::clock::wall_now()),
            _ => request(part),
        };
        Some(Target {
            address: if plain { local.clone() } else { listen.clone() },
            pid: *pid,
            request,
            status,
            aside: None,
            pace: Duration::ZERO,
            plain,
        })
    }

    /// Where its files are: the proxy's certificates, among others.
    #[must_use]
    pub fn files(&self) -> &Scratch {
        &self.scratch
    }

    /// The audit key, for a journal beside the proxy's.
    #[must_use]
    pub fn audit_key(&self) -> PathBuf {
        self.scratch.path("audit.key")
    }

    /// An empty directory on the disk of the proxy's journal.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn beside_the_journal(&self) -> std::io::Result<PathBuf> {
        let dir = self.scratch.path("beside");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Freezes the proxy, or ends the freeze and waits until it signs again.
    ///
    /// # Errors
    /// If the proxy says no.
    pub async fn freeze(&self, frozen: bool) -> anyhow::Result<()> {
        let (path, body) = match frozen {
            true => ("/v1/freeze", json!({"reason": "measuring refusals"})),
            false => ("/v1/unfreeze", json!({"reason": "over"})),
        };
        let answer = admin(&self.admin_socket, "POST", path, body).await;
        ensure!(answer.status == 200, "{path}: {}", answer.text);
        if !frozen {
            self.healthy().await;
        }
        Ok(())
    }

    async fn healthy(&self) {
        let metrics = &self.proxy.metrics;
        eventually("every gate is open", || async {
            (plain(metrics, "/health").await.status == 200).then_some(())
        })
        .await;
    }

    /// Asks the proxy once each, and starts a bare server with its answer.
    async fn add_ceilings(&mut self, tls: &TlsConnector) -> anyhow::Result<()> {
        for (ceiling, part) in [
            (Part::CeilingOfRefusals, Part::Refusal),
            (Part::CeilingOfSignatures, Part::Development(Curve::P256)),
        ] {
            let target = self.target(part).context("no target")?;
            if part == Part::Refusal {
                self.freeze(true).await?;
            }
            let answer = load::once(&target, tls).await?;
            if part == Part::Refusal {
                self.freeze(false).await?;
            }
            let file = format!("answer-{}", target.status);
            self.scratch.write(&file, answer);
            let mut command = ourselves("ceiling")?;
            command.arg(self.scratch.dir()).arg(&file);
            let (child, address) = Child::start(command, |line: &Value| {
                Some(line.get("listen")?.as_str()?.to_owned())
            })?;
            self.ceilings.push((ceiling, Target { address, pid: child.pid(), ..target }));
            self.children.push(child);
        }
        Ok(())
    }
}

/// This program again, as another process.
///
/// # Errors
/// If it cannot find itself.
pub fn ourselves(verb: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(verb).env_clear();
    Ok(with_credentials(command))
}

fn with_credentials(mut command: Command) -> Command {
    command
        .env("AWS_ACCESS_KEY_ID", "bench")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn request(part: Part) -> Vec<u8> {
    let body = json!({
        "signer_kid": part.kid(),
        "digest": STANDARD.encode(DIGEST),
        "digest_algorithm": "sha256",
    });
    load::post("/v1/sign", &body.to_string())
}

fn development_keys() -> anyhow::Result<Vec<(Curve, DevelopmentKey)>> {
    let key = |curve: Curve| Ok((curve, DevelopmentKey::generate(curve.kind())?));
    Curve::ALL.into_iter().map(key).collect()
}

fn registry(keys: &[(Curve, DevelopmentKey)], kms: &KmsAt, audit: Value) -> Value {
    let entry = |kid: &str, curve: Curve, pem: &str| {
        json!({
            "signer_kid": kid,
            "algorithm": curve.algorithm().registry_name(curve.kind()),
            "public_key_pem": pem,
        })
    };
    let of_development = keys.iter().map(|(curve, key)| {
        let pem = system_tests::kms::pem("PUBLIC KEY", key.public_key_der());
        entry(Part::Development(*curve).kid(), *curve, &pem)
    });
    let of_kms = Curve::ALL
        .map(|curve| entry(Part::Kms(curve).kid(), curve, &kms.key(curve).public_key_pem));
    let by_sdk = entry(Part::KmsBySdk.kid(), Curve::Ed25519, &kms.by_sdk.public_key_pem);
    let all = of_development.chain(of_kms).chain([by_sdk, audit]);
    json!({"signers": all.collect::<Vec<_>>()})
}

/// Gates that open soon; everything else by default.
fn configuration(kms: &KmsAt) -> String {
    let mut text = format!(
        "[deployment]\nname = \"bench\"\nenvironment = \"development\"\n\
         [server]\nlisten = \"127.0.0.1:0\"\n\
         [server.tls]\ncertificate_file = \"server.pem\"\nprivate_key_file = \"server.key\"\n\
         client_ca_file = \"ca.pem\"\n\
         [metrics]\nlisten = \"127.0.0.1:0\"\n\
         [admin]\nsocket = \"admin.sock\"\nallowed_uids = [{}]\n\
         [state]\ndir = \"state\"\n[audit]\ndir = \"journal\"\nkey_file = \"audit.key\"\n[registry]\nfile = \"signers.json\"\n\
         [gate]\nrecovery_probe_interval_ms = 200\nrecovery_min_ms = 400\n\
         [[server.local]]\nlisten = \"127.0.0.1:0\"\n\
         [[server.local.callers]]\nname = \"{LOCAL_CALLER}\"\naccess_key_id = \"{ACCESS_KEY_ID}\"\n\
         secret_access_key_file = \"sdk.secret\"\n\
         [[callers]]\nname = \"local:{LOCAL_CALLER}\"\n\
         [[callers.signers]]\nkid = \"{}\"\nalgorithms = [\"{}\"]\n\
         [[callers]]\nname = \"{CALLER}\"\n",
        nix::unistd::geteuid(),
        Part::KmsFormAtLocalDoor.kid(),
        Curve::P256.algorithm(),
    );
    let mut signers = String::new();
    let mut of_kms = |kid: &str, key: &KmsKey, client: &str| {
        // Writing to a String does not fail.
        let _ = write!(
            signers,
            "[[signers]]\nkid = \"{kid}\"\n[[signers.upstreams]]\nprovider = \"aws-kms\"\n\
             key_id = \"{}\"\nregion = \"eu-test-1\"\nendpoint = \"{}\"\nclient = \"{client}\"\n",
            key.id, kms.endpoint,
        );
    };
    of_kms(Part::KmsBySdk.kid(), &kms.by_sdk, "sdk");
    for curve in Curve::ALL {
        of_kms(Part::Kms(curve).kid(), kms.key(curve), "lean");
    }
    let mut grant = |kid: &str, algorithm: Algorithm| {
        let _ =
            write!(text, "[[callers.signers]]\nkid = \"{kid}\"\nalgorithms = [\"{algorithm}\"]\n");
    };
    grant(Part::KmsBySdk.kid(), Curve::Ed25519.algorithm());
    for curve in Curve::ALL {
        let of_file = Part::Development(curve).kid();
        grant(of_file, curve.algorithm());
        grant(Part::Kms(curve).kid(), curve.algorithm());
        let _ = write!(
            signers,
            "[[signers]]\nkid = \"{of_file}\"\n[[signers.upstreams]]\n\
             provider = \"development\"\nkey_file = \"{of_file}.pem\"\n"
        );
    }
    text + &signers
}
