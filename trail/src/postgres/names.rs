//! Names of schemas and tables, quoted so that nothing in them is SQL.

use std::fmt;

/// A table in its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// Reads `schema.table`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (schema, table) = text.split_once('.')?;
        let is_name =
            |name: &str| (1..=63).contains(&name.len()) && !name.contains(['"', '.', '\0']);
        (is_name(schema) && is_name(table))
            .then(|| Self { schema: schema.to_owned(), table: table.to_owned() })
    }

    /// Both, quoted.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// An identifier, quoted.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
