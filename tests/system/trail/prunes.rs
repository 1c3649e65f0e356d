//! `signctl audit prune`: old segments go as far as the rows hold them, and no further.

use system_tests::journal::segments;
use system_tests::postgres::Postgres;
use system_tests::{Kind, World};

use super::{KID, journal_of, newest, trail_of};
use crate::ALICE;

#[tokio::test]
async fn the_oldest_segments_go_when_the_rows_hold_them_and_none_while_there_is_a_gap() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().signer(KID, &key).caller(ALICE, &[KID]);
    let proxy = proxy.segment_bytes(1 << 20).start().await;
    let alice = proxy.client(ALICE).await;
    let journal = journal_of(&world);
    while segments(&journal).len() < 5 {
        assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
    }
    let mut trail = trail_of(&world, &postgres);
    trail.start();
    trail.holds("signing-proxy", newest(&journal)).await;
    let before = segments(&journal);
    let path = journal.to_str().unwrap();

    // A row that is gone: nothing is removed.
    postgres.sql(
        "CREATE TABLE kept AS SELECT * FROM signing_proxy.audit_events;
         DELETE FROM signing_proxy.audit_events WHERE payload->>'seq' = '3'",
    );
    let remove = ["--journal", path, "--keep", "2", "--remove"];
    let (code, said) = trail.signctl("prune", &postgres, &remove);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("nothing is removed") && said.contains("reconcile"), "{said}");
    assert_eq!(segments(&journal), before);
    postgres.sql(
        "INSERT INTO signing_proxy.audit_events SELECT * FROM kept WHERE payload->>'seq' = '3'",
    );

    // Asked what may go, it removes nothing.
    let (code, said) = trail.signctl("prune", &postgres, &["--journal", path, "--keep", "2"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("3 segments can go"), "{said}");
    assert_eq!(segments(&journal), before);
    let (code, said) = trail.signctl("prune", &postgres, &remove);
    assert_eq!(code, 0, "{said}");
    assert_eq!(segments(&journal), before[3..]);

    // What is left is whole, and goes on. The connection of before may have been idle for too long.
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
    trail.holds("signing-proxy", newest(&journal)).await;
    let (code, said) = trail.signctl("reconcile", &postgres, &["--journal", path]);
    assert_eq!(code, 0, "{said}");
    proxy.stop().await;
    trail.holds("signing-proxy", newest(&journal)).await;
    trail.kill().await;

    // The rows are gone, and the position, which nobody signs, says that all is covered: nothing is removed.
    postgres.sql(
        "DELETE FROM signing_proxy.audit_events;
         UPDATE signing_proxy.trail_positions
         SET shipped = 0, root = encode(sha256(''), 'base64'), covered = 1000000000",
    );
    let before = segments(&journal);
    let remove = ["--journal", path, "--keep", "1", "--remove", "--wait", "0"];
    let (code, said) = trail.signctl("prune", &postgres, &remove);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("nothing is removed") && said.contains("not covered by a row"), "{said}");
    assert_eq!(segments(&journal), before);
}
