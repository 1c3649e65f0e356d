//! Why a session is over: the emergency signer's closed list, and the proxy's, which has that one in it.

use serde::{Deserialize, Serialize};

/// Declares an enum of ends as a table: variant, word, what happened.
macro_rules! ends {
    ($($variant:ident $word:literal $sentence:literal)*) => {
        /// Why a session ended. The first reason stays.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum End { $(#[doc = $sentence] #[serde(rename = $word)] $variant,)* }

        impl End {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its word on the wire and in records.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// What happened, for a person.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }
        }
    };
}

ends! {
    Expired "expired" "it has expired"
    Quota "quota_exhausted" "its quota is used up"
    Operator "operator" "an operator ended it"
    KeyUnavailable "key_unavailable" "the proxy ended it: the registry lets its key sign no more"
    Proxy "proxy" "the proxy ended it by itself"
    ProxyGone "proxy_gone" "the proxy that activated it closed its connection"
    Restarted "restarted" "the signer stopped or was restarted"
    Journal "journal" "the signer's journal cannot be written"
}

/// Why a session ended in the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyEnd {
    /// The emergency signer is gone, does not answer, or does not have the session.
    SignerGone,
    /// The registry in force has revoked the emergency key, or its time is over.
    KeyUnavailable,
    /// A signature of the emergency signer is not believed.
    SignatureRejected,
    /// An operator froze anew, and its approvers knew of an earlier freeze only.
    Frozen,
    /// As the signer ends it: by the signer, or here, for the same reason.
    Signer(End),
}

impl ProxyEnd {
    /// Its word in the proxy's records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::SignerGone => "signer_gone",
            Self::KeyUnavailable => "key_unavailable",
            Self::SignatureRejected => "signature_rejected",
            Self::Frozen => "frozen",
            Self::Signer(end) => end.word(),
        }
    }

    /// Whether what was signed before may leave: the quota is used up, and nothing is in doubt.
    #[must_use]
    pub const fn leaves_the_last(self) -> bool {
        matches!(self, Self::Signer(End::Quota))
    }
}

impl From<End> for ProxyEnd {
    fn from(end: End) -> Self {
        Self::Signer(end)
    }
}
