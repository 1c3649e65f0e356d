//! What judges the journal is itself judged: the independent checker, and the rule that
//! no signature is sent before its record is synced, on traces written by hand.

use system_tests::journal::python;
use system_tests::trace::{Place, Trace};

const LISTEN: u16 = 8443;
const CLIENT: u16 = 51131;

/// Two threads: 1 serves, 2 writes. The handshake, then one request and its answer.
const GOOD: &[&str] = &[
    "1 1.1 recvfrom(9<TCP:[127.0.0.1:8443->127.0.0.1:51131]>, \"\"..., 4096, 0, NULL, NULL) = 200",
    "1 1.2 sendto(9<TCP:[127.0.0.1:8443->127.0.0.1:51131]>, \"\"..., 900, 0, NULL, 0) = 900",
    "1 1.3 recvfrom(9<TCP:[127.0.0.1:8443->127.0.0.1:51131]>, \"\"..., 4096, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)",
    "1 1.4 recvfrom(9<TCP:[127.0.0.1:8443->127.0.0.1:51131]>, \"\"..., 4096, 0, NULL, NULL) = 300",
    "2 1.5 pwrite64(7</j/00000000000000000001.journal>, \"\"..., 400, 512) = 400",
    "2 1.6 fdatasync(7</j/00000000000000000001.journal> <unfinished ...>",
    "1 1.7 write(3</dev/null<char 1:3>>, \"\"..., 10) = 10",
    "2 1.8 <... fdatasync resumed>) = 0",
    "1 1.9 writev(9<TCP:[127.0.0.1:8443->127.0.0.1:51131]>, [{iov_base=\"\"..., iov_len=500}], 1) = 500",
];

/// Checks a trace in which the answer's record is the file's bytes 600 to 912.
fn checked(lines: &[&str]) -> Result<usize, String> {
    let place = Place { file: "00000000000000000001.journal".to_owned(), from: 600, to: 912 };
    Trace::parse(&lines.join("\n"), LISTEN).follows_syncs(CLIENT, &[Some(place)])
}

fn with<'l>(change: impl FnOnce(&mut Vec<&'l str>)) -> Result<usize, String> {
    let mut lines: Vec<&str> = GOOD.to_vec();
    change(&mut lines);
    checked(&lines)
}

#[test]
fn the_checker_finds_every_defect_that_was_forged_for_it() {
    let output = python("tests/journal/check_test.py").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_send_after_the_sync_of_its_record_is_in_order() {
    assert_eq!(checked(GOOD), Ok(1));
}

#[test]
fn a_send_before_the_sync_ended_is_found() {
    let found = with(|lines| lines.swap(7, 8)).unwrap_err();
    assert_eq!(
        found,
        "line 8 sends before bytes 600 to 912 of 00000000000000000001.journal are synced: written"
    );
}

#[test]
fn a_sync_counts_only_for_what_was_written_whole_when_it_began_and_only_if_it_succeeded() {
    let file = "7</j/00000000000000000001.journal>";
    let other = "7</j/00000000000000000009.journal>";
    let cases = [
        (4, GOOD[4].replace("= 400", "= 399"), "not even written"),
        (4, GOOD[4].replace(file, other), "not even written"),
        (5, GOOD[5].replace(file, other), "are synced: written"),
        (7, GOOD[7].replace("= 0", "= -1 EIO (Input/output error) (INJECTED)"), "a sync failed"),
    ];
    for (index, line, wanted) in &cases {
        let found = with(|lines| lines[*index] = line).unwrap_err();
        assert!(found.contains(wanted), "{line}: {found}");
    }
    let found = with(|lines| lines.swap(4, 5)).unwrap_err();
    assert!(found.contains("are synced: written"), "{found}");
}

#[test]
fn an_answer_that_the_trace_does_not_show_is_found() {
    let found = with(|lines| _ = lines.pop()).unwrap_err();
    assert_eq!(found, "1 answers to port 51131, but 1 turns");
}
