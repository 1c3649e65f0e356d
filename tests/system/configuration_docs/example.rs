//! `config/signing-proxy.toml` as a person reads it: sections, keys, and the comments
//! above them.

use std::collections::BTreeSet;

use system_tests::programs::repository;

/// The whole of it.
pub(super) struct Example {
    pub(super) text: String,
    pub(super) variables: Vec<Variable>,
    pub(super) sections: Vec<Section>,
}

/// Environment variables that mean one thing.
pub(super) struct Variable {
    pub(super) names: Vec<String>,
    pub(super) meaning: String,
}

/// A section, where it stands first.
pub(super) struct Section {
    /// `[gate]` or `[[signers]]`.
    pub(super) header: String,
    pub(super) comment: String,
    pub(super) keys: Vec<Key>,
}

/// A key of a section, where it stands first.
pub(super) struct Key {
    pub(super) name: Name,
    /// As written there.
    pub(super) value: String,
    pub(super) comment: String,
    /// Its line, from 0; None if it is commented out.
    pub(super) line: Option<usize>,
}

#[derive(PartialEq, Eq)]
pub(super) enum Name {
    Fixed(String),
    /// In `[aliases]` the keys are the user's own.
    Users,
}

impl Example {
    pub(super) fn read() -> Self {
        let text = std::fs::read_to_string(repository().join("config/signing-proxy.toml")).unwrap();
        let mut example = Self { variables: variables(&text), sections: Vec::new(), text };
        let (mut comment, mut first) = (Vec::new(), true);
        for (number, line) in example.text.lines().enumerate() {
            let commented = line.strip_prefix('#').map(str::trim_start);
            if line.is_empty() {
                comment.clear();
            } else if let Some(header) = header(line, commented) {
                first = example.sections.iter().all(|section| section.header != header);
                if first {
                    let (header, comment) = (header.to_owned(), comment.join(" "));
                    example.sections.push(Section { header, comment, keys: Vec::new() });
                }
                comment.clear();
            } else if let Some((name, value)) = key_and_value(commented.unwrap_or(line)) {
                let comment = std::mem::take(&mut comment).join(" ");
                let line = commented.is_none().then_some(number);
                if first && let Some(section) = example.sections.last_mut() {
                    section.keys.push(Key { name, value, comment, line });
                }
            } else if let Some(text) = commented {
                comment.push(text.to_owned());
            }
        }
        example
    }

    /// The whole text with another line in place of that one.
    pub(super) fn with_line(&self, number: usize, other: &str) -> String {
        let line = |(n, line)| if n == number { other } else { line };
        self.text.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        self.sections.iter().map(Section::name).collect()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&Section, &Key, &str)> {
        self.sections.iter().flat_map(|section| {
            section.keys.iter().filter_map(move |key| match &key.name {
                Name::Fixed(name) => Some((section, key, name.as_str())),
                Name::Users => None,
            })
        })
    }
}

impl Section {
    pub(super) fn name(&self) -> String {
        self.header.trim_matches(['[', ']']).to_owned()
    }

    /// The lines that open it in a file of its own, and one of each list above it.
    pub(super) fn open(&self, provider: Option<&str>) -> String {
        // Sections with lists in them that are no lists themselves.
        let is_table = |parent: &str| ["server", "fleet.approvers"].contains(&parent);
        let parent = match self.name().rsplit_once('.') {
            Some((parent, _)) if self.header.starts_with("[[") && !is_table(parent) => {
                format!("[[{parent}]]\n")
            }
            _ => String::new(),
        };
        let provider = provider.filter(|_| self.name() == "signers.upstreams");
        let provider = provider.map(|name| format!("provider = {name:?}\n")).unwrap_or_default();
        format!("{parent}{}\n{provider}", self.header)
    }

    /// When a change of one of its keys is taken.
    pub(super) fn takes_effect(&self) -> &'static str {
        match self.name().as_str() {
            "server.tls" | "registry" | "gate" => "reload",
            "callers" | "callers.signers" | "aliases" => "reload",
            "signers" | "signers.upstreams" => "reload",
            _ => "restart",
        }
    }
}

impl Key {
    pub(super) fn is_required(&self) -> bool {
        self.comment.starts_with("Required")
    }

    /// What is so without it: said in its comment, else the value shown.
    pub(super) fn default(&self) -> String {
        let said = self.comment.split_once("Default: ").map(|(_, rest)| rest);
        match said.and_then(|rest| rest.split([';', '.']).next()) {
            _ if self.is_required() => "required".to_owned(),
            Some(said) => said.to_owned(),
            None => format!("`{}`", self.value),
        }
    }

    /// Other values, of which one should do.
    pub(super) fn others(&self) -> Vec<String> {
        let text = |text: &str| format!("{text:?}");
        if self.value == "true" {
            return vec!["false".to_owned()];
        }
        if let Ok(number) = self.value.parse::<u64>() {
            return vec![(number + 1).to_string(), number.saturating_sub(1).to_string()];
        }
        if let Some(value) = self.value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
            let other = value.rsplit('/').next().unwrap_or_default();
            let others = [
                "127.0.0.1:0",
                "test",
                "ledger-2026",
                "fastest",
                "sdk",
                "freeze",
                "spiffe://prod.example/other",
                "alias/other",
            ];
            let others = others.map(text).into_iter();
            return others.chain([text(&format!("other-{other}"))]).collect();
        }
        ["true", "[7]", "[\"ED25519_SHA_512\"]"].map(str::to_owned).into()
    }
}

/// The header of a section, which may be commented out as a whole.
fn header<'l>(line: &'l str, commented: Option<&'l str>) -> Option<&'l str> {
    let is_list =
        |text: &&str| text.starts_with("[[") && text.ends_with("]]") && !text.contains(' ');
    if line.starts_with('[') { Some(line) } else { commented.filter(is_list) }
}

/// `key = value`, or `"key" = value` where keys are the user's own.
fn key_and_value(line: &str) -> Option<(Name, String)> {
    let (key, value) = line.split_once(" = ")?;
    let is_key = |key: &str| key.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    let name = match key.strip_prefix('"').and_then(|key| key.strip_suffix('"')) {
        Some(_) => Name::Users,
        None if is_key(key) => Name::Fixed(key.to_owned()),
        None => return None,
    };
    Some((name, value.to_owned()))
}

/// The variables in the file's header: names, on as many lines as they take, then what they do,
/// further right.
fn variables(text: &str) -> Vec<Variable> {
    let mut found: Vec<Variable> = Vec::new();
    for line in text.lines().take_while(|line| line.starts_with('#')) {
        let Some(line) = line.strip_prefix("#   ") else { continue };
        let meaning = if line.starts_with(' ') {
            line
        } else {
            let (names, meaning) = line.split_once("  ").unwrap_or((line, ""));
            let goes_on = found.last().is_some_and(|last| last.meaning.is_empty());
            let names = names.split(',').map(|name| name.trim().to_owned());
            let names = names.filter(|name| !name.is_empty());
            if goes_on {
                found.last_mut().unwrap().names.extend(names);
            } else {
                found.push(Variable { names: names.collect(), meaning: String::new() });
            }
            meaning
        };
        let variable = found.last_mut().unwrap();
        variable.meaning = format!("{} {}", variable.meaning, meaning.trim()).trim().to_owned();
    }
    found
}
