//! A kernel, or a container's profile, that refuses what the signer denies itself: it does not
//! start and says what helps, or, of landlock alone, starts and says so loudly.

use system_tests::{Happens, Strace, When};

use super::Site;

#[tokio::test]
async fn i4_what_can_not_be_denied_refuses_the_start() {
    let cases: &[(&str, &str, bool, &[&str])] = &[
        ("prctl", "EINVAL", true, &["PR_SET_DUMPABLE", "EINVAL", "seccomp profile"]),
        ("prlimit64,setrlimit", "EPERM", true, &["RLIMIT_CORE", "EPERM", "seccomp profile"]),
        ("mlockall", "ENOMEM", false, &["mlockall", "ENOMEM", "RLIMIT_MEMLOCK", "LimitMEMLOCK="]),
        ("mlockall", "EPERM", false, &["mlockall", "EPERM", "CAP_IPC_LOCK"]),
        ("seccomp", "EINVAL", true, &["seccomp", "nothing is signed", "CONFIG_SECCOMP_FILTER"]),
        ("seccomp", "EACCES", false, &["seccomp", "nothing is signed", "profile that allows"]),
    ];
    for (call, errno, development, words) in cases {
        let site = Site::new();
        let builder = site.signer();
        let builder = if *development { builder } else { builder.production().min_outage_s(300) };
        let (trace, when) = (site.world.scratch.path("trace"), When::From(1));
        let strace = Strace::inject(call, Happens::Fails(errno), when, &trace);
        let said = builder.try_start(Some(&strace)).await.err();
        let said = said.unwrap_or_else(|| panic!("{call} {errno}: it serves"));
        for word in *words {
            assert!(said.contains(word), "{call} {errno}: {word} is missing in {said}");
        }
        assert!(strace.injected() > 0);
    }
}

#[tokio::test]
async fn i4_memory_that_can_not_be_locked_is_said_under_development() {
    let site = Site::new();
    let trace = site.world.scratch.path("trace");
    let strace = Strace::inject("mlockall", Happens::Fails("ENOMEM"), When::From(1), &trace);
    let signer = site.signer().try_start(Some(&strace)).await.unwrap();
    signer.process.says("secrets may be swapped out").await;
    let said = signer.process.says("RLIMIT_MEMLOCK").await;
    assert!(said.contains("LimitMEMLOCK=infinity"), "{said}");
}

#[tokio::test]
async fn i4_without_landlock_it_serves_under_seccomp_and_says_so_loudly() {
    for errno in ["ENOSYS", "EOPNOTSUPP"] {
        let site = Site::new();
        let builder = site.signer().production().min_outage_s(300);
        let trace = site.world.scratch.path("trace");
        let create = "landlock_create_ruleset";
        let strace = Strace::inject(create, Happens::Fails(errno), When::From(1), &trace);
        let signer = builder.try_start(Some(&strace)).await.unwrap();
        let said = signer.process.says("this kernel has no landlock").await;
        let line = said.lines().find(|line| line.contains("no landlock")).unwrap();
        assert!(line.contains("\"level\":\"ERROR\""), "{line}");
        let status = format!("/proc/{}/status", signer.process.pid());
        let status = std::fs::read_to_string(status).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{status}");
        // And `check` says it ahead.
        let config = signer.builder.path("breakglass-signer.toml");
        let check = signer.builder.verb("check", &config);
        let output = strace.command(&check).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.contains("no landlock"), "{said}");
    }
}
