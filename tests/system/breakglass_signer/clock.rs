//! A signer whose clock is behind its journal: what expired would be valid again.

use crate::later::record_of_later;

use super::Site;
use super::activation::word;

#[tokio::test]
async fn i5_a_signer_whose_clock_is_behind_its_journal_activates_nothing() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let builder = signer.builder.clone();
    signer.stop().await;
    record_of_later(&builder.journal(), "signer-audit");
    // Also after a start whose own records are of now.
    for _ in 0..2 {
        let signer = builder.clone().start().await;
        let mut proxy = signer.connect().await;
        signer.unlock().await;
        let answer = proxy.ask(signer.activation(&signer.request())).await;
        assert_eq!(word(&answer), "clock_behind", "{answer}");
        let said = signer.process.output();
        assert!(said.contains("this machine's clock shows"), "{said}");
        drop(proxy);
        signer.stop().await;
    }
}
