//! The report as parts, before it is HTML or Markdown: both say the same.

use super::picture::Svg;

/// A report.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) title: String,
    pub(super) sections: Vec<Section>,
}

/// A part with a title.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) blocks: Vec<Block>,
}

/// A piece of it. Its texts may come from a journal, and are escaped by whoever writes them out.
#[derive(Debug)]
pub(super) enum Block {
    /// A paragraph.
    Text(String),
    /// A paragraph that nobody may miss.
    Alarm(String),
    /// Rows under a head of as many columns.
    Table(&'static [&'static str], Vec<Vec<String>>),
    /// Lines to be copied as they are.
    Lines(String),
    /// A picture, and what it shows.
    Picture(String, Svg),
}

/// What was proven.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    /// Both journals are verified, and were read whole.
    pub(super) journals: bool,
    /// KMS's own log was given, and nobody signed around the proxy.
    pub(super) kms: bool,
}
