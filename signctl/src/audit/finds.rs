//! What holding journals against what others keep of them found.

use trail::reconcile::Found;

/// What was found: of each journal, and of what is of none of them.
#[derive(Debug, Default)]
pub(super) struct Finds {
    /// In the order of the journals.
    pub(super) of: Vec<Found>,
    pub(super) rest: Found,
}

impl Finds {
    /// Of so many journals nothing is known yet.
    pub(super) fn of(journals: usize) -> Self {
        Self { of: vec![Found::default(); journals], rest: Found::default() }
    }

    /// All of it together.
    pub(super) fn all(&self) -> Found {
        let mut all = Found::default();
        self.of.iter().chain([&self.rest]).for_each(|found| all.add(found));
        all
    }
}
