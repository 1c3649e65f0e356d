//! What becomes of a file on its way through templates, variables, copies and editors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use system_tests::Chance;

/// A file, and what happened to it.
pub(super) struct Mutant {
    pub(super) how: String,
    pub(super) bytes: Vec<u8>,
}

/// Every way that is known, and `random` more.
pub(super) fn of(text: &str, random: usize, chance: &mut Chance) -> Vec<Mutant> {
    let mut mutants = named(text);
    mutants.extend((0..random).map(|_| by_chance(text.as_bytes(), chance)));
    mutants
}

fn named(text: &str) -> Vec<Mutant> {
    let lines: Vec<&str> = text.lines().collect();
    let body: String = lines.iter().filter(|line| !line.starts_with('-')).copied().collect();
    let first = lines.first().copied().unwrap_or_default();
    let last = lines.last().copied().unwrap_or_default();
    let label = first.trim_matches('-').trim_start_matches("BEGIN ");
    let indented = |by: &str| lines.iter().map(|line| format!("{by}{line}\n")).collect::<String>();
    let utf16 =
        |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let texts = [
        ("line breaks lost", text.replace('\n', "")),
        ("line breaks are spaces", text.replace('\n', " ")),
        ("line breaks are escapes", text.replace('\n', "\\n")),
        ("line breaks are escaped escapes", text.replace('\n', "\\\\n")),
        ("line breaks are escapes, in quotes", format!("\"{}\"", text.replace('\n', "\\n"))),
        ("first line break lost", text.replacen('\n', "", 1)),
        ("first line break a space", text.replacen('\n', " ", 1)),
        ("last line breaks lost", lines.join("\n").replace(&format!("\n{last}"), last)),
        ("body in one line", format!("{first}\n{body}\n{last}\n")),
        ("CRLF", text.replace('\n', "\r\n")),
        ("CR", text.replace('\n', "\r")),
        ("CR CR LF", text.replace('\n', "\r\r\n")),
        ("BOM", format!("\u{feff}{text}")),
        ("two BOMs", format!("\u{feff}\u{feff}{text}")),
        ("BOM, line breaks lost", format!("\u{feff}{}", text.replace('\n', ""))),
        ("indented", indented("    ")),
        ("indented by tabs", indented("\t")),
        ("quoted as mail", indented("> ")),
        ("numbered", (1..).zip(&lines).map(|(at, line)| format!("{at:4} {line}\n")).collect()),
        ("with a name", format!("key = {text}")),
        ("as an assignment", format!("KEY=\"{text}\"")),
        ("as JSON", serde_json::json!({"key": text}).to_string()),
        ("as a JSON text", serde_json::json!(text).to_string()),
        ("as YAML", format!("key: |\n{}", indented("  "))),
        ("as TOML", format!("key = \"\"\"\n{text}\"\"\"\n")),
        ("in base64", STANDARD.encode(text)),
        ("in hex", hex::encode(text)),
        ("doubled", format!("{text}{text}")),
        ("doubled without a line break", format!("{}{text}", text.trim_end())),
        ("body alone", format!("{body}\n")),
        ("body in lines alone", lines[1..lines.len().max(2) - 1].join("\n")),
        ("first line lost", lines[1..].join("\n")),
        ("last line lost", lines[..lines.len() - 1].join("\n")),
        ("first line again at the end", format!("{text}{first}\n")),
        ("lines in another order", lines.iter().rev().map(|line| format!("{line}\n")).collect()),
        ("lower case", text.to_lowercase()),
        ("upper case", text.to_uppercase()),
        ("dashes of a word processor", text.replace("-----", "\u{2014}\u{2014}-")),
        ("four dashes", text.replace("-----", "----")),
        ("six dashes", text.replace("-----", "------")),
        ("URL-safe base64", text.replace('+', "-").replace('/', "_")),
        ("percent-encoded", text.replace('+', "%2B").replace('/', "%2F").replace('\n', "%0A")),
        ("HTML", text.replace('\n', "<br>\n")),
        ("diff", indented("+")),
        ("body in the boundary", format!("-----BEGIN {body}-----\n{body}\n-----END {body}-----\n")),
        ("body before the label", format!("-----BEGIN {body} {label}-----\n{body}\n{last}\n")),
        ("another end", format!("{first}\n{body}\n-----END {body}-----\n")),
        ("begun twice", format!("{first}\n{first}\n{body}\n{last}\n")),
        ("header of RFC 1421", format!("{first}\nProc-Type: 4,{body}\n\n{body}\n{last}\n")),
        ("empty", String::new()),
        ("nothing but line breaks", "\n\n\n".to_owned()),
    ];
    let mut mutants: Vec<_> = texts
        .into_iter()
        .map(|(how, text)| Mutant { how: how.to_owned(), bytes: text.into_bytes() })
        .collect();
    for other in [
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "CERTIFICATE",
        "PUBLIC KEY",
        "OPENSSH PRIVATE KEY",
        "X509 CRL",
        "PRIVATE KEYS",
        "private key",
        "",
        "PKCS7",
        "DSA PRIVATE KEY",
        "CERTIFICATE REQUEST",
        "ANY PRIVATE KEY",
    ] {
        let how = format!("labelled {other:?}");
        mutants.push(Mutant { how, bytes: text.replace(label, other).into_bytes() });
    }
    let raw = STANDARD.decode(&body).unwrap_or_else(|_| body.clone().into_bytes());
    let bytes = [
        ("UTF-16", utf16(u16::to_le_bytes)),
        ("UTF-16, BOM", [&[0xff, 0xfe], &utf16(u16::to_le_bytes)[..]].concat()),
        ("UTF-16BE, BOM", [&[0xfe, 0xff], &utf16(u16::to_be_bytes)[..]].concat()),
        ("what it decodes to", raw.clone()),
        ("what it decodes to, and a line break", [&raw[..], b"\n"].concat()),
        ("half of what it decodes to", raw[..raw.len() / 2].to_vec()),
        ("a certificate's first bytes, then it", [&[0x30, 0x82, 9, 9, 0x30], &raw[..]].concat()),
        ("zeros", [text.as_bytes(), &[0; 64]].concat()),
        ("zeros before", [&[0; 64], text.as_bytes()].concat()),
    ];
    mutants.extend(bytes.into_iter().map(|(how, bytes)| Mutant { how: how.to_owned(), bytes }));
    for cut in 0..first.len().min(40) {
        mutants.push(Mutant {
            how: format!("{cut} bytes cut from the front"),
            bytes: text.as_bytes()[cut..].to_vec(),
        });
    }
    mutants
}

/// One to three changes somewhere.
fn by_chance(text: &[u8], chance: &mut Chance) -> Mutant {
    let (mut bytes, mut how) = (text.to_vec(), String::new());
    for _ in 0..=chance.below(3) {
        let at = chance.below(bytes.len().max(1));
        let length = chance.below(40).min(bytes.len() - at);
        match chance.below(8) {
            0 => {
                how += &format!("truncated at {at}; ");
                bytes.truncate(at.max(1));
            }
            1 => {
                how += &format!("{length} bytes lost at {at}; ");
                bytes.drain(at..at + length);
            }
            2 => {
                how += &format!("{length} bytes twice at {at}; ");
                let again = bytes[at..at + length].to_vec();
                bytes.splice(at..at, again);
            }
            3 => {
                let odd = *b"!-=:\\\"' \t\0\xff\x80#[{".get(chance.below(15)).unwrap_or(&b'?');
                how += &format!("{odd:#x} put at {at}; ");
                bytes.insert(at, odd);
            }
            4 => {
                how += &format!("a line break at {at}; ");
                bytes.insert(at, b'\n');
            }
            5 => {
                how += &format!("five dashes at {at}; ");
                bytes.splice(at..at, *b"-----");
            }
            6 => {
                how += &format!("a bit at {at}; ");
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8));
            }
            _ => {
                let breaks: Vec<usize> =
                    (0..bytes.len()).filter(|place| bytes[*place] == b'\n').collect();
                if let Some(place) = breaks.get(chance.below(breaks.len().max(1))) {
                    how += &format!("the line break at {place} lost; ");
                    bytes.remove(*place);
                }
            }
        }
        if bytes.is_empty() {
            bytes.push(b'-');
        }
    }
    Mutant { how, bytes }
}
