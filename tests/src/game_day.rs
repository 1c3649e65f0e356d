//! The KMS of the game day: the keys of `dev` in twelve regions, and for each region another cause for which it does
//! not sign.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use time::format_description::well_known::Rfc2822;
use time::{Duration, OffsetDateTime};

use crate::fault_proxy::{FaultProxy, NetworkFault};
use crate::kms::{Fault, Key, Kind, Kms, Operation};
use crate::pki::{Certificate, Pki, Profile};
use crate::tls_front::TlsFront;

/// The name of one region, in the hosts file while it has an address.
pub const NAME: &str = "kms.game-day.test";

/// Why a region does not sign.
#[derive(Clone, Debug)]
enum Cause {
    /// Nobody listens.
    Refused,
    /// Packets are dropped, as a firewall does.
    Dropped,
    /// Its name has no address.
    NoName,
    /// Its certificate has expired.
    Expired,
    /// This machine's clock is an hour off, by the region's.
    Clock,
    /// KMS answers every call with that.
    Answers(Fault),
    /// KMS answers `Sign` with that.
    Denies(Fault),
}

/// One row of the table: the region, what is injected, and which check of the doctor has to name it with which words.
#[derive(Clone, Debug)]
struct Row {
    region: &'static str,
    what: &'static str,
    cause: Cause,
    check: &'static str,
    words: &'static str,
}

const fn row(
    region: &'static str,
    what: &'static str,
    cause: Cause,
    check: &'static str,
    words: &'static str,
) -> Row {
    Row { region, what, cause, check, words }
}

/// An error of KMS.
const fn error(code: &'static str) -> Fault {
    Fault::Error(code, 400)
}

/// Every cause.
const ROWS: [Row; 12] = [
    row("eu-1", "nobody listens", Cause::Refused, "tcp", "Connection refused"),
    row("eu-2", "a firewall drops packets", Cause::Dropped, "tcp", "nothing within 3 s"),
    row("eu-3", "the name has no address", Cause::NoName, "dns", "look at the resolver"),
    row("eu-4", "the certificate has expired", Cause::Expired, "tls", "expired"),
    row("eu-5", "the clock is an hour off", Cause::Clock, "clock", "set it by NTP"),
    row(
        "eu-6",
        "the credentials have expired",
        Cause::Answers(error("ExpiredTokenException")),
        "credentials",
        "renew the credentials",
    ),
    row(
        "eu-7",
        "credentials of another account",
        Cause::Answers(error("UnrecognizedClientException")),
        "credentials",
        "of this account",
    ),
    row(
        "eu-8",
        "the key is disabled",
        Cause::Answers(error("DisabledException")),
        "key",
        "enable it",
    ),
    row(
        "eu-9",
        "the key does not exist",
        Cause::Answers(error("NotFoundException")),
        "key",
        "correct key_id",
    ),
    row(
        "eu-10",
        "kms:Sign is denied",
        Cause::Denies(error("AccessDeniedException")),
        "signature",
        "allow kms:Sign",
    ),
    row(
        "eu-11",
        "KMS throttles",
        Cause::Denies(error("ThrottlingException")),
        "signature",
        "a higher quota",
    ),
    row("eu-12", "KMS never answers", Cause::Denies(Fault::Hang), "signature", "no answer"),
];

/// One region.
#[derive(Debug)]
struct Region {
    row: Row,
    kid: &'static str,
    kms: Kms,
    key: Key,
    endpoint: String,
    front: Front,
}

/// What lies in front of a region.
#[derive(Debug)]
enum Front {
    Nothing,
    Faulty(FaultProxy),
    Tls(TlsFront),
}

/// The signers of `dev`: each is in four regions.
const SIGNERS: [(&str, Kind); 3] =
    [("dev-ed25519", Kind::Ed25519), ("dev-p256", Kind::P256), ("dev-rsa", Kind::Rsa2048)];

/// All regions.
#[derive(Debug)]
pub struct GameDay {
    regions: Vec<Region>,
    hosts: PathBuf,
    /// PEM of the authority that the regions with TLS have their certificates from.
    pub ca_pem: String,
    good: Certificate,
    expired: Certificate,
    /// The signers, each with the PEM of its private key.
    pub private_keys: Vec<(&'static str, String)>,
}

impl GameDay {
    /// Starts it. `hosts` is the file in which [`NAME`] gets and loses its address.
    #[must_use]
    pub fn start(hosts: &Path) -> Self {
        let pki = Pki::named("game day");
        let mut names = Profile::server();
        names.dns_names.push(NAME.to_owned());
        let expired = Profile { days: (-2, -1), ..names.clone() };
        let (good, expired) = (pki.issue(&names), pki.issue(&expired));
        let origin = Kms::start_in("origin");
        let keys = SIGNERS.map(|(kid, kind)| (kid, origin.key(kind)));
        let of_each = ROWS.len() / keys.len();
        let regions = ROWS.into_iter().enumerate().map(|(at, row)| {
            let (kid, key) = &keys[at / of_each];
            Region::start(row, kid, key, &good)
        });
        let day = Self {
            regions: regions.collect(),
            hosts: hosts.to_owned(),
            ca_pem: pki.ca_pem.clone(),
            good,
            expired,
            private_keys: keys.iter().map(|(kid, key)| (*kid, Kms::private_key_pem(key))).collect(),
        };
        day.name(true);
        day
    }

    /// The value of `[[signers]]`, as TOML.
    #[must_use]
    pub fn signers(&self) -> String {
        let signers = SIGNERS.map(|(kid, _)| {
            let of_it = self.regions.iter().filter(|region| region.kid == kid);
            let upstreams = of_it.map(|Region { row, key, endpoint, .. }| {
                format!(
                    "{{provider = \"aws-kms\", region = \"{}\", endpoint = \"{endpoint}\", key_id = \"{}\"}}",
                    row.region, key.id
                )
            });
            let upstreams: Vec<_> = upstreams.collect();
            format!("{{kid = \"{kid}\", upstreams = [{}]}}", upstreams.join(", "))
        });
        format!("[{}]", signers.join(", "))
    }

    /// The table: for each region what is injected, and the check and the words by which the doctor names it.
    #[must_use]
    pub fn table(&self) -> Value {
        let row = |Region { row: Row { region, what, check, words, .. }, .. }: &Region| json!({"region": region, "injected": what, "check": check, "words": words});
        self.regions.iter().map(row).collect()
    }

    /// Injects into each region its own cause.
    pub async fn inject(&self) {
        for region in &self.regions {
            match (&region.row.cause, &region.front) {
                (Cause::Refused, _) => region.kms.cut().await,
                (Cause::Dropped, Front::Faulty(proxy)) => proxy.set(NetworkFault::NoConnect),
                (Cause::NoName, Front::Tls(front)) => {
                    self.name(false);
                    // Whoever is connected needs the name again.
                    front.show(&self.good);
                }
                (Cause::Expired, Front::Tls(front)) => front.show(&self.expired),
                (Cause::Clock, _) => {
                    let date = OffsetDateTime::now_utc() - Duration::hours(1);
                    let date = date.format(&Rfc2822).unwrap().replace("+0000", "GMT");
                    region.kms.show_date(Some(&date));
                    let skewed = error("InvalidSignatureException");
                    region.fails(&skewed);
                }
                (Cause::Answers(fault), _) => region.fails(fault),
                (Cause::Denies(fault), _) => region.key.set(Operation::Sign, fault.clone()),
                (Cause::Dropped | Cause::NoName | Cause::Expired, _) => {
                    panic!("{} has nothing in front of it", region.row.region)
                }
            }
        }
    }

    /// The provider is down: no region can be reached.
    pub async fn cut(&self) {
        for Region { kms, front, .. } in &self.regions {
            kms.cut().await;
            if let Front::Faulty(proxy) = front {
                proxy.set(NetworkFault::Refuse);
            }
        }
    }

    /// Every region is well again.
    pub async fn mend(&self) {
        self.name(true);
        for Region { kms, key, front, .. } in &self.regions {
            kms.reconnect().await;
            kms.show_date(None);
            key.mend();
            match front {
                Front::Nothing => {}
                Front::Faulty(proxy) => proxy.set(NetworkFault::None),
                Front::Tls(front) => front.show(&self.good),
            }
        }
    }

    /// Writes KMS's own log of all regions, as CloudTrail delivers it.
    pub fn write_log(&self, directory: &Path) {
        let records: Vec<_> =
            self.regions.iter().flat_map(|region| region.kms.cloudtrail()).collect();
        std::fs::create_dir_all(directory).unwrap();
        let name = directory.join("000000000000_CloudTrail_eu-1_20261126T0500Z_game.json");
        std::fs::write(name, json!({"Records": records}).to_string()).unwrap();
    }

    /// Gives [`NAME`] its address, or takes it. The file is mounted over another one, so it is written in place.
    fn name(&self, has_address: bool) {
        let line = if has_address { format!("127.0.0.1 {NAME}\n") } else { String::new() };
        std::fs::write(&self.hosts, format!("127.0.0.1 localhost\n{line}")).unwrap();
    }
}

impl Region {
    /// Every call fails.
    fn fails(&self, fault: &Fault) {
        for operation in [Operation::Sign, Operation::GetPublicKey, Operation::DescribeKey] {
            self.key.set(operation, fault.clone());
        }
    }

    fn start(row: Row, kid: &'static str, key: &Key, good: &Certificate) -> Self {
        let kms = Kms::start_in(row.region);
        let key = kms.replica(key);
        let address = kms.endpoint.trim_start_matches("http://").to_owned();
        let (front, endpoint) = match row.cause {
            Cause::Dropped => {
                let proxy = FaultProxy::start(&address);
                let endpoint = format!("http://{}", proxy.address);
                (Front::Faulty(proxy), endpoint)
            }
            Cause::Expired | Cause::NoName => {
                let front = TlsFront::start(&address, good);
                let name = if matches!(row.cause, Cause::NoName) { NAME } else { "localhost" };
                let endpoint = format!("https://{name}:{}", front.port);
                (Front::Tls(front), endpoint)
            }
            Cause::Refused | Cause::Clock | Cause::Answers(_) | Cause::Denies(_) => {
                (Front::Nothing, kms.endpoint.clone())
            }
        };
        Self { row, kid, kms, key, endpoint, front }
    }
}
