//! Certificates renew without an operator: files that are swapped, in each way in which somebody swaps them, are read
//! again, all or none; what cannot be used changes nothing, and is said.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use http::Method;
use serde_json::{Value, json};
use system_tests::{
    Certificate, Kind, Pki, Profile, Proxy, ProxyBuilder, World, eventually, journal,
};
use time::{Duration, OffsetDateTime};

use crate::ALICE;

const EXPIRY: &str = "signing_proxy_tls_certificate_expiry_timestamp_seconds";
const COMPONENT: &str = "signing_proxy_component_ok{component=\"tls_files\"}";

/// A server's certificate that ends after so many days, which tells it from others.
fn server(world: &World, days: i64) -> Certificate {
    world.pki.issue_with(&Profile::server(), |params| {
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
    })
}

fn path(world: &World, name: &str) -> PathBuf {
    world.scratch.path("proxy").join(name)
}

/// Writes a file as a daemon that keeps keys to itself does.
fn put(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    let mode = if path.to_string_lossy().contains("key") { 0o600 } else { 0o644 };
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).unwrap();
}

/// Puts a file in the place of another one in one step.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("key-new");
    put(&new, text);
    std::fs::rename(&new, path).unwrap();
}

fn builder(world: &World) -> ProxyBuilder<'_> {
    let key = world.kms.key(Kind::P256);
    world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).watches_tls()
}

async fn ends_in_days(proxy: &Proxy<'_>) -> i64 {
    let expiry = proxy.metric(EXPIRY).await.unwrap();
    let left = expiry - OffsetDateTime::now_utc().unix_timestamp() as f64;
    (left / 86_400.0).round() as i64
}

/// Waits until a certificate of so many days is in force, and a client finds it.
async fn serves(proxy: &Proxy<'_>, days: i64) {
    eventually(&format!("the certificate of {days} days is in force"), || async {
        (ends_in_days(proxy).await == days).then_some(())
    })
    .await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
}

fn reloads(proxy: &Proxy<'_>) -> Vec<Value> {
    let records = journal::read(&proxy.socket.with_file_name("journal"), "reload");
    records.into_iter().map(|record| record["record"]["data"].clone()).collect()
}

/// Waits until health shows what is wrong, and says where.
async fn says(proxy: &Proxy<'_>, what: &str) {
    let shown = || async {
        let status = proxy.admin("GET", "/v1/status", Value::Null).await.body;
        let conditions = status["conditions"].as_array()?.iter();
        let mut details = conditions.filter(|one| one["component"] == "tls_files");
        details.find(|one| one["detail"].as_str().unwrap().contains(what)).map(|_| ())
    };
    eventually(&format!("the status says {what:?}"), shown).await;
    assert_eq!(proxy.metric(COMPONENT).await, Some(0.0));
    proxy.process.says("\"component\":\"tls_files\"").await;
}

async fn is_well(proxy: &Proxy<'_>) {
    eventually("all is well again", || async {
        (proxy.metric(COMPONENT).await == Some(1.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_link_that_kubernetes_swaps_two_steps_away_is_noticed_and_recorded() {
    let world = World::new();
    let builder = builder(&world);
    let config = builder.write();
    let files = |version: &str, certificate: &Certificate| {
        put(&path(&world, &format!("{version}/server.pem")), &certificate.certificate_pem);
        put(&path(&world, &format!("{version}/server.key")), &certificate.key_pem);
        put(&path(&world, &format!("{version}/ca.pem")), &world.pki.ca_pem);
    };
    files("..2026_1", &server(&world, 40));
    symlink("..2026_1", path(&world, "..data")).unwrap();
    for name in ["server.pem", "server.key", "ca.pem"] {
        std::fs::remove_file(path(&world, name)).unwrap();
        symlink(format!("..data/{name}"), path(&world, name)).unwrap();
    }
    builder.verb("init", &config).output().unwrap();
    let proxy = builder.clone().started(builder.verb("serve", &config)).await;
    proxy.healthy().await;
    serves(&proxy, 40).await;
    let before = proxy.client(ALICE).await;

    // As kubelet does it: a new directory, a link to it, and one rename.
    files("..2026_2", &server(&world, 50));
    symlink("..2026_2", path(&world, "..data_tmp")).unwrap();
    std::fs::rename(path(&world, "..data_tmp"), path(&world, "..data")).unwrap();
    std::fs::remove_dir_all(path(&world, "..2026_1")).unwrap();
    serves(&proxy, 50).await;
    assert_eq!(before.sign_message("ec", b"hi").await.status, 200, "who is let in stays");
    let [reload] = &reloads(&proxy)[..] else { panic!("{:?}", reloads(&proxy)) };
    assert_eq!(reload["by"], "the watch over [server.tls]");
    assert_eq!(reload["generation"], 1);
    assert_eq!(reload["registry_sha256"].as_str().unwrap().len(), 64, "{reload}");
    let said = proxy.process.says("certificates reloaded").await;
    assert!(said.contains("the watch over [server.tls]"), "{said}");

    // A certificate for another authority's clients comes with the next swap.
    let other = Pki::named("other");
    files("..2026_3", &server(&world, 60));
    put(&path(&world, "..2026_3/ca.pem"), &format!("{}{}", world.pki.ca_pem, other.ca_pem));
    symlink("..2026_3", path(&world, "..data_tmp")).unwrap();
    std::fs::rename(path(&world, "..data_tmp"), path(&world, "..data")).unwrap();
    serves(&proxy, 60).await;
    assert_eq!(proxy.metric(COMPONENT).await, Some(1.0));
}

#[tokio::test]
async fn links_that_certbot_swaps_one_by_one_are_read_together() {
    let world = World::new();
    let builder = builder(&world);
    let config = builder.write();
    let link = |number: u32, name: &str, live: &str| {
        let live = path(&world, live);
        let _ = std::fs::remove_file(&live);
        symlink(format!("archive/{name}{number}.pem"), live).unwrap();
    };
    let archive = |number: u32, certificate: &Certificate| {
        put(&path(&world, &format!("archive/fullchain{number}.pem")), &certificate.certificate_pem);
        put(&path(&world, &format!("archive/privkey{number}.pem")), &certificate.key_pem);
    };
    archive(1, &server(&world, 40));
    link(1, "fullchain", "server.pem");
    link(1, "privkey", "server.key");
    builder.verb("init", &config).output().unwrap();
    let proxy = builder.clone().started(builder.verb("serve", &config)).await;
    proxy.healthy().await;
    archive(2, &server(&world, 50));
    link(2, "fullchain", "server.pem");
    // The key's link comes later: until then the pair does not fit, and nobody is alarmed.
    proxy.process.says("certificates not reloaded yet").await;
    assert_eq!((ends_in_days(&proxy).await, proxy.metric(COMPONENT).await), (40, Some(1.0)));
    link(2, "privkey", "server.key");
    serves(&proxy, 50).await;
    assert_eq!(reloads(&proxy).len(), 1);
}

#[tokio::test]
async fn files_that_are_written_in_place_or_renamed_over_are_read() {
    let world = World::new();
    let proxy = builder(&world).start().await;
    // spiffe-helper writes one after the other.
    let svid = server(&world, 40);
    put(&path(&world, "server.pem"), &svid.certificate_pem);
    put(&path(&world, "server.key"), &svid.key_pem);
    put(&path(&world, "ca.pem"), &world.pki.ca_pem);
    serves(&proxy, 40).await;
    let next = server(&world, 50);
    replace(&path(&world, "server.key"), &next.key_pem);
    replace(&path(&world, "server.pem"), &next.certificate_pem);
    serves(&proxy, 50).await;
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing_is_said_and_is_over_when_it_is_mended() {
    let world = World::new();
    let proxy = builder(&world).start().await;
    let (good, expired) = (server(&world, 40), server(&world, -1));
    put(&path(&world, "server.key"), &good.key_pem);
    put(&path(&world, "server.pem"), &good.certificate_pem);
    serves(&proxy, 40).await;
    let recorded = reloads(&proxy).len();
    // Never all good in between: the first mistake is said after a while, the others as soon as they are read.
    let mut before: Option<(&str, String)> = None;
    for (file, text, what) in [
        ("server.pem", "no certificate", "certificate_file"),
        ("server.key", expired.key_pem.as_str(), "private_key_file"),
        ("ca.pem", "", "client_ca_file"),
    ] {
        let good = std::fs::read_to_string(path(&world, file)).unwrap();
        put(&path(&world, file), text);
        if let Some((file, good)) = before.replace((file, good)) {
            put(&path(&world, file), &good);
        }
        says(&proxy, what).await;
        assert_eq!(ends_in_days(&proxy).await, 40);
        assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
        assert_eq!(proxy.health().await.status, 200, "callers are served");
        // Another reload does not hide it, and is refused for it.
        let reload = proxy.admin("POST", "/v1/reload", json!({})).await;
        assert!(reload.status == 400 && reload.text.contains(what), "{reload:?}");
    }
    put(&path(&world, "server.pem"), &expired.certificate_pem);
    put(&path(&world, "server.key"), &expired.key_pem);
    put(&path(&world, "ca.pem"), &world.pki.ca_pem);
    says(&proxy, "ended at").await;
    std::fs::remove_file(path(&world, "server.key")).unwrap();
    says(&proxy, "cannot be read").await;
    assert_eq!(reloads(&proxy).len(), recorded, "nothing of all that was in force");
    let renewed = server(&world, 50);
    put(&path(&world, "server.key"), &renewed.key_pem);
    put(&path(&world, "server.pem"), &renewed.certificate_pem);
    serves(&proxy, 50).await;
    is_well(&proxy).await;
    assert!(reloads(&proxy).len() > recorded);
}

#[tokio::test]
async fn an_authority_that_is_swapped_out_ends_its_clients_connections() {
    let world = World::new();
    let proxy = builder(&world).start().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    let other = Pki::named("other");
    replace(&path(&world, "ca.pem"), &other.ca_pem);
    proxy.process.says("certificates reloaded").await;
    eventually("her connection ends", || async {
        alice.send(Method::GET, "/v1/signers", &[], "").await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_is_off_leaves_it_to_a_reload() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let off = world.proxy().directory("off").signer("ec", &key).caller(ALICE, &["ec"]);
    let (on, off) = (builder(&world).start().await, off.start().await);
    let next = server(&world, 50);
    for directory in ["off", "proxy"] {
        let file = |name: &str| world.scratch.path(directory).join(name);
        put(&file("server.key"), &next.key_pem);
        put(&file("server.pem"), &next.certificate_pem);
    }
    serves(&on, 50).await;
    // What was swapped first would have been read first.
    assert_ne!(ends_in_days(&off).await, 50);
    assert!(reloads(&off).is_empty());
    assert_eq!(off.admin("POST", "/v1/reload", json!({})).await.status, 200);
    serves(&off, 50).await;
    assert_eq!(reloads(&off).len(), 1);
}
