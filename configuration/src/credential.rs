//! Where a secret lies: in a file that is named, or in a credential of systemd's.

use std::path::{Path, PathBuf};

use host::environment::Environment;
use host::section::Section;

/// Where systemd puts credentials (systemd.exec(5), `LoadCredential=`).
pub(super) const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The place of a secret, never the secret itself. Exactly one of the keys `file` and `credential`
/// names the place; None: neither does, which is a mistake by then.
pub(super) fn place(
    section: &mut Section,
    (file, credential): (&'static str, &'static str),
    directory: &Path,
    environment: &Environment,
) -> Option<PathBuf> {
    let named_file = section.text(file).filter(|text| !text.is_empty());
    let named = section.text(credential).filter(|text| !text.is_empty());
    match (named_file, named) {
        (Some(file), None) => Some(directory.join(file)),
        (None, Some(name)) if name.contains('/') || name == "." || name == ".." => {
            section.mistake(
                credential,
                format!("is {name:?}, expected the name of a LoadCredential= line, without \"/\""),
            );
            None
        }
        (None, Some(name)) => match environment.get(CREDENTIALS).map(Path::new) {
            Some(credentials) if credentials.is_absolute() => Some(credentials.join(name)),
            Some(credentials) => {
                section.mistake(
                    credential,
                    format!(
                        "is {name:?}, but {CREDENTIALS} is {credentials:?}, expected the absolute \
                         path that systemd sets; start the proxy by systemd, or name a {file}"
                    ),
                );
                None
            }
            None => {
                section.mistake(
                    credential,
                    format!(
                        "is {name:?}, but {CREDENTIALS} is not set; start the proxy by systemd with \
                         LoadCredential={name}:FILE, or name a {file}"
                    ),
                );
                None
            }
        },
        (Some(_), Some(_)) => {
            section.mistake(file, format!("stands beside {credential}; name one of them"));
            None
        }
        (None, None) => {
            let what = format!("is missing; name the file that holds the secret, or {credential}");
            section.mistake(file, what);
            None
        }
    }
}
