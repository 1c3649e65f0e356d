//! `[fleet]`: the fleet that this proxy is a member of.

use std::path::Path;
use std::time::Duration;

use approvers::Settings;
use host::section::Section;
use signing_core::fleet::{FLEET_MAX_BYTES, OnLoss, Rules};

use super::Fleet;

/// The section's name where mistakes are reported.
pub const APPROVERS: &str = "fleet.approvers";
/// Who ends freezes, if the configuration names nobody.
const ROLE: &str = "Security";

/// None: no name is given, so there is no fleet.
pub(super) fn read(mut section: Section, directory: &Path) -> Option<Fleet> {
    let name = section.text("name").unwrap_or_default();
    if name.len() > FLEET_MAX_BYTES || name.trim() != name || name.chars().any(char::is_control) {
        let fix = format!("is {name:?}, expected one line of at most {FLEET_MAX_BYTES} bytes");
        section.mistake("name", fix);
    }
    let word = section.text("on_loss").unwrap_or_else(|| "keep".to_owned());
    let on_loss = match word.as_str() {
        "keep" => OnLoss::Keep,
        "freeze" => OnLoss::Freeze,
        other => {
            section.mistake("on_loss", format!("is {other:?}, expected keep or freeze"));
            OnLoss::Freeze
        }
    };
    let lease = Duration::from_secs(section.number("lease_s", 60, 5..=86_400));
    let mut who = section.section("approvers");
    let is_member = !name.is_empty();
    let approvers = Settings::read(&mut who, directory, "unfreeze_roles", &[ROLE], is_member);
    who.finish();
    section.finish();
    is_member.then_some(Fleet { name, rules: Rules { on_loss, lease }, approvers })
}
