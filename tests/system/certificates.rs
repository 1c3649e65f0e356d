//! Client certificates: only a good one gets in, and every bad one is told why.

use rcgen::{CustomExtension, ExtendedKeyUsagePurpose};
use system_tests::client::tls;
use system_tests::{Certificate, Client, Kind, Pki, Profile, Protocol, Proxy, World, eventually};

use crate::ALICE;

/// What a request with `certificate` gets: status and reason, or the alert.
async fn outcome(
    proxy: &Proxy<'_>,
    ca: &Pki,
    certificate: &Certificate,
) -> Result<(u16, String), String> {
    let client = Client::connect(&proxy.listen, &ca.ca_pem, certificate, Protocol::Http1).await?;
    let headers = [("content-type", "application/json")];
    let body = r#"{"message":"aGk="}"#;
    let answer = client.send(http::Method::POST, "/v1/sign", &headers, body).await?;
    Ok((answer.status, answer.reason().to_owned()))
}

#[tokio::test]
async fn every_bad_certificate_is_refused_by_name() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).caller("alice.example", &["ec"]).start().await;
    let good = Profile::client(ALICE);
    let issue = |profile: Profile| world.pki.issue(&profile);
    let alerts = [
        ("expired", issue(Profile { days: (-9, -2), ..good.clone() }), "CertificateExpired"),
        ("not yet valid", issue(Profile { days: (2, 9), ..good.clone() }), "CertificateExpired"),
        ("unknown authority", Pki::named("another authority").issue(&good), "UnknownCA"),
        ("an authority of the same name", Pki::new().issue(&good), "DecryptError"),
        (
            "a server's usage",
            issue(Profile { usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..good.clone() }),
            "Certificate",
        ),
        ("no usage", issue(Profile { usages: vec![], ..good.clone() }), "Certificate"),
    ];
    for (name, certificate, alert) in alerts {
        let refused = outcome(&proxy, &world.pki, &certificate).await.expect_err(name);
        assert!(refused.contains(alert), "{name}: {refused}");
    }
    let uris = |uris: &[&str]| uris.iter().map(ToString::to_string).collect::<Vec<_>>();
    let nobody = [
        ("no name", issue(Profile { uris: vec![], ..good.clone() })),
        (
            "two SPIFFE URIs",
            issue(Profile { uris: uris(&[ALICE, "spiffe://test/bob"]), ..good.clone() }),
        ),
        (
            "a SPIFFE URI and another",
            issue(Profile { uris: uris(&[ALICE, "https://test/bob"]), ..good.clone() }),
        ),
        (
            "a malformed SPIFFE URI",
            issue(Profile { uris: uris(&["spiffe://test/../alice"]), ..good.clone() }),
        ),
        (
            "two DNS names",
            issue(Profile {
                uris: vec![],
                dns_names: uris(&["alice.example", "bob.example"]),
                ..good.clone()
            }),
        ),
        (
            "a wildcard",
            issue(Profile { uris: vec![], dns_names: uris(&["*.example"]), ..good.clone() }),
        ),
        ("a stranger", issue(Profile::client("spiffe://test/mallory"))),
        ("another case", issue(Profile::client("Alice.example"))),
    ];
    for (name, certificate) in nobody {
        let answer = outcome(&proxy, &world.pki, &certificate)
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(answer, (403, "caller_not_authorized".to_owned()), "{name}");
    }
    for name in [ALICE, "alice.example"] {
        let signed = outcome(&proxy, &world.pki, &issue(Profile::client(name))).await.unwrap();
        assert_eq!(signed.0, 200, "{name}");
    }
}

#[tokio::test]
async fn a_name_with_a_nul_is_nobody() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().signer("ec", &key).caller("alice.example", &["ec"]).start().await;
    // SubjectAltName { dNSName "alice.example\0.evil" }, which rcgen would not write.
    let name = b"alice.example\0.evil";
    let length = u8::try_from(name.len()).unwrap();
    let content = [&[0x30, length + 2, 0x82, length][..], name].concat();
    let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], content);
    let profile = Profile { uris: vec![], extension: Some(extension), ..Profile::client(ALICE) };
    match outcome(&proxy, &world.pki, &world.pki.issue(&profile)).await {
        Ok(answer) => assert_eq!(answer, (403, "caller_not_authorized".to_owned())),
        Err(alert) => assert!(alert.contains("Certificate"), "{alert}"),
    }
}

#[tokio::test]
async fn without_a_certificate_there_is_no_request() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let mut stream = tls(&proxy.listen, &world.pki.ca_pem, None, b"http/1.1").await.unwrap();
    let refused =
        system_tests::client::raw(&mut stream, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(refused.unwrap_err().contains("CertificateRequired"));
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_an_expired_list_shuts_everyone_out() {
    let (world, key) = World::one_signer();
    let (good, revoked) =
        (world.pki.issue(&Profile::client(ALICE)), world.pki.issue(&Profile::client(ALICE)));
    let builder = world.proxy_of(&key).tls("client_crl_files = [\"crl.pem\"]");
    world.scratch.write("proxy/crl.pem", world.pki.revocation_list(&[&revoked], 7));
    let proxy = builder.clone().start().await;
    assert_eq!(outcome(&proxy, &world.pki, &good).await.unwrap().0, 200);
    let refused = outcome(&proxy, &world.pki, &revoked).await.unwrap_err();
    assert!(refused.contains("CertificateRevoked"), "{refused}");
    proxy.stop().await;

    world.scratch.write("proxy/crl.pem", world.pki.revocation_list(&[&revoked], -1));
    let proxy = builder.clone().start().await;
    let refused = outcome(&proxy, &world.pki, &good).await.unwrap_err();
    assert!(refused.contains("UnknownCA"), "{refused}");
    eventually("a line that says why", || {
        let said = proxy.process.output().contains("certificate revocation list expired");
        std::future::ready(said.then_some(()))
    })
    .await;
    proxy.stop().await;

    world.scratch.write("proxy/crl.pem", "not a list");
    let output = builder.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("client_crl_files"), "{said}");
}

#[tokio::test]
async fn a_resumed_session_is_not_offered() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let (cert, key_file, ca) = (
        world.scratch.write("c.pem", &certificate.certificate_pem),
        world.scratch.write("c.key", &certificate.key_pem),
        world.scratch.write("ca.pem", &world.pki.ca_pem),
    );
    let session = world.scratch.path("session");
    let connect = |extra: &[&std::ffi::OsStr]| {
        let output = system_tests::programs::system("openssl")
            .args([
                "s_client",
                "-connect",
                &proxy.listen,
                "-servername",
                "localhost",
                "-quiet",
                "-no_ign_eof",
            ])
            .arg("-cert")
            .arg(&cert)
            .arg("-key")
            .arg(&key_file)
            .arg("-CAfile")
            .arg(&ca)
            .args(extra)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    };
    let said = connect(&["-sess_out".as_ref(), session.as_os_str()]);
    assert!(said.contains("verify return:1"), "{said}");
    assert!(!session.exists(), "no ticket was given: {said}");
}

#[tokio::test]
async fn tls_1_2_is_refused_unless_the_configuration_takes_it() {
    let (world, key) = World::one_signer();
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let (cert, key_file) = (
        world.scratch.write("c.pem", &certificate.certificate_pem),
        world.scratch.write("c.key", &certificate.key_pem),
    );
    let curl = |listen: &str| {
        let ca = world.scratch.write("ca.pem", &world.pki.ca_pem);
        let output = system_tests::programs::system("curl")
            .args(["-s", "--tls-max", "1.2", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
            .arg(ca)
            .arg("--cert")
            .arg(&cert)
            .arg("--key")
            .arg(&key_file)
            .arg(format!("https://{listen}/livez"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let builder = world.proxy_of(&key);
    let strict = builder.clone().start_shut().await;
    assert_eq!(curl(&strict.listen), "000");
    drop(strict);
    let lenient = builder.tls("tls12 = true").start_shut().await;
    assert_eq!(curl(&lenient.listen), "200");
}

#[tokio::test]
async fn the_key_exchange_is_a_post_quantum_hybrid_where_the_client_has_it() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start_shut().await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let stream =
        tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), b"http/1.1").await.unwrap();
    let (_, session) = stream.get_ref();
    let group = session.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(format!("{group:?}"), "X25519MLKEM768");
}
