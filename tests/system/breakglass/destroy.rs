//! What `signctl breakglass destroy --signers` takes back never: a revocation. So it revokes no key
//! but an emergency key, and none that cannot be destroyed now.

use system_tests::Proxy;
use system_tests::breakglass::EMERGENCY_KID;
use system_tests::programs::ours;

use super::{KID, Site, end, over, status};

/// `signctl breakglass destroy KID --signers FILE`: its exit code and words.
fn destroy(proxy: &Proxy<'_>, kid: &str, file: &str) -> (i32, String) {
    let (code, said, errors) =
        proxy.signctl(&["breakglass", "destroy", kid, "--reason", "INC-7", "--signers", file]);
    (code, said + &errors)
}

#[tokio::test]
async fn only_an_emergency_key_that_no_session_uses_is_revoked_by_a_destruction() {
    let site = Site::new();
    let (signer, proxy, session) = site.in_session().await;
    let file = site.world.scratch.path("proxy/signers.json");
    let name = file.to_str().unwrap();
    let before = std::fs::read_to_string(&file).unwrap();
    assert!(!before.contains("revokedAt"), "{before}");
    for (kid, words) in [
        (KID, "payments is no emergency key: its \"purpose\""),
        ("nobody", "nobody is not in"),
        (EMERGENCY_KID, "signs with emergency; end it first"),
    ] {
        let (code, said) = destroy(&proxy, kid, name);
        assert!(code == 1 && said.contains(words), "{said}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "{kid}");
    }
    // The session goes on.
    assert_eq!(status(&proxy).await["session"]["session"], session["session"]);
    assert_eq!(end(&proxy).await.status, 200);
    over(&proxy).await;
    // A registered emergency key that this signer does not hold.
    let other = site.world.kms.key(system_tests::Kind::Ed25519);
    let pem = site.world.scratch.write("other.pem", &other.public_key_pem);
    let mut add = std::process::Command::new(ours("signctl"));
    add.args(["signers", "add", "--kid", "elsewhere", "--algorithm", "ed25519"]);
    add.args(["--purpose", "breakglass", "--signers", name, "--public-key"]).arg(pem);
    system_tests::breakglass::succeeds(&mut add);
    let (code, said) = destroy(&proxy, "elsewhere", name);
    assert!(code == 1 && said.contains("holds no key elsewhere; it holds: emergency"), "{said}");
    assert!(said.contains("not revoked in"), "{said}");
    assert!(!std::fs::read_to_string(&file).unwrap().contains("revokedAt"));
    drop(signer);
}

#[tokio::test]
async fn without_the_proxy_nothing_is_revoked_and_the_error_says_so() {
    let site = Site::new();
    let (_signer, proxy) = site.both().await;
    let file = site.world.scratch.path("proxy/signers.json");
    let before = std::fs::read_to_string(&file).unwrap();
    let mut signctl = std::process::Command::new(ours("signctl"));
    signctl.arg("--socket").arg(site.world.scratch.path("nobody.sock"));
    signctl.args(["breakglass", "destroy", EMERGENCY_KID, "--reason", "INC-7", "--signers"]);
    let output = signctl.arg(&file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("does not answer") && said.contains("not revoked in"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    proxy.stop().await;
}

#[tokio::test]
async fn a_destruction_that_fails_leaves_the_key_revoked_and_says_so() {
    let site = Site::new();
    let (signer, proxy, _) = site.in_session().await;
    assert_eq!(end(&proxy).await.status, 200);
    over(&proxy).await;
    let file = site.world.scratch.path("proxy/signers.json");
    // No file can be removed from a directory that has taken its place.
    let key = signer.builder.path("emergency.pem");
    std::fs::remove_file(&key).unwrap();
    std::fs::create_dir(&key).unwrap();
    let (code, said) = destroy(&proxy, EMERGENCY_KID, file.to_str().unwrap());
    assert!(code == 1 && said.contains("emergency IS revoked in"), "{said}");
    assert!(said.contains("run the same command again"), "{said}");
    assert!(std::fs::read_to_string(&file).unwrap().contains("revokedAt"));
}

#[tokio::test]
async fn a_key_that_is_not_due_is_not_destroyed_through_the_proxy_nor_revoked() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    let file = site.world.scratch.path("proxy/signers.json");
    let before = std::fs::read_to_string(&file).unwrap();
    let (code, said) = destroy(&proxy, EMERGENCY_KID, file.to_str().unwrap());
    assert!(code == 1 && said.contains("is not due for destruction"), "{said}");
    assert!(said.contains("--operator-socket") && said.contains("not revoked in"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    // Nor by whoever asks the admin socket without `signctl`.
    let body = serde_json::json!({"emergency_kid": EMERGENCY_KID, "reason": "INC-7"});
    let answer = proxy.admin("POST", "/v1/breakglass/destroy", body).await;
    assert_eq!((answer.status, &answer.body["destroyed"]), (409, &false.into()), "{}", answer.text);
    assert!(answer.text.contains("not due"), "{}", answer.text);
    assert!(signer.builder.path("emergency.pem").exists());
    // The signer's own operator does it, and the proxy's registry is revoked in the same step.
    let mut signctl = std::process::Command::new(ours("signctl"));
    signctl.args(["breakglass", "destroy", EMERGENCY_KID, "--reason", "INC-7", "--signers"]);
    signctl.arg(&file).arg("--operator-socket").arg(signer.operator_socket());
    let output = tokio::task::spawn_blocking(move || signctl.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!signer.builder.path("emergency.pem").exists());
    assert!(std::fs::read_to_string(&file).unwrap().contains("revokedAt"));
}
