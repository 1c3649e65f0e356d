//! Which signers a reload adds, changes and removes. Fields stand in the order of their names.

use serde::Serialize;

/// The signers of a configuration that another one takes the place of: those in which they differ, by kid.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SignersChanged<'r> {
    /// They are new: their gates start shut.
    #[serde(rename = "signers_added", skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<&'r str>,
    /// They have other upstreams, or are asked otherwise.
    #[serde(rename = "signers_changed", skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<&'r str>,
    /// How many more there are than are listed.
    #[serde(rename = "signers_left_out", skip_serializing_if = "Option::is_none")]
    pub left_out: Option<usize>,
    /// They are gone, with their gates.
    #[serde(rename = "signers_removed", skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<&'r str>,
}

/// Kids in each list of a reload: all of them fit a record.
const SIGNERS_LISTED_MAX: usize = 48;

impl<'r> SignersChanged<'r> {
    /// Lists them, as many as a record has room for.
    #[must_use]
    pub fn list(added: Vec<&'r str>, changed: Vec<&'r str>, removed: Vec<&'r str>) -> Self {
        let mut all = Self { added, changed, removed, left_out: None };
        let mut left_out = 0;
        for list in [&mut all.added, &mut all.changed, &mut all.removed] {
            left_out += list.len().saturating_sub(SIGNERS_LISTED_MAX);
            list.truncate(SIGNERS_LISTED_MAX);
        }
        Self { left_out: (left_out > 0).then_some(left_out), ..all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_has_no_room_for_is_counted() {
        let signers = SignersChanged::list(vec!["a"; 49], vec!["b"], vec!["c"; 50]);
        let listed = [signers.added.len(), signers.changed.len(), signers.removed.len()];
        assert_eq!((listed, signers.left_out), ([48, 1, 48], Some(3)));
        assert_eq!(SignersChanged::list(vec![], vec!["b"], vec![]).left_out, None);
    }
}
