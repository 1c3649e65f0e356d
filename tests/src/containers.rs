//! Real images and containers: buildah and podman, with storage of their own in a scratch
//! directory, so that nothing of this machine's is used or left behind.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::programs::{ours, repository, system};
use crate::scratch::Scratch;

/// An engine of its own, whose containers and images end with it.
#[derive(Debug)]
pub struct Engine {
    scratch: Scratch,
}

/// vfs and the machine's network work without a kernel that allows more, such as one in a
/// container. Limits that a machine does not grant would stop every container.
const CONTAINERS: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "HERE/tmp"
static_dir = "HERE/graph/libpod"
volume_path = "HERE/volumes"
"#;
const STORAGE: &str =
    "[storage]\ndriver = \"vfs\"\ngraphroot = \"HERE/graph\"\nrunroot = \"HERE/run\"\n";

/// For a shell in a mount namespace of its own: what version 1 of cgroups is mounted on becomes its own too. All
/// of a machine shares that directory otherwise, and who makes it read-only, as a systemd does, does so for all. `$CGROUPS` is
/// an empty directory.
pub const OWN_CGROUPS: &str = r#"
if [ "$(stat -f -c %T /sys/fs/cgroup)" = tmpfs ]; then
  mount -t tmpfs -o mode=755 tmpfs "$CGROUPS"
  for one in /sys/fs/cgroup/*/; do
    # A directory of no hierarchy is somebody's leftover.
    mountpoint --quiet "$one" || continue
    here="$CGROUPS/$(basename "$one")"
    mkdir "$here"
    mount --bind "$one" "$here"
  done
  mount --rbind "$CGROUPS" /sys/fs/cgroup
fi
"#;

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// An engine without images.
    #[must_use]
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let here = scratch.dir().display().to_string();
        for (file, text) in [("containers.conf", CONTAINERS), ("storage.conf", STORAGE)] {
            scratch.write(file, text.replace("HERE", &here));
        }
        // Images come from nowhere but the build below.
        scratch.write("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
        Self { scratch }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = system(program);
        command.env("CONTAINERS_CONF", self.scratch.path("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.scratch.path("storage.conf"));
        command
    }

    /// `podman`, which says nothing of a machine without systemd.
    #[must_use]
    pub fn podman(&self, arguments: &[&str]) -> Command {
        let mut command = if is_read_only("/sys/fs/cgroup") {
            let mut command = self.command("unshare");
            command.args(["--mount", "--propagation", "slave", "bash", "-c"]);
            command.arg(format!("set -e\n{OWN_CGROUPS}\nexec podman \"$@\"")).arg("podman");
            let own = self.scratch.path("cgroups");
            fs::create_dir_all(&own).unwrap();
            command.env("CGROUPS", own);
            command
        } else {
            self.command("podman")
        };
        command.args(["--log-level", "fatal"]).args(arguments);
        command
    }

    /// The line of shell that runs `podman` at a terminal.
    #[must_use]
    pub fn line(&self, arguments: &str) -> String {
        let [conf, storage] =
            ["containers.conf", "storage.conf"].map(|name| self.scratch.path(name));
        format!(
            "CONTAINERS_CONF={} CONTAINERS_STORAGE_CONF={} podman {arguments}",
            conf.display(),
            storage.display()
        )
    }

    /// Runs `podman` to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.podman(arguments).output().unwrap()
    }

    /// Runs `podman` to its end, which has to be a good one, and returns its standard output.
    #[must_use]
    pub fn said(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A path beside its storage, for files that are exchanged with containers.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// Builds `image` from the repository's Dockerfile, whose stage `build` is replaced by the
    /// programs that this test was built with: everything after that stage is as delivered.
    /// Returns the root file system that was copied into the image.
    #[must_use]
    pub fn build(&self, image: &str, programs: &[&str]) -> PathBuf {
        for program in programs {
            self.scratch.write(&format!("built/{program}.cdx.json"), "{}");
            fs::copy(ours(program), self.scratch.path(&format!("built/{program}"))).unwrap();
        }
        let root = self.scratch.path(&format!("stage/rootfs/{image}"));
        fs::create_dir_all(root.parent().unwrap()).unwrap();
        let mut rootfs = system("bash");
        rootfs.arg(repository().join("packaging/rootfs.sh")).arg(image);
        let laid = rootfs.arg(self.scratch.path("built")).arg(&root).output().unwrap();
        assert!(laid.status.success(), "{}", String::from_utf8_lossy(&laid.stderr));
        fs::remove_dir_all(self.scratch.path("built")).unwrap();

        let text = fs::read_to_string(repository().join("Dockerfile")).unwrap();
        let (_, after) = text.split_once("\nFROM scratch AS ").unwrap();
        let file = self.scratch.write("Dockerfile", format!("FROM scratch AS {after}"));
        // Nothing but the stage is at hand, as in the Dockerfile itself.
        fs::create_dir_all(self.scratch.path("empty")).unwrap();
        let mut build = self.command("buildah");
        // The OCI format knows no health check.
        build.args(["bud", "--isolation", "chroot", "--format", "docker", "--quiet"]);
        build.arg("--signature-policy").arg(self.scratch.path("policy.json"));
        build.arg(format!("--build-context=build={}", self.scratch.path("stage").display()));
        build.args(["--target", image, "--tag", image, "--file"]).arg(file);
        let built = build.arg(self.scratch.path("empty")).output().unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success() && !said.contains("HEALTHCHECK is not"), "{said}");
        root
    }
}

/// Whether nothing can be made in a directory, also by root.
fn is_read_only(directory: &str) -> bool {
    statvfs(directory).is_ok_and(|it| it.flags().contains(FsFlags::ST_RDONLY))
}

impl Drop for Engine {
    fn drop(&mut self) {
        // What runs holds mounts below the scratch directory.
        for arguments in [["pod", "rm"], ["container", "rm"]] {
            let mut end = self.podman(&arguments);
            let _ = end.args(["--force", "--all", "--time", "0"]).output();
        }
    }
}
