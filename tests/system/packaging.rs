//! The scripts of packaging, where they have to refuse: what is not theirs is left
//! alone, and what is not known is not left out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use system_tests::Scratch;
use system_tests::programs::{repository, system};

use crate::container::rootfs_command;

/// Lays out a root file system where `dpkg-query -S` is this shell script; the rest of
/// dpkg-query is the system's.
fn rootfs_where_dpkg_says(scratch: &Scratch, root: &Path, search: &str) -> Output {
    let path = std::env::var_os("PATH").unwrap();
    let real = std::env::split_paths(&path).map(|dir| dir.join("dpkg-query"));
    let real = real.into_iter().find(|file| file.exists()).unwrap();
    let real = real.display();
    let script = format!(
        "#!/bin/sh\nreal={real}\nif [ \"$1\" = -S ]; then\n{search}\nfi\nexec $real \"$@\"\n"
    );
    let file = scratch.write("bin/dpkg-query", script);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let mut dirs = vec![file.parent().unwrap().to_owned()];
    dirs.extend(std::env::split_paths(&path));
    rootfs_command(scratch, root).env("PATH", std::env::join_paths(dirs).unwrap()).output().unwrap()
}

#[test]
fn a_package_that_dpkg_knows_by_another_path_is_noted_all_the_same() {
    for (name, wanted, strip) in
        [("usr", "/usr/lib*|/usr/sbin*", "/usr"), ("lib", "/lib*|/sbin*", "")]
    {
        let scratch = Scratch::new();
        let root = scratch.path(name);
        // It knows one form of a path only, whichever the system's own knows.
        let search = format!(
            "case \"$2\" in {wanted}) ;; *) exit 1 ;; esac\n\
             plain=\"${{2#{strip}}}\"\n\
             $real -S \"$plain\" 2>/dev/null || $real -S \"/usr$plain\"\nexit"
        );
        let made = rootfs_where_dpkg_says(&scratch, &root, &search);
        assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
        for package in ["libc6", "ca-certificates"] {
            assert!(root.join("var/lib/dpkg/status.d").join(package).exists(), "{name}: {package}");
        }
    }
}

#[test]
fn a_library_of_no_package_stops_the_layout() {
    let scratch = Scratch::new();
    let made = rootfs_where_dpkg_says(&scratch, &scratch.path("root"), "exit 1");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(!made.status.success(), "{said}");
    assert!(said.contains("no Debian package has /"), "{said}");
}

#[test]
fn a_build_leaves_alone_what_is_not_an_earlier_build() {
    let scratch = Scratch::new();
    let mine = scratch.write("mine/thesis.txt", "years of work");
    let script = repository().join("packaging/build.sh");
    // Also as a path from where the caller stands, which is not the repository.
    for out in [mine.parent().unwrap(), Path::new("mine"), &mine] {
        let mut command = system("bash");
        command.arg(&script).arg(out).current_dir(scratch.dir());
        // Without programs of the build it cannot get far if it does not refuse.
        let output = command.env("CARGO_HOME", "/dev/null/none").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("mine") && said.contains("is in the way"), "{said}");
        assert_eq!(fs::read(&mine).unwrap(), b"years of work");
    }
}

#[test]
fn every_package_of_python_is_pinned_by_version_and_hash() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    assert!(read("tests/run.sh").contains("--require-hashes --requirement"));
    for (name, file) in [
        ("ministack", "requirements.txt"),
        ("schemathesis", "requirements-openapi.txt"),
        ("moto", "requirements-moto.txt"),
        ("opentelemetry-proto", "requirements-traces.txt"),
    ] {
        assert!(read("tests/run.sh").contains(&format!("venv {name} tests/{file}")), "{name}");
        let text = read(&format!("tests/{file}")).replace("\\\n", " ");
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.iter().any(|line| line.starts_with(&format!("{name}=="))), "{lines:?}");
        for line in lines {
            assert!(line.contains("==") && line.contains(" --hash=sha256:"), "{line}");
        }
    }
}
