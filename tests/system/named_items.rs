//! Types, methods and functions that a page names are in the sources: `Type::method`, `module::function`, and
//! in the pages about the code also a type by itself.

use std::collections::{BTreeMap, BTreeSet};

use system_tests::programs::repository;

use crate::links::{pages, prose_and_code, spans};
use crate::tidy::{files, text};

/// What the sources declare.
struct Items {
    /// Of each type: its methods, constants and variants.
    types: BTreeMap<String, BTreeSet<String>>,
    /// Of each module, by the last part of its path: what stands in its file, declared or not.
    modules: BTreeMap<String, BTreeSet<String>>,
    /// Every word of every source.
    words: BTreeSet<String>,
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The type whose block begins with this line: `impl A for B<C> {`, `pub enum B {`.
fn begun(line: &str) -> Option<String> {
    let mut said = line.split(" where").next()?;
    let is_impl = said.starts_with("impl");
    if is_impl {
        // Without the parameters of the block itself.
        if let Some(rest) = said.strip_prefix("impl<") {
            let mut depth = 1;
            let end = rest.find(|c| {
                depth += i32::from(c == '<') - i32::from(c == '>');
                depth == 0
            })?;
            said = &rest[end + 1..];
        }
        said = said.rsplit(" for ").next()?;
    }
    let path =
        words(said).skip_while(|word| ["impl", "pub", "crate", "super", "unsafe"].contains(word));
    let mut path = path.peekable();
    if is_impl {
        return path.find(|word| word.starts_with(char::is_uppercase)).map(str::to_owned);
    }
    let kind = path.next()?;
    ["struct", "enum", "trait", "type", "union"]
        .contains(&kind)
        .then(|| path.next())?
        .map(str::to_owned)
}

fn items() -> Items {
    let mut items =
        Items { types: BTreeMap::new(), modules: BTreeMap::new(), words: BTreeSet::new() };
    for file in files(".rs") {
        let text = text(&file);
        let all: BTreeSet<_> = words(&text).map(str::to_owned).collect();
        items.words.extend(all.iter().cloned());
        let names = file.strip_prefix(repository()).unwrap().with_extension("");
        let names = names.iter().map(|part| part.to_string_lossy().replace('-', "_"));
        let names: Vec<_> =
            names.filter(|name| !["mod", "lib", "src"].contains(&&**name)).collect();
        if let Some(module) = names.last() {
            items.modules.entry(module.clone()).or_default().extend(all);
        }
        // A module has the modules below it.
        for pair in names.windows(2) {
            items.modules.entry(pair[0].clone()).or_default().insert(pair[1].clone());
        }
        let mut within: Option<String> = None;
        for line in text.lines().filter(|line| !line.is_empty()) {
            if !line.starts_with([' ', '}', '/', '#', ')']) {
                within = begun(line);
                if let Some(name) = &within {
                    items.types.entry(name.clone()).or_default();
                }
                continue;
            }
            let Some(name) = within.as_ref().filter(|_| line.starts_with("    ")) else { continue };
            let line = line.trim_start();
            let said: Vec<_> = words(line.split("//").next().unwrap()).collect();
            let declares = said.iter().position(|word| ["fn", "const", "type"].contains(word));
            let member = match declares {
                Some(at) => said.get(at + 1),
                // A variant.
                None => said.first().filter(|word| word.starts_with(char::is_uppercase)),
            };
            if let Some(member) = member {
                items.types.entry(name.clone()).or_default().insert((*member).to_owned());
            }
        }
    }
    items
}

/// `Type::method`, `module::function(..)`: what a span names so, as two words.
fn path(span: &str) -> Option<(&str, &str)> {
    let span = span.split('(').next().unwrap();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (before, name) = span.rsplit_once("::").filter(|_| span.chars().all(is_part))?;
    let of = before.rsplit("::").next().unwrap();
    (!of.is_empty() && !name.is_empty()).then_some((of, name))
}

#[test]
fn a_method_or_function_that_a_page_names_exists() {
    let items = items();
    assert!(items.types.len() > 500, "{} types", items.types.len());
    let mut judged = 0;
    for page in &pages() {
        for span in spans(&prose_and_code(page).0) {
            let Some((of, name)) = path(&span) else { continue };
            // C++ and Rust's own are others' names.
            if span.starts_with("std::") || span.starts_with("tokio::") {
                continue;
            }
            let all =
                if of.starts_with(char::is_uppercase) { &items.types } else { &items.modules };
            let exists = all.get(of).is_some_and(|members| members.contains(name));
            assert!(exists, "{} names {span}", page.display());
            judged += 1;
        }
    }
    assert!(judged > 5, "{judged} paths were looked at");
}

#[test]
fn a_type_that_a_page_about_the_code_names_exists() {
    let items = items();
    let mut judged = 0;
    let about_code = |page: &std::path::Path| {
        page.starts_with(repository().join("docs/internals")) || page.ends_with("ARCHITECTURE.md")
    };
    for page in pages().iter().filter(|page| about_code(page)) {
        for span in spans(&prose_and_code(page).0) {
            let name = span.split('<').next().unwrap();
            let is_type = name.starts_with(char::is_uppercase)
                && name.chars().all(|c| c.is_ascii_alphanumeric())
                && name.chars().filter(char::is_ascii_uppercase).count() > 1
                && name.contains(|c: char| c.is_ascii_lowercase());
            if is_type {
                assert!(items.words.contains(name), "{} names {span}", page.display());
                judged += 1;
            }
        }
    }
    assert!(judged > 10, "{judged} types were looked at");
}

/// What the test above stands on: it does not find what is not there.
#[test]
fn a_name_that_is_nowhere_is_not_found() {
    let items = items();
    let has = |of: &str, name: &str| items.types.get(of).is_some_and(|all| all.contains(name));
    assert!(has("Snapshot", "check") && has("Snapshot", "permit") && has("State", "Sealed"));
    // Of another type, and of none.
    assert!(
        !has("Snapshot", "unseal") && !has("Snapshot", "nonsense") && !has("Nonsense", "check")
    );
    assert_eq!(begun("impl<A: Admits> Admitted for Permit<A> {").as_deref(), Some("Permit"));
    assert_eq!(begun("pub(crate) enum Goes {").as_deref(), Some("Goes"));
    assert_eq!(begun("fn free() {"), None);
    assert_eq!(path("Snapshot::check"), Some(("Snapshot", "check")));
    assert_eq!((path("::"), path("docs/x.md")), (None, None));
}
