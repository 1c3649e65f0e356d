//! JSON as it is read everywhere: an object is an object at every depth, every key stands once, and
//! no error repeats a value.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use signing_core::json::{from_file, from_str};

#[derive(Debug, PartialEq, Deserialize)]
struct Inner {
    text: String,
    number: Option<u64>,
}

#[derive(Debug, PartialEq, Deserialize)]
enum Word {
    Bare,
    Of(Inner),
    With { inner: Inner },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer<'t> {
    borrowed: &'t str,
    inner: Option<Inner>,
    list: Vec<Inner>,
    map: BTreeMap<String, Inner>,
    word: Word,
    pair: (u8, i64),
}

const GOOD: &str = r#"{"borrowed":"b","inner":{"text":"i"},"list":[{"text":"l","number":7}],
    "map":{"k":{"text":"m","number":null}},"word":{"With":{"inner":{"text":"w"}}},"pair":[1,-2]}"#;

fn inner(text: &str, number: Option<u64>) -> Inner {
    Inner { text: text.to_owned(), number }
}

#[test]
fn what_is_written_as_its_type_says_is_read() {
    let expected = Outer {
        borrowed: "b",
        inner: Some(inner("i", None)),
        list: vec![inner("l", Some(7))],
        map: [("k".to_owned(), inner("m", None))].into(),
        word: Word::With { inner: inner("w", None) },
        pair: (1, -2),
    };
    assert_eq!(from_str::<Outer<'_>>(GOOD).unwrap(), expected);
    assert_eq!(from_str::<Word>("\"Bare\"").unwrap(), Word::Bare);
    let of = from_str::<Word>(r#"{"Of":{"text":"o","number":1}}"#).unwrap();
    assert_eq!(of, Word::Of(inner("o", Some(1))));
    let marked = [b"\xef\xbb\xbf", GOOD.as_bytes()].concat();
    assert_eq!(from_file::<Outer<'_>>(&marked).unwrap(), expected);
}

#[test]
fn a_list_is_no_object_at_any_depth_and_in_any_place() {
    for (object, list) in [
        (r#"{"text":"i"}"#, r#"["i",null]"#),
        (r#"{"text":"l","number":7}"#, r#"["l",7]"#),
        (r#"{"text":"m","number":null}"#, r#"["m",null]"#),
        (r#"{"text":"w"}"#, r#"["w",null]"#),
        (r#"{"inner":{"text":"w"}}"#, r#"[{"text":"w"}]"#),
    ] {
        let document = GOOD.replacen(object, list, 1);
        let plain: Result<Outer<'_>, _> = serde_json::from_str(&document);
        assert!(plain.is_ok(), "serde itself takes it: {document}: {plain:?}");
        let said = from_str::<Outer<'_>>(&document).unwrap_err().to_string();
        assert!(said.contains("a list in the place of an object at line"), "{said}");
    }
    let whole = r#"["b",{"text":"i"},[],{},"Bare",[1,-2]]"#;
    assert!(serde_json::from_str::<Outer<'_>>(whole).is_ok());
    assert!(from_str::<Outer<'_>>(whole).is_err());
    assert!(from_str::<Word>(r#"{"Of":["o",1]}"#).is_err());
}

#[test]
fn what_else_is_not_the_document_is_refused_with_its_place_and_without_its_values() {
    let secret = "c2VjcmV0LXNlY3JldA==";
    let with = |from: &str, to: &str| GOOD.replace(from, to);
    for (document, expected) in [
        (with("\"b\"", "7"), "a number in the place of a borrowed string at line 1 column"),
        (with("7}", &format!("\"{secret}\"}}")), "a string in the place of u64 at line 1 column"),
        (with("With", secret), "unknown word of 20 bytes, expected one of Bare, Of, With"),
        (
            with("{\"inner\":{\"text\":\"w\"}}", &format!("{secret:?}")),
            "a string in the place of struct",
        ),
        (with("\"pair\"", &format!("\"{secret}\"")), "unknown field of 20 bytes"),
        (with("\"pair\"", "\"pairs\""), "unknown field \"pairs\"; write \"pair\""),
        (with("\"pair\"", "\"other\""), "unknown field \"other\", expected one of borrowed, inner"),
        (with(",\"pair\":[1,-2]", ""), "missing field `pair`"),
        (with("\"k\":", "\"k\":{\"text\":\"x\"},\"k\":"), "the key \"k\" stands twice"),
        (with("\"text\":\"i\"", "\"text\":\"i\",\"text\":\"j\""), "duplicate field `text`"),
        (format!("{GOOD} {{}}"), "trailing characters"),
        (format!("\u{feff}{GOOD}"), "begins with a byte order mark"),
        ("null".to_owned(), "null in the place of struct Outer"),
        (format!("{secret:?}"), "a string in the place of struct Outer"),
        (with("{\"text\":\"l\",\"number\":7}", "null"), "null in the place of struct Inner"),
        (GOOD.trim_end_matches('}').to_owned(), "EOF while parsing"),
    ] {
        let said = from_str::<Outer<'_>>(&document).unwrap_err().to_string();
        assert!(said.contains(expected), "{document}: {said}");
        assert!(!said.contains(secret), "{said}");
    }
    let deep = "[".repeat(200);
    assert!(from_str::<Value>(&deep).unwrap_err().to_string().contains("recursion limit"));
    assert!(from_str::<Value>(r#"{"a":{"b":1,"b":2}}"#).is_err());
}
