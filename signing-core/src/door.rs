//! Through which door a request came: what proved who calls.

/// A door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The data plane, where a client certificate proves who calls.
    Mtls,
    /// A listener that only this machine reaches, with a proof of its own.
    Local,
}

impl Door {
    /// Every door.
    pub const ALL: [Self; 2] = [Self::Mtls, Self::Local];

    /// Its word in records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Local => "local",
        }
    }
}
