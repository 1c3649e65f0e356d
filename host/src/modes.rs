//! What others may do to the files that a daemon lives on: read its secrets, change what it believes, put
//! something else in its place.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// For whoever is neither the owner nor of the group. A group is given to a file on purpose: so a daemon
/// reads what belongs to root.
const OTHERS: u32 = 0o007;
const READ: u32 = 0o004;
const WRITE: u32 = 0o002;
/// In such a directory only its owner removes or renames what is in it.
const STICKY: u32 = 0o1000;

/// What a place is, and so what others must not do to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceKind {
    /// Not read, nor change.
    Secret,
    /// Not change.
    File,
    /// Not write into.
    Directory,
}

/// A place that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The config key, for the sentence.
    pub key: String,
    /// The file or directory whose mode is judged.
    pub path: PathBuf,
    /// What it is.
    pub what: PlaceKind,
}

/// What was found, one sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Places that are open to others.
    pub open: Vec<String>,
    /// Places that could not be looked at.
    pub unknown: Vec<String>,
}

impl Place {
    /// A place that `check` looks at: its configuration key, its path and its kind.
    pub fn new(key: impl Into<String>, path: &Path, what: PlaceKind) -> Self {
        Self { key: key.into(), path: path.to_owned(), what }
    }
}

/// Looks at each place that is there, and at every directory above it. What root may do says nothing of
/// others, so it looks at the modes and tries nothing.
#[must_use]
pub fn inspect(places: &[Place]) -> Found {
    let (mut found, mut seen) = (Found::default(), BTreeSet::new());
    for place in places.iter().filter(|place| !place.path.as_os_str().is_empty()) {
        if seen.insert((place.path.clone(), place.what as u8)) {
            itself(place, &mut found);
        }
        for directory in above(&place.path) {
            above_it(place, &directory, &mut seen, &mut found);
        }
    }
    found
}

fn itself(place: &Place, found: &mut Found) {
    let Place { key, path, what } = place;
    let shown = path.display();
    let Some(mode) = mode(place, path, found) else { return };
    let said = match what {
        PlaceKind::Secret if mode & OTHERS != 0 => {
            let may = match (mode & READ != 0, mode & WRITE != 0) {
                (true, true) => "read and change",
                (false, true) => "change",
                (_, false) => "read",
            };
            format!(
                "may {may} {shown} (mode {mode:04o}); chmod it to 0400, or to 0440 for the group of the \
                 process"
            )
        }
        PlaceKind::File if mode & WRITE != 0 => {
            format!("may change {shown} (mode {mode:04o}); take that away: chmod o-w {shown}")
        }
        PlaceKind::Directory if mode & WRITE != 0 => {
            format!("may write into {shown} (mode {mode:04o}); take that away: chmod o-w {shown}")
        }
        PlaceKind::Secret | PlaceKind::File | PlaceKind::Directory => return,
    };
    found.open.push(format!("{key}: every user {said}"));
}

/// Whoever may write into a directory puts something else in the place of what is in it.
fn above_it(
    place: &Place,
    directory: &Path,
    seen: &mut BTreeSet<(PathBuf, u8)>,
    found: &mut Found,
) {
    if !seen.insert((directory.to_owned(), u8::MAX)) {
        return;
    }
    let Some(mode) = mode(place, directory, found) else { return };
    if mode & WRITE == 0 || mode & STICKY != 0 {
        return;
    }
    let Place { key, path, .. } = place;
    let (path, directory) = (path.display(), directory.display());
    found.open.push(format!(
        "{key}: every user may put something else in the place of {path}, since they may \
         write into {directory} (mode {mode:04o}); take that away: chmod o-w {directory}"
    ));
}

/// None: it is not there, which is another's to say, or cannot be looked at.
fn mode(place: &Place, path: &Path, found: &mut Found) -> Option<u32> {
    match fs::metadata(path) {
        Ok(metadata) => Some(metadata.permissions().mode() & 0o7777),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            None
        }
        Err(error) => {
            found.unknown.push(format!(
                "{}: who may use {} cannot be looked at ({error}); run check as root or as the user of \
                 the process",
                place.key,
                path.display()
            ));
            None
        }
    }
}

/// The directories above a path as it is written, and above what it leads to.
fn above(path: &Path) -> Vec<PathBuf> {
    let written = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut all: Vec<_> = written.ancestors().skip(1).map(Path::to_owned).collect();
    if let Ok(real) = fs::canonicalize(path) {
        all.extend(real.ancestors().skip(1).map(Path::to_owned));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("modes-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn with(&self, name: &str, mode: u32, is_directory: bool) -> PathBuf {
            let path = self.0.join(name);
            if is_directory {
                fs::create_dir_all(&path).unwrap();
            } else {
                fs::write(&path, "").unwrap();
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn open(path: &Path, what: PlaceKind) -> Vec<String> {
        inspect(&[Place::new("a.key", path, what)]).open
    }

    #[test]
    fn what_others_may_do_is_said_and_what_a_group_may_do_is_meant() {
        let dir = Dir::new("table");
        for (mode, what, expected) in [
            (0o600, PlaceKind::Secret, ""),
            (0o640, PlaceKind::Secret, ""),
            (0o440, PlaceKind::Secret, ""),
            (0o660, PlaceKind::Secret, ""),
            (0o644, PlaceKind::Secret, "may read "),
            (0o604, PlaceKind::Secret, "may read "),
            (0o602, PlaceKind::Secret, "may change "),
            (0o666, PlaceKind::Secret, "may read and change "),
            (0o644, PlaceKind::File, ""),
            (0o664, PlaceKind::File, ""),
            (0o646, PlaceKind::File, "may change "),
            (0o755, PlaceKind::Directory, ""),
            (0o2770, PlaceKind::Directory, ""),
            (0o777, PlaceKind::Directory, "may write into "),
            // What is in it is safe, but anybody adds to it.
            (0o1777, PlaceKind::Directory, "may write into "),
        ] {
            let path = dir.with(&format!("{mode:o}-{what:?}"), mode, what == PlaceKind::Directory);
            let found = open(&path, what);
            assert_eq!(
                found.len(),
                usize::from(!expected.is_empty()),
                "{mode:o} {what:?}: {found:?}"
            );
            for said in found {
                assert!(said.starts_with("a.key: every user "), "{said}");
                assert!(
                    said.contains(expected) && said.contains(&format!("mode {mode:04o}")),
                    "{said}"
                );
            }
        }
    }

    #[test]
    fn a_directory_above_that_others_write_into_counts_unless_it_is_sticky() {
        let dir = Dir::new("above");
        let above = dir.with("above", 0o755, true);
        let file = dir.with("above/key", 0o600, false);
        for (mode, is_open) in [(0o755, false), (0o775, false), (0o1777, false), (0o777, true)] {
            fs::set_permissions(&above, fs::Permissions::from_mode(mode)).unwrap();
            let found = open(&file, PlaceKind::Secret);
            assert_eq!(found.len(), usize::from(is_open), "{mode:o}: {found:?}");
            let said = |one: &String| one.contains("put something else in the place of");
            assert!(found.iter().all(said), "{found:?}");
        }
        // Once for all that is below it; also for what is not there yet.
        let missing = above.join("missing/deeper");
        let places = [&file, &missing].map(|path| Place::new("k", path, PlaceKind::File));
        assert_eq!(inspect(&places).open.len(), 1);
    }

    #[test]
    fn a_link_is_as_open_as_what_it_leads_to_and_as_where_it_lies() {
        let dir = Dir::new("link");
        let (lies, leads) = (dir.with("lies", 0o755, true), dir.with("leads", 0o755, true));
        let file = dir.with("leads/key", 0o644, false);
        let link = lies.join("key");
        symlink(&file, &link).unwrap();
        assert_eq!(open(&link, PlaceKind::Secret).len(), 1);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(open(&link, PlaceKind::Secret).len(), 0);
        for directory in [&lies, &leads] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
            assert_eq!(open(&link, PlaceKind::Secret).len(), 1, "{}", directory.display());
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}
