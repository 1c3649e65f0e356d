//! `[notify]` and `[policy]`: who is notified of what, where, and with which proof of who asks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::section::Section;
use http::{HeaderName, HeaderValue};

use crate::notify::notice::Name;

const STATE_DIR: &str = "/var/lib/signing-trail";
/// What the system calls this machine.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
const NAME_MAX_BYTES: usize = 32;
const WEBHOOKS_MAX: usize = 16;
/// How the policy service is called where webhooks have their names.
pub(crate) const POLICY_NAME: &str = "policy";
const TIMEOUT_MS: u64 = 10_000;
/// A hanging receiver is given up within that time.
const TIMEOUT_MAX_MS: u64 = 60_000;

/// Notifications.
#[derive(Clone, Debug)]
pub struct Notify {
    /// What was delivered, by webhook.
    pub state_dir: PathBuf,
    /// How this machine is called in notifications.
    pub instance: String,
    /// How far a sink may be behind before that is an event.
    pub behind_after: Duration,
    /// Who is notified.
    pub webhooks: Vec<Webhook>,
}

/// Who is notified.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its name in metrics, in the log and in the state directory.
    pub name: String,
    /// What its body looks like.
    pub form: Form,
    /// The events that it gets.
    pub events: BTreeSet<Name>,
    /// Where it is.
    pub endpoint: Endpoint,
}

/// What a notification looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Our JSON, signed with the key in this file.
    Json {
        /// The file.
        key_file: PathBuf,
    },
    /// Slack's incoming webhook.
    Slack,
}

/// A server that is sent requests, and how each side proves who it is.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The URL, or the file that holds it.
    pub url: Url,
    /// PEM of the authorities behind the server's certificate; none: the platform's.
    pub ca_file: Option<PathBuf>,
    /// PEM of the certificate and of the key that it is shown.
    pub client: Option<(PathBuf, PathBuf)>,
    /// A file with the bearer token.
    pub token_file: Option<PathBuf>,
    /// More headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The longest that a request may take, with its answer.
    pub timeout: Duration,
}

/// Where a URL stands.
#[derive(Clone, Debug)]
pub enum Url {
    /// In the configuration.
    Here(String),
    /// In a file, since it is a secret.
    File(PathBuf),
}

/// The policy service.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Where it is; its path is `/sentinelnet/check` below the URL.
    pub endpoint: Endpoint,
    /// The roles of the actor.
    pub roles: Vec<String>,
}

pub(super) fn notify(mut section: Section, directory: &Path) -> Notify {
    let fix = "name a directory that the trail may write";
    let state_dir = directory.join(section.text_or("state_dir", STATE_DIR, fix));
    let behind = section.number("behind_after_s", 300, 1..=86_400);
    let named = section.text("instance");
    let mut webhooks: Vec<Webhook> = Vec::new();
    for entry in section.sections("webhooks") {
        let found = webhook(entry, directory);
        if webhooks.iter().any(|other| other.name == found.name) {
            section.mistake(
                "webhooks",
                format!("two are named {:?}; give each a name of its own", found.name),
            );
        }
        webhooks.push(found);
    }
    if webhooks.len() > WEBHOOKS_MAX {
        section.mistake("webhooks", format!("has more than {WEBHOOKS_MAX}; remove some"));
    }
    let instance = named.or_else(host_name).unwrap_or_else(|| {
        if !webhooks.is_empty() {
            section.mistake("instance", "is missing, and this machine has no name; name it here");
        }
        String::new()
    });
    section.finish();
    Notify { state_dir, instance, behind_after: Duration::from_secs(behind), webhooks }
}

/// None: there is no policy service.
pub(super) fn policy(mut section: Section, directory: &Path) -> Option<Policy> {
    let url = section.text("url");
    let headers = headers(section.section("headers"), &section);
    let roles = section.texts("roles");
    let endpoint = endpoint(&mut section, directory, url.clone().map(Url::Here), headers);
    let Endpoint { ca_file, client, token_file, headers, .. } = &endpoint;
    let is_meant = ca_file.is_some() || client.is_some() || token_file.is_some();
    let is_meant = is_meant || !headers.is_empty() || !roles.is_empty();
    if url.is_none() && is_meant && section.sound(&["url"]) {
        section.mistake("url", "is missing; write https://HOST, or remove the section");
    }
    section.finish();
    url?;
    Some(Policy { endpoint, roles })
}

fn webhook(mut section: Section, directory: &Path) -> Webhook {
    let name = section
        .required("name", "name the webhook, such as ops; metrics and the log say this name");
    let is_name = |name: &str| {
        name.len() <= NAME_MAX_BYTES
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    if !is_name(&name) && section.sound(&["name"]) {
        let expected = format!("expected at most {NAME_MAX_BYTES} of a-z, 0-9 and -");
        section.mistake("name", format!("is {name:?}, {expected}"));
    }
    if name == POLICY_NAME {
        section.mistake(
            "name",
            format!("is {POLICY_NAME:?}, which is the policy service; take another name"),
        );
    }
    let form = section.text_or("form", "json", "write json or slack");
    let key_file = section.text("hmac_key_file").map(|file| directory.join(file));
    let form = match (form.as_str(), key_file) {
        ("json", Some(key_file)) => Form::Json { key_file },
        ("json", None) => {
            if section.sound(&["hmac_key_file"]) {
                section.mistake(
                    "hmac_key_file",
                    "is missing; name the file with the key that signs notifications: \
                     echo \"whsec_$(openssl rand -base64 32)\" > FILE",
                );
            }
            Form::Slack
        }
        ("slack", None) => Form::Slack,
        ("slack", Some(_)) => {
            section
                .mistake("hmac_key_file", "is for form json: Slack checks no signature; remove it");
            Form::Slack
        }
        (other, _) => {
            section.mistake("form", format!("is {other:?}, expected json or slack"));
            Form::Slack
        }
    };
    let (here, file) = (section.text("url"), section.text("url_file"));
    let url = match (here, file) {
        (Some(_), _) if form == Form::Slack && section.sound(&["form", "hmac_key_file"]) => {
            section.mistake(
                "url",
                "of Slack is a secret; write it to a file, and name the file in url_file",
            );
            None
        }
        (Some(_), Some(_)) => {
            section.mistake("url_file", "stands beside url; remove one of them");
            None
        }
        (Some(url), None) => Some(Url::Here(url)),
        (None, Some(file)) => Some(Url::File(directory.join(file))),
        (None, None) => {
            section.mistake("url", "is missing; write https://HOST/PATH, or name a file that holds the URL in url_file");
            None
        }
    };
    let events = events(&mut section);
    let headers = headers(section.section("headers"), &section);
    let endpoint = endpoint(&mut section, directory, url, headers);
    section.finish();
    Webhook { name, form, events, endpoint }
}

fn events(section: &mut Section) -> BTreeSet<Name> {
    let words = section.texts("events");
    if words.is_empty() {
        return Name::ALL.into_iter().collect();
    }
    let known = || Name::ALL.map(Name::word).join(", ");
    let event = |word: &String| {
        let name = Name::parse(word);
        if name.is_none() {
            section.mistake("events", format!("has {word:?}; the events are {}", known()));
        }
        name
    };
    words.iter().filter_map(event).collect()
}

fn endpoint(
    section: &mut Section,
    directory: &Path,
    url: Option<Url>,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Endpoint {
    let mut file = |key| section.text(key).map(|file| directory.join(file));
    let (ca_file, token_file) = (file("ca_file"), file("bearer_token_file"));
    let client = match (file("certificate_file"), file("key_file")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            section.mistake("key_file", "is missing beside certificate_file; name the key's PEM");
            None
        }
        (None, Some(_)) => {
            let fix = "is missing beside key_file; name the certificate's PEM";
            section.mistake("certificate_file", fix);
            None
        }
    };
    let timeout = section.number("timeout_ms", TIMEOUT_MS, 100..=TIMEOUT_MAX_MS);
    let url = url.unwrap_or(Url::Here(String::new()));
    let timeout = Duration::from_millis(timeout);
    Endpoint { url, ca_file, client, token_file, headers, timeout }
}

/// Headers that the trail itself writes, or that would change what a request is.
const OURS: [&str; 8] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

fn headers(named: Section, section: &Section) -> Vec<(HeaderName, HeaderValue)> {
    let header = |(name, value): (String, String)| {
        let parsed = HeaderName::try_from(&name).ok().zip(HeaderValue::try_from(&value).ok());
        let Some((parsed, value)) = parsed else {
            section.mistake(
                "headers",
                format!("has {name:?}, which is no header with a value of visible ASCII"),
            );
            return None;
        };
        if OURS.contains(&parsed.as_str()) || parsed.as_str().starts_with("webhook-") {
            let fix = "which the trail writes itself; remove it (a token is for bearer_token_file)";
            section.mistake("headers", format!("has {name:?}, {fix}"));
            return None;
        }
        Some((parsed, value))
    };
    named.into_texts().into_iter().filter_map(header).collect()
}

fn host_name() -> Option<String> {
    let text = fs::read_to_string(HOST_NAME).ok()?;
    let name = text.trim();
    (!name.is_empty()).then(|| name.to_owned())
}
