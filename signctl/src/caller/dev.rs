//! What `signing-proxy dev` wrote for callers on this machine: `.signing-proxy/env`, which a shell reads
//! as well. It counts only if nobody else can have written it and it leads nowhere but to this machine,
//! so that a directory that came from elsewhere names no proxy and no registry.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use nix::fcntl::OFlag;

use signctl::target::Target;

use super::variables::URL;

const DIRECTORY: &str = ".signing-proxy";
const FILE: &str = ".signing-proxy/env";
/// A few paths.
const MAX_BYTES: u64 = 64 << 10;

/// The variables in it. None: there is no such file here.
pub(super) fn read() -> anyhow::Result<Option<BTreeMap<String, String>>> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(FILE);
    let file = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.context(FILE)?,
    };
    if !is_ours(&file)? {
        bail!(
            "{FILE} is not used: it and {DIRECTORY} have to belong to you, and nobody else may read \
             or change them, as `signing-proxy dev` makes them; set {URL} yourself"
        );
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).context(FILE)?;
    let Some(variables) = parse(&text) else {
        bail!("{FILE} is not as `signing-proxy dev` writes it; start `dev` again");
    };
    let is_here = |url: &String| {
        Target::parse(url, "").is_ok_and(|target| {
            target.encrypted
                && target.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        })
    };
    if !variables.get(URL).is_some_and(is_here) {
        bail!(
            "{FILE} is not used: it leads to another machine; load it into the shell if you mean \
             that: . {FILE}"
        );
    }
    Ok(Some(variables))
}

fn is_ours(file: &File) -> anyhow::Result<bool> {
    let user = nix::unistd::geteuid().as_raw();
    let directory = fs::symlink_metadata(Path::new(DIRECTORY)).context(DIRECTORY)?;
    let all = [directory, file.metadata().context(FILE)?];
    Ok(all.iter().all(|it| it.uid() == user && it.mode() & 0o077 == 0))
}

/// Reads lines `export NAME='value'`, in which a shell reads the same. None: there are others.
fn parse(text: &str) -> Option<BTreeMap<String, String>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(variable).collect()
}

fn variable(line: &str) -> Option<(String, String)> {
    let (name, quoted) = line.strip_prefix("export ")?.split_once('=')?;
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_name) {
        return None;
    }
    let value = quoted.strip_prefix('\'')?.strip_suffix('\'')?.replace(r"'\''", "\n");
    // A quote that is left ends the text for a shell; a new line stands for one that is quoted.
    (!value.contains('\'')).then(|| (name.to_owned(), value.replace('\n', "'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_a_shell_reads_them() {
        let text = "# a comment\n\nexport A='x y'\nexport B_C='it'\\''s'\n";
        let read = parse(text).unwrap();
        assert_eq!((read["A"].as_str(), read["B_C"].as_str()), ("x y", "it's"));
        for bad in [
            "A='x'",
            "export A=x",
            "export A='x",
            "export A='a'b'",
            "export ='x'",
            "export a='x'",
            "rm",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
