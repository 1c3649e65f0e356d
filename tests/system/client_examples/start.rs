//! How each example is started: as its own first lines say, with nothing in the environment but the
//! variables that it names. What it needs is of Debian, and `tests/run.sh` installs it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use system_tests::programs::{ours, repository, system};
use system_tests::{World, journal};

type Variables = [(&'static str, String)];

pub(super) fn example(name: &str) -> PathBuf {
    repository().join("config/clients").join(name)
}

fn environment(command: &mut Command, variables: &Variables) {
    // `signctl` is where a package puts it.
    let bin = ours("signctl").parent().unwrap().display().to_string();
    command.env_clear().env("PATH", format!("/usr/bin:/bin:{bin}"));
    command.envs(variables.iter().map(|(name, value)| (name, value)));
}

fn value<'v>(variables: &'v Variables, name: &str) -> &'v str {
    &variables.iter().find(|(other, _)| *other == name).unwrap().1
}

/// Runs what is added as arguments with these files (authority, certificate, key) in
/// /run/secrets/signing-proxy, where a secret of Kubernetes is mounted: in a mount namespace of its own.
pub(crate) fn in_its_own_run(certificates: [&str; 3]) -> Command {
    let script = r#"mount -t tmpfs none /run
        mkdir -p /run/secrets/signing-proxy
        cp "$1" /run/secrets/signing-proxy/ca.pem
        cp "$2" /run/secrets/signing-proxy/client.pem
        cp "$3" /run/secrets/signing-proxy/client.key
        shift 3
        exec "$@""#;
    let mut command = system("unshare");
    command.args(["--mount", "sh", "-ec", script, "sh"]).args(certificates);
    command
}

/// With its certificates where `.curlrc` says, and told of none by a variable.
pub(super) fn curl(_: &World, variables: &Variables, input: &Path) -> Command {
    let _ = system("curl");
    let names = ["SIGNING_PROXY_CA", "SIGNING_PROXY_CLIENT_CERT", "SIGNING_PROXY_CLIENT_KEY"];
    let mut command = in_its_own_run(names.map(|name| value(variables, name)));
    command.arg(example("curl/sign.sh")).arg(input);
    environment(&mut command, variables);
    for name in names {
        command.env_remove(name);
    }
    command.env("CURL_HOME", example("curl"));
    command
}

/// From a directory that has the packages of Debian, as one has that of `npm install undici`.
pub(super) fn node(world: &World, variables: &Variables, name: &str) -> Command {
    let packages = Path::new("/usr/share/nodejs");
    assert!(
        packages.join("undici").exists(),
        "node-undici is missing: run ./tests/run.sh, which installs it"
    );
    let directory = world.scratch.path("node");
    if !directory.exists() {
        std::fs::create_dir(&directory).unwrap();
        symlink(packages, directory.join("node_modules")).unwrap();
        for file in ["https.mjs", "fetch.mjs", "verify.mjs"] {
            std::fs::copy(example("node").join(file), directory.join(file)).unwrap();
        }
    }
    let mut command = system("node");
    command.arg(directory.join(name));
    environment(&mut command, variables);
    // A Node that is not Debian's does not look there for what the package needs itself.
    command.env("NODE_PATH", packages);
    command
}

pub(super) fn python(variables: &Variables, name: &str) -> Command {
    let mut command = journal::python(&format!("config/clients/python/{name}"));
    environment(&mut command, variables);
    command
}

pub(super) fn go(world: &World, variables: &Variables, _: &Path) -> Command {
    let program = world.scratch.path("sign");
    if !program.exists() {
        let mut build = system("go");
        build.args(["build", "-o"]).arg(&program).arg("sign.go").current_dir(example("go"));
        // Nothing is fetched, and what is built stays for the next time.
        build.env("GOCACHE", repository().join("target/tools/go-cache"));
        build.env("GOTOOLCHAIN", "local").env("GOPROXY", "off").env("GOFLAGS", "");
        let output = build.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut command = Command::new(program);
    environment(&mut command, variables);
    command
}

pub(super) fn java(_: &World, variables: &Variables, _: &Path) -> Command {
    // The runtime alone does not compile.
    let _ = system("javac");
    let mut command = system("java");
    command.arg(example("java/Sign.java"));
    environment(&mut command, variables);
    command
}
