//! The section of a configuration that says who may approve.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use host::section::Section;
use signing_core::breakglass::activation::ApprovalRules;

/// Who has to approve a break-glass request, whatever else a configuration asks for (I5).
const BREAKGLASS_ROLES: [&str; 2] = ["Security", "Finance"];

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The allowed_signers file; an empty path if none is named.
    pub file: PathBuf,
    /// Which principals have which role.
    pub roles: BTreeMap<String, Vec<String>>,
    /// Which roles count, and what keys have to be.
    pub rules: ApprovalRules,
}

impl Settings {
    /// Reads the section `[approvers]` of an emergency signer's configuration.
    pub fn of_breakglass(mut section: Section, directory: &Path) -> Self {
        let roles = &BREAKGLASS_ROLES;
        let settings = Self::read(&mut section, directory, "required_roles", roles, true);
        let required = &settings.rules.required_roles;
        let left_out: Vec<_> = roles.iter().filter(|role| !required.contains(**role)).collect();
        if !left_out.is_empty() {
            let what = format!(
                "leaves out {left_out:?}; Security and Finance always approve, add others to them"
            );
            section.mistake("required_roles", what);
        }
        section.finish();
        settings
    }

    /// Reads it. `key` names the roles that count; if it is not there, they are `default`. The file has
    /// to be named if `is_needed`.
    pub fn read(
        section: &mut Section,
        directory: &Path,
        key: &'static str,
        default: &[&str],
        is_needed: bool,
    ) -> Self {
        let fix = "name an OpenSSH allowed_signers file (ssh-keygen(1), ALLOWED SIGNERS)";
        let named = if is_needed {
            section.required("file", fix)
        } else {
            section.text("file").unwrap_or_default()
        };
        let file = if named.is_empty() { PathBuf::new() } else { directory.join(named) };
        let given = section.texts(key);
        let required_roles: BTreeSet<String> = if given.is_empty() {
            default.iter().map(|role| (*role).to_owned()).collect()
        } else {
            given.into_iter().collect()
        };
        let mut roles: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for mut role in section.sections("roles") {
            let name = role.required("role", "name the role, such as \"Security\"");
            let principals = role.texts("principals");
            if principals.is_empty() && role.sound(&["principals"]) {
                role.mistake("principals", "is missing; name principals of the approvers file");
            }
            if roles.contains_key(&name) {
                role.mistake("role", format!("is {name:?}, which another entry is too; keep one"));
            }
            role.finish();
            roles.insert(name, principals);
        }
        let rules = ApprovalRules {
            required_roles,
            hardware_required: section.flag("hardware_required", true),
            touch_required: section.flag("touch_required", true),
            pin_required: section.flag("pin_required", false),
        };
        Self { file, roles, rules }
    }
}
