//! A task that ends with whatever it was started for.

use tokio::task::JoinHandle;

/// Ends the task when it is dropped.
#[derive(Debug)]
pub struct OfOwner(pub JoinHandle<()>);

impl Drop for OfOwner {
    fn drop(&mut self) {
        self.0.abort();
    }
}
