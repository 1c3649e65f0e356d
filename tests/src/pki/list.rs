//! Revocation lists, written byte by byte: also those that no library would write.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, SigningKey as _};
use time::{Duration, OffsetDateTime};

use super::{Certificate, Pki};

/// A revocation list to be. Without any change it is current, covers every certificate of
/// its authority, and revokes none.
#[derive(Clone, Debug)]
pub struct List {
    issuer: String,
    key_der: Vec<u8>,
    version: Option<u8>,
    this_update: OffsetDateTime,
    next_update: Option<OffsetDateTime>,
    revoked: Vec<Vec<u8>>,
    /// Of each entry.
    entry_extensions: Vec<Vec<u8>>,
    extensions: Vec<Vec<u8>>,
}

/// An `issuingDistributionPoint` to be.
#[derive(Clone, Debug, Default)]
pub struct Point(Vec<u8>);

impl Pki {
    /// A revocation list of this authority.
    #[must_use]
    pub fn list(&self) -> List {
        let now = OffsetDateTime::now_utc();
        List {
            issuer: self.name.clone(),
            key_der: self.key_der.clone(),
            version: Some(1),
            this_update: now - Duration::days(1),
            next_update: Some(now + Duration::days(7)),
            revoked: Vec::new(),
            entry_extensions: Vec::new(),
            // cRLNumber
            extensions: vec![extension(&[0x55, 0x1d, 20], false, &[0x02, 1, 7])],
        }
    }
}

impl List {
    /// Revokes that certificate too.
    #[must_use]
    pub fn revoking(mut self, certificate: &Certificate) -> Self {
        self.revoked.push(certificate.serial.clone());
        self
    }

    /// Revokes that authority's certificate too.
    #[must_use]
    pub fn revoking_authority(mut self, authority: &Pki) -> Self {
        self.revoked.push(authority.serial.clone());
        self
    }

    /// From when until when it counts, from now on.
    #[must_use]
    pub fn between(mut self, from: Duration, until: Duration) -> Self {
        let now = OffsetDateTime::now_utc();
        (self.this_update, self.next_update) = (now + from, Some(now + until));
        self
    }

    /// Without a word on when the next one comes.
    #[must_use]
    pub fn without_next_update(mut self) -> Self {
        self.next_update = None;
        self
    }

    /// Of version 1, so without extensions.
    #[must_use]
    pub fn version_1(mut self) -> Self {
        self.version = None;
        self.extensions.clear();
        self
    }

    /// With that extension; `id` is the content of its OBJECT IDENTIFIER.
    #[must_use]
    pub fn with(mut self, id: &[u8], critical: bool, value: &[u8]) -> Self {
        self.extensions.push(extension(id, critical, value));
        self
    }

    /// With that extension in each entry.
    #[must_use]
    pub fn with_in_entries(mut self, id: &[u8], critical: bool, value: &[u8]) -> Self {
        self.entry_extensions.push(extension(id, critical, value));
        self
    }

    /// For that distribution point.
    #[must_use]
    pub fn at(self, point: &Point) -> Self {
        self.with(&[0x55, 0x1d, 28], true, &tlv(0x30, &point.0))
    }

    /// Signed by the key of another authority.
    #[must_use]
    pub fn signed_by(mut self, other: &Pki) -> Self {
        self.key_der.clone_from(&other.key_der);
        self
    }

    /// As DER.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        // ecdsa-with-SHA256
        let algorithm = tlv(0x30, &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
        let attribute = [&[0x06, 3, 0x55, 4, 3][..], &tlv(0x0c, self.issuer.as_bytes())].concat();
        let issuer = tlv(0x30, &tlv(0x31, &tlv(0x30, &attribute)));
        let entry = |serial: &Vec<u8>| {
            let mut entry = [tlv(0x02, serial), time(self.this_update)].concat();
            if !self.entry_extensions.is_empty() {
                entry.extend(tlv(0x30, &self.entry_extensions.concat()));
            }
            tlv(0x30, &entry)
        };
        let entries: Vec<u8> = self.revoked.iter().flat_map(entry).collect();
        let list = [
            self.version.map(|version| vec![0x02, 1, version]).unwrap_or_default(),
            algorithm.clone(),
            issuer,
            time(self.this_update),
            self.next_update.map(time).unwrap_or_default(),
            if entries.is_empty() { Vec::new() } else { tlv(0x30, &entries) },
            match self.extensions.concat() {
                none if none.is_empty() => none,
                extensions => tlv(0xa0, &tlv(0x30, &extensions)),
            },
        ];
        let list = tlv(0x30, &list.concat());
        let key = KeyPair::try_from(self.key_der.as_slice()).unwrap();
        let signature = [&[0][..], &key.sign(&list).unwrap()].concat();
        tlv(0x30, &[list, algorithm, tlv(0x03, &signature)].concat())
    }

    /// As PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem(&self.der())
    }
}

impl Point {
    /// With the full name of these URIs.
    #[must_use]
    pub fn uris(uris: &[&str]) -> Self {
        let names: Vec<u8> = uris.iter().flat_map(|uri| tlv(0x86, uri.as_bytes())).collect();
        Self(tlv(0xa0, &tlv(0xa0, &names)))
    }

    /// With a name relative to the issuer's.
    #[must_use]
    pub fn relative() -> Self {
        let attribute = [&[0x06, 3, 0x55, 4, 3][..], &tlv(0x0c, b"crl")].concat();
        Self(tlv(0xa0, &tlv(0xa1, &tlv(0x30, &attribute))))
    }

    /// With that field, whose tag is `[number]`, true.
    #[must_use]
    pub fn only(self, number: u8) -> Self {
        self.field(number, &[0xff])
    }

    /// With that field of that content.
    #[must_use]
    pub fn field(mut self, number: u8, content: &[u8]) -> Self {
        self.0.extend(tlv(0x80 | number, content));
        self
    }
}

/// Any DER as a block `X509 CRL`.
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", lines.join("\n"))
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { &[0x01, 1, 0xff][..] } else { &[] };
    tlv(0x30, &[&tlv(0x06, id)[..], critical, &tlv(0x04, value)].concat())
}

fn time(at: OffsetDateTime) -> Vec<u8> {
    let (date, clock) = (at.to_calendar_date(), at.to_hms());
    let text = format!(
        "{:02}{:02}{:02}{:02}{:02}{:02}Z",
        date.0 % 100,
        u8::from(date.1),
        date.2,
        clock.0,
        clock.1,
        clock.2
    );
    tlv(0x17, text.as_bytes())
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..=0x7f => vec![u8::try_from(short).unwrap()],
        middle @ 0x80..=0xff => vec![0x81, u8::try_from(middle).unwrap()],
        long => {
            let long = u16::try_from(long).unwrap().to_be_bytes();
            [&[0x82][..], &long].concat()
        }
    };
    [&[tag][..], &length, content].concat()
}
