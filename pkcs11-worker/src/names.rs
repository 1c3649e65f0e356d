//! Names in a message: so many that they help, so few that they can be read.

/// More than these are counted.
pub(crate) const NAMED_MAX: usize = 8;

/// The first of `names`, and how many more there are.
pub(crate) fn several(names: &[String]) -> String {
    let named = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let names: Vec<_> = (0..10).map(|number| number.to_string()).collect();
        assert_eq!(several(&names[..2]), "0, 1");
        assert_eq!(several(&names), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }
}
