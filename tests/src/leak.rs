//! Finds a secret in what a program said, however the program wrote it down: as text, with the
//! escapes of Rust's `Debug`, as a list of numbers, in hex or in base64.

use std::collections::HashSet;

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// So many bytes in a row of a secret are a leak. Fewer are found by chance.
const WINDOW: usize = 8;

/// A secret in all the forms in which it lies in its file.
#[derive(Clone, Debug)]
pub struct Secret(HashSet<[u8; WINDOW]>);

impl Secret {
    /// Of these forms: the text and what it decodes to, without what everybody knows of them.
    #[must_use]
    pub fn new(forms: &[&[u8]]) -> Self {
        let mut windows = HashSet::new();
        for form in forms {
            assert!(form.len() >= WINDOW, "a secret of {} bytes is found by chance", form.len());
            windows.extend(form.array_windows::<WINDOW>().copied());
        }
        Self(windows)
    }

    /// Of a PEM with one block, of which the first bytes say only what kind of key it is.
    #[must_use]
    pub fn of_pem(pem: &str) -> Self {
        let body: String =
            pem.lines().filter(|line| !line.contains('-') && !line.contains(':')).collect();
        let lines: Vec<&[u8]> =
            pem.lines().filter(|line| !line.contains('-')).map(str::as_bytes).collect();
        let der = decode(body.as_bytes(), &STANDARD).unwrap();
        // `MC4CAQAwBQYDK2Vw...`: an algorithm's name.
        const KIND_BYTES: usize = 40;
        let mut forms = vec![&body.as_bytes()[KIND_BYTES..], &der[KIND_BYTES * 3 / 4..]];
        forms.extend(lines.into_iter().skip(1).filter(|line| line.len() >= WINDOW));
        Self::new(&forms)
    }

    /// Without what is public of it.
    #[must_use]
    pub fn without(mut self, public: &[u8]) -> Self {
        let public: HashSet<_> = public.array_windows().copied().collect();
        self.0.retain(|window| !public.contains(window));
        self
    }

    /// What of it is in `said`, as the form in which it was found.
    #[must_use]
    pub fn in_text(&self, said: &str) -> Option<&'static str> {
        let bytes = said.as_bytes();
        let found = |form: &[u8]| form.array_windows::<WINDOW>().any(|part| self.0.contains(part));
        let without_zeros: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
        if found(bytes) || found(&without_zeros) {
            return Some("text");
        }
        let escaped = unescaped(said);
        if found(&escaped) || found(&unescaped(&String::from_utf8_lossy(&escaped))) {
            return Some("text with escapes");
        }
        if numbers(said, 10).iter().any(|list| found(list)) {
            return Some("a list of decimal numbers");
        }
        if numbers(said, 16).iter().any(|list| found(list)) {
            return Some("a list of hexadecimal numbers");
        }
        let runs = |is: fn(&u8) -> bool| bytes.split(move |byte| !is(byte)).map(<[u8]>::to_vec);
        let hex = runs(|byte| byte.is_ascii_hexdigit() || b": -".contains(byte));
        for run in hex.map(|run| run.into_iter().filter(u8::is_ascii_hexdigit).collect::<Vec<_>>())
        {
            let pairs = |from: usize| {
                let digits = run.get(from..).unwrap_or_default();
                hex::decode(&digits[..digits.len() / 2 * 2]).unwrap()
            };
            if found(&pairs(0)) || found(&pairs(1)) {
                return Some("hex");
            }
        }
        for run in runs(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte)) {
            for alphabet in [&STANDARD, &URL_SAFE] {
                let decoded = (0..4).filter_map(|from| decode(run.get(from..)?, alphabet));
                if decoded.into_iter().any(|decoded| found(&decoded)) {
                    return Some("base64");
                }
            }
        }
        None
    }
}

/// Base64, as far as it goes in whole groups.
fn decode(text: &[u8], alphabet: &Alphabet) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let whole = if text.ends_with(b"=") { text } else { &text[..text.len() / 4 * 4] };
    GeneralPurpose::new(alphabet, config).decode(whole).ok()
}

/// The bytes that lists of numbers stand for: `[77, 67]`, `0x4d 0x43`, one a line.
fn numbers(said: &str, radix: u32) -> Vec<Vec<u8>> {
    let (mut lists, mut list, mut gap) = (Vec::new(), Vec::new(), 0);
    let is_word = |c: char| c.is_ascii_alphanumeric();
    for word in said.split_inclusive(|c: char| !is_word(c)) {
        let digits = word.trim_end_matches(|c: char| !is_word(c)).trim_start_matches("0x");
        match u8::from_str_radix(digits, radix) {
            Ok(byte) => {
                list.push(byte);
                gap = 0;
            }
            Err(_) if digits.is_empty() && gap < 8 => gap += 1,
            Err(_) => lists.push(std::mem::take(&mut list)),
        }
    }
    lists.push(list);
    lists
}

/// The bytes that a text with `\n`, `\x7f`, `\u{fe}`, `\u00fe` and `\"` stands for.
fn unescaped(said: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = said.chars();
    while let Some(c) = rest.next() {
        let mut buffer = [0; 4];
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        let code = match rest.next() {
            Some('n') => Some(10),
            Some('r') => Some(13),
            Some('t') => Some(9),
            Some('0') => Some(0),
            Some('x') => u32::from_str_radix(&rest.by_ref().take(2).collect::<String>(), 16).ok(),
            Some('u') if rest.clone().next() == Some('{') => {
                let digits: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                u32::from_str_radix(&digits, 16).ok()
            }
            Some('u') => u32::from_str_radix(&rest.by_ref().take(4).collect::<String>(), 16).ok(),
            other => other.map(u32::from),
        };
        if let Some(c) = code.and_then(char::from_u32) {
            match u8::try_from(c) {
                Ok(byte) => bytes.push(byte),
                Err(_) => bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes()),
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn a_secret_is_found_however_it_is_written() {
        let part = b"q\"7\n\\\xc3\xa9Zu#1x";
        let whole = [b"before ", &part[..], b" after"].concat();
        let secret = Secret::new(&[&whole]);
        let text = String::from_utf8(part.to_vec()).unwrap();
        let utf16: Vec<u8> = "before q\"7\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let spaced: Vec<String> = part.iter().map(|byte| format!("{byte:02X}")).collect();
        for said in [
            format!("holds {text}"),
            format!("holds {text:?}"),
            format!("holds {:?}", format!("{text:?}")),
            format!("IllegalSectionStart {{ line: {part:?} }}"),
            format!("{part:#?}"),
            format!("{part:#04x?}"),
            hex::encode(part),
            hex::encode_upper(part),
            format!("1{}", hex::encode(part)),
            spaced.join(":"),
            spaced.join(" "),
            format!("x{}", STANDARD.encode(part)),
            STANDARD.encode([&b"1"[..], part].concat()),
            STANDARD.encode([&b"12"[..], part].concat()),
            format!("token={}", URL_SAFE_NO_PAD.encode(part)),
            String::from_utf8_lossy(&utf16).into_owned(),
            part.escape_ascii().to_string(),
        ] {
            assert!(secret.in_text(&said).is_some(), "not found: {said}");
        }
    }

    #[test]
    fn what_is_no_secret_is_not_found() {
        let secret = Secret::new(&[b"MC4CAQAwBQYDK2VwBCIEIPq2T9r1"]);
        for said in
            ["server.key has lost its line breaks", "line 12: 1, 2, 3, 4, 5, 6, 7, 8, 9", ""]
        {
            assert_eq!(secret.in_text(said), None, "{said}");
        }
    }
}
