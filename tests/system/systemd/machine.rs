//! A machine whose first process is a real systemd, in namespaces of its own: nothing of this machine's is
//! changed, and no unit of this machine's runs but the journal's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use system_tests::programs::{ours, repository, system};
use system_tests::{Process, Scratch, eventually};

/// Where an administrator puts units.
const UNITS: &str = "etc/systemd/system";
const PROGRAMS: [&str; 5] =
    ["signing-proxy", "breakglass-signer", "signing-trail", "signctl", "pkcs11-worker"];
/// What the units and the journal's own are ordered by. They are empty here: no unit of the machine's start is part of one.
const TARGETS: [&str; 7] =
    ["basic", "multi-user", "network-online", "shutdown", "sockets", "sysinit", "umount"];

/// First a control group of its own, then a namespace of it: systemd moves what it finds at the top. What is mounted here is
/// seen by nobody else. Groups are removed when all has ended.
const OUTER: &str = r#"
set -e
mkdir -p "$HERE/groups/unified" "$HERE/groups/systemd"
mount -t cgroup2 none "$HERE/groups/unified"
mount -t cgroup -o none,name=systemd none "$HERE/groups/systemd" 2>/dev/null || rmdir "$HERE/groups/systemd"
name="$(basename "$HERE")"
for group in "$HERE"/groups/*; do
  mkdir "$group/$name"
  echo $$ >"$group/$name/cgroup.procs"
done
setpriv --pdeathsig KILL unshare --pid --fork --kill-child --mount --mount-proc --cgroup --uts --ipc bash -c "$INNER" || true
for group in "$HERE"/groups/*; do
  echo $$ >"$group/cgroup.procs"
  find "$group/$name" -depth -type d -exec rmdir {} + || true
done
"#;

/// The machine's own: what a start writes to is in memory, or below `$HERE`, which is on a disk.
const INNER: &str = r#"
set -e
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/host && mount --bind "$HERE" /run/host
for program in $PROGRAMS; do
  mkdir -p /run/programs && : >"/run/programs/$program" && mount --bind "$BUILT/$program" "/run/programs/$program"
done
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /var/log
mount --bind /run/host/var/lib /var/lib
# A first process raises the limits of its machine; not this one.
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
for place in etc usr/bin; do
  mkdir -p "/run/over/$place/"{upper,work}
  mount -t overlay -o "lowerdir=/$place,upperdir=/run/over/$place/upper,workdir=/run/over/$place/work" overlay "/$place"
done
cp -a /run/host/etc/. /etc/
cat /run/host/passwd >>/etc/passwd
cat /run/host/group >>/etc/group
for program in $PROGRAMS; do
  : >"/usr/bin/$program" && mount --bind "/run/programs/$program" "/usr/bin/$program"
done
umount -l /sys/fs/cgroup 2>/dev/null || true
if [ -d /run/host/groups/systemd ]; then
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  mkdir /sys/fs/cgroup/unified /sys/fs/cgroup/systemd
  mount -t cgroup2 none /sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd,xattr none /sys/fs/cgroup/systemd
else
  mount -t cgroup2 none /sys/fs/cgroup
fi
export SYSTEMD_UNIT_PATH=/etc/systemd/test:/etc/systemd/system SYSTEMD_GENERATOR_PATH=/run/none container=test
export SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/none
exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=null --show-status=no </dev/null
"#;

/// A machine that is prepared, and then booted. It ends with this value.
pub(super) struct Machine {
    process: Option<Process>,
    scratch: Scratch,
}

impl Machine {
    /// One with the packaged units, unchanged, and their users, by name and id.
    pub(super) fn prepare(users: &[(&str, u32)]) -> Self {
        let machine = Self { process: None, scratch: Scratch::new() };
        for name in ["signing-proxy", "breakglass-signer", "signing-trail"] {
            let unit = repository().join(format!("config/systemd/{name}.service"));
            machine.put(&format!("{UNITS}/{name}.service"), &fs::read_to_string(unit).unwrap());
        }
        for name in ["systemd-journald.service", "systemd-journald.socket"] {
            let unit = fs::read_to_string(Path::new("/lib/systemd/system").join(name)).unwrap();
            machine.put(&format!("etc/systemd/test/{name}"), &unit);
        }
        for name in TARGETS {
            let wants = if name == "multi-user" { "Wants=systemd-journald.service\n" } else { "" };
            let text = format!("[Unit]\nDescription={name}\nDefaultDependencies=no\n{wants}");
            machine.put(&format!("etc/systemd/test/{name}.target"), &text);
        }
        // The kernel's own log belongs to all of the machine.
        machine.put(
            "etc/systemd/journald.conf",
            "[Journal]\nAudit=no\nReadKMsg=no\nStorage=volatile\n",
        );
        let (mut passwd, mut group) = (String::new(), String::new());
        for (name, uid) in users {
            passwd += &format!("{name}:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin\n");
            group += &format!("{name}:x:{uid}:\n");
        }
        machine.put("passwd", &passwd);
        machine.put("group", &group);
        fs::create_dir_all(machine.scratch.path("var/lib/systemd")).unwrap();
        machine
    }

    /// A file of it, by its path without the first slash; made before it is booted.
    pub(super) fn put(&self, path: &str, text: &str) -> PathBuf {
        self.scratch.write(path, text)
    }

    /// Boots it, and waits until its systemd answers.
    pub(super) async fn boot(&mut self) {
        let mut boot = system("unshare");
        let _ = (system("nsenter"), system("setpriv"));
        boot.args(["--mount", "--propagation", "private", "bash", "-c", OUTER]);
        boot.env("HERE", self.scratch.dir())
            .env("INNER", INNER)
            .env("PROGRAMS", PROGRAMS.join(" "));
        boot.env("BUILT", ours("signing-proxy").parent().unwrap());
        self.process = Some(Process::start(boot));
        eventually("a systemd that answers", || {
            let asked = self.first().map(|_| self.run(&["systemctl", "is-system-running"]));
            let said = asked.map(|output| String::from_utf8(output.stdout).unwrap());
            let is_up = said.is_some_and(|said| said.trim() == "running");
            std::future::ready(is_up.then_some(()))
        })
        .await;
    }

    /// The first process, by its id outside.
    fn first(&self) -> Option<u32> {
        let children = |pid: u32| {
            let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            listed.split_whitespace().next()?.parse().ok()
        };
        // The shell, then unshare, then the first process.
        let first = children(children(self.process.as_ref()?.pid())?)?;
        let program = fs::read_link(format!("/proc/{first}/exe")).ok()?;
        program.ends_with("systemd").then_some(first)
    }

    /// A command inside, as root.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = system("nsenter");
        command.args(["--all", "--target"]).arg(self.first().unwrap().to_string()).args(words);
        command
    }

    /// Runs it.
    pub(super) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs it to a good end; what it printed.
    pub(super) fn said(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        let log =
            || self.log("signing-proxy").iter().map(|line| format!("{line}\n")).collect::<String>();
        assert!(output.status.success(), "{words:?}: {errors}\n{}", log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same as a user, as `sudo -u` runs it.
    pub(super) fn said_as(&self, user: &str, words: &[&str]) -> String {
        let ids = [format!("--reuid={user}"), format!("--regid={user}")];
        let setpriv = ["setpriv", &ids[0], &ids[1], "--init-groups"];
        self.said(&[&setpriv[..], words].concat())
    }

    /// What systemd says of a unit.
    pub(super) fn shows(&self, unit: &str, property: &str) -> String {
        let said = self.said(&["systemctl", "show", "--value", "--property", property, unit]);
        said.trim().to_owned()
    }

    /// Waits until it says so.
    pub(super) async fn comes_to(&self, unit: &str, property: &str, value: &str) {
        eventually(&format!("{unit}: {property}={value}"), || {
            std::future::ready((self.shows(unit, property) == value).then_some(()))
        })
        .await;
    }

    /// What the journal has of a unit's own lines: each with its level (0 to 7).
    pub(super) fn entries(&self, unit: &str) -> Vec<(String, String)> {
        let entries = self.log(unit).into_iter().filter(|entry| entry["_TRANSPORT"] == "stdout");
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        entries.map(|entry| (text(&entry, "PRIORITY"), text(&entry, "MESSAGE"))).collect()
    }

    /// Everything that the journal has of a unit.
    pub(super) fn log(&self, unit: &str) -> Vec<Value> {
        let words = ["journalctl", "--no-pager", "--output=json", "--unit", unit];
        let said = String::from_utf8(self.run(&words).stdout).unwrap();
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The newest line of the log with that message.
    pub(super) fn line(&self, unit: &str, message: &str) -> Option<Value> {
        let lines = self.entries(unit).into_iter();
        let mut lines = lines.filter_map(|(_, line)| serde_json::from_str::<Value>(&line).ok());
        lines.rfind(|line| line["message"] == message)
    }

    /// Replaces a file of it at once.
    pub(super) fn replace(&self, path: &str, text: &str) {
        let new = format!("{path}.new");
        let _ = self.put("replaced", text);
        let words = format!(
            "cp /run/host/replaced {new} && chmod --reference={path} {new} && chown --reference={path} {new} && \
             mv {new} {path}"
        );
        let _ = self.said(&["sh", "-c", &words]);
    }

    /// Sends a signal to the main process of each unit, all at once.
    pub(super) fn signal(&self, units: &[&str], signal: &str) {
        let pids: Vec<_> = units.iter().map(|unit| self.shows(unit, "MainPID")).collect();
        let pids: Vec<_> = pids.iter().map(String::as_str).collect();
        let _ = self.said(&[&["kill", "-s", signal], &pids[..]].concat());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // All that runs inside ends with it; then the shell outside removes the groups.
        if let Some(first) = self.first() {
            let _ = kill(Pid::from_raw(i32::try_from(first).unwrap()), Signal::SIGKILL);
        }
        if let Some(process) = &mut self.process {
            for _ in 0..200 {
                if !process.is_running() {
                    break;
                }
                // A pause: between two looks, whether it has ended.
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}
