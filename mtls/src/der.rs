//! DER values one after the other. Whatever is not as expected is an error: a value that is
//! passed over could be the one that forbids.

use x509_parser::asn1_rs::{Any, FromDer as _};

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// The tag `[number]` of a primitive value.
pub(super) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// The tag `[number]` of a value made of others.
pub(super) const fn context_of(number: u8) -> u8 {
    0xa0 | number
}

/// The bytes are not the DER that is expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads values from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

/// A value: its tag, its content, and all of its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    pub(super) whole: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The one value that `bytes` are.
    pub(super) fn only(bytes: &'a [u8], tag: u8) -> Result<Self, Malformed> {
        let mut reader = Self(bytes);
        let content = reader.take(tag)?;
        reader.end()?;
        Ok(Self(content))
    }

    pub(super) fn next(&mut self) -> Result<Value<'a>, Malformed> {
        let (rest, any) = Any::from_der(self.0).map_err(|_| Malformed)?;
        let whole = self.0.get(..self.0.len() - rest.len()).ok_or(Malformed)?;
        let tag = *whole.first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(Value { tag, content: any.data, whole })
    }

    /// The content of the next value, which has that tag.
    pub(super) fn take(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        match self.next()? {
            value if value.tag == tag => Ok(value.content),
            _ => Err(Malformed),
        }
    }

    /// The content of the next value, if it has that tag.
    pub(super) fn take_if(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        if self.0.first() == Some(&tag) { self.take(tag).map(Some) } else { Ok(None) }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.is_at_end() { Ok(()) } else { Err(Malformed) }
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// The value of a BOOLEAN. False where true is the only reason to write it is not DER, and
/// means what it says.
pub(super) fn boolean(content: &[u8]) -> Result<bool, Malformed> {
    match content {
        [0xff] => Ok(true),
        [0x00] => Ok(false),
        _ => Err(Malformed),
    }
}
