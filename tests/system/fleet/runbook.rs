//! One incident of all members, from its beginning to its report: each step is one command for all of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use system_tests::fleet::{People, SECURITY};
use system_tests::programs::ours;
use system_tests::trail::TRAIL_KID;
use system_tests::{World, eventually, is_campaign, journal};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::whole::{begin, gate, stops};
use super::{Fleet, who};

/// Members, and in the campaign.
const MEMBERS: usize = 3;
const MEMBERS_CAMPAIGN: usize = 20;

/// Copies of all members' journals, as an auditor gathers them, and one registry with all audit keys.
struct Desk {
    copies: PathBuf,
    registry: PathBuf,
    url: String,
}

impl Desk {
    fn gather(world: &World, fleet: &Fleet<'_>, name: &str) -> Self {
        let copies = world.scratch.path(name);
        let mut entries = Vec::new();
        for (number, builder) in fleet.builders.iter().enumerate() {
            let member = copies.join(format!("member-{number:02}"));
            std::fs::create_dir_all(&member).unwrap();
            copied(&builder.journal(), &member.join("journal"));
            let registry = fleet.trails[number].registry();
            let registry: Value =
                serde_json::from_slice(&std::fs::read(registry).unwrap()).unwrap();
            for mut entry in registry["signers"].as_array().unwrap().clone() {
                let kid = entry["signer_kid"].as_str().unwrap().to_owned();
                let is_audit = entry["purpose"] == "audit";
                // All members sign with the same key, and each has an audit key of its own. Rows name their trail's.
                if is_audit && !kid.starts_with(TRAIL_KID) {
                    entry["signer_kid"] = json!(format!("{kid}-{number}"));
                }
                if is_audit || number == 0 {
                    entries.push(entry);
                }
            }
        }
        let registry =
            world.scratch.write("all-signers.json", json!({"signers": entries}).to_string());
        Self { copies, registry, url: fleet.postgres.url() }
    }

    /// A verb of `signctl` over all copies: its exit status, and what it says.
    fn signctl(&self, words: &[&str], more: &[&str]) -> (i32, Value) {
        let mut command = Command::new(ours("signctl"));
        command.args(words).args(["--json", "--members"]).arg(&self.copies);
        command.arg("--signers").arg(&self.registry).args(more);
        let output = command.output().unwrap();
        let said = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| String::from_utf8_lossy(&output.stderr).into_owned().into());
        (output.status.code().unwrap(), said)
    }

    fn reconcile(&self, more: &[&str]) -> (i32, Value) {
        let database = ["--database-url", self.url.as_str()];
        self.signctl(&["audit", "reconcile"], &[&database, more].concat())
    }
}

fn copied(from: &Path, to: &Path) {
    let copy = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(copy.success(), "{} is not copied", from.display());
}

/// What a member has in an answer.
fn of<'v>(said: &'v Value, member: &str) -> &'v Value {
    let all = said["members"].as_array().unwrap_or_else(|| panic!("{said}"));
    all.iter().find(|one| one["member"] == member).unwrap_or_else(|| panic!("{member}: {said}"))
}

/// Waits until the gate opens: an agent says a moment after a member that its incident is over.
async fn gate_opens(fleet: &Fleet<'_>) {
    eventually("the gate opens", || async { (gate(fleet, &[]).0 == 0).then_some(()) }).await;
}

#[tokio::test]
async fn an_incident_of_all_members_begins_ends_is_reconciled_and_is_one_report() {
    let count = if is_campaign() { MEMBERS_CAMPAIGN } else { MEMBERS };
    let (world, people) = (World::new(), People::new());
    let mut fleet = Fleet::start(&world, &people, &vec![""; count]).await;
    assert_eq!(fleet.signed().await, vec![true; count]);
    gate_opens(&fleet).await;

    let (code, said, members) = begin(&world, &fleet, "bundle");
    assert_eq!((code, who(&said["fleet_freeze"], "frozen").len()), (0, count), "{said}");
    assert_eq!(who(&members, "refuses").len(), count, "{members}");
    assert_eq!(fleet.signed().await, vec![false; count]);
    stops(gate(&fleet, &[]), "frozen", &[&format!("{count} of {count} members"), "INC-42"]);

    // A person ends the freeze of all, and the operator of the first proxy ends its own and the incident.
    let id = said["fleet_freeze"]["id"].as_str().unwrap();
    let (code, ended) = fleet.unfreeze(&people, SECURITY, &[id]);
    assert_eq!((code, who(&ended, "ended").len()), (0, count), "{ended}");
    let first = &fleet.proxies[0];
    for words in [
        &["unfreeze", "--reason", "it is well"][..],
        &["incident", "end", "--reason", "it is well", "--unfinished"],
    ] {
        let (code, said, errors) = first.signctl(words);
        assert_eq!(code, 0, "{words:?}: {said}{errors}");
    }
    fleet.all_sign().await;
    gate_opens(&fleet).await;

    // Members run on while they are copied: what is newer is said, and is no gap only if somebody knows when.
    let begun = OffsetDateTime::now_utc().format(&Rfc3339).unwrap();
    let desk = Desk::gather(&world, &fleet, "early");
    for number in 0..count {
        let body = json!({"reason": format!("after the copy, {number}")});
        let frozen = fleet.proxies[number].admin("POST", "/v1/freeze", body).await;
        assert_eq!(frozen.status, 200, "{frozen:?}");
    }
    eventually("the rows are ahead of every copy", || async {
        let ahead = "SELECT count(*) FROM signing_proxy.audit_events WHERE payload->'data'->>'reason' LIKE 'after the copy%'";
        (fleet.postgres.sql(ahead) == count.to_string()).then_some(())
    })
    .await;
    // The rows of checkpoints come a moment after those of records.
    let (code, said) = desk.reconcile(&["--wait", "30", "--copied", &begun]);
    assert_eq!((code, &said["gap"]), (0, &json!([])), "{said}");
    let all = said["members"].as_array().unwrap();
    assert!(all.iter().all(|one| one["newer"].as_u64() > Some(0)), "{said}");
    let (code, said) = desk.reconcile(&["--wait", "0"]);
    assert!(code == 1 && said["gaps"].as_u64() >= Some(1), "{said}");
    its_files_are_copied_one_after_the_other(&desk, &fleet.builders[0].journal(), &begun).await;

    // All journals, on one machine; the rows of all of them are in one table.
    for proxy in std::mem::take(&mut fleet.proxies) {
        proxy.stop().await;
    }
    let desk = Desk::gather(&world, &fleet, "copies");
    let (code, said) = desk.reconcile(&["--wait", "60"]);
    assert_eq!((code, &said["gaps"], &said["gap"]), (0, &json!(0), &json!([])), "{said}");
    let all = said["members"].as_array().unwrap();
    assert!(
        all.len() == count && all.iter().all(|one| one["matched"].as_u64() > Some(2)),
        "{said}"
    );

    is_one_report(&world, &desk, count);
    each_gap_is_of_its_member(&fleet, &desk);
    for mut trail in fleet.trails {
        trail.kill().await;
    }
}

/// What a writer stated is in a copy as it was before its segments were copied, or as it was after.
async fn its_files_are_copied_one_after_the_other(desk: &Desk, live: &Path, begun: &str) {
    let copy = desk.copies.join("member-00/journal");
    let stated = copy.join("durable");
    let is_whole = || {
        let (code, said) = desk.reconcile(&["--wait", "0", "--copied", begun]);
        assert_eq!((code, &said["gap"]), (0, &json!([])), "{said}");
    };
    std::fs::remove_file(&stated).unwrap();
    is_whole();
    eventually("the writer states more than the copy has", || async {
        std::fs::copy(live.join("durable"), &stated).unwrap();
        let mut verify = Command::new(ours("signctl"));
        verify.args(["audit", "verify", "--journal"]).arg(&copy);
        let output = verify.arg("--signers").arg(&desk.registry).output().unwrap();
        (!output.status.success()).then_some(())
    })
    .await;
    is_whole();
}

/// One timeline whose rows name their members, and totals by member.
fn is_one_report(world: &World, desk: &Desk, count: usize) {
    let out = world.scratch.path("report");
    let words = ["--incident", "INC-42", "--out", out.to_str().unwrap()];
    let (code, said) = desk.signctl(&["report"], &words);
    assert_eq!((code, &said["verified"], &said["over"]), (0, &json!(true), &json!(true)), "{said}");
    assert!(of(&said, "member-01")["signed"].as_u64() >= Some(1), "{said}");
    let page = said["html"].as_str().unwrap();
    let output = journal::python("tests/report/page.py").arg(page).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page: Value = serde_json::from_slice(&output.stdout).unwrap();
    let section = |title: &str| &page["sections"][title];
    let rows = |title: &str| section(title)["tables"][0].as_array().unwrap()[1..].to_vec();
    let summary = section("Summary").to_string();
    assert!(summary.contains(&format!("those of {count} members are verified")), "{summary}");
    // Each member, and all of them.
    assert_eq!(rows("Members").len(), count + 1);
    let shapes: Vec<_> =
        section("Members")["shapes"].as_array().unwrap().iter().map(Value::as_u64).collect();
    assert!(shapes.len() == 2 && shapes.iter().all(|shapes| *shapes > Some(2)), "{page}");
    let timeline = rows("Timeline");
    let is = |row: &&Value, member: &str, kind: &str| row[0] == member && row[3] == kind;
    for number in 0..count {
        let member = format!("member-{number:02}");
        for kind in ["fleet_freeze", "fleet_unfreeze"] {
            assert!(timeline.iter().any(|row| is(&row, &member, kind)), "{member} {kind}");
        }
    }
    assert!(timeline.iter().any(|row| is(&row, "member-00", "incident_begun")), "{timeline:?}");
    let times: Vec<_> = timeline.iter().map(|row| row[1].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

/// A row that says something else, a journal that is damaged, one that is missing, and one that is older
/// than its rows.
fn each_gap_is_of_its_member(fleet: &Fleet<'_>, desk: &Desk) {
    let (_, said) = desk.reconcile(&["--wait", "0"]);
    let log = |member: &str| of(&said, member)["log"].as_str().unwrap().to_owned();
    let (second, last) = (log("member-01"), log("member-02"));
    let changed = format!(
        "UPDATE signing_proxy.audit_events SET payload = jsonb_set(payload, '{{data}}', '{{}}') \
         WHERE payload->>'log' = '{second}' AND event_type = 'signing.proxy.fleet_freeze'"
    );
    fleet.postgres.sql(&changed);
    let (code, said) = desk.reconcile(&["--wait", "0"]);
    assert_eq!((code, &said["gaps"]), (1, &json!(1)), "{said}");
    let of_second = of(&said, "member-01");
    assert_eq!(of_second["gaps"], json!(1), "{said}");
    let why = of_second["gap"][0].as_str().unwrap();
    assert!(why.contains("(signing.proxy.fleet_freeze) has a row that says other"), "{why}");

    // A copy that is not there, and is not named as one that is left out.
    let away = desk.copies.with_file_name("away");
    std::fs::rename(desk.copies.join("member-02"), &away).unwrap();
    let bare = last.trim_start_matches("signing-journal/");
    let (code, said) = desk.reconcile(&["--wait", "0"]);
    let missing = said["gap_of_no_member"][0].as_str().unwrap();
    assert!(code == 1 && missing.contains(bare) && missing.contains("is not given"), "{said}");
    let (_, said) = desk.reconcile(&["--wait", "0", "--without", bare]);
    assert_eq!((&said["gaps"], &said["gap_of_no_member"]), (&json!(1), &json!([])), "{said}");

    // One that is damaged keeps nobody from looking at the others.
    std::fs::rename(&away, desk.copies.join("member-02")).unwrap();
    let segment = journal::segments(&desk.copies.join("member-02/journal")).pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(7).position(|seven| seven == b"\"at\":\"2").unwrap() + 6;
    bytes[at] = b'3';
    std::fs::write(&segment, bytes).unwrap();
    let (code, said) = desk.reconcile(&["--wait", "0"]);
    assert!(code == 1 && of(&said, "member-02")["gaps"].as_u64() > Some(0), "{said}");
    assert!(of(&said, "member-00")["matched"].as_u64() > Some(2), "{said}");
    assert_eq!(of(&said, "member-00")["gaps"], json!(0), "{said}");
}
