//! `signctl breakglass show`: a request as a page for an approver, risks first, held against the
//! approver's own copies. It asks no proxy: whoever approves believes none.

pub(super) mod page;
pub(super) mod risks;
pub(super) mod sources;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use host::out;

use page::Page;
use sources::{Document, Sources};

/// Which request, and what it is held against.
#[derive(Args)]
pub(super) struct Flags {
    /// The request.
    #[arg(value_name = "REQUEST")]
    request: PathBuf,
    #[command(flatten)]
    sources: Sources,
}

/// Shows it. What must not be approved is exit status 1.
pub(super) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let document = Document::read(&flags.request)?;
    let now = host::clock::wall_now();
    let known = flags.sources.read(&document, now);
    let risks = risks::of(&document.request, &known, now);
    let page = Page { document: &document, known: &known, risks: &risks, now };
    if as_json {
        out::show_json(&page.json())?;
    } else {
        out::show(&page.words())?;
    }
    Ok(if page.is_open() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests;
