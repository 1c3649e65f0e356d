//! What `check` says of `client_ca_file`: mistakes and notes.

use std::process::Command;

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose,
};
use system_tests::{Pki, Scratch, programs};
use time::{Duration, OffsetDateTime};

use super::{DAY, Site, until};
use crate::config_files::{check, said};

/// A self-signed certificate that openssl made.
fn by_openssl(steps: &[&[&str]]) -> String {
    let scratch = Scratch::new();
    for step in steps {
        let mut openssl: Command = programs::system("openssl");
        openssl.current_dir(scratch.path("")).args(*step);
        let output = openssl.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::read_to_string(scratch.path("cert.pem")).unwrap()
}

fn with_key(options: &[&str]) -> String {
    let key = [&["genpkey", "-out", "key.pem"][..], options].concat();
    by_openssl(&[
        &key,
        &[
            "req",
            "-x509",
            "-key",
            "key.pem",
            "-subj",
            "/CN=other key",
            "-days",
            "90",
            "-out",
            "cert.pem",
        ],
    ])
}

fn lines(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.contains("server.tls.client_ca_file: ")).collect()
}

#[test]
fn what_is_no_authority_of_clients_is_a_mistake_that_says_which_and_why() {
    let site = Site::new();
    let config = site.builder().write();
    let good = Pki::named("good").ca_pem;
    let made = |change: &dyn Fn(&mut CertificateParams)| Pki::made("bad", change).ca_pem;
    let v1 = by_openssl(&[
        &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem"],
        &["req", "-new", "-key", "key.pem", "-subj", "/CN=old", "-out", "request.pem"],
        &[
            "x509",
            "-req",
            "-in",
            "request.pem",
            "-signkey",
            "key.pem",
            "-days",
            "90",
            "-out",
            "cert.pem",
        ],
    ]);
    let twice = |params: &mut CertificateParams| {
        let constraints = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0]);
        params.custom_extensions = vec![constraints];
    };
    let now = OffsetDateTime::now_utc();
    let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (case, pem, expected) in [
        (
            "a client's certificate",
            site.world.pki.issue(&system_tests::Profile::client("a.example")).certificate_pem,
            "has no basicConstraints",
        ),
        ("CA:FALSE", made(&|params| params.is_ca = IsCa::ExplicitNoCa), "say CA:FALSE"),
        ("no extensions", v1, "has no basicConstraints"),
        (
            "no signing of certificates",
            made(&|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
            "its keyUsage lacks keyCertSign",
        ),
        (
            "servers only",
            made(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            "its extKeyUsage lacks clientAuth",
        ),
        (
            "no name",
            made(&|params| params.distinguished_name = DistinguishedName::new()),
            "has no subject",
        ),
        (
            "never valid",
            made(&|params| params.not_before = params.not_after + DAY),
            "its notAfter is before its notBefore",
        ),
        ("an extension twice", made(&twice), "is not an X.509 certificate"),
        ("no DER", no_der.to_owned(), "is not an X.509 certificate"),
    ] {
        for (text, position) in
            [(format!("{pem}{good}"), 1), (format!("{good}{pem}"), 2), (pem.clone(), 1)]
        {
            site.world.scratch.write("proxy/ca.pem", text);
            let output = check(&config, &[]);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(1), "{case}: {said}");
            let [mistake] = lines(&said)[..] else { panic!("{case}: {said}") };
            assert!(mistake.contains(expected) && mistake.contains("; "), "{case}: {mistake}");
            assert!(mistake.contains(&format!("certificate {position} of ")), "{case}: {mistake}");
        }
    }
    let expired = until(now - DAY, "expired").ca_pem;
    let early = Pki::made("early", |params| params.not_before = now + DAY).ca_pem;
    let broken = good.replace("-----END", "-----ENDE");
    for (case, text, expected) in [
        ("none that counts", format!("{expired}{early}"), "has no authority that is valid now"),
        ("nothing", String::new(), "is empty; it has to hold PEM certificates"),
        ("a block without an end", format!("{good}{broken}"), "is damaged"),
    ] {
        site.world.scratch.write("proxy/ca.pem", text);
        let output = check(&config, &[]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{case}: {said}");
        let [mistake] = lines(&said)[..] else { panic!("{case}: {said}") };
        assert!(mistake.contains(expected), "{case}: {mistake}");
    }
}

#[test]
fn an_authority_that_admits_nobody_or_not_for_long_is_noted() {
    let site = Site::new();
    let config = site.builder().write();
    let good = Pki::named("good").ca_pem;
    let now = OffsetDateTime::now_utc();
    let unknown = Pki::made("unknown", |params| {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions = vec![extension];
    });
    let unsaid = Pki::made("unsaid", |params| {
        params.key_usages = Vec::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    });
    let both = Pki::made("both", |params| {
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    });
    let curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"];
    let short = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
    let long = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    for (case, pem, expected) in [
        ("nothing but the certificate", String::new(), &[][..]),
        ("expired", until(now - DAY, "x").ca_pem, &["expired at", "leave it out"]),
        (
            "not valid yet",
            Pki::made("x", |params| params.not_before = now + DAY).ca_pem,
            &["is valid only from"],
        ),
        ("soon", until(now + DAY * 9, "x").ca_pem, &["days from now: its clients are refused"]),
        ("soon", until(now + Duration::MINUTE, "x").ca_pem, &["less than an hour from now"]),
        ("twice", good.clone(), &["certificate 2 of", "is the same as certificate 1"]),
        ("of another kind", with_key(&curve), &["a kind or size that is not supported"]),
        ("too short", with_key(&short), &["a kind or size that is not supported"]),
        ("an RSA key", with_key(&long), &[]),
        ("a critical extension", unknown.ca_pem, &["the critical extension 1.2.3.4"]),
        ("without key usage, for any purpose", unsaid.ca_pem, &[]),
        ("for servers and clients", both.ca_pem, &[]),
        ("something else in the file", site.world.pki.list().pem(), &[]),
    ] {
        site.world.scratch.write("proxy/ca.pem", format!("{good}{pem}"));
        let output = check(&config, &[]);
        let said = said(&output);
        assert!(output.status.success(), "{case}: {said}");
        let notes = lines(&said);
        assert_eq!(notes.len(), usize::from(!expected.is_empty()), "{case}: {said}");
        for expected in expected {
            assert!(notes[0].contains(expected), "{case}: {said}");
        }
    }
}
