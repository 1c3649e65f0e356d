//! Waiting on conditions, with a deadline and a sentence.

use std::future::Future;
use std::time::{Duration, Instant};

/// Far beyond what anything here takes; only a failure waits this long.
const DEADLINE: Duration = Duration::from_secs(60);

/// Asks `condition` again and again until it gives a value. `what` completes
/// the sentence "... never happened".
pub async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: never happened within {DEADLINE:?}");
        // A pause: between two looks.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
