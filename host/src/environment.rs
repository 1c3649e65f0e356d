//! What the environment says: overrides of config keys, the variables of the
//! ecosystem, and the guards that ask for the real thing.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::identifier;
use crate::section::Mistakes;

/// Variables that name a kind of environment in the field. `production` or
/// `prod` in any of them asks for the real thing.
const NAMES_OF_ENVIRONMENT: [&str; 5] =
    ["NODE_ENV", "ENVIRONMENT", "APP_ENV", "DEPLOY_ENV", "RUST_ENV"];

/// Guards: if true, the proxy starts only with a real provider and mTLS.
const GUARDS: [&str; 3] = ["REQUIRE_KMS", "REQUIRE_SIGNING_PROXY", "REQUIRE_MTLS"];

const TRUE: [&str; 5] = ["1", "true", "yes", "y", "on"];
const FALSE: [&str; 6] = ["0", "false", "no", "n", "off", ""];

/// Longest value of a variable in a mistake, in characters.
const VALUE_MAX_CHARS: usize = 64;

/// Longest reason of a freeze, in characters.
pub const REASON_MAX_CHARS: usize = 1024;

/// The reason of a freeze or of its end, as a person gave it, without the blanks around it.
///
/// # Errors
/// A sentence if it is no line, empty, or too long.
pub fn reason(text: &str) -> Result<String, String> {
    let reason = text.trim();
    let length = reason.chars().count();
    if length == 0 || length > REASON_MAX_CHARS || reason.chars().any(char::is_control) {
        return Err(format!("a reason is one line of 1 to {REASON_MAX_CHARS} characters"));
    }
    Ok(reason.to_owned())
}

/// The variables of the process, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        // Lossy: a freeze or a guard in an odd encoding counts all the same.
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        std::env::vars_os().map(|(key, value)| (text(key), text(value))).collect()
    }

    /// The value of `key` without the blanks and line ends around it, which a file, a Secret or
    /// a shell added; empty counts as absent.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.raw(key).map(identifier::trimmed).filter(|value| !value.is_empty())
    }

    /// The value of `key` as it is; empty counts as absent.
    #[must_use]
    pub fn raw(&self, key: &str) -> Option<&str> {
        self.variables.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of `key` as it is, empty or not.
    #[must_use]
    pub fn as_given(&self, key: &str) -> Option<&str> {
        self.variables.get(key).map(String::as_str)
    }

    /// One sentence for each of `names`, and for each variable that begins with `prefix`, whose
    /// value has blanks or line ends around it.
    #[must_use]
    pub fn notes(&self, prefix: &str, names: &[&str]) -> Vec<String> {
        let read = |name: &str| name.starts_with(prefix) || names.contains(&name);
        let read = self.variables.iter().filter(|(name, _)| read(name));
        let padded = read.filter(|(_, value)| identifier::trimmed(value) != value.as_str());
        let note = |(name, value): (&String, &String)| {
            let (given, taken) = (identifier::quoted(value), identifier::trimmed(value));
            let taken = match taken {
                "" => "counts as not set".to_owned(),
                taken => format!("is taken as {}", identifier::quoted(taken)),
            };
            format!("{name}: is {given}, and {taken}; remove what is around it")
        };
        padded.map(note).collect()
    }

    /// Whether `key` is set to `1|true|yes|y|on`, in any case.
    #[must_use]
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| is_one_of(&TRUE, value))
    }

    /// Whether `key` is absent, empty or `0|false|no|n|off`, in any case. What makes
    /// things stricter is off only then: a misspelt word must not turn it off.
    fn is_off(&self, key: &str) -> bool {
        self.raw(key).is_none_or(|value| is_one_of(&FALSE, value))
    }

    /// Adds a mistake for each guard that is neither true nor false.
    fn judge_guards(&self, mistakes: &Mistakes) {
        for key in GUARDS.iter().filter(|key| !self.is_true(key) && !self.is_off(key)) {
            let value = self.get(key).unwrap_or_default();
            let value: String = value.chars().take(VALUE_MAX_CHARS).collect();
            mistakes.add(format!(
                "{key}: is {value:?}, expected 1, true, yes, y or on, else 0, false, no, n or off; \
                 until then it asks for the real thing"
            ));
        }
    }

    /// Which variables ask for the real thing: `REQUIRE_KMS`,
    /// `NODE_ENV=production`. A guard with an unknown word does, too.
    #[must_use]
    pub fn asks_for_the_real_thing(&self) -> Vec<String> {
        let guards = GUARDS.iter().filter(|key| !self.is_off(key)).map(ToString::to_string);
        let names = NAMES_OF_ENVIRONMENT.iter().filter_map(|key| {
            let value = self.get(key)?;
            let is_production =
                ["production", "prod"].iter().any(|word| value.trim().eq_ignore_ascii_case(word));
            is_production.then(|| format!("{key}={value}"))
        });
        guards.chain(names).collect()
    }

    /// Why the environment wants the proxy to start frozen, and which variable
    /// says so.
    #[must_use]
    pub fn freeze(&self) -> Option<(String, &'static str)> {
        // As it is: a reason of blanks alone freezes too.
        if let Some(reason) = self.raw("SIGNING_DISABLED_REASON") {
            let reason = text::line(reason).chars().take(REASON_MAX_CHARS).collect();
            return Some((reason, "SIGNING_DISABLED_REASON"));
        }
        (!self.is_off("DEPLOY_BLOCK_SIGNING"))
            .then(|| ("DEPLOY_BLOCK_SIGNING is set".to_owned(), "DEPLOY_BLOCK_SIGNING"))
    }

    /// Lays the overrides over a config file's table, and says which guards cannot
    /// be read. With the prefix `SIGNING_PROXY__`, `SIGNING_PROXY__SECTION__KEY` overrides `key`
    /// in `[section]`.
    pub fn override_keys(&self, prefix: &str, table: &mut Table, mistakes: &Mistakes) {
        self.judge_guards(mistakes);
        for (variable, text) in &self.variables {
            let Some(path) = variable.strip_prefix(prefix) else { continue };
            let path = path.to_ascii_lowercase();
            let parts: Vec<&str> = path.split("__").collect();
            if let Err(why) = set(table, &parts, value(identifier::trimmed(text))) {
                mistakes.add(format!("{variable}: {why}; expected {prefix}SECTION__KEY"));
            }
        }
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self { variables: variables.into_iter().collect() }
    }
}

fn is_one_of(words: &[&str], value: &str) -> bool {
    words.iter().any(|word| value.trim().eq_ignore_ascii_case(word))
}

fn set(table: &mut Table, parts: &[&str], value: Value) -> Result<(), String> {
    match parts {
        [] | [""] => Err("names no key".into()),
        [key] => {
            table.insert((*key).to_owned(), value);
            Ok(())
        }
        [section, rest @ ..] => {
            let inner = table.entry(*section).or_insert_with(|| Value::Table(Table::new()));
            match inner {
                Value::Table(inner) => set(inner, rest, value),
                _ => Err(format!("{section} is not a section with keys of its own")),
            }
        }
    }
}

/// Numbers, booleans and lists are written as in the file; all else is text.
fn value(text: &str) -> Value {
    let document = format!("value = {text}").parse::<Table>();
    let parsed = document.ok().and_then(|mut table| table.remove("value"));
    match parsed {
        Some(
            value @ (Value::Integer(_) | Value::Boolean(_) | Value::Array(_) | Value::String(_)),
        ) => value,
        Some(Value::Float(_) | Value::Datetime(_) | Value::Table(_)) | None => {
            Value::String(text.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn i3_every_guard_and_production_name_asks_for_the_real_thing() {
        for guard in GUARDS {
            for yes in ["1", "true", "YES", "y", "On"] {
                assert_eq!(environment(&[(guard, yes)]).asks_for_the_real_thing(), [guard]);
            }
            assert!(environment(&[(guard, "0")]).asks_for_the_real_thing().is_empty());
        }
        for name in NAMES_OF_ENVIRONMENT {
            assert_eq!(environment(&[(name, "Production")]).asks_for_the_real_thing().len(), 1);
            assert!(environment(&[(name, "staging")]).asks_for_the_real_thing().is_empty());
        }
    }

    #[test]
    fn i3_a_misspelt_guard_is_a_mistake_and_asks_for_the_real_thing() {
        let mistakes_of = |variables: &[(&str, &str)]| {
            let mistakes = Mistakes::default();
            environment(variables).override_keys("SIGNING_PROXY__", &mut Table::new(), &mistakes);
            mistakes.take()
        };
        for guard in GUARDS {
            for word in ["enabled", "TRUE1", "2", "tru e", "-"] {
                assert_eq!(environment(&[(guard, word)]).asks_for_the_real_thing(), [guard]);
                let found = mistakes_of(&[(guard, word)]);
                assert_eq!(found.len(), 1, "{found:?}");
                let said = format!("{:?}", found[0]).replace('\\', "");
                assert!(said.contains(&format!("{guard}: is \"{word}\", expected 1, ")), "{said}");
            }
            for no in ["", " ", "0", "False", "NO", "n", "off\n"] {
                assert!(environment(&[(guard, no)]).asks_for_the_real_thing().is_empty());
                assert!(mistakes_of(&[(guard, no)]).is_empty(), "{no:?}");
            }
            for yes in ["1", " true\n", "YES", "y", "On"] {
                assert!(mistakes_of(&[(guard, yes)]).is_empty(), "{yes:?}");
            }
        }
    }

    #[test]
    fn the_freeze_variables_of_the_field_freeze() {
        let both =
            environment(&[("SIGNING_DISABLED_REASON", "KMS down"), ("DEPLOY_BLOCK_SIGNING", "1")]);
        assert_eq!(both.freeze(), Some(("KMS down".to_owned(), "SIGNING_DISABLED_REASON")));
        assert!(environment(&[("DEPLOY_BLOCK_SIGNING", "yes")]).freeze().is_some());
        assert!(environment(&[("DEPLOY_BLOCK_SIGNING", "enabled")]).freeze().is_some());
        for no in ["0", "false", " No ", "n", "off", "", " "] {
            assert!(environment(&[("DEPLOY_BLOCK_SIGNING", no)]).freeze().is_none(), "{no:?}");
        }
        assert!(environment(&[("SIGNING_DISABLED_REASON", "")]).freeze().is_none());
    }

    #[test]
    fn a_value_is_taken_without_what_is_around_it_and_a_note_says_so() {
        let padded = environment(&[
            ("KMS_KEY_ID", " alias/k\n"),
            ("AWS_REGION", "\n"),
            ("SIGNING_PROXY__SERVER__LISTEN", "127.0.0.1:0\r\n"),
            ("SIGNING_PROXY__GATE__LEASE_MS", " 9000\n"),
            ("OTHER", " x "),
        ]);
        assert_eq!(padded.get("KMS_KEY_ID"), Some("alias/k"));
        assert_eq!(padded.get("AWS_REGION"), None);
        let (mut table, mistakes) = (Table::new(), Mistakes::default());
        padded.override_keys("SIGNING_PROXY__", &mut table, &mistakes);
        assert_eq!(table["server"]["listen"], Value::String("127.0.0.1:0".into()));
        assert_eq!(table["gate"]["lease_ms"], Value::Integer(9000));
        assert_eq!(
            padded.notes("SIGNING_PROXY__", &["KMS_KEY_ID", "AWS_REGION"]),
            [
                r#"AWS_REGION: is "\n", and counts as not set; remove what is around it"#,
                r#"KMS_KEY_ID: is " alias/k\n", and is taken as "alias/k"; remove what is around it"#,
                r#"SIGNING_PROXY__GATE__LEASE_MS: is " 9000\n", and is taken as "9000"; remove what is around it"#,
                r#"SIGNING_PROXY__SERVER__LISTEN: is "127.0.0.1:0\r\n", and is taken as "127.0.0.1:0"; remove what is around it"#,
            ]
        );
        let blank = environment(&[("SIGNING_DISABLED_REASON", " ")]);
        assert_eq!(blank.freeze(), Some((" ".to_owned(), "SIGNING_DISABLED_REASON")));
    }

    #[test]
    fn overrides_reach_nested_keys_and_keep_types() {
        let mut table: Table = "[server.tls]\ntls12 = false".parse().unwrap();
        let mistakes = Mistakes::default();
        environment(&[
            ("SIGNING_PROXY__SERVER__TLS__TLS12", "true"),
            ("SIGNING_PROXY__SERVER__LISTEN", "127.0.0.1:0"),
            ("SIGNING_PROXY__GATE__LEASE_MS", "9000"),
        ])
        .override_keys("SIGNING_PROXY__", &mut table, &mistakes);
        assert_eq!(table["server"]["tls"]["tls12"], Value::Boolean(true));
        assert_eq!(table["server"]["listen"], Value::String("127.0.0.1:0".into()));
        assert_eq!(table["gate"]["lease_ms"], Value::Integer(9000));
        assert!(mistakes.take().is_empty());
    }
}
