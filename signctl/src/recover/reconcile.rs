//! Whether anybody signed around the journals, or changed their rows, since the incident began. What cannot be compared
//! now, somebody answers for by name.

use std::path::Path;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Flags;
use crate::audit;

/// What an upstream's credential begins with in `audit used`, if it is KMS.
const KMS: &str = "aws-kms ";

/// What was compared, or the first thing that is wrong.
pub(super) fn reconciled(
    flags: &Flags,
    (journal, signer): (&Path, Option<&Path>),
    id: &str,
) -> Result<String, String> {
    let said = |error: anyhow::Error| format!("{error:#}");
    let (since, used) = audit::used(journal, signer, id).map_err(said)?;
    let mut found = Vec::new();
    let mut left = Vec::new();
    match &flags.database {
        Some(database) => {
            let table = (database, &flags.table);
            let rows = audit::reconcile_rows((journal, signer), &flags.signers, table);
            found.push(rows.map_err(said)??);
        }
        None => left.push("the rows of signing-trail (--database-url)"),
    }
    if flags.kms_log.is_given() {
        for also in flags.kms_log.also() {
            let verified = audit::verified_whole(also, Some(&flags.signers), None).map_err(said)?;
            verified.map_err(|defect| format!("DEFECT in {}: {defect}", also.display()))?;
        }
        let place = flags.database.as_ref().map(|database| database.place(&flags.table));
        let place = place.transpose().map_err(said)?;
        let from = OffsetDateTime::parse(&since, &Rfc3339).map_err(|error| error.to_string())?;
        let wanted = (Some(from.unix_timestamp()), None);
        let signers: Vec<_> = signer.into_iter().collect();
        let report = flags.kms_log.compare((&[journal], &signers), place.as_ref(), wanted);
        let report = report.map_err(said)?;
        if !report.is_good() {
            let why = report.lacks().into_iter().next();
            let why =
                why.unwrap_or_else(|| "signctl audit reconcile --cloudtrail names each".to_owned());
            return Err(format!("{}; {why}", report.verdict()));
        }
        found.push(report.verdict());
    } else if used.names().iter().any(|name| name.starts_with(KMS)) {
        left.push("KMS's own log (--cloudtrail)");
    }
    match (&flags.not_reconciled, left.is_empty()) {
        (_, true) => {}
        (Some(who), false) => found.push(format!("not compared: {}; {who}", left.join(" and "))),
        (None, false) => {
            return Err(format!(
                "compare {} too, or say who does so and when: --not-reconciled WHO",
                left.join(" and ")
            ));
        }
    }
    Ok(found.join("; "))
}
