//! `[trail]`: a trail without whose word nothing is released.

use std::path::Path;
use std::time::Duration;

use host::section::Section;

use super::Trail;
use super::places::too_long_for_a_socket;

pub(super) fn read(mut section: Section, directory: &Path, request_timeout: Duration) -> Trail {
    let named = section.text("required_socket");
    if named.as_ref().is_some_and(String::is_empty) {
        section.mistake(
            "required_socket",
            "is empty, and nobody would see that no sink is required any more; name the socket, or remove the key",
        );
    }
    let named = named.filter(|path| !path.is_empty());
    let required_socket = named.map(|path| directory.join(path));
    if let Some(mistake) = required_socket.as_deref().and_then(too_long_for_a_socket) {
        section.mistake("required_socket", mistake);
    }
    let uid = section.id("uid");
    if required_socket.is_some() && uid.is_none() && section.sound(&["uid"]) {
        section.mistake(
            "uid",
            "is not set; write the numeric id of the user that signing-trail runs as (id -u signing-trail), \
             since whoever else took its socket's place would say yes to everything",
        );
    }
    if required_socket.is_none() && uid.is_some() && section.sound(&["required_socket"]) {
        section.mistake(
            "uid",
            "is set and required_socket is not, so no sink is required; set required_socket, or remove uid",
        );
    }
    if let Some(mistake) = uid.filter(|_| required_socket.is_some()).and_then(mistaken_user) {
        section.mistake("uid", mistake);
    }
    let commit_timeout = section.millis("commit_timeout_ms", 1_500);
    let is_long = commit_timeout >= request_timeout;
    if required_socket.is_some() && is_long && section.sound(&["commit_timeout_ms"]) {
        section.mistake(
            "commit_timeout_ms",
            format!(
                "is {}, expected less than server.request_timeout_ms {}, or a request ends as indeterminate \
                 before it can be refused",
                commit_timeout.as_millis(),
                request_timeout.as_millis()
            ),
        );
    }
    section.finish();
    Trail { required_socket, uid, commit_timeout }
}

/// Who runs as root, as in a test, may be believed by root.
fn mistaken_user(uid: u32) -> Option<String> {
    let own = nix::unistd::geteuid().as_raw();
    match uid {
        _ if own == 0 => None,
        0 => Some(
            "is 0, which is root; run signing-trail as a user of its own, and write the id of that user".to_owned(),
        ),
        _ if uid == own => Some(format!(
            "is {uid}, the user of this proxy itself, which could then say by itself that a record is committed; \
             run signing-trail as a user of its own, and write the id of that user"
        )),
        _ => None,
    }
}
