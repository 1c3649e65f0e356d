//! Why there are no credentials, in words of ours. Those of the SDK quote what it read: values of
//! profiles, what a `credential_process` printed, what an endpoint answered.

use std::error::Error as StdError;
use std::io;

use aws_config::profile::credentials::ProfileFileError;
use aws_config::profile::{ProfileFileLoadError, ProfileParseError};
use aws_credential_types::provider::error::{CredentialsError, TokenError};

use super::faults::causes;

/// What loading credentials came to.
pub(super) fn words(error: &(dyn StdError + 'static)) -> &'static str {
    let profile = causes(error).find_map(of_profile);
    let provider = causes(error).filter_map(of_provider).last();
    let io = || causes(error).any(|cause| cause.is::<io::Error>());
    match (profile, provider) {
        (Some(profile), _) => profile,
        (None, Some(Kind::Failed)) if io() => {
            "a file, a program or an endpoint of theirs cannot be reached"
        }
        (None, Some(kind)) => kind.words(),
        (None, None) => Kind::Failed.words(),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    None,
    Late,
    Settings,
    Failed,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::None => "none were found",
            Self::Late => "their provider does not answer in time",
            Self::Settings => "the profile or the variables that name them cannot be used",
            Self::Failed => {
                "their provider failed, or gave something else than credentials; run `aws sts \
                 get-caller-identity` as the proxy's user, which says why"
            }
        }
    }
}

fn of_provider(cause: &(dyn StdError + 'static)) -> Option<Kind> {
    let of_token = |error: &TokenError| match error {
        TokenError::TokenNotLoaded(_) => Kind::None,
        TokenError::ProviderTimedOut(_) => Kind::Late,
        TokenError::InvalidConfiguration(_) => Kind::Settings,
        _ => Kind::Failed,
    };
    let of_credentials = |error: &CredentialsError| match error {
        CredentialsError::CredentialsNotLoaded(_) => Kind::None,
        CredentialsError::ProviderTimedOut(_) => Kind::Late,
        CredentialsError::InvalidConfiguration(_) => Kind::Settings,
        _ => Kind::Failed,
    };
    cause.downcast_ref().map(of_credentials).or_else(|| cause.downcast_ref().map(of_token))
}

fn of_profile(cause: &(dyn StdError + 'static)) -> Option<&'static str> {
    if cause.is::<ProfileParseError>() {
        return Some("a profile file is not in the form of ~/.aws/credentials");
    }
    if let Some(ProfileFileLoadError::CouldNotReadFile { .. }) = cause.downcast_ref() {
        return Some("a profile file cannot be read by the proxy's user");
    }
    match cause.downcast_ref()? {
        ProfileFileError::NoProfilesDefined { .. } => Some("the profile files are empty"),
        ProfileFileError::ProfileDidNotContainCredentials { .. } => Some("the profile holds none"),
        ProfileFileError::CredentialLoop { .. } => {
            Some("profiles name each other as their source, in a circle")
        }
        ProfileFileError::MissingCredentialSource { .. } => {
            Some("the profile has a role and no source of credentials for it")
        }
        ProfileFileError::MissingProfile { .. } => Some("a profile that is named is not there"),
        ProfileFileError::InvalidCredentialSource { .. }
        | ProfileFileError::UnknownProvider { .. } => {
            Some("the profile's source of credentials cannot be used")
        }
        ProfileFileError::FeatureNotEnabled { .. }
        | ProfileFileError::MissingSsoSession { .. }
        | ProfileFileError::InvalidSsoConfig { .. } => {
            Some("the profile signs in as a person does (SSO), which a proxy cannot")
        }
        _ => None,
    }
}
