//! The AWS SDK's own chain of sources for credentials, begun anew for each load: what it has read
//! of a file it would never read again.

use aws_config::BehaviorVersion;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_sdk_kms::config::{Credentials, ProvideCredentials as _, Region};

use super::https::Https;
use super::no_credentials::words;
use crate::settings::Proxies;

/// What was loaded.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) credentials: Credentials,
    /// Where they are from, in words.
    pub(super) source: String,
    /// They are the process's own variables, which never change.
    pub(super) is_fixed: bool,
}

/// Loads credentials by what variables and files say now.
///
/// # Errors
/// Why there are none, without anything secret.
pub(super) async fn load(region: &str, proxies: &Proxies) -> Result<Loaded, String> {
    let config = aws_config::defaults(BehaviorVersion::latest())
        // Where STS is asked, if the chain asks it.
        .region(Region::new(region.to_owned()))
        .http_client(Https::new(proxies))
        .load()
        .await;
    let chain = config.credentials_provider().ok_or("the AWS SDK has no chain of credentials")?;
    let credentials =
        chain.provide_credentials().await.map_err(|error| words(&error).to_owned())?;
    let features = credentials.get_property::<Vec<AwsCredentialFeature>>();
    let features = features.map(Vec::as_slice).unwrap_or_default();
    let is_fixed = features == [AwsCredentialFeature::CredentialsEnvVars];
    Ok(Loaded { source: source(features), is_fixed, credentials })
}

fn source(features: &[AwsCredentialFeature]) -> String {
    use AwsCredentialFeature as Of;
    let word = |feature: &Of| match feature {
        Of::CredentialsEnvVars => Some("environment variables"),
        Of::CredentialsEnvVarsStsWebIdToken
        | Of::CredentialsProfileStsWebIdToken
        | Of::CredentialsStsAssumeRoleWebId => Some("web identity"),
        Of::CredentialsStsAssumeRole => Some("assumed role"),
        Of::CredentialsProfile
        | Of::CredentialsProfileSourceProfile
        | Of::CredentialsProfileNamedProvider => Some("profile file"),
        Of::CredentialsProfileProcess | Of::CredentialsProcess => Some("credential process"),
        Of::CredentialsHttp => Some("container endpoint"),
        Of::CredentialsImds => Some("instance metadata"),
        _ => None,
    };
    let mut words: Vec<_> = features.iter().filter_map(word).collect();
    words.dedup();
    if words.is_empty() { "the SDK's chain".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_named() {
        use AwsCredentialFeature as Of;
        assert_eq!(source(&[Of::CredentialsImds]), "instance metadata");
        assert_eq!(
            source(&[Of::CredentialsProfile, Of::CredentialsStsAssumeRole]),
            "profile file, assumed role"
        );
        assert_eq!(source(&[]), "the SDK's chain");
    }
}
