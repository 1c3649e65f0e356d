//! The files of `client_crl_files`: every list in them, and whether an authority of
//! `client_ca_file` signed it.

use std::path::{Path, PathBuf};

use host::secret;
use rustls::pki_types::CertificateRevocationListDer;

use super::anchors::Anchors;
use super::files::mistake;
use super::list::{RevocationList, name};
use super::revocation::{Listed, Revocation};
use super::terms::known_algorithms;
use crate::dated::Dated;

const KEY: &str = "server.tls.client_crl_files";

/// Reads every list of `files`; None if there is none, so that revocation is not looked at.
///
/// # Errors
/// Every mistake: the file, the list's position in it, the fix.
pub(super) fn load(
    files: &[PathBuf],
    anchors: Option<&Anchors>,
) -> Result<Option<Revocation>, Vec<String>> {
    let (mut lists, mut mistakes) = (Vec::new(), Vec::new());
    for (number, file) in (1..).zip(files) {
        let ders = match in_file(file) {
            Ok(ders) => ders,
            Err(mistake) => {
                mistakes.push(mistake);
                continue;
            }
        };
        for (position, der) in (1..).zip(&ders) {
            let what = format!("{KEY}: list {position} of {}", file.display());
            let read = RevocationList::parse(der).map_err(|why| why.to_string());
            let signed = read.and_then(|list| match anchors {
                // That is a mistake of its own.
                None => Ok((list, false)),
                Some(anchors) => signed(&list, anchors).map(|by_anchor| (list, by_anchor)),
            });
            match signed {
                Ok((list, by_anchor)) => {
                    let (begins, ends) = (list.this_update, list.next_update);
                    let dated = Dated { what, begins, ends };
                    lists.push(Listed { list, place: (number, position), dated, by_anchor });
                }
                Err(why) => mistakes.push(format!("{what} {why}")),
            }
        }
    }
    match (lists.is_empty(), mistakes.is_empty()) {
        (_, false) => Err(mistakes),
        (true, true) => Ok(None),
        (false, true) => Ok(Some(Revocation::new(lists, known_algorithms()))),
    }
}

/// When each list counts, in the order of the files.
pub(super) fn dated(lists: Option<&Revocation>) -> Vec<Dated> {
    let all = lists.map(Revocation::all).unwrap_or_default();
    all.into_iter().map(|listed| listed.dated.clone()).collect()
}

/// Whether an authority signed the list. One of the list's issuer's name has to; a list of
/// another name may be an intermediate authority's, which clients bring.
fn signed(list: &RevocationList, anchors: &Anchors) -> Result<bool, String> {
    let known = known_algorithms();
    let named: Vec<_> = anchors.iter().filter(|anchor| *anchor.subject == *list.issuer).collect();
    if named.is_empty() {
        return Ok(false);
    }
    let mut signers = named.iter().filter(|anchor| list.is_signed_by(&anchor.spki, &known));
    let issuer = name(&list.issuer);
    let Some(signer) = signers.next() else {
        return Err(format!(
            "is signed by none of the authorities {issuer:?} in client_ca_file; fetch it again, or, \
             if that authority has a new key, add its new certificate to client_ca_file"
        ));
    };
    // Renewed with the same key, one of its certificates may allow it.
    if signer.signs_lists || signers.any(|anchor| anchor.signs_lists) {
        return Ok(true);
    }
    Err(format!(
        "is signed by {issuer:?}, whose certificate in client_ca_file does not allow that: its \
         keyUsage lacks cRLSign; have that authority's certificate issued anew"
    ))
}

/// Every list of a PEM file, or the one of a DER file.
fn in_file(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let blocks = secret::revocation_lists(file).map_err(|error| format!("{KEY}: {error}"))?;
    if blocks.others > 0 {
        // One that is passed over could hold the revocation that counts.
        let lists = text::counted(blocks.found.len(), "revocation list");
        let others = text::counted(blocks.others, "other PEM block");
        return Err(mistake(
            KEY,
            file,
            format_args!("has {lists} and {others}; leave only revocation lists in it"),
        ));
    }
    Ok(blocks.found.into_iter().map(CertificateRevocationListDer::from).collect())
}
