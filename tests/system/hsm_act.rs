//! What every test of a token's faults begins and ends with: a proxy with one key on a token,
//! calls at once, and the proof that it signs again without a restart.

use nix::sys::signal::Signal;
use system_tests::programs::system;
use system_tests::softhsm::{is_stopped, signal, workers_of};
use system_tests::{Answer, Client, Key, Kind, Proxy, ProxyBuilder, SoftHsm, World};
use system_tests::{eventually, openssl};

use crate::ALICE;

/// Each worker is given four calls at most for each of its two threads.
pub(crate) const SENT_MAX: usize = 8;

const LINES: &str = "threads = 2\ncall_timeout_ms = 400";

/// A proxy with the key `ec` on a token, and a caller of it.
pub(crate) struct Act<'w> {
    pub(crate) hsm: SoftHsm,
    pub(crate) key: Key,
    pub(crate) proxy: Proxy<'w>,
    pub(crate) alice: Client,
}

/// Waits until the key `ec` signs for a caller, as openssl sees it.
pub(crate) async fn signs(proxy: &Proxy<'_>, key: &Key) {
    proxy.healthy().await;
    let answer = proxy.client(ALICE).await.sign_message("ec", b"hi").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(openssl::verifies(key, b"hi", &answer.signature()));
}

/// How the worker fares, by the metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fares {
    pub(crate) up: f64,
    pub(crate) restarts: f64,
    pub(crate) hangs: f64,
}

impl<'w> Act<'w> {
    /// Many failures do not shut its gate, so that each call meets the fault itself, and no
    /// canary is on its way that could meet it first.
    pub(crate) async fn quiet(world: &'w World) -> Self {
        Self::quiet_with(world, LINES).await
    }

    /// The same with other lines of its upstream.
    pub(crate) async fn quiet_with(world: &'w World, lines: &str) -> Self {
        let (hsm, key) = token();
        let builder = builder(world, &hsm, &key, lines).rare_canaries();
        let act = Self::of(hsm, key, builder.start().await).await;
        act.canaries_paused().await;
        act
    }

    /// Its gate shuts and opens as its canaries fare.
    pub(crate) async fn watched(world: &'w World) -> Self {
        let (hsm, key) = token();
        let proxy = builder(world, &hsm, &key, LINES).start().await;
        Self::of(hsm, key, proxy).await
    }

    /// The same, by a proxy that a shell with this soft and this hard limit of open files starts.
    pub(crate) async fn with_files(world: &'w World, soft: u64, hard: u64) -> Self {
        let (hsm, key) = token();
        let builder = builder(world, &hsm, &key, LINES);
        let ours = builder.command();
        let mut command = system("prlimit");
        command.arg(format!("--nofile={soft}:{hard}")).arg(ours.get_program());
        command.args(ours.get_args()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(ours.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let proxy = builder.started(command).await;
        proxy.healthy().await;
        Self::of(hsm, key, proxy).await
    }

    /// The same, once `prepare` has done something to the token; its gate stays shut for
    /// `reason`.
    pub(crate) async fn shut_for(
        world: &'w World,
        reason: &str,
        prepare: impl FnOnce(&SoftHsm),
    ) -> Self {
        let (hsm, key) = token();
        prepare(&hsm);
        let proxy = builder(world, &hsm, &key, LINES).start_shut().await;
        let act = Self::of(hsm, key, proxy).await;
        act.refuses_for(reason).await;
        act
    }

    async fn of(hsm: SoftHsm, key: Key, proxy: Proxy<'w>) -> Self {
        let alice = proxy.http2_client(ALICE).await;
        Self { hsm, key, proxy, alice }
    }

    pub(crate) fn workers(&self) -> Vec<u32> {
        workers_of(self.proxy.process.pid())
    }

    /// Stops the worker as a hang does, and waits until it stands.
    pub(crate) async fn stop_worker(&self) {
        let worker = self.workers()[0];
        signal(worker, Signal::SIGSTOP);
        eventually("the worker stands", || std::future::ready(is_stopped(worker).then_some(())))
            .await;
    }

    pub(crate) fn kill_worker(&self) {
        signal(self.workers()[0], Signal::SIGKILL);
    }

    /// Begins so many calls at once.
    pub(crate) fn begin(&self, count: usize) -> Vec<tokio::task::JoinHandle<Answer>> {
        let ask = |_| {
            let alice = self.alice.clone();
            tokio::spawn(async move { alice.sign_message("ec", b"hi").await })
        };
        (0..count).map(ask).collect()
    }

    /// The answers to them. Each is a signature that openssl verifies, or a refusal without one.
    pub(crate) async fn answers(&self, begun: Vec<tokio::task::JoinHandle<Answer>>) -> Vec<Answer> {
        let mut answers = Vec::new();
        for asked in begun {
            let answer = asked.await.unwrap();
            self.nothing_unverified(&answer);
            answers.push(answer);
        }
        answers
    }

    pub(crate) async fn ask_at_once(&self, count: usize) -> Vec<Answer> {
        self.answers(self.begin(count)).await
    }

    pub(crate) async fn ask(&self) -> Answer {
        let answer = self.alice.sign_message("ec", b"hi").await;
        self.nothing_unverified(&answer);
        answer
    }

    fn nothing_unverified(&self, answer: &Answer) {
        if answer.status == 200 {
            assert!(openssl::verifies(&self.key, b"hi", &answer.signature()), "{answer:?}");
            return;
        }
        let said = (answer.status, answer.reason());
        let known = [
            (504, "indeterminate"),
            (503, "upstream_unhealthy"),
            (503, "gate_closed_in_flight"),
            (503, "key_unavailable"),
            (503, "signature_rejected"),
        ];
        assert!(known.contains(&said), "{answer:?}");
        assert!(answer.body.get("signature").is_none(), "{answer:?}");
    }

    /// Health says no for `reason`, and so is every call refused, without a signature.
    pub(crate) async fn refuses_for(&self, reason: &str) {
        self.proxy.unhealthy_for(reason).await;
        let answers = self.ask_at_once(4).await;
        assert_eq!(count(&answers, reason), 4, "{answers:?}");
    }

    /// Signs again.
    pub(crate) async fn signs(&self) {
        eventually("a signature again", || async {
            (self.ask().await.status == 200).then_some(())
        })
        .await;
        self.proxy.healthy().await;
    }

    /// Signs again, by another worker than `before`.
    pub(crate) async fn recovers(&self, before: &[u32]) {
        self.signs().await;
        let after = self.workers();
        assert!(after.len() == 1 && after != before, "{before:?}, then {after:?}");
    }

    pub(crate) async fn fares(&self) -> Fares {
        let of = async |name: &str| {
            let labels = r#"{signer_kid="ec",upstream="pkcs11",region="payments"}"#;
            self.proxy.metric(&format!("{name}{labels}")).await.unwrap()
        };
        Fares {
            up: of("pkcs11_worker_up").await,
            restarts: of("pkcs11_worker_restarts_total").await,
            hangs: of("pkcs11_worker_hangs_killed_total").await,
        }
    }

    /// Waits until a hundred looks in a row see no further canary.
    async fn canaries_paused(&self) {
        let series =
            r#"kms_sign_latency_count{upstream="pkcs11",region="payments",outcome="signed"}"#;
        let (mut newest, mut unchanged) = (0.0, 0);
        for _ in 0..500 {
            let signed = self.proxy.metric(series).await.unwrap_or_default();
            unchanged = if signed > newest { 0 } else { unchanged + 1 };
            newest = signed;
            if unchanged == 100 {
                return;
            }
        }
        panic!("canaries never paused");
    }
}

/// How many were refused for `reason`.
pub(crate) fn count(answers: &[Answer], reason: &str) -> usize {
    answers.iter().filter(|answer| answer.reason() == reason).count()
}

fn token() -> (SoftHsm, Key) {
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    (hsm, key)
}

fn builder<'w>(world: &'w World, hsm: &SoftHsm, key: &Key, lines: &str) -> ProxyBuilder<'w> {
    world.proxy().token("ec", hsm, key, lines).caller(ALICE, &["ec"])
}
