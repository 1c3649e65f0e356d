//! The images as an engine builds and runs them: from the Dockerfile's final stages, without
//! rights, on a root file system that nobody can write.

mod dev;
mod proxy;
mod signer;
mod trail;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use system_tests::Engine;
use system_tests::programs::{repository, system};

use crate::container::tree;

const PROXY: (&str, &[&str]) = ("signing-proxy", &["signing-proxy", "signctl", "pkcs11-worker"]);
const SIGNER: (&str, &[&str]) = ("breakglass-signer", &["breakglass-signer"]);
const TRAIL: (&str, &[&str]) = ("signing-trail", &["signing-trail"]);

/// How every container here runs: what docs/operating/packaging.md says. The name is the image's.
const WITHOUT_RIGHTS: [&str; 7] =
    ["run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];

/// The process `pid` has only this user, and no right, not even to gain one.
fn has_no_rights(pid: &str, uid: u32) {
    has_only_rights(pid, uid, 0);
}

/// The same with these capabilities.
fn has_only_rights(pid: &str, uid: u32, capabilities: u64) {
    is_confined(pid, (uid, uid), capabilities);
}

/// The process `pid` has only this user and this group, and no right.
pub(crate) fn has_no_rights_in_group(pid: &str, uid: u32, gid: u32) {
    is_confined(pid, (uid, gid), 0);
}

fn is_confined(pid: &str, (uid, gid): (u32, u32), capabilities: u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let fields: BTreeMap<_, _> = status.lines().filter_map(|line| line.split_once(":\t")).collect();
    for (kind, id) in [("Uid", uid), ("Gid", gid)] {
        assert_eq!(fields[kind], [id.to_string().as_str(); 4].join("\t"), "{kind}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(fields[set], format!("{capabilities:016x}"), "{set}");
    }
    assert_eq!(fields["NoNewPrivs"], "1");
}

/// What is in the container `name` of `image`, as paths from `/`, without what engines add.
fn contents(engine: &Engine, name: &str, image: &str) -> BTreeSet<String> {
    let _ = engine.said(&["create", "--name", name, image]);
    let archive = engine.path(&format!("{name}.tar"));
    let _ = engine.said(&["export", "--output", &archive.display().to_string(), name]);
    let listed = system("tar").arg("--list").arg("--file").arg(&archive).output().unwrap();
    assert!(listed.status.success());
    let listed = String::from_utf8(listed.stdout).unwrap();
    let _ = engine.said(&["rm", name]);
    let files = listed.lines().filter(|path| !path.ends_with('/')).map(|path| format!("/{path}"));
    let engines = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv"];
    files.filter(|path| !engines.contains(&path.as_str())).collect()
}

fn files_of(root: &Path) -> BTreeSet<String> {
    tree(root).into_iter().filter(|(_, data)| data.is_file()).map(|(path, _)| path).collect()
}

#[test]
fn each_image_holds_what_the_manual_lists_once_with_its_licences_and_its_health_check() {
    let manual = fs::read_to_string(repository().join("docs/operating/packaging.md")).unwrap();
    let engine = Engine::new();
    for (image, programs) in [PROXY, SIGNER, TRAIL] {
        let root = engine.build(image, programs);
        let laid_out = files_of(&root);
        assert_eq!(contents(&engine, &format!("{image}-files"), image), laid_out, "{image}");
        for program in programs {
            assert!(laid_out.contains(&format!("/usr/bin/{program}")), "{image}: {program}");
            assert!(laid_out.contains(&format!("/usr/share/sbom/{program}.cdx.json")), "{image}");
            assert!(manual.contains(&format!("`/usr/bin/{program}`")), "{program}");
        }
        for package in [image, "libc6"] {
            let licence = format!("/usr/share/doc/{package}/copyright");
            assert!(laid_out.contains(&licence), "{image}: {licence}");
        }

        let inspected = engine.said(&["image", "inspect", image]);
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        let health = inspected[0]["Healthcheck"]["Test"].as_array();
        match image {
            "signing-proxy" => {
                assert_eq!(health.unwrap(), &["CMD", "/usr/bin/signctl", "health"]);
            }
            "signing-trail" => {
                assert_eq!(health.unwrap(), &["CMD", "/usr/bin/signing-trail", "status"]);
            }
            // It speaks to nobody but the proxy, which says how it is.
            _ => assert_eq!(health, None),
        }
        let bytes: u64 = tree(&root).iter().map(|(_, data)| data.len()).sum();
        let size = inspected[0]["Size"].as_u64().unwrap();
        println!("{image}: {} MB, {} files", size / 1_000_000, laid_out.len());
        assert!((bytes / 2..bytes + bytes / 10).contains(&size), "{size} bytes for {bytes}");
    }
}
