//! Through which door a request came: what proved who calls.

/// A door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The data plane, where a client certificate proves who calls.
    Mtls,
}

impl Door {
    /// Its word in records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
        }
    }
}
