//! The state of a key, as KMS tells it apart from its use.
//!
//! <https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html>

use std::sync::Arc;

use aws_sdk_kms::primitives::DateTimeFormat;
use aws_sdk_kms::types::{KeyMetadata, KeyState};
use release::ProbeCalls;
use signing_core::evidence::Fault;
use signing_core::gate::Place;

use super::KmsUpstream;
use super::call::{by_sdk, named};
use crate::UpstreamError;

impl KmsUpstream {
    /// What KMS says of the key's state that speaks against its use. None also where it can
    /// not be asked, as without the permission `kms:DescribeKey`: canaries show what works.
    pub(crate) async fn key_trouble(
        &self,
        place: &Arc<Place>,
        calls: &ProbeCalls,
    ) -> Option<UpstreamError> {
        // A denial here is about this permission, and says nothing of the credentials.
        let call = async {
            let asked = named(calls.attempts(), place, |attempt| {
                by_sdk(attempt, self.client.describe_key().key_id(&self.key_id).send())
            });
            let asked = asked.await;
            Ok(asked.ok().and_then(|answer| answer.key_metadata))
        };
        let key = self.bounded(call).await.ok()??;
        let detail = state_error(&key)?;
        Some(UpstreamError::failed(Fault::KeyUnavailable, detail))
    }
}

/// A sentence about a state in which a key does not sign.
fn state_error(key: &KeyMetadata) -> Option<String> {
    let state = match key.key_state()? {
        // While its primary region changes a key signs.
        KeyState::Enabled | KeyState::Updating => return None,
        state => state.as_str(),
    };
    let deletion = key.deletion_date().and_then(|at| at.fmt(DateTimeFormat::DateTime).ok());
    Some(match deletion {
        Some(at) => format!("the key's state in KMS is {state}; it will be deleted at {at}"),
        None => format!("the key's state in KMS is {state}"),
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_kms::primitives::DateTime;

    use super::*;

    fn key(state: &str) -> KeyMetadata {
        let key = KeyMetadata::builder().key_id("k").key_state(KeyState::from(state));
        key.deletion_date(DateTime::from_secs(1_800_000_000)).build().unwrap()
    }

    #[test]
    fn a_key_that_signs_is_no_trouble_and_every_other_state_is() {
        assert_eq!(state_error(&key("Enabled")), None);
        assert_eq!(state_error(&key("Updating")), None);
        for state in ["Disabled", "PendingImport", "Unavailable", "Creating", "SomethingNew"] {
            assert!(state_error(&key(state)).unwrap().contains(state));
        }
        let detail = state_error(&key("PendingDeletion")).unwrap();
        assert!(
            detail.ends_with("PendingDeletion; it will be deleted at 2027-01-15T08:00:00Z"),
            "{detail}"
        );
        let unnamed = KeyMetadata::builder().key_id("k").build().unwrap();
        assert_eq!(state_error(&unnamed), None);
    }
}
