//! What a user is called in a record: `uid 1000 (alice)`. The number counts, the name explains.

use std::collections::BTreeMap;
use std::path::Path;

use nix::unistd::{Uid, User};

use crate::files;

/// The accounts of this machine.
const PASSWD: &str = "/etc/passwd";

/// `uid 1000 (alice)`, by whatever the system looks users up in. That may be another
/// machine, so it may take long.
#[must_use]
pub fn named(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    described(uid, user.as_ref().map(|user| user.name.as_str()))
}

/// Whose process this is.
#[must_use]
pub fn ourselves() -> String {
    named(Uid::effective().as_raw())
}

/// Who logged in before the process became the user that it is: sudo(8) and su(1) leave that number
/// as it is (pam_loginuid(8)). None if nobody did, or the kernel does not say.
#[must_use]
pub fn login_of(pid: i32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    login(&text)
}

/// Of `/proc/PID/loginuid`, which has the highest number while nobody logged in.
fn login(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// A user id whose name is not known.
#[must_use]
pub fn nameless(uid: u32) -> String {
    described(uid, None)
}

/// The accounts of this machine as they were when they were read. Nothing is waited for, and no
/// library of a directory service is loaded into the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalUsers(BTreeMap<u32, String>);

impl LocalUsers {
    /// Reads them. Of a machine that has none every user is without a name.
    #[must_use]
    pub fn read() -> Self {
        files::read(Path::new(PASSWD))
            .map(|bytes| Self::parse(&String::from_utf8_lossy(&bytes)))
            .unwrap_or_default()
    }

    /// Of lines as passwd(5) has them: the first of a number counts.
    fn parse(text: &str) -> Self {
        let mut users = BTreeMap::new();
        for line in text.lines() {
            let mut fields = line.split(':');
            let (name, number) = (fields.next(), fields.nth(1).map(str::parse::<u32>));
            if let (Some(name), Some(Ok(uid))) = (name, number)
                && !name.is_empty()
                && !name.contains(text::is_hidden)
            {
                users.entry(uid).or_insert_with(|| name.to_owned());
            }
        }
        Self(users)
    }

    /// `uid 1000 (alice)`.
    #[must_use]
    pub fn named(&self, uid: u32) -> String {
        described(uid, self.0.get(&uid).map(String::as_str))
    }
}

/// `uid 1000 (alice)`.
pub(crate) fn described(uid: u32, name: Option<&str>) -> String {
    format!("uid {uid} ({})", name.unwrap_or("no name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_its_number_and_its_name() {
        let text = "root:x:0:0:root:/root:/bin/bash\n\n+nis\nbad:x:many:0::/:\n\
                    alice:x:1000:1000::/home/alice:\nagain:x:1000:1::/:\n:x:7:7::/:\n";
        let users = LocalUsers::parse(text);
        assert_eq!(users.named(0), "uid 0 (root)");
        assert_eq!(users.named(1000), "uid 1000 (alice)");
        assert_eq!(users.named(7), nameless(7));
        assert_eq!(nameless(7), "uid 7 (no name)");
    }

    #[test]
    fn a_login_is_a_number_and_the_highest_is_none() {
        assert_eq!(login("1000\n"), Some(1000));
        assert_eq!(login("0"), Some(0));
        for none in ["4294967295", "", "-1", "alice"] {
            assert_eq!(login(none), None, "{none}");
        }
        assert_eq!(login_of(0), None);
    }

    #[test]
    fn the_machine_knows_root_both_ways() {
        assert_eq!(LocalUsers::read().named(0), "uid 0 (root)");
        assert_eq!(named(0), "uid 0 (root)");
    }
}
