//! `config/systemd` is true: systemd reads the units without a complaint, they are hardened, and
//! their commands, directories and users fit the programs and their defaults.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use system_tests::Scratch;
use system_tests::programs::{repository, system};

/// The daemons that sign.
const SIGNERS: [&str; 2] = ["signing-proxy", "breakglass-signer"];
const UNITS: [&str; 3] = ["signing-proxy", "breakglass-signer", "signing-trail"];

fn unit(name: &str) -> String {
    fs::read_to_string(repository().join(format!("config/systemd/{name}.service"))).unwrap()
}

/// What `key=` says, each time.
fn values<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.filter(|(found, _)| *found == key).map(|(_, value)| value).collect()
}

#[test]
fn systemd_itself_finds_nothing_wrong_with_them() {
    let scratch = Scratch::new();
    // The programs that they start have to exist; elsewhere than where a package puts them.
    for name in UNITS {
        let program = scratch.write(&format!("usr/bin/{name}"), "#!/bin/sh\n");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let bin = scratch.path("usr/bin");
    for name in UNITS {
        let text = unit(name).replace("/usr/bin/kill", "/bin/kill");
        let text = text.replace("/usr/bin/", &format!("{}/", bin.display()));
        scratch.write(&format!("units/{name}.service"), text);
    }
    let mut verify = system("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    verify.args(UNITS.map(|name| scratch.path(&format!("units/{name}.service"))));
    let output = verify.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // It looks at the machine's own units as well.
    let ours: Vec<_> =
        said.lines().filter(|line| UNITS.iter().any(|name| line.contains(name))).collect();
    assert!(ours.is_empty(), "{said}");

    // So it does complain where there is something to complain about.
    let wrong = unit(UNITS[0]).replace("ProtectSystem=strict", "ProtectSystem=perhaps");
    let wrong = scratch.write("wrong/signing-proxy.service", wrong);
    let output =
        system("systemd-analyze").args(["verify", "--man=no"]).arg(wrong).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("perhaps"), "{output:?}");
}

#[test]
fn each_has_a_user_and_directories_of_its_own_and_the_defaults_of_the_configuration() {
    for name in SIGNERS {
        let text = unit(name);
        for key in ["User", "Group", "RuntimeDirectory", "StateDirectory", "ConfigurationDirectory"]
        {
            assert_eq!(values(&text, key), [name], "{name}: {key}");
        }
        let serve = format!("/usr/bin/{name} serve --config /etc/{name}/{name}.toml");
        assert_eq!(values(&text, "ExecStart"), [serve.as_str()]);
        assert_eq!(values(&text, "ExecStartPre"), [serve.replace(" serve ", " check ").as_str()]);
        assert_eq!(values(&text, "StateDirectoryMode"), ["0700"], "{name}");
        let config = fs::read_to_string(repository().join(format!("config/{name}.toml"))).unwrap();
        assert!(config.contains(&format!("/run/{name}/")), "{name}: sockets");
        assert!(config.contains(&format!("\"/var/lib/{name}\"")), "{name}: state");
    }
    assert_eq!(values(&unit("signing-proxy"), "SupplementaryGroups"), ["breakglass-signer"]);
    assert!(unit("signing-proxy").contains("LoadCredential=hsm-pin:"), "the PIN of a token");
}

#[test]
fn all_are_hardened_and_the_emergency_signer_has_no_network_and_locked_memory() {
    for name in UNITS {
        let text = unit(name);
        for (key, value) in [
            ("LimitCORE", "0"),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("ProtectHome", "yes"),
            ("PrivateDevices", "yes"),
            ("PrivateTmp", "yes"),
            ("RestrictSUIDSGID", "yes"),
            ("SystemCallArchitectures", "native"),
        ] {
            assert_eq!(values(&text, key), [value], "{name}: {key}");
        }
    }
    for name in SIGNERS {
        assert_eq!(values(&unit(name), "CapabilityBoundingSet"), [""], "{name}");
    }
    // It reads journals that are for their owners only, and of their directories nothing else.
    let trail = unit("signing-trail");
    assert_eq!(values(&trail, "CapabilityBoundingSet"), ["CAP_DAC_READ_SEARCH"]);
    assert!(values(&trail, "TemporaryFileSystem")[0].contains("/var/lib:ro /etc/signing-proxy:ro"));
    let signer = unit("breakglass-signer");
    for (key, value) in [
        ("LimitMEMLOCK", "infinity"),
        ("PrivateNetwork", "yes"),
        ("RestrictAddressFamilies", "AF_UNIX"),
        ("MemoryDenyWriteExecute", "yes"),
    ] {
        assert_eq!(values(&signer, key), [value], "{key}");
    }
}
