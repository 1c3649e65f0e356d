//! `[trail]`: a trail without whose word nothing is released.

use std::path::Path;
use std::time::Duration;

use host::section::Section;

use super::Trail;
use super::places::too_long_for_a_socket;

pub(super) fn read(mut section: Section, directory: &Path, request_timeout: Duration) -> Trail {
    let named = section.text("required_socket").filter(|path| !path.is_empty());
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
