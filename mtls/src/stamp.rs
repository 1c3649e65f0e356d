//! How the files looked when they were read: enough to see that others are there now, without reading them.
//!
//! Symbolic links are followed, so that a link that leads elsewhere is another file: Kubernetes swaps a link two steps
//! away (`..data`), certbot one by one.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::Files;

/// How each of the files looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Vec<(PathBuf, Option<Looked>)>);

/// One file; its change time (ctime) tells every write, rename and change of its mode, and nobody can set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looked {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Looks at the files. A file system that hangs keeps whoever looks.
    #[must_use]
    pub fn of(files: &Files) -> Self {
        let Files { certificate_file, private_key_file, client_ca_file, client_crl_files, .. } =
            files;
        let all = [certificate_file, private_key_file, client_ca_file].into_iter();
        Self(all.chain(client_crl_files).map(|file| (file.clone(), looked(file))).collect())
    }

    /// Looks at the same files again.
    #[must_use]
    pub fn again(&self) -> Self {
        Self(self.0.iter().map(|(file, _)| (file.clone(), looked(file))).collect())
    }
}

fn looked(file: &PathBuf) -> Option<Looked> {
    // What cannot be looked at is as if it were not there: both are told when it is read.
    let found = fs::metadata(file).ok()?;
    Some(Looked {
        device: found.dev(),
        inode: found.ino(),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn files(directory: &Path) -> Files {
        let file = |name: &str| directory.join(name);
        Files {
            certificate_file: file("tls.crt"),
            private_key_file: file("tls.key"),
            client_ca_file: file("ca.crt"),
            client_crl_files: vec![file("list.crl")],
            tls12: false,
            watch: true,
        }
    }

    #[test]
    fn every_way_to_swap_a_file_is_seen_and_looking_again_changes_nothing() {
        let directory = std::env::temp_dir().join(format!("stamp-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let file = |name: &str| directory.join(name);
        for version in ["..1", "..2"] {
            fs::create_dir_all(file(version)).unwrap();
            fs::write(file(version).join("tls.crt"), "same content").unwrap();
        }
        symlink("..1", file("..data")).unwrap();
        symlink("..data/tls.crt", file("tls.crt")).unwrap();
        fs::write(file("tls.key"), "key").unwrap();
        fs::write(file("ca.crt"), "ca").unwrap();
        let files = files(&directory);
        let mut before = Stamp::of(&files);
        assert_eq!(before, before.again(), "one file is missing, and stays so");
        let steps: [(&str, &dyn Fn()); 6] = [
            ("..data leads elsewhere, to a file of the same content", &|| {
                symlink("..2", file("..data_tmp")).unwrap();
                fs::rename(file("..data_tmp"), file("..data")).unwrap();
            }),
            ("one link is made anew", &|| {
                fs::remove_file(file("tls.crt")).unwrap();
                symlink("..1/tls.crt", file("tls.crt")).unwrap();
            }),
            ("a file takes another one's place", &|| {
                fs::write(file("new"), "key").unwrap();
                fs::rename(file("new"), file("tls.key")).unwrap();
            }),
            ("a file is written in place", &|| fs::write(file("ca.crt"), "other").unwrap()),
            ("a file comes", &|| fs::write(file("list.crl"), "list").unwrap()),
            ("a file goes", &|| fs::remove_file(file("list.crl")).unwrap()),
        ];
        for (what, step) in steps {
            step();
            let after = before.again();
            assert_ne!(after, before, "{what}");
            assert_eq!(after, after.again(), "{what}");
            before = after;
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
