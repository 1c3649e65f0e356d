//! What is wrong with the files of the emergency signer.

use system_tests::breakglass::succeeds;
use system_tests::programs::system;

use super::{Is, Place, Row, row, variable};

/// Puts these options before the key of the second approver.
fn second_with(place: &Place<'_>, options: &str) {
    let text = std::fs::read_to_string(place.path("approvers")).unwrap();
    let (first, second) = text.split_once('\n').unwrap();
    let (who, rest) = second.split_once(' ').unwrap();
    let (_, key) = rest.split_once("\" ").unwrap();
    place.write("approvers", format!("{first}\n{who} {options} {key}"));
}

fn made(place: &Place<'_>, file: &str, arguments: &[&str]) {
    let mut openssl = system("openssl");
    let _ = succeeds(openssl.args(arguments).arg("-out").arg(place.path(file)));
}

pub(super) const ROWS: &[Row] = &[
    row(
        "approvers with keys in files, while hardware is required",
        Is::Mistake,
        |place| place.configure("hardware_required = false\n", ""),
        &[
            "approvers.hardware_required",
            "security@test",
            "is of the kind ssh-ed25519",
            "ed25519-sk",
        ],
    ),
    row(
        "an approver whose time has passed",
        Is::Mistake,
        |place| second_with(place, "valid-before=\"20260101Z\""),
        &["approvers.file: ", "counted until 2026-01-01", "valid-before"],
    ),
    row(
        "a quorum that one person cannot fill",
        Is::Mistake,
        |place| place.configure("[\"finance@test\"]", "[\"security@test\"]"),
        &["approvers.roles", "cannot be filled by a person each", "Finance: security@test"],
    ),
    row(
        "more roles than approvals",
        Is::Mistake,
        |place| {
            let roles = ["A", "B", "C"].map(|role| {
                format!(
                    "[[approvers.roles]]\nrole = \"{role}\"\nprincipals = [\"security@test\"]\n"
                )
            });
            let names = "required_roles = [\"Security\", \"Finance\", \"A\", \"B\", \"C\"]\n";
            let from = "hardware_required = false\n";
            place.configure(from, &format!("{from}{names}{}", roles.concat()));
        },
        &["approvers.required_roles: names 5 roles", "4 approvals"],
    ),
    row(
        "an emergency key that was revoked",
        Is::Mistake,
        |place| {
            let revoked = "\"purpose\":\"breakglass\",\"revokedAt\":\"2026-01-01T00:00:00Z\"";
            place.edit("signers.json", "\"purpose\":\"breakglass\"", revoked);
        },
        &["emergency_keys: none can be opened", "emergency cannot be used", "revoked"],
    ),
    row(
        "an emergency key that nobody encrypted",
        Is::Mistake,
        |place| made(place, "emergency.pem", &["genpkey", "-algorithm", "ed25519"]),
        &[
            "emergency_keys",
            "emergency.pem holds a private key without a passphrase",
            "openssl pkcs8 -topk8 ",
        ],
    ),
    row(
        "an audit key in DER",
        Is::Mistake,
        |place| made(place, "audit.key", &["genpkey", "-algorithm", "ed25519", "-outform", "DER"]),
        &[
            "audit.key_file: ",
            "audit.key holds a private key in DER",
            "openssl pkey -inform DER -in ",
        ],
    ),
    row(
        "tabs between an approver's words",
        Is::Note,
        |place| {
            let text = std::fs::read_to_string(place.path("approvers")).unwrap();
            place.write("approvers", text.replace(' ', "\t"));
        },
        &["approvers.file: ", "approvers has tabs in line 1, 2", "taken as blanks"],
    ),
    row(
        "a misspelt option of an approver",
        Is::Mistake,
        |place| second_with(place, "valid-befor=\"20260101Z\""),
        &["approvers.file: ", "line 2: ", "valid-befor", "write valid-before=\"...\""],
    ),
    row(
        "a private key in the place of the approvers",
        Is::Mistake,
        |place| made(place, "approvers", &["genpkey", "-algorithm", "ed25519"]),
        &["approvers.file: ", "approvers is a PEM; name the file of allowed_signers(5)"],
    ),
    row(
        "a misspelt revocation",
        Is::Mistake,
        |place| {
            let revoked = "\"revoked_at\":\"2026-01-01T00:00:00Z\",\"signer_kid\":\"payments\"";
            place.edit("signers.json", "\"signer_kid\":\"payments\"", revoked);
        },
        &["registry.file: ", "\"payments\"", "\"revoked_at\" is unknown; write \"revokedAt\""],
    ),
    row(
        "a list in the place of an entry",
        Is::Mistake,
        |place| place.write("signers.json", r#"{"signers":[["payments","ED25519_SHA_512","x"]]}"#),
        &["registry.file: ", "signers.json", "object"],
    ),
    row(
        "a line end behind a name",
        Is::Mistake,
        |place| place.configure("name = \"test\"", "name = \"test\\n\""),
        &["deployment.name: is \"test\\n\"", "ends with a line end", "; remove it"],
    ),
    variable(
        &[("BREAKGLASS_SIGNER__OUTAGE__MIN_S", " 600\n")],
        Is::Note,
        &["BREAKGLASS_SIGNER__OUTAGE__MIN_S: is \" 600\\n\"", "taken as \"600\"", "remove"],
    ),
    row(
        "an emergency key that others read",
        Is::MistakeInProduction,
        |place| place.chmod("emergency.pem", 0o644),
        &["emergency_keys: emergency: every user may read ", "(mode 0644)", "chmod it to 0400"],
    ),
    row(
        "the audit key that others read",
        Is::MistakeInProduction,
        |place| place.chmod("audit.key", 0o644),
        &["audit.key_file: every user may read ", "audit.key (mode 0644)", "chmod it to 0400"],
    ),
    row(
        "approvers that others change",
        Is::MistakeInProduction,
        |place| place.chmod("approvers", 0o666),
        &["approvers.file: every user may change ", "approvers (mode 0666)", "chmod o-w "],
    ),
    row(
        "a state that others write into",
        Is::MistakeInProduction,
        |place| place.chmod("state", 0o777),
        &["state.dir: every user may write into ", "state (mode 0777)", "chmod o-w "],
    ),
    row(
        "a journal that others write into",
        Is::MistakeInProduction,
        |place| place.chmod("journal", 0o777),
        &["audit.dir: every user may write into ", "journal (mode 0777)", "chmod o-w "],
    ),
    row(
        "a proxy that is not in the socket's group",
        Is::Note,
        |place| {
            place.configure(
                "socket = \"signer.sock\"\nallowed_uids = [0]",
                "socket = \"signer.sock\"\nallowed_uids = [65534]",
            );
        },
        &[
            "signer.allowed_uids: uid 65534 (nobody) cannot connect to ",
            "signer.sock",
            "usermod -aG root nobody",
        ],
    ),
    row(
        "an operator whom this machine does not know",
        Is::Note,
        |place| {
            place.configure(
                "socket = \"operator.sock\"\nallowed_uids = [0]",
                "socket = \"operator.sock\"\nallowed_uids = [0, 4711]",
            );
        },
        &[
            "operator.allowed_uids: uid 4711 (no name) cannot connect to ",
            "operator.sock",
            "correct the number",
        ],
    ),
];
