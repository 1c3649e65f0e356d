//! The head of its journal that a process notes in its state directory.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use audit::verify::KeptHead;
use host::files;
use serde_json::Value;
use signing_core::journal::Head;
use signing_core::json;
use signing_core::tree::{LogId, TreeHash};

/// The file of each process, and the member in it that is the head.
const NOTED: [(&str, &str); 2] =
    [("freeze-and-seals.json", "journal"), ("breakglass-signer.json", "witness")];

/// The head that is noted in that state directory. Without one there is nothing to compare, which is
/// an error: whoever asks relies on it.
pub(super) fn head(directory: &Path) -> anyhow::Result<KeptHead> {
    let mut found = NOTED.iter().map(|(name, member)| (directory.join(name), member));
    let Some((file, member)) = found.find(|(file, _)| file.exists()) else {
        let [(proxy, _), (signer, _)] = NOTED;
        bail!("--state {}: neither {proxy} nor {signer} is there", directory.display());
    };
    let name = file.display();
    let text = files::read_text(&file);
    let text = text.with_context(|| format!("--state: {name}"))?;
    let noted: Value = json::from_slice(text.as_bytes())
        .map_err(|error| anyhow!("--state: {name}: it is not JSON: {error}"))?;
    let noted = noted.get(member).filter(|noted| !noted.is_null());
    let noted = noted.ok_or_else(|| anyhow!("--state: {name}: it notes no head of a journal"))?;
    let (log, head) = parse(noted)
        .ok_or_else(|| anyhow!("--state: {name}: `{member}` is not a head of a journal"))?;
    Ok(KeptHead { whose: format!("the head noted in {name}"), log: Some(log), head })
}

fn parse(noted: &Value) -> Option<(LogId, Head)> {
    let text = |member: &str| noted.get(member)?.as_str();
    let (log, root) = (LogId::parse(text("log")?)?, TreeHash::parse(text("root")?)?);
    Some((log, Head { size: noted.get("size")?.as_u64()?, root }))
}
