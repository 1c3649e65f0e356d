//! What a table takes: which of our columns it has, in which of the forms that exist in the field.
//! A table that cannot hold the chain is refused, with every reason.

/// A column as the catalog tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as `format_type` prints it.
    pub kind: String,
    /// Whether a row that leaves it out is refused.
    pub is_needed: bool,
}

/// A value of our rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The UUID.
    Id,
    /// `actor_id`: the service that did it.
    Actor,
    /// `event_type`: the kind of event.
    EventType,
    /// The payload.
    Payload,
    /// The hash of the row before.
    PrevHash,
    /// The hash.
    Hash,
    /// The signature.
    Signature,
    /// The trail's audit key.
    Signer,
    /// The time.
    CreatedAt,
}

/// A column that we write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// What goes there.
    pub field: Field,
}

/// What a table takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The columns that we write.
    pub written: Vec<Written>,
    /// The column that orders rows.
    pub time: String,
    /// The column that names the signer.
    pub signer: String,
    /// Whether there is a column for the hash.
    pub has_hash: bool,
    /// Whether the column `id` holds our UUIDs.
    pub has_our_id: bool,
    /// Whether there is a column `id`.
    pub has_id: bool,
    /// Whether the first row has an empty text as its `prev_hash`: readers of such a table stop at NULL.
    pub first_is_empty: bool,
}

const ALL: [(&str, Field); 11] = [
    ("id", Field::Id),
    ("actor_id", Field::Actor),
    ("event_type", Field::EventType),
    ("payload", Field::Payload),
    ("prev_hash", Field::PrevHash),
    ("hash", Field::Hash),
    ("signature", Field::Signature),
    ("signer_kid", Field::Signer),
    ("signer_id", Field::Signer),
    ("created_at", Field::CreatedAt),
    ("ts", Field::CreatedAt),
];

impl Shape {
    /// What a table with these columns takes.
    ///
    /// # Errors
    /// Everything that it lacks.
    pub fn of(columns: &[Column]) -> Result<Self, Vec<String>> {
        let column = |name: &str| columns.iter().find(|column| column.name == name);
        let mut lacks = Vec::new();
        for name in ["event_type", "payload", "prev_hash", "signature"] {
            if column(name).is_none() {
                lacks.push(format!("it has no column {name}"));
            }
        }
        let first_of =
            |names: [&'static str; 2]| names.into_iter().find(|name| column(name).is_some());
        let time = first_of(["created_at", "ts"]);
        if time.is_none() {
            lacks.push("it has no column created_at, by which readers order rows".to_owned());
        }
        let signer = first_of(["signer_kid", "signer_id"]);
        if signer.is_none() {
            let what =
                "it has no column for the signer, signer_kid or signer_id, by which readers verify";
            lacks.push(what.to_owned());
        }
        if let Some(payload) = column("payload").filter(|column| !is_json(column)) {
            let found = &payload.kind;
            lacks.push(format!("its column payload is of the type {found}, expected jsonb"));
        }
        for name in [time, signer].into_iter().flatten() {
            if let Some(column) = column(name).filter(|column| is_number(&column.kind)) {
                lacks.push(format!("its column {name} is of the type {}", column.kind));
            }
        }
        let has_our_id = column("id").is_some_and(|id| !is_number(&id.kind));
        let written: Vec<_> = ALL
            .into_iter()
            .filter(|(name, _)| *name != "id" || has_our_id)
            .filter_map(|(name, field)| {
                let Column { name, kind, .. } = column(name)?.clone();
                Some(Written { name, kind, field })
            })
            .collect();
        for column in columns.iter().filter(|column| column.is_needed) {
            if !written.iter().any(|written| written.name == column.name) {
                let name = &column.name;
                lacks.push(format!(
                    "its column {name} is NOT NULL without a default, and the trail does not know it"
                ));
            }
        }
        match (time, signer) {
            (Some(time), Some(signer)) if lacks.is_empty() => Ok(Self {
                written,
                time: time.to_owned(),
                signer: signer.to_owned(),
                has_hash: column("hash").is_some(),
                has_our_id,
                has_id: column("id").is_some(),
                first_is_empty: column("stream_status").is_some(),
            }),
            _ => Err(lacks),
        }
    }
}

fn is_json(column: &Column) -> bool {
    ["json", "jsonb"].contains(&&*column.kind)
}

fn is_number(kind: &str) -> bool {
    ["smallint", "integer", "bigint"].contains(&kind) || kind.starts_with("numeric")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(table: &[(&str, &str)]) -> Vec<Column> {
        let column = |(name, kind): &(&str, &str)| Column {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            is_needed: false,
        };
        table.iter().map(column).collect()
    }

    const WHOLE: [(&str, &str); 7] = [
        ("id", "uuid"),
        ("event_type", "text"),
        ("payload", "jsonb"),
        ("prev_hash", "text"),
        ("signature", "text"),
        ("signer_kid", "text"),
        ("created_at", "timestamp with time zone"),
    ];

    #[test]
    fn a_table_without_a_time_or_a_signer_is_refused_by_name() {
        assert!(Shape::of(&columns(&WHOLE)).is_ok());
        for (left_out, expected) in [
            ("created_at", "it has no column created_at, by which readers order rows"),
            (
                "signer_kid",
                "it has no column for the signer, signer_kid or signer_id, by which readers verify",
            ),
            ("payload", "it has no column payload"),
        ] {
            let rest: Vec<_> = WHOLE.into_iter().filter(|(name, _)| *name != left_out).collect();
            assert_eq!(Shape::of(&columns(&rest)), Err(vec![expected.to_owned()]));
        }
    }

    #[test]
    fn a_number_as_id_is_the_tables_own() {
        let mut table = WHOLE;
        table[0].1 = "bigint";
        let shape = Shape::of(&columns(&table)).unwrap();
        assert!(shape.has_id && !shape.has_our_id && !shape.has_hash);
        assert!(shape.written.iter().all(|written| written.name != "id"));
    }

    #[test]
    fn a_column_that_nobody_fills_is_named() {
        let mut table = columns(&WHOLE);
        table.push(Column { name: "tenant".into(), kind: "text".into(), is_needed: true });
        let expected =
            "its column tenant is NOT NULL without a default, and the trail does not know it";
        assert_eq!(Shape::of(&table), Err(vec![expected.to_owned()]));
    }
}
