//! The fleet: one command stops all members, and starts none.

mod loss;
mod many;
mod member;
mod partition;
mod runbook;
mod three;
mod user;
mod whole;

use std::process::Command;

use serde_json::Value;
use system_tests::fleet::People;
use system_tests::journal::read;
use system_tests::postgres::Postgres;
use system_tests::programs::ours;
use system_tests::trail::{TRAIL_KID, Trail};
use system_tests::{Client, Kind, Proxy, ProxyBuilder, World, eventually};

use crate::ALICE;

/// Members of one fleet: proxies of the development provider, an agent beside each, and one PostgreSQL.
struct Fleet<'w> {
    postgres: Postgres,
    builders: Vec<ProxyBuilder<'w>>,
    proxies: Vec<Proxy<'w>>,
    trails: Vec<Trail>,
    clients: Vec<Client>,
}

impl<'w> Fleet<'w> {
    /// Starts a member for each of these lines of `[fleet]`, with the labels `at=0`, `at=1` and so on;
    /// all of them sign then, and say so.
    async fn start(world: &'w World, people: &People, lines: &[&str]) -> Self {
        Self::start_with(world, people, lines, &[], |_, trail| trail).await
    }

    /// The same with more settings of the database, and with a change of each agent.
    async fn start_with(
        world: &'w World,
        people: &People,
        lines: &[&str],
        settings: &[&str],
        change: impl Fn(usize, Trail) -> Trail,
    ) -> Self {
        let key = world.kms.key(Kind::P256);
        // Each member has two sessions: of what is shipped, and of its agent.
        let settings = [&["max_connections=400"], settings].concat();
        let postgres = Postgres::start_with(&settings).await;
        let mut fleet = Self {
            postgres,
            builders: Vec::new(),
            proxies: Vec::new(),
            trails: Vec::new(),
            clients: Vec::new(),
        };
        for (number, lines) in lines.iter().enumerate() {
            let builder = world.proxy().development("ec", &key).caller(ALICE, &["ec"]);
            let name = format!("member{number}");
            let builder = builder.sections(&people.section(lines)).directory(&name);
            let (journal, directory) = (builder.journal(), world.scratch.path(&name));
            fleet.proxies.push(builder.clone().start_shut().await);
            let registry = directory.join("signers.json");
            let trail = Trail::new(&[("proxy", &journal)], &registry, &fleet.postgres)
                .signs_as(&format!("{TRAIL_KID}-{number}"))
                .fleet(&directory.join("admin.sock"), &[&format!("at={number}")]);
            let mut trail = change(number, trail);
            trail.start();
            fleet.trails.push(trail);
            fleet.builders.push(builder);
        }
        for proxy in &fleet.proxies {
            proxy.healthy().await;
        }
        fleet.connect().await;
        fleet.all_sign().await;
        fleet
    }

    /// Connects a caller to each member.
    async fn connect(&mut self) {
        self.clients.clear();
        for proxy in &self.proxies {
            self.clients.push(proxy.client(ALICE).await);
        }
    }

    /// Waits until every agent says something, as it does once it has its database again.
    async fn all_are_heard(&self) {
        eventually("all members are heard of", || async {
            let (_, said) = self.signctl(&["status"]);
            let members = said["members"].as_array()?.len();
            (members == self.proxies.len() && who(&said, "silent").is_empty()).then_some(())
        })
        .await;
    }

    /// Waits until every member signs and says so.
    async fn all_sign(&self) {
        eventually("all members sign, and say so", || async {
            let (code, said) = self.signctl(&["status"]);
            (code == 0 && who(&said, "signs").len() == self.proxies.len()).then_some(())
        })
        .await;
    }

    /// `signctl fleet`: its exit status, and what it said.
    fn signctl(&self, words: &[&str]) -> (i32, Value) {
        signctl(&self.postgres, words)
    }

    /// Freezes, and says by which id.
    fn freeze(&self, words: &[&str], obeyed: usize) -> String {
        let (code, said) = self.signctl(&[&["freeze", "--reason", "INC-42"], words].concat());
        assert_eq!((code, who(&said, "frozen").len()), (0, obeyed), "{said}");
        said["id"].as_str().unwrap().to_owned()
    }

    /// Has these freezes ended by a statement of that person.
    fn unfreeze(&self, people: &People, name: &str, ends: &[&str]) -> (i32, Value) {
        let file = people.files(name, &people.statement(ends, 0));
        self.signctl(&["unfreeze", "--statement", &file])
    }

    /// Whether each member signs now.
    async fn signed(&self) -> Vec<bool> {
        let mut signed = Vec::new();
        for client in &self.clients {
            signed.push(client.sign_message("ec", b"hi").await.status == 200);
        }
        signed
    }

    /// Waits until a freeze is in the database; the row's text.
    async fn posted(&self, id: &str) -> Value {
        let sql = format!("SELECT body FROM signing_proxy.fleet_statements WHERE id = '{id}'");
        eventually("the freeze is posted again", || async {
            // The table itself may not be there yet.
            serde_json::from_slice(&self.postgres.psql(&sql).stdout).ok()
        })
        .await
    }

    /// Records of that type in the journal of a member.
    fn records(&self, member: usize, kind: &str) -> Vec<Value> {
        read(&self.builders[member].journal(), kind)
    }

    /// Makes a member's row an hour old.
    fn age(&self, member: usize) {
        self.postgres.sql(&format!(
            "UPDATE signing_proxy.fleet_members SET seen_at = now() - interval '1 hour'
             WHERE status->'labels' ? 'at={member}'"
        ));
    }

    async fn stop(self) {
        for mut trail in self.trails {
            trail.kill().await;
        }
        for proxy in self.proxies {
            proxy.stop().await;
        }
    }
}

/// `signctl fleet` with a database: its exit status, and what it said.
fn signctl(postgres: &Postgres, words: &[&str]) -> (i32, Value) {
    let mut command = Command::new(ours("signctl"));
    command.arg("fleet").args(words).args(["--json", "--database-url", &postgres.url()]);
    let output = command.output().unwrap();
    let said = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| String::from_utf8_lossy(&output.stderr).into_owned().into());
    (output.status.code().unwrap(), said)
}

/// Why each of the members does what says so.
fn who(said: &Value, state: &str) -> Vec<String> {
    let members = said["members"].as_array().cloned().unwrap_or_default();
    let of = members.into_iter().filter(|member| member["state"] == state);
    of.map(|member| member["why"].as_str().unwrap_or_default().to_owned()).collect()
}
