//! What a request is held against: the approver's own copies of the registry, of the emergency signer's
//! configuration and of the approvers file. A copy that cannot be read is said to be missing: what was
//! not compared never looks as if it had been.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use approvers::{Approvers, Settings, sshsig};
use clap::Args;
use host::files;
use host::section::{self, Mistakes, Section};
use signing_core::Registry;
use signing_core::breakglass::activation::{self, Approval};
use signing_core::breakglass::{
    APPROVAL_MAX_BYTES, APPROVALS_MAX, NAMESPACE, REQUEST_MAX_BYTES, Request,
};
use time::OffsetDateTime;

/// Where the copies are.
#[derive(Args)]
pub(in super::super) struct Copies {
    /// The registry: your own copy, not one that came with the request.
    #[arg(
        long,
        value_name = "FILE",
        env = "SIGNCTL_SIGNERS",
        default_value = "/etc/signing-proxy/signers.json"
    )]
    signers: PathBuf,
    /// The emergency signer's configuration, or your copy of it: who has to approve, and with which keys.
    #[arg(
        long,
        value_name = "FILE",
        env = "SIGNCTL_SIGNER_CONFIG",
        default_value = "/etc/breakglass-signer/breakglass-signer.toml"
    )]
    signer_config: PathBuf,
    /// The approvers file, or your copy of it; else the file that --signer-config names.
    #[arg(long, value_name = "FILE")]
    approvers: Option<PathBuf>,
}

/// The copies, and the approvals that are there already.
#[derive(Args)]
pub(in super::super) struct Sources {
    #[command(flatten)]
    copies: Copies,
    /// An approval that somebody gave already; else the files REQUEST.ROLE.sig beside the request.
    #[arg(long = "approval", value_name = "FILE")]
    approvals: Vec<PathBuf>,
}

/// A request as it was read, once: what is shown is what is signed.
pub(in super::super) struct Document {
    /// Its file.
    pub(in super::super) file: PathBuf,
    /// Its exact bytes.
    pub(in super::super) bytes: Vec<u8>,
    /// What they say.
    pub(in super::super) request: Request,
}

impl Document {
    /// Reads it.
    ///
    /// # Errors
    /// If it cannot be read, or is no request; every mistake at once.
    pub(in super::super) fn read(file: &Path) -> anyhow::Result<Self> {
        let bytes = bounded(file, REQUEST_MAX_BYTES)
            .with_context(|| format!("the request {}", file.display()))?;
        let request = Request::parse(&bytes).map_err(|error| {
            anyhow!("{}: do not approve it: {}", file.display(), error.mistakes.join("\n  - "))
        })?;
        Ok(Self { file: file.to_owned(), bytes, request })
    }

    /// The name of the approval of `role`, beside the request.
    pub(in super::super) fn approval_of(&self, role: &str) -> PathBuf {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let role = role.to_lowercase();
        let role: String = role.chars().map(|c| if fits(c) { c } else { '-' }).collect();
        let mut name = self.file.as_os_str().to_owned();
        name.push(format!(".{role}.sig"));
        PathBuf::from(name)
    }
}

/// Who has to approve, by the emergency signer's configuration.
#[derive(Clone, Debug)]
pub(in super::super) struct Who {
    /// The deployment, which the request has to name.
    pub(in super::super) deployment: String,
    /// Roles, and what keys have to be.
    pub(in super::super) settings: Settings,
    /// The people.
    pub(in super::super) approvers: Approvers,
}

/// What could be read, and why the rest could not.
pub(in super::super) struct Known {
    /// The registry.
    pub(in super::super) registry: Result<Registry, String>,
    /// Its file.
    pub(in super::super) registry_file: PathBuf,
    /// Who has to approve.
    pub(in super::super) who: Result<Who, String>,
    /// Approvals that are there: the file, and who gave it or why it does not count.
    pub(in super::super) approvals: Vec<(PathBuf, Result<Approval, String>)>,
}

impl Copies {
    /// The registry.
    pub(in super::super) fn registry(&self) -> Result<Registry, String> {
        registry(&self.signers)
    }

    /// Who has to approve.
    pub(in super::super) fn who(&self) -> Result<Who, String> {
        let file = self.signer_config.as_path();
        let no = |why: String| format!("--signer-config {}: {why}", file.display());
        let text = files::read_text(file).map_err(|error| no(error.to_string()))?;
        let mistakes = Mistakes::default();
        let mut root = Section::root(section::table(&text).map_err(no)?, &mistakes);
        let mut deployment = root.section("deployment");
        let deployment = deployment.required("name", "name the deployment");
        let directory = file.parent().unwrap_or(Path::new("."));
        let settings = Settings::of_breakglass(root.section("approvers"), directory);
        let mistakes = mistakes.take();
        if !mistakes.is_empty() {
            return Err(no(mistakes.join("; ")));
        }
        let people = self.approvers.as_deref().unwrap_or(&settings.file);
        let approvers = Approvers::load("approvers", people, &settings.roles)
            .map_err(|mistakes| no(mistakes.join("; ")))?;
        Ok(Who { deployment, settings, approvers })
    }
}

impl Sources {
    /// Reads them. Approvals are judged at `now`.
    pub(in super::super) fn read(&self, document: &Document, now: OffsetDateTime) -> Known {
        let (registry, who) = (self.copies.registry(), self.copies.who());
        let approvals = match &who {
            Ok(who) => self.given(document, who, registry.as_ref().ok(), now),
            // Nobody is known by whose key they could count.
            Err(_) => Vec::new(),
        };
        Known { registry, registry_file: self.copies.signers.clone(), who, approvals }
    }

    fn given(
        &self,
        document: &Document,
        who: &Who,
        registry: Option<&Registry>,
        now: OffsetDateTime,
    ) -> Vec<(PathBuf, Result<Approval, String>)> {
        let files: Vec<PathBuf> = if self.approvals.is_empty() {
            let roles = who.settings.rules.required_roles.iter();
            roles.map(|role| document.approval_of(role)).filter(|file| file.exists()).collect()
        } else {
            self.approvals.clone()
        };
        let judged = files.into_iter().enumerate().map(|(at, file)| {
            if at >= APPROVALS_MAX {
                let why = format!("a request has at most {APPROVALS_MAX} approvals");
                return (file, Err(why));
            }
            let read = bounded(&file, APPROVAL_MAX_BYTES).map_err(|error| format!("{error:#}"));
            let approval = read.and_then(|armored| who.judge(&armored, document, registry, now));
            (file, approval)
        });
        judged.collect()
    }
}

impl Who {
    /// Who gave that approval of the document, if it counts by itself: the right bytes, person, role and
    /// kind of key, as the emergency signer judges them.
    ///
    /// # Errors
    /// Why it does not, as a sentence.
    pub(in super::super) fn judge(
        &self,
        armored: &[u8],
        document: &Document,
        registry: Option<&Registry>,
        now: OffsetDateTime,
    ) -> Result<Approval, String> {
        let approval = sshsig::verify(armored, &document.bytes, NAMESPACE, &self.approvers, now)?;
        let empty = Registry::default();
        let registry = registry.unwrap_or(&empty);
        activation::counts(&approval, &self.settings.rules, registry)
            .map_err(|error| error.sentence)?;
        Ok(approval)
    }
}

impl Known {
    /// The approvals that count by themselves.
    pub(in super::super) fn counting(&self) -> Vec<&Approval> {
        self.approvals.iter().filter_map(|(_, approval)| approval.as_ref().ok()).collect()
    }
}

/// Reads a registry.
pub(in super::super) fn registry(file: &Path) -> Result<Registry, String> {
    let no = |why: String| format!("--signers {}: {why}", file.display());
    let text = files::read_text(file).map_err(|error| no(error.to_string()))?;
    Registry::from_json(&text).map_err(|mistakes| no(mistakes.join("; ")))
}

/// Reads a file of others, whole, if it is no longer than `most`.
///
/// # Errors
/// If it cannot be read, or is longer.
pub(in super::super) fn bounded(file: &Path, most: usize) -> anyhow::Result<Vec<u8>> {
    // A named pipe would wait for somebody to write.
    if !std::fs::metadata(file)?.is_file() {
        bail!("is no regular file");
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(u64::try_from(most)?.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        bail!("has more than {most} bytes");
    }
    Ok(bytes)
}
