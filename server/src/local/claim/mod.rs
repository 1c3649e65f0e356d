//! AWS Signature Version 4, as KMS's clients sign (Signature Version 4 signing process, AWS General
//! Reference): parsed strictly, and checked over the whole request, its body included. No clock
//! and no randomness: the time is an argument.

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};
use sign::headers::sole;
use sigv4::{ALGORITHM, Secret, SigningKey, TERMINATOR};
use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time};

use super::fault::{Fault, NotProven};

const SERVICE: &str = "kms";
/// What has to be signed: where it goes, when, what is asked, and how the body is read.
const MUST_BE_SIGNED: [&str; 4] = ["content-type", "host", "x-amz-date", "x-amz-target"];
const DATE: &str = "x-amz-date";
const CONTENT_SHA256: &str = "x-amz-content-sha256";
/// How far the clocks of caller and proxy may be apart, as with AWS.
const SKEW_MAX: Duration = Duration::minutes(5);
/// More than any client signs.
const SIGNED_HEADERS_MAX: usize = 32;
/// Longest access key id (IAM `accessKeyIdType`) and region.
const NAME_MAX_BYTES: usize = 128;

/// What an `Authorization` header says, without a proof of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) access_key_id: String,
    /// `20261125`.
    day: String,
    region: String,
    /// Sorted, in lower case.
    signed_headers: Vec<String>,
    signature: [u8; 32],
    /// `20261125T140311Z`.
    at: String,
    when: OffsetDateTime,
}

impl Claim {
    /// Reads what a request claims; None if it has no `Authorization` of this kind.
    ///
    /// # Errors
    /// [`NotProven`] if it is of another form than KMS's clients send.
    pub(crate) fn read(head: &Parts) -> Result<Option<Self>, NotProven> {
        let Parts { method, uri, headers, .. } = head;
        if is_presigned(uri.query().unwrap_or_default()) {
            return Err(incomplete(
                "the signature is in the query (presigned); send it in `Authorization`",
            ));
        }
        if !headers.contains_key(AUTHORIZATION) {
            return Ok(None);
        }
        let value = sole(headers, AUTHORIZATION.as_str())
            .ok_or_else(|| incomplete("`Authorization` is given twice, or is not ASCII"))?;
        let Some(rest) = value.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' '))
        else {
            let other = value.split(' ').next().unwrap_or_default();
            return if other.starts_with("AWS4-") {
                Err(incomplete("the signature's algorithm is another one; use AWS4-HMAC-SHA256"))
            } else {
                Ok(None)
            };
        };
        // What KMS's clients ask for has one target; so nothing of it needs to be brought into a
        // form before it is signed.
        if *method != Method::POST || uri.path() != "/" || uri.query().is_some() {
            return Err(not_valid("a signed request is POST / without a query"));
        }
        let Fields { credential, signed_headers, signature } = Fields::read(rest)?;
        let [access_key_id, day, region] = scope(credential)?;
        let at = sole(headers, DATE).ok_or_else(|| incomplete("`X-Amz-Date` is missing"))?;
        let when = moment(at).ok_or_else(|| incomplete("`X-Amz-Date` is not YYYYMMDDTHHMMSSZ"))?;
        if !at.starts_with(day) {
            return Err(not_valid("the scope's date is another one than that of `X-Amz-Date`"));
        }
        Ok(Some(Self {
            access_key_id: access_key_id.to_owned(),
            day: day.to_owned(),
            region: region.to_owned(),
            signed_headers: names(signed_headers)?,
            signature: hex_32(signature)
                .ok_or_else(|| incomplete("Signature is not 64 hex digits in lower case"))?,
            at: at.to_owned(),
            when,
        }))
    }

    /// Checks that `secret` signed this request, `body` included, around `now`.
    ///
    /// # Errors
    /// [`NotProven`]. It never says what the signature should be.
    pub(crate) fn check(
        &self,
        secret: &Secret,
        head: &Parts,
        body: &[u8],
        now: OffsetDateTime,
    ) -> Result<(), NotProven> {
        self.check_time(now)?;
        let body_hash = sigv4::hex_of_sha256(body);
        if head.headers.contains_key(CONTENT_SHA256)
            && sole(&head.headers, CONTENT_SHA256) != Some(body_hash.as_str())
        {
            return Err(not_the_bodys());
        }
        let signed = self.signed(&head.headers)?;
        let request = sigv4::canonical_request(signed.into_iter(), &body_hash);
        let key = SigningKey::new(secret, &self.day, &self.region, SERVICE);
        if key.has_signed(&self.at, &request, &self.signature) {
            return Ok(());
        }
        Err(not_valid("the signature is not that of this request and secret key"))
    }

    /// Checks what shows without the body, around `now`.
    ///
    /// # Errors
    /// [`NotProven`].
    pub(crate) fn check_head(
        &self,
        headers: &HeaderMap,
        now: OffsetDateTime,
    ) -> Result<(), NotProven> {
        self.check_time(now)?;
        let has_hash = headers.contains_key(CONTENT_SHA256);
        if has_hash && sole(headers, CONTENT_SHA256).and_then(hex_32).is_none() {
            return Err(not_the_bodys());
        }
        self.signed(headers).map(|_| ())
    }

    fn check_time(&self, now: OffsetDateTime) -> Result<(), NotProven> {
        let apart = (now - self.when).abs();
        if apart <= SKEW_MAX {
            return Ok(());
        }
        let sides = if self.when < now { "expired: behind" } else { "not yet current: ahead of" };
        Err(not_valid(&format!(
            "Signature {sides} this machine's clock by {} s, above {} s; set the clocks",
            apart.whole_seconds(),
            SKEW_MAX.whole_seconds()
        )))
    }

    /// The headers as they are signed. The method, the path and the query are those that
    /// [`Self::read`] takes.
    fn signed<'a>(&'a self, headers: &'a HeaderMap) -> Result<Vec<(&'a str, &'a str)>, NotProven> {
        let value_of = |name| {
            sole(headers, name)
                .ok_or_else(|| incomplete("a signed header is missing, given twice, or not ASCII"))
        };
        let names = self.signed_headers.iter();
        names.map(|name| Ok((name.as_str(), value_of(name)?))).collect()
    }
}

/// The three fields of the header.
struct Fields<'h> {
    credential: &'h str,
    signed_headers: &'h str,
    signature: &'h str,
}

impl<'h> Fields<'h> {
    fn read(text: &'h str) -> Result<Self, NotProven> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in text.split(',') {
            let (name, value) = field.trim_matches(' ').split_once('=').unwrap_or((field, ""));
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(incomplete("`Authorization` has an unknown field")),
            };
            if place.replace(value).is_some() {
                return Err(incomplete("`Authorization` has a field twice"));
            }
        }
        match (credential, signed_headers, signature) {
            (Some(credential), Some(signed_headers), Some(signature)) => {
                Ok(Self { credential, signed_headers, signature })
            }
            (..) => Err(incomplete(
                "`Authorization` lacks one of Credential, SignedHeaders and Signature",
            )),
        }
    }
}

/// Access key id, day and region of `ID/20261125/eu-central-1/kms/aws4_request`.
fn scope(credential: &str) -> Result<[&str; 3], NotProven> {
    let parts: Vec<_> = credential.split('/').collect();
    let [id, day, region, service, terminator] = parts[..] else {
        return Err(incomplete("Credential is not ID/YYYYMMDD/REGION/kms/aws4_request"));
    };
    let is_name = |text: &str| {
        (1..=NAME_MAX_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let is_day = day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit());
    if !is_name(id) || !is_name(region) || !is_day {
        return Err(incomplete("Credential is not ID/YYYYMMDD/REGION/kms/aws4_request"));
    }
    if service != SERVICE || terminator != TERMINATOR {
        return Err(not_valid(
            "the credential should be scoped to the service kms and aws4_request",
        ));
    }
    Ok([id, day, region])
}

fn names(text: &str) -> Result<Vec<String>, NotProven> {
    let names: Vec<_> = text.split(';').map(str::to_owned).collect();
    let is_name =
        |name: &String| name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    let sorted = names.windows(2).all(|pair| matches!(pair, [one, next] if one < next));
    if names.len() > SIGNED_HEADERS_MAX
        || !sorted
        || names.iter().any(String::is_empty)
        || !names.iter().all(is_name)
    {
        return Err(incomplete("SignedHeaders are not names in lower case, sorted, each once"));
    }
    match MUST_BE_SIGNED.iter().find(|must| !names.iter().any(|name| name == *must)) {
        None => Ok(names),
        Some(missing) => Err(incomplete(&format!("SignedHeaders lack {missing}"))),
    }
}

fn is_presigned(query: &str) -> bool {
    let is_amz = |pair: &str| pair.get(..6).is_some_and(|name| name.eq_ignore_ascii_case("x-amz-"));
    query.split('&').any(is_amz)
}

/// `20261125T140311Z`.
fn moment(text: &str) -> Option<OffsetDateTime> {
    let digits = text.get(..8)?.bytes().chain(text.get(9..15)?.bytes());
    let is_plain = text.len() == 16 && text.get(8..9) == Some("T") && text.ends_with('Z');
    if !is_plain || !digits.into_iter().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u8>().ok();
    let month = Month::try_from(number(4, 6)?).ok()?;
    let date = Date::from_calendar_date(text.get(..4)?.parse().ok()?, month, number(6, 8)?).ok()?;
    let time = Time::from_hms(number(9, 11)?, number(11, 13)?, number(13, 15)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc())
}

fn hex_32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let is_lower = !text.bytes().any(|b| b.is_ascii_uppercase());
    hex::decode_to_slice(text, &mut bytes).ok().filter(|()| is_lower).map(|()| bytes)
}

fn incomplete(detail: &str) -> NotProven {
    NotProven::new(Fault::Incomplete, detail)
}

fn not_the_bodys() -> NotProven {
    not_valid("`X-Amz-Content-Sha256` is not the SHA-256 of the body")
}

fn not_valid(detail: &str) -> NotProven {
    NotProven::new(Fault::Invalid, detail)
}

#[cfg(test)]
mod tests;
