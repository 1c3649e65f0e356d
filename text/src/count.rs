//! Numbers in sentences: `1 caller`, `2 callers`, `5 hours from now`.

/// `1 caller`, `2 callers`: English nouns that take an s.
#[must_use]
pub fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    // More than fits is many.
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// How far away a time is that comes: `less than an hour`, `5 hours`, `12 days from now`.
#[must_use]
pub fn from_now(seconds: u64) -> String {
    const HOUR: u64 = 3_600;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        0..HOUR => "less than an hour from now".to_owned(),
        HOUR..DAY => format!("{} from now", counted(seconds / HOUR, "hour")),
        _ => format!("{} from now", counted(seconds / DAY, "day")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        let said = [0, 1, 2].map(|count: usize| counted(count, "caller"));
        assert_eq!(said, ["0 callers", "1 caller", "2 callers"]);
    }

    #[test]
    fn a_time_that_comes_is_never_0_days_away() {
        for (seconds, said) in [
            (0, "less than an hour from now"),
            (3_599, "less than an hour from now"),
            (3_600, "1 hour from now"),
            (86_399, "23 hours from now"),
            (86_400, "1 day from now"),
            (30 * 86_400, "30 days from now"),
        ] {
            assert_eq!(from_now(seconds), said);
        }
    }
}
