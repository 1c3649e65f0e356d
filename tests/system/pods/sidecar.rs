//! The pod of a service with its proxy as a sidecar.

use std::fs;

use serde_json::{Value, json};
use system_tests::breakglass::{PASSPHRASE, Signer};
use system_tests::programs::system;
use system_tests::{Fault, eventually};

use super::site::{KID, Site};

const POD: &str = "signing-service-0";

/// The service asks for a signature, as its own user, at the local door: the status and the body. A proxy
/// that is just started again is asked once more.
async fn signs(site: &Site) -> (u16, Value) {
    eventually("an answer at the local door", || async {
        let door = site.serving("signing-proxy", "local").await;
        let url = format!("http://{door}/v1/sign");
        let exec = ["exec", "signing-service-0-service", "/usr/bin/curl", "--silent"];
        let asked = ["-w", "\n%{http_code}", "-H", "content-type: application/json", "-d"];
        let asked = [&exec[..], &asked, &[r#"{"message": "aGVsbG8="}"#, &url]].concat();
        let said = site.tries(&asked)?;
        let (body, status) = said.rsplit_once('\n').unwrap();
        Some((status.parse().unwrap(), serde_json::from_str(body).unwrap()))
    })
    .await
}

async fn signs_with(site: &Site, kid: &str) {
    eventually(&format!("a signature by {kid}"), || async {
        let (status, body) = signs(site).await;
        (status == 200 && body["signer_kid"] == kid).then_some(())
    })
    .await;
}

fn admin(site: &Site, path: &str, body: &Value) -> Value {
    let socket = site.volume(&format!("state-{POD}")).join("admin.sock");
    let mut curl = system("curl");
    curl.args(["--silent", "--show-error", "--unix-socket"]).arg(socket);
    curl.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
    let asked = curl.arg(format!("http://localhost{path}")).output().unwrap();
    serde_json::from_slice(&asked.stdout).unwrap_or_else(|_| panic!("{path}: {asked:?}"))
}

fn signctl(site: &Site, words: &[&str]) {
    let proxy = site.container("signing-proxy");
    let _ = site.podman(&[&["exec", &proxy, "/usr/bin/signctl"], words].concat());
}

#[tokio::test]
async fn a_service_signs_through_its_sidecar_which_survives_what_pods_go_through() {
    let site = Site::new("sidecar.yaml", POD).await;
    let instance = site.starts_first();
    site.answers("/livez", 200).await;
    signs_with(&site, KID).await;
    // Each container has its user.
    for (container, uid) in
        [("signing-proxy", 65532), ("breakglass-signer", 65533), ("signing-trail", 65531)]
    {
        let pid =
            site.podman(&["inspect", "--format", "{{.State.Pid}}", &site.container(container)]);
        crate::images::has_no_rights_in_group(pid.trim(), uid, 65532);
    }

    // A freeze stops the service, and /livez stays: no pod is restarted for it.
    signctl(&site, &["freeze", "--reason", "INC-1"]);
    let (status, refused) = signs(&site).await;
    assert_eq!((status, &refused["reason"]), (503, &json!("frozen")), "{refused}");
    site.answers("/livez", 200).await;

    // Who is to hear of it does, and how far that went is in a volume of the trail's own.
    eventually("the webhook hears of the freeze", || {
        let heard =
            site.receiver.accepted().iter().any(|sent| sent.json().to_string().contains("INC-1"));
        std::future::ready(heard.then_some(()))
    })
    .await;
    let kept = fs::read_dir(site.volume(&format!("trail-state-{POD}"))).unwrap().count();
    assert!(kept > 0, "what the webhook was told is not kept");

    // The freeze outlives a proxy that is killed.
    let proxy = site.container("signing-proxy");
    let _ = site.podman(&["kill", &proxy]);
    let _ = site.podman(&["wait", &proxy]);
    let _ = site.podman(&["start", &proxy]);
    site.answers("/livez", 200).await;
    assert_eq!(signs(&site).await.1["reason"], "frozen");
    signctl(&site, &["unfreeze", "--reason", "over"]);
    signs_with(&site, KID).await;

    // A mounted file is replaced under the running container, as kubelet does it, and read anew.
    let mounted = site.volume("signing-proxy");
    let before = fs::read_to_string(mounted.join("signing-proxy.toml")).unwrap();
    let renamed = before.replacen("[aliases]", "", 1) + "\n[aliases]\n\"pay\" = \"payments\"\n";
    fs::write(mounted.join("..new"), renamed).unwrap();
    fs::rename(mounted.join("..new"), mounted.join("signing-proxy.toml")).unwrap();
    let fresh = site.world.pki.issue(&system_tests::Profile::server());
    for (file, text) in [("server.pem", &fresh.certificate_pem), ("server.key", &fresh.key_pem)] {
        fs::write(mounted.join("..new"), text).unwrap();
        fs::rename(mounted.join("..new"), mounted.join(file)).unwrap();
    }
    signctl(&site, &["reload"]);
    signs_with(&site, KID).await;

    in_session(&site, instance).await;

    // What both journals hold is in the database, and is the same.
    let rows = "SELECT count(*) FROM signing_proxy.audit_events WHERE event_type = 'signing.breakglass.signed'";
    eventually("the emergency signature in the database", || {
        std::future::ready((site.postgres.sql(rows) != "0").then_some(()))
    })
    .await;

    // A pod that ends drains, and the next one goes on where it was.
    let mut log = site.follow("signing-proxy");
    let _ = site.podman(&["pod", "stop", "--time", "30", POD]);
    let _ = log.ended().await;
    assert!(site.logs("signing-proxy").contains("\"stopped\""), "{}", site.logs("signing-proxy"));
    site.down();
    site.starts();
    signs_with(&site, KID).await;
    site.down();

    // Without its volume it never begins anew by itself.
    let _ = site.podman(&["volume", "rm", &format!("state-{POD}")]);
    let said = site.fails_in("init-proxy");
    assert!(said.contains("the volume was emptied or replaced"), "{said}");
    assert!(said.contains("docs/operating/lost-journal.md"), "{said}");
    let refused = "SELECT replica FROM signing_proxy.trail_replicas WHERE refused_at IS NOT NULL";
    assert_eq!(site.postgres.sql(refused), format!("example/{POD}"));
}

#[tokio::test]
async fn the_page_is_followed_by_copy_and_paste_until_an_emptied_volume_is_refused() {
    let page = system_tests::programs::repository().join("docs/operating/kubernetes.md");
    let page = fs::read_to_string(page).unwrap();
    let site = Site::of_page("sidecar.yaml", POD).await;
    let _ = site.starts_first();
    signs_with(&site, "try").await;
    signctl(&site, &["freeze", "--reason", "trial"]);
    assert_eq!(signs(&site).await.0, 503);
    signctl(&site, &["unfreeze", "--reason", "trial over"]);
    signs_with(&site, "try").await;
    site.down();
    let _ = site.podman(&["volume", "rm", &format!("state-{POD}")]);
    let said = site.fails_in("init-proxy");
    assert!(
        said.contains("the volume was emptied or replaced; bring the old volume back"),
        "{said}"
    );
    // The page names what was done here.
    for step in [
        "config/kubernetes/podman/files.sh try\n",
        "podman logs signing-service-0-init-signer",
        "sed -n 's/.*one of \"signers\": //p'",
        "podman play kube --network host try/pod.yaml",
        "podman play kube --down try/pod.yaml",
        "podman exec signing-service-0-signing-proxy signctl freeze --reason \"trial\"",
        "podman volume rm state-signing-service-0",
        "podman logs signing-service-0-init-proxy",
    ] {
        assert!(page.contains(step), "{step}");
    }
}

/// KMS is out, two people approve, the emergency key signs, KMS comes back.
async fn in_session(site: &Site, instance: String) {
    site.key.break_with(Fault::Bare503);
    eventually("an outage that is long enough", || async {
        let (status, _) = signs(site).await;
        let proxy = site.container("signing-proxy");
        let said =
            site.podman(&["exec", &proxy, "/usr/bin/signctl", "breakglass", "status", "--json"]);
        let said: Value = serde_json::from_str(&said).unwrap();
        let outages = said["outages"].as_array().cloned().unwrap_or_default();
        (status == 503 && outages.iter().any(|one| one["qualifies"] == true)).then_some(())
    })
    .await;
    // A restart for that would help nobody.
    site.answers("/livez", 200).await;

    unlock(site);
    let process = site.follow("breakglass-signer");
    let signer = Signer { builder: site.signer(), process, instance };
    let mut request = signer.request();
    request["callers"] = json!(["local:service"]);
    let answer = admin(site, "/v1/breakglass/activate", &signer.papers(&request));
    assert_eq!(answer["activated"], true, "{answer}");
    let (status, signed) = signs(site).await;
    assert_eq!((status, &signed["mode"]), (200, &json!("breakglass")), "{signed}");
    let _ = admin(site, "/v1/breakglass/end", &json!({"reason": "over"}));
    site.key.mend();
    signs_with(site, KID).await;
}

/// Brings the passphrase in a container of its own, as the page says; the proxy's user is refused.
fn unlock(site: &Site) {
    let with = |user: &str| {
        let volume = "breakglass-run:/run/breakglass-signer";
        let container = ["--user", user, "--group-add", "65533", "--volume", volume];
        let signctl = ["--entrypoint", "/usr/bin/signctl", "signing-proxy", "breakglass", "unlock"];
        let words = [&container[..], &signctl].concat();
        site.container_beside(&words, &format!("{PASSPHRASE}\n"))
    };
    let refused = with("65532:65532");
    assert!(!refused.status.success(), "{refused:?}");
    let unlocked = with("65530:65532");
    assert!(unlocked.status.success(), "{}", String::from_utf8_lossy(&unlocked.stderr));
}
