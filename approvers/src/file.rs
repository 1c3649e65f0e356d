//! The file itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use host::files;
use signing_core::breakglass::activation::person;
use ssh_key::{HashAlg, PublicKey};
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use crate::line::{OPTIONS, judge_comment, list, shown, split_options};
use crate::pattern::matches_list;

/// The approvers, as the file was at the start.
#[derive(Clone, Debug)]
pub struct Approvers {
    /// The section of the configuration that names it.
    section: &'static str,
    file: PathBuf,
    sha256: String,
    by_fingerprint: BTreeMap<String, Approver>,
    /// The numbers of lines with tabs.
    tabbed: Vec<usize>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Approver {
    /// The person's name in the file.
    pub principal: String,
    /// Which key.
    pub key: PublicKey,
    /// Roles, by the configuration.
    pub roles: BTreeSet<String>,
    namespaces: Option<Vec<String>>,
    valid_after: Option<OffsetDateTime>,
    valid_before: Option<OffsetDateTime>,
}

impl Approvers {
    /// Reads the file; `section` of the configuration names it, and `roles` says which principals have
    /// which role.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn load(
        section: &'static str,
        file: &Path,
        roles: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, Vec<String>> {
        let read = files::read(file).map_err(|why| {
            vec![format!("{section}.file: {} cannot be read: {why}", file.display())]
        })?;
        Self::parse(section, file, &read, roles)
    }

    /// Reads what the file holds; its name is for mistakes, and for [`Approvers::unchanged`].
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn parse(
        section: &'static str,
        file: &Path,
        bytes: &[u8],
        roles: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, Vec<String>> {
        let text = files::text(bytes.to_vec())
            .map_err(|why| vec![format!("{section}.file: {} {why}", file.display())])?;
        if text.contains("-----") {
            return Err(vec![format!(
                "{section}.file: {} is a PEM; name the file of allowed_signers(5) that lists the \
                 approvers' public keys",
                file.display()
            )]);
        }
        let mut by_fingerprint: BTreeMap<String, Approver> = BTreeMap::new();
        let mut people: BTreeMap<String, String> = BTreeMap::new();
        let (mut mistakes, mut tabbed) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut mistake = |what: String| {
                mistakes.push(format!("{section}.file: {} line {number}: {what}", file.display()));
            };
            if line.contains('\t') {
                tabbed.push(number);
            }
            match Approver::parse(line, roles) {
                Err(what) => mistake(what),
                Ok(approver) => {
                    let fingerprint = fingerprint(&approver.key);
                    if let Some(other) = by_fingerprint.get(&fingerprint) {
                        mistake(format!(
                            "has the key {fingerprint} of {}; each person has a key of their own",
                            other.principal
                        ));
                    }
                    let spelt = person(&approver.principal);
                    let principal = &approver.principal;
                    let first = people.entry(spelt).or_insert_with(|| principal.clone());
                    if first != principal {
                        mistake(format!(
                            "names {}, who is {first} in another spelling; write each person in one way",
                            shown(principal)
                        ));
                    }
                    by_fingerprint.insert(fingerprint, approver);
                }
            }
        }
        let known: BTreeSet<&str> =
            by_fingerprint.values().map(|approver| approver.principal.as_str()).collect();
        for (role, principals) in roles {
            for principal in principals.iter().filter(|name| !known.contains(name.as_str())) {
                if let Some(spelt) = people.get(&person(principal)) {
                    mistakes.push(format!(
                        "{section}.roles: {role} names {principal:?}, who is {spelt:?} in {}; write them so",
                        file.display()
                    ));
                    continue;
                }
                mistakes.push(format!(
                    "{section}.roles: {role} names {principal:?}, who is not in {}; add a line for \
                     them",
                    file.display()
                ));
            }
        }
        if mistakes.is_empty() {
            let sha256 = sha256(bytes);
            Ok(Self { section, file: file.to_owned(), sha256, by_fingerprint, tabbed })
        } else {
            Err(mistakes)
        }
    }

    /// Who has that key.
    #[must_use]
    pub fn of_key(&self, fingerprint: &str) -> Option<&Approver> {
        self.by_fingerprint.get(fingerprint)
    }

    /// Everybody, by the fingerprint of their key.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Approver)> {
        self.by_fingerprint.iter()
    }

    /// What deserves attention in it although it is no mistake.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let lines: Vec<String> = self.tabbed.iter().map(ToString::to_string).collect();
        (!lines.is_empty()).then(|| {
            format!(
                "{}.file: {} has tabs in line {}; they are taken as blanks, as OpenSSH does",
                self.section,
                self.file.display(),
                lines.join(", ")
            )
        })
    }

    /// SHA-256 of the file at the start, in hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Whether the file is still what it was; one that cannot be read is not.
    #[must_use]
    pub fn unchanged(&self) -> bool {
        files::read(&self.file).is_ok_and(|bytes| sha256(&bytes) == self.sha256)
    }
}

impl Approver {
    fn parse(line: &str, roles: &BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let (principal, rest) =
            line.split_once([' ', '\t']).ok_or("is no line of allowed_signers(5)")?;
        if principal.contains(['*', '?', ',', '!', '"']) {
            return Err(format!(
                "names {}; write one line for each person, without wildcards",
                shown(principal)
            ));
        }
        if !principal.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!(
                "names {}; write principals in visible ASCII, so that no two look alike",
                shown(principal)
            ));
        }
        let rest = rest.trim_start();
        let is_option = |text: &str| {
            let first = text.split([' ', '\t']).next().unwrap_or_default();
            first.contains('=') || text::meant(first, &OPTIONS).is_some()
        };
        let (options, key) = if is_option(rest) { split_options(rest)? } else { ("", rest) };
        if is_option(key) {
            return Err("has a blank between its options; put a comma alone there".to_owned());
        }
        // OpenSSH takes tabs there too.
        let key: Vec<&str> = key.split_ascii_whitespace().collect();
        judge_comment(key.iter().skip(2).copied())?;
        let key = key.join(" ");
        let mut approver = Self {
            principal: principal.to_owned(),
            key: PublicKey::from_openssh(&key)
                .map_err(|error| format!("holds no OpenSSH public key: {error}"))?,
            roles: roles
                .iter()
                .filter(|(_, principals)| principals.iter().any(|name| name == principal))
                .map(|(role, _)| role.clone())
                .collect(),
            namespaces: None,
            valid_after: None,
            valid_before: None,
        };
        for option in list(options) {
            approver.take(&option)?;
        }
        Ok(approver)
    }

    fn take(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let once = |given: bool| {
            if given { Err(format!("has the option {name} twice; give it once")) } else { Ok(()) }
        };
        match (name.to_ascii_lowercase().as_str(), value) {
            ("cert-authority", _) => Err("is a cert-authority, and whoever holds that could make \
                 approvers; name each person's own key"
                .to_owned()),
            ("namespaces", Some(value)) => {
                once(self.namespaces.is_some())?;
                self.namespaces = Some(value.split(',').map(str::to_owned).collect());
                Ok(())
            }
            ("valid-after", Some(value)) => {
                once(self.valid_after.is_some())?;
                self.valid_after = Some(instant(value)?);
                Ok(())
            }
            ("valid-before", Some(value)) => {
                once(self.valid_before.is_some())?;
                self.valid_before = Some(instant(value)?);
                Ok(())
            }
            (known, _) if OPTIONS.contains(&known) => Err(format!(
                "has the option {known} without a value in quotes; write {known}=\"...\""
            )),
            (other, _) => Err(match text::meant(other, &OPTIONS) {
                Some(meant) => format!("has the option {}; write {meant}=\"...\"", shown(name)),
                None => format!(
                    "has the option {}; known are namespaces=\"...\", valid-after=\"...\" and \
                     valid-before=\"...\"",
                    shown(name)
                ),
            }),
        }
    }

    /// Why this line lets the key never sign in `namespace`, from that time on.
    ///
    /// # Errors
    /// As a sentence without its subject.
    pub fn may_ever_approve(&self, namespace: &str, now: OffsetDateTime) -> Result<(), String> {
        if let Some(namespaces) = &self.namespaces
            && !matches_list(namespace, namespaces)
        {
            let named = namespaces.join(",");
            return Err(format!(
                "is for namespaces=\"{named}\", and what counts here is in {namespace}; add that"
            ));
        }
        let Some(before) = self.valid_before else { return Ok(()) };
        if now >= before {
            return Err(format!("counted until {before} (valid-before); give it a later time"));
        }
        match self.valid_after {
            Some(after) if after >= before => Err(format!(
                "counts from {after} (valid-after) until {before} (valid-before), so never; correct that"
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// When it counts from, if that is later.
    #[must_use]
    pub fn counts_later(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.valid_after.filter(|after| now < *after)
    }

    /// Whether this line lets the key sign in `namespace` at that time.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub fn may_approve(&self, namespace: &str, now: OffsetDateTime) -> Result<(), String> {
        let Self { principal, .. } = self;
        if let Some(namespaces) = &self.namespaces
            && !matches_list(namespace, namespaces)
        {
            return Err(format!(
                "the line of {principal} in the approvers file is for the namespaces {}, not {namespace}",
                namespaces.join(",")
            ));
        }
        if let Some(after) = self.valid_after
            && now < after
        {
            return Err(format!("the key of {principal} counts from {after} on (valid-after)"));
        }
        if let Some(before) = self.valid_before
            && now >= before
        {
            return Err(format!("the key of {principal} counted until {before} (valid-before)"));
        }
        Ok(())
    }
}

/// `SHA256:...`, as `ssh-keygen -l` prints it.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// `YYYYMMDD[HHMM[SS]]Z`. OpenSSH takes a time without `Z` as local, which depends on the
/// machine, so it is not taken.
fn instant(text: &str) -> Result<OffsetDateTime, String> {
    let wrong = || {
        format!(
            "has the time {text:?}; expected YYYYMMDDZ, YYYYMMDDHHMMZ or YYYYMMDDHHMMSSZ, in UTC"
        )
    };
    let digits = text.strip_suffix(['Z', 'z']).ok_or_else(wrong)?;
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let number = |from: usize, to: usize| -> u16 {
        digits.get(from..to).and_then(|part| part.parse().ok()).unwrap_or(0)
    };
    let small = |from: usize| u8::try_from(number(from, from + 2)).unwrap_or(0);
    let month = Month::try_from(small(4)).map_err(|_| wrong())?;
    let date =
        Date::from_calendar_date(i32::from(number(0, 4)), month, small(6)).map_err(|_| wrong())?;
    let time = Time::from_hms(small(8), small(10), small(12)).map_err(|_| wrong())?;
    Ok(PrimitiveDateTime::new(date, time).assume_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key of nobody.
    const KEY: &str = "ssh-ed25519 \
         AAAAC3NzaC1lZDI1NTE5AAAAILMDT1aFMSiyV1IZ7wBpQl8RK3PwAuc2IgYx6oCIP3nN";
    /// A key of nobody else.
    const OTHER_KEY: &str = "ssh-ed25519 \
         AAAAC3NzaC1lZDI1NTE5AAAAIGQB+JoRE4NqdIo0f85M1Adovo10535J6PLm/ulf6D4f";

    #[test]
    fn an_option_is_given_once() {
        let parse = |options: &str| {
            let line = format!("alice@example.org {options} {KEY}");
            Approvers::parse("approvers", Path::new("approvers"), line.as_bytes(), &BTreeMap::new())
        };
        assert!(parse("namespaces=\"a\",valid-after=\"20260101Z\"").is_ok());
        for twice in [
            "namespaces=\"a\",namespaces=\"*\"",
            "valid-after=\"20260101Z\",Valid-After=\"20200101Z\"",
            "valid-before=\"20260101Z\",valid-before=\"20990101Z\"",
        ] {
            let mistakes = parse(twice).err().unwrap_or_default();
            assert!(mistakes.iter().any(|what| what.contains("twice")), "{twice}: {mistakes:?}");
        }
    }

    #[test]
    fn a_person_has_one_spelling() {
        let parse = |one: &str, other: &str, security: &str| {
            let lines = format!("{one} {KEY}\n{other} {OTHER_KEY}\n");
            let roles = [("Security", security), ("Finance", other)];
            let roles = roles.map(|(role, who)| (role.to_owned(), vec![who.to_owned()]));
            let file = Path::new("approvers");
            Approvers::parse("approvers", file, lines.as_bytes(), &BTreeMap::from(roles))
        };
        for (one, other, security, expected) in [
            ("alice@a.example", "bob@a.example", "alice@a.example", ""),
            ("alice@a.example", "Alice@a.example", "alice@a.example", "in another spelling"),
            ("alice@a.example", "alice@A.EXAMPLE", "alice@a.example", "in another spelling"),
            ("alice@a.example", "alice@a.example.", "alice@a.example", "in another spelling"),
            ("alice@a.example", "bob@a.example", "Alice@a.example", "write them so"),
            ("alice@a.example", "bob@a.example", "carol@a.example", "add a line"),
        ] {
            match parse(one, other, security) {
                Ok(_) => assert_eq!(expected, "", "{one} {other} {security}"),
                Err(mistakes) => {
                    assert!(!expected.is_empty() && mistakes[0].contains(expected), "{mistakes:?}");
                }
            }
        }
        // Somebody may have two keys.
        assert!(parse("alice@a.example", "alice@a.example", "alice@a.example").is_ok());
    }

    #[test]
    fn what_stands_after_a_key_says_nothing_of_it() {
        let parse = |comment: &str| {
            let line = format!("alice@example.org {KEY} {comment}");
            Approvers::parse("approvers", Path::new("approvers"), line.as_bytes(), &BTreeMap::new())
        };
        for comment in
            ["", "alice", "alice@host", "a=b c:d me", "# made 2026-01-01", "= :", "never"]
        {
            assert!(parse(comment).is_ok(), "{comment}");
        }
        for comment in [
            "valid-before=\"20200101Z\"",
            "valid-before:20200101Z",
            "valid-before 20200101Z",
            "me valid_befor:20200101Z",
            "# valid-before=\"20200101Z\"",
            "#valid-before:20200101Z",
            "namespaces:file",
            "expires=20200101Z",
            "expiry-time=\"20200101Z\"",
            "expired",
            "revoked",
            "me (REVOKED)",
            "me (retired)",
            "suspended: left the company",
            "inactive",
            "withdrawn=2026-01-01",
            "revoked:2026-01-01",
            "@revoked",
            "key compromised",
            "disabled",
        ] {
            let mistakes = parse(comment).err().unwrap_or_default();
            assert!(mistakes.iter().any(|what| what.contains("after the key")), "{comment}");
        }
    }
}
