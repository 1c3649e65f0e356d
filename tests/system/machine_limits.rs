//! A machine that gives little: a tenth of a processor, memory that ends, IPv4 or IPv6 alone. Each is said, and
//! nothing that leaves is without its record.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use system_tests::network::{inside, run};
use system_tests::{Fault, Kind, Proxy, World, eventually};

use crate::ALICE;

/// A control group of this machine, with limits; it ends with this value.
struct Group {
    places: Vec<PathBuf>,
    is_second_version: bool,
}

impl Group {
    /// None, with a word, where this machine lets none be made: then its limits cannot be tried.
    fn new(world: &World, controller: &str) -> Option<Self> {
        let mounted = Path::new("/sys/fs/cgroup");
        let is_second_version =
            statfs(mounted).is_ok_and(|it| it.filesystem_type() == CGROUP2_SUPER_MAGIC);
        let mounted = if is_second_version { mounted.to_owned() } else { mounted.join(controller) };
        let place = mounted.join(world.scratch.dir().file_name().unwrap());
        if is_second_version {
            // Those above have to hand it down.
            let _ = fs::write(mounted.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        let made = fs::create_dir(&place).is_ok() && place.join("cgroup.procs").exists();
        let group = Self { places: vec![place], is_second_version };
        let knob =
            if is_second_version { format!("{controller}.max") } else { "cgroup.procs".to_owned() };
        if made && group.file(&knob).exists() {
            return Some(group);
        }
        println!("NOT TRIED: this machine lets no control group with {controller} be made");
        None
    }

    fn file(&self, name: &str) -> PathBuf {
        self.places[0].join(name)
    }

    fn set(&self, first: (&str, &str), second: (&str, &str)) {
        let (name, value) = if self.is_second_version { second } else { first };
        fs::write(self.file(name), value).unwrap();
    }

    /// A tenth of a processor.
    fn a_tenth(&self) {
        self.set(("cpu.cfs_period_us", "100000"), ("cpu.max", "10000 100000"));
        if !self.is_second_version {
            fs::write(self.file("cpu.cfs_quota_us"), "10000").unwrap();
        }
    }

    fn memory(&self, bytes: u64) {
        let bytes = bytes.to_string();
        self.set(("memory.limit_in_bytes", &bytes), ("memory.max", &bytes));
    }

    /// A shell that joins it, then becomes what follows.
    fn around(&self, ours: &std::process::Command) -> std::process::Command {
        let mut command = system_tests::programs::system("sh");
        command.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(self.file("cgroup.procs"));
        command.arg(ours.get_program()).args(ours.get_args());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(ours.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..200 {
            if fs::remove_dir(&self.places[0]).is_ok() {
                break;
            }
            // A pause: between two looks, whether the group is empty.
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// How often the gate went from open to shut.
async fn shut(proxy: &Proxy<'_>) -> f64 {
    let series =
        "signing_proxy_gate_transitions_total{signer_kid=\"ec\",from=\"open\",to=\"shut\"}";
    proxy.metric(series).await.unwrap_or_default()
}

#[tokio::test]
async fn with_a_tenth_of_a_processor_no_gate_flaps_and_an_outage_is_seen_once() {
    let world = World::new();
    let Some(group) = Group::new(&world, "cpu") else { return };
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
    let command = builder.command();
    group.a_tenth();
    // The gate of a configuration that says nothing of it, but for a lease that ends within the test.
    let proxy = builder
        .gate("lease_ms = 8000\nprobe_interval_ms = 2000")
        .started(group.around(&command))
        .await;
    proxy.process.says("has 0.100 of one; what is late is refused").await;
    proxy.healthy().await;
    let alice = proxy.client(ALICE).await;
    for _ in 0..50 {
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    }
    assert!(shut(&proxy).await < 0.5, "it flaps");
    // What is unavailable is refused, also by a monitor that is late: each permission ends by itself.
    key.break_with(Fault::Bare503);
    eventually("the gate is shut", || async {
        let answer = alice.sign_message("ec", b"hi").await;
        assert_ne!(answer.status, 200, "{answer:?}");
        (answer.reason() == "upstream_unhealthy").then_some(())
    })
    .await;
    key.mend();
    proxy.healthy().await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    assert!(shut(&proxy).await < 1.5, "it flaps");
    proxy.stop().await;
}

#[tokio::test]
async fn a_proxy_and_its_connections_take_no_more_memory_than_its_warnings_count_with() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let idle = proxy.process.resident_kib();
    let mut clients = Vec::new();
    // What the first ones bring into memory stays there for all.
    let mut first = 0;
    for count in 0..250 {
        if count == 50 {
            first = proxy.process.resident_kib();
        }
        let client = proxy.client(ALICE).await;
        assert_eq!(client.sign_message("ec", b"hi").await.status, 200);
        clients.push(client);
    }
    let each = proxy.process.resident_kib().saturating_sub(first) / 200;
    println!("idle {idle} KiB, each connection {each} KiB");
    assert!(idle < 64 << 10, "{idle} KiB");
    assert!(each < 64, "{each} KiB");
}

#[tokio::test]
async fn i6_near_the_limit_of_its_memory_it_says_so_and_what_was_signed_is_recorded() {
    let world = World::new();
    let Some(group) = Group::new(&world, "memory") else { return };
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
    // Nobody listens there: spans wait, and count.
    let traces = "[traces]\nendpoint = \"http://127.0.0.1:1/v1/traces\"\nqueue_max = 100000";
    let builder = builder.tables(traces);
    let command = builder.command();
    group.memory(128 << 20);
    let mut proxy = builder.clone().started(group.around(&command)).await;
    proxy
        .process
        .says("memory: the control group of this process has 128 MiB, and connections_max")
        .await;
    // 256 MiB, and 3 KiB for each of 100000 spans.
    proxy.process.says("and queue_max of [traces], may take 548 MiB together").await;
    proxy.healthy().await;
    // From here on only what can be given back, such as pages of files, makes room.
    let used = proxy.process.resident_kib() << 10;
    let mut limit = used + (4 << 20);
    let file = if group.is_second_version { "memory.max" } else { "memory.limit_in_bytes" };
    // What cannot be freed is not taken back: then the limit stays where it can be.
    while fs::write(group.file(file), limit.to_string()).is_err() {
        limit += 4 << 20;
    }
    let mut clients = Vec::new();
    let mut received = Vec::new();
    for _ in 0..300 {
        let certificate = world.pki.issue(&system_tests::Profile::client(ALICE));
        let connected = system_tests::Client::connect(
            &proxy.listen,
            &world.pki.ca_pem,
            &certificate,
            system_tests::Protocol::Http1,
        );
        let Ok(client) = connected.await else { break };
        let headers = [("content-type", "application/json")];
        let asked =
            client.send(http::Method::POST, "/v1/sign", &headers, r#"{"message":"aGk="}"#).await;
        let Ok(answer) = asked else { break };
        received.extend((answer.status == 200).then(|| answer.body["audit"].clone()));
        clients.push(client);
    }
    println!("{} connections, {} signatures near the limit", clients.len(), received.len());
    assert!(!received.is_empty());
    if proxy.process.is_running() {
        proxy.process.signal(Signal::SIGTERM);
    }
    // It stops in order, or the kernel ended it, also during its stop.
    let status = proxy.process.ended().await;
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert!(status.success() || signal == Some(Signal::SIGKILL as i32), "it ended with {status}");
    drop(proxy);
    drop(group);
    // Either way the next start signs, and every signature that was received has its record.
    let proxy = builder.start().await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    proxy.stop().await;
    let receipt = received.last().unwrap();
    let receipt = format!("{}:{}", receipt["seq"], receipt["leaf"].as_str().unwrap());
    let mut verify = std::process::Command::new(system_tests::programs::ours("signctl"));
    verify.args(["audit", "verify", "--receipt", &receipt, "--journal"]);
    verify.arg(world.scratch.path("proxy/journal"));
    verify.arg("--signers").arg(world.scratch.path("proxy/signers.json"));
    let output = verify.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn without_ipv6_it_serves_and_an_ipv6_address_is_a_clear_refusal() {
    if !inside("machine_limits::without_ipv6_it_serves_and_an_ipv6_address_is_a_clear_refusal", 120)
    {
        return;
    }
    fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    for (variable, key) in [
        ("SIGNING_PROXY__SERVER__LISTEN", "server.listen"),
        ("SIGNING_PROXY__METRICS__LISTEN", "metrics.listen"),
    ] {
        let builder = builder.clone().environment(variable, "[::1]:0");
        let output = builder.command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        let words = format!("{key} [::1]:0: ");
        assert!(said.contains(&words) && said.contains("no IPv6"), "{said}");
    }
    let proxy = builder.start().await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    proxy.stop().await;
}

#[tokio::test]
async fn with_ipv6_alone_it_serves_and_reaches_its_kms_and_an_ipv4_address_is_a_clear_refusal() {
    let me = "machine_limits::with_ipv6_alone_it_serves_and_reaches_its_kms_and_an_ipv4_address_is_a_clear_refusal";
    if !inside(me, 120) {
        return;
    }
    run(&["ip", "-4", "address", "flush", "dev", "lo"]);
    run(&["ip", "-4", "route", "flush", "table", "local"]);
    let world = World::new();
    assert!(world.kms.endpoint.starts_with("http://[::1]:"), "{}", world.kms.endpoint);
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
    let output = builder.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("server.listen 127.0.0.1:0: ") && said.contains("no IPv4"), "{said}");
    let builder = builder.environment("SIGNING_PROXY__SERVER__LISTEN", "[::1]:0");
    let proxy = builder.environment("SIGNING_PROXY__METRICS__LISTEN", "[::1]:0").start().await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    proxy.stop().await;
}
