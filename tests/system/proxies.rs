//! HTTP proxies in the environment: whoever signs, the doctor and `check` go the same way.

use system_tests::{ConnectProxy, Imds, Kind, ProxyBuilder, World};

use crate::ALICE;
use crate::config_files::said;
use crate::doctor::{agreed, doctor, of};

/// A host that no resolver knows: it is reached through a proxy or not at all.
const HOST: &str = "kms.behind.test";
const ENDPOINT: &str = "https://kms.behind.test";

/// Behind a proxy that wants that in its header.
fn behind(world: &World, authorization: Option<&str>) -> ConnectProxy {
    let kms = world.kms.endpoint.trim_start_matches("http://");
    ConnectProxy::start(&world.pki, HOST, kms, authorization)
}

fn site<'w>(world: &'w World, name: &str, variables: &[(&str, &str)]) -> ProxyBuilder<'w> {
    let key = world.kms.key(Kind::P256);
    let trusted = world.scratch.path(&format!("{name}/ca.pem")).display().to_string();
    let builder = world.proxy().directory(name).endpoint(ENDPOINT).signer("ec", &key);
    let builder = builder.caller(ALICE, &["ec"]).environment("SSL_CERT_FILE", &trusted);
    variables
        .iter()
        .fold(builder, |builder, (variable, value)| builder.environment(variable, value))
}

#[tokio::test]
async fn https_goes_through_the_proxy_that_is_set_and_the_doctor_goes_with_it() {
    let world = World::new();
    let behind = behind(&world, None);
    let url = format!("http://{}", behind.address);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{nobody}");
    let (url, nobody) = (url.as_str(), nobody.as_str());
    for (name, variables, signs, check, words) in [
        ("upper", &[("HTTPS_PROXY", url)][..], true, "tcp", "the proxy 127.0.0.1:"),
        ("lower", &[("https_proxy", url)], true, "tcp", "the proxy 127.0.0.1:"),
        ("all", &[("all_proxy", url), ("HTTP_PROXY", nobody)], true, "tls", "the chain is trusted"),
        ("first", &[("HTTPS_PROXY", url), ("ALL_PROXY", nobody)], true, "tcp", "accepts"),
        ("padded", &[("HTTPS_PROXY", &format!(" {url}\n"))], true, "tcp", "accepts"),
        ("none", &[], false, "dns", "the endpoint kms.behind.test"),
        ("http", &[("HTTP_PROXY", url), ("http_proxy", url)], false, "dns", "the endpoint"),
        ("except", &[("HTTPS_PROXY", url), ("NO_PROXY", "behind.test")], false, "dns", HOST),
        ("nobody", &[("HTTPS_PROXY", nobody)], false, "tcp", "the proxy 127.0.0.1:"),
        (
            "unknown",
            &[("HTTPS_PROXY", "http://proxy.invalid:1")],
            false,
            "dns",
            "the proxy proxy.invalid",
        ),
    ] {
        let before = behind.asked().len();
        let builder = site(&world, name, variables);
        let proxy = if signs { builder.start().await } else { builder.start_shut().await };
        assert_eq!(agreed(&proxy, name).await, signs, "{name}");
        let (_, report) = doctor(&proxy);
        assert!(of(&report, check).1.contains(words), "{name}: {report:#}");
        let asked = behind.asked().split_off(before);
        assert_eq!(!asked.is_empty(), signs, "{name}: {asked:?}");
        assert!(asked.iter().all(|asked| *asked == format!("{HOST}:443")), "{asked:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_let_through_is_named_and_its_password_is_not() {
    let world = World::new();
    let authorization = "Basic YWxhZGRpbjpvcGVuc2VzYW1l";
    let behind = behind(&world, Some(authorization));
    let of_user = |user: &str| format!("http://{user}{}", behind.address);
    let (right, wrong) = (of_user("aladdin:opensesame@"), of_user(""));
    let stranger = site(&world, "stranger", &[("HTTPS_PROXY", wrong.as_str())]).start_shut().await;
    assert!(!agreed(&stranger, "no password").await);
    let (_, report) = doctor(&stranger);
    let (state, detail) = of(&report, "tcp");
    assert_eq!(state, "failed", "{report:#}");
    for words in ["was asked to CONNECT to kms.behind.test:443", "answered 407", "USER:PASSWORD@"] {
        assert!(detail.contains(words), "{words}: {detail}");
    }
    let builder = site(&world, "friend", &[("HTTPS_PROXY", right.as_str())]);
    let checked = builder.verb("check", &builder.write()).output().unwrap();
    let proxy = builder.start().await;
    assert!(agreed(&proxy, "the right password").await);
    behind.refuses(Some(403));
    // What is connected goes on signing; what is new is refused, and the doctor says both.
    assert!(agreed(&proxy, "an open connection").await);
    let (code, report) = doctor(&proxy);
    let (state, detail) = of(&report, "tcp");
    assert_eq!((code, state), (0, "warning"), "{report:#}");
    assert!(detail.contains("answered 403") && detail.contains("NO_PROXY"), "{detail}");
    let (_, table, _) = proxy.signctl(&["doctor"]);
    assert!(table.ends_with("every upstream signs; look at ec at eu-test-1: tcp\n"), "{table}");
    behind.refuses(None);
    let all = format!("{}{}{report}{table}", said(&checked), proxy.process.output());
    assert!(
        all.contains(&format!("HTTPS_PROXY: is http://{}: {ENDPOINT} and STS", behind.address))
    );
    assert!(!all.contains("aladdin") && !all.contains("opensesame"), "{all}");
}

#[tokio::test]
async fn i3_what_is_not_encrypted_goes_through_no_proxy() {
    let world = World::new();
    let behind = behind(&world, None);
    let url = format!("http://{}", behind.address);
    let imds = Imds::start("KEY");
    let key = world.kms.key(Kind::P256);
    let builder = world
        .proxy()
        .without_credentials()
        .environment("AWS_EC2_METADATA_DISABLED", "false")
        .environment("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.endpoint);
    let variables =
        ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let builder =
        variables.iter().fold(builder, |builder, variable| builder.environment(variable, &url));
    let proxy = builder.signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    assert!(agreed(&proxy, "an endpoint on loopback").await);
    assert_eq!(doctor(&proxy).0, 0);
    assert_eq!((imds.fetched(), behind.asked()), (1, Vec::new()));
}

#[test]
fn a_proxy_of_another_kind_is_a_mistake() {
    let world = World::new();
    let builder = site(&world, "proxy", &[("ALL_PROXY", "socks5://user:word@127.0.0.1:1080")]);
    let config = builder.write();
    let output = builder.verb("check", &config).output().unwrap();
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("ALL_PROXY: is \"socks5://127.0.0.1:1080\", expected http://HOST:PORT"),
        "{said}"
    );
    assert!(!said.contains("word"), "{said}");
}
