//! Distribution points: which certificates a revocation list covers, by RFC 5280 section
//! 6.3.3 (b).

use super::der::{Malformed, Reader, SEQUENCE, boolean, context, context_of};

/// Which of its issuer's certificates a list covers.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// The names of its distribution point, each in DER; None: those of every point.
    names: Option<Vec<Box<[u8]>>>,
    only: Option<Role>,
}

/// What kind of certificate it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A client's.
    User,
    /// An authority's.
    Authority,
}

/// Why a list's `issuingDistributionPoint` cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unserved {
    Malformed,
    Indirect,
    SomeReasons,
    AttributeCertificates,
    RelativeName,
    NoName,
    NoCertificates,
}

impl From<Malformed> for Unserved {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl Scope {
    /// Reads the value of `issuingDistributionPoint`.
    pub(super) fn parse(value: &[u8]) -> Result<Self, Unserved> {
        let mut scope = Self::default();
        let (mut users, mut authorities) = (false, false);
        let mut fields = Reader::only(value, SEQUENCE)?;
        // Each field once, in the order of their numbers.
        let mut newest = None;
        while !fields.is_at_end() {
            let field = fields.next()?;
            let number = field.tag & 0x1f;
            if newest.is_some_and(|newest| newest >= number) {
                return Err(Unserved::Malformed);
            }
            newest = Some(number);
            match field.tag {
                tag if tag == context_of(0) => scope.names = Some(full_name(field.content)?),
                tag if tag == context(1) => users = boolean(field.content)?,
                tag if tag == context(2) => authorities = boolean(field.content)?,
                tag if tag == context(3) => return Err(Unserved::SomeReasons),
                tag if tag == context(4) && boolean(field.content)? => {
                    return Err(Unserved::Indirect);
                }
                tag if tag == context(5) && boolean(field.content)? => {
                    return Err(Unserved::AttributeCertificates);
                }
                tag if tag == context(4) || tag == context(5) => {}
                _ => return Err(Unserved::Malformed),
            }
        }
        scope.only = match (users, authorities) {
            (false, false) => None,
            (true, false) => Some(Role::User),
            (false, true) => Some(Role::Authority),
            (true, true) => return Err(Unserved::NoCertificates),
        };
        Ok(scope)
    }

    /// Whether the list says of a certificate that it is not revoked, by not listing it.
    pub(super) fn covers(&self, role: Role, points: &Points) -> bool {
        self.only.is_none_or(|only| only == role)
            && self.names.as_ref().is_none_or(|names| {
                names.iter().any(|name| points.0.iter().any(|point| point == name))
            })
    }

    /// Whether it covers what `other` covers.
    pub(super) fn includes(&self, other: &Self) -> bool {
        self.only.is_none_or(|only| other.only == Some(only))
            && match (&self.names, &other.names) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(names), Some(others)) => others.iter().all(|other| names.contains(other)),
            }
    }
}

/// The names of the distribution points where a certificate's status may be looked up, each
/// in DER.
#[derive(Debug)]
pub(super) struct Points(Vec<Box<[u8]>>);

impl Points {
    /// Of a certificate whose issuer's name is `issuer`, with the value of its
    /// `cRLDistributionPoints`. What cannot be read names no point: only a list for all points
    /// covers the certificate then.
    pub(super) fn parse(issuer: &[u8], value: Option<&[u8]>) -> Self {
        let mut names = value.and_then(|value| points(value).ok()).unwrap_or_default();
        // RFC 5280 section 6.3.3, at its end: besides, its issuer's name is one.
        names.extend(directory_name(issuer));
        Self(names)
    }
}

/// Points for only some reasons, or of lists of another issuer, never cover a certificate alone.
fn points(value: &[u8]) -> Result<Vec<Box<[u8]>>, Malformed> {
    let mut names = Vec::new();
    let mut points = Reader::only(value, SEQUENCE)?;
    while !points.is_at_end() {
        let mut point = Reader::new(points.take(SEQUENCE)?);
        let name = point.take_if(context_of(0))?;
        let reasons = point.take_if(context(1))?;
        let issuer = point.take_if(context_of(2))?;
        point.end()?;
        if let (Some(name), None, None) = (name, reasons, issuer) {
            // A name relative to the issuer meets no list: none with such a name is served.
            names.extend(full_name(name).unwrap_or_default());
        }
    }
    Ok(names)
}

/// The names of a `DistributionPointName`.
fn full_name(content: &[u8]) -> Result<Vec<Box<[u8]>>, Unserved> {
    let mut choice = Reader::new(content);
    let chosen = choice.next()?;
    choice.end()?;
    if chosen.tag == context_of(1) {
        return Err(Unserved::RelativeName);
    }
    if chosen.tag != context_of(0) {
        return Err(Unserved::Malformed);
    }
    let mut names = Vec::new();
    let mut reader = Reader::new(chosen.content);
    while !reader.is_at_end() {
        names.push(reader.next()?.whole.into());
    }
    if names.is_empty() { Err(Unserved::NoName) } else { Ok(names) }
}

/// A `GeneralName` of the form `directoryName`: tag and length before the name's own bytes.
fn directory_name(name: &[u8]) -> Option<Box<[u8]>> {
    let length = match name.len() {
        length @ 0..=0x7f => vec![u8::try_from(length).ok()?],
        length @ 0x80..=0xff => vec![0x81, u8::try_from(length).ok()?],
        length => [&[0x82][..], &u16::try_from(length).ok()?.to_be_bytes()].concat(),
    };
    Some([&[context_of(4)][..], &length, name].concat().into())
}
