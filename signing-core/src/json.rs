//! The one way in which JSON is read. serde takes a list for a struct, by position; here an object
//! is an object, at every depth, no key stands twice, and no error quotes a value.

use std::collections::HashSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer as _,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::{Deserialize, de};
use serde_json::Value;

/// Longest name of a key or word in an error, in bytes.
const NAME_MAX_BYTES: usize = 40;

/// Why bytes are not the JSON that is expected: where, and of what kind. No value is in it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct JsonError(serde_json::Error);

/// Reads a document from its first byte to its last.
///
/// # Errors
/// [`JsonError`].
pub fn from_slice<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, JsonError> {
    if json.starts_with(b"\xef\xbb\xbf") {
        return Err(JsonError::custom("begins with a byte order mark; leave that out"));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = T::deserialize(Strict(&mut reader))?;
    reader.end().map_err(JsonError)?;
    Ok(value)
}

/// As [`from_slice`].
///
/// # Errors
/// [`JsonError`].
pub fn from_str<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, JsonError> {
    from_slice(json.as_bytes())
}

/// As [`from_slice`], of a file, where an editor may have put a byte order mark first.
///
/// # Errors
/// [`JsonError`].
pub fn from_file<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, JsonError> {
    from_slice(json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json))
}

/// For a member of a struct that is always written, be it null: one that is missing is an error, and no
/// null. serde takes it for one without this.
///
/// # Errors
/// What is there is something else.
pub fn written<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    reader: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(reader)
}

/// Reads what is written in the one form in which we write it: keys sorted, no spaces. That has no
/// key twice. None if it is not.
#[must_use]
pub fn canonical(json: &[u8]) -> Option<Value> {
    let value: Value = serde_json::from_slice(json).ok()?;
    (serde_json::to_vec(&value).ok()? == json).then_some(value)
}

impl de::Error for JsonError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(serde_json::Error::custom(what))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("{} in the place of {expected}", kind(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("{} that is not {expected}", kind(&found)))
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("unknown word {}{}", name(found), known(found, expected)))
    }

    fn unknown_field(found: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("unknown field {}{}", name(found), known(found, expected)))
    }
}

/// What is known in the place of a word that is not.
fn known(found: &str, expected: &'static [&'static str]) -> String {
    match text::meant(found, expected) {
        Some(meant) => format!("; write {meant:?}"),
        None => format!(", expected one of {}", expected.join(", ")),
    }
}

/// What it is, without what it says: serde's own words quote it.
fn kind(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "a string",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq | Unexpected::TupleVariant => "a list",
        Unexpected::Map | Unexpected::StructVariant => "an object",
        Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::Other(_) => "something else",
    }
}

/// A name as it is repeated: names are short words, and anything else may be a secret.
fn name(found: &str) -> String {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if found.len() <= NAME_MAX_BYTES && found.bytes().all(is_word) {
        format!("{found:?}")
    } else {
        format!("of {} bytes", found.len())
    }
}

/// A reader of which every struct takes an object only, and every map each key once.
struct Strict<D>(D);

/// Whatever is expected, the document says what is there: a reader that is told what to expect
/// words the difference itself, with the value.
macro_rules! whatever_is_there {
    ($($method:ident($($argument:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, JsonError> {
            self.0.deserialize_any(Visit::any(visitor)).map_err(JsonError::custom)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = JsonError;

    whatever_is_there! {
        deserialize_any() deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32()
        deserialize_i64() deserialize_i128() deserialize_u8() deserialize_u16() deserialize_u32()
        deserialize_u64() deserialize_u128() deserialize_f32() deserialize_f64() deserialize_char()
        deserialize_str() deserialize_string() deserialize_bytes() deserialize_byte_buf()
        deserialize_unit() deserialize_seq() deserialize_map() deserialize_identifier()
        deserialize_unit_struct(_name: &'static str)
        deserialize_tuple(_length: usize)
        deserialize_tuple_struct(_name: &'static str, _length: usize)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.0.deserialize_any(Visit::object(visitor)).map_err(JsonError::custom)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.0.deserialize_option(Visit::any(visitor)).map_err(JsonError::custom)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.0.deserialize_ignored_any(Visit::any(visitor)).map_err(JsonError::custom)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.0.deserialize_newtype_struct(name, Visit::any(visitor)).map_err(JsonError::custom)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.0.deserialize_enum(name, variants, Visit::any(visitor)).map_err(JsonError::custom)
    }
}

/// A visitor, or the seed of one, whose errors are ours, and that hands on strict readers.
struct Visit<V> {
    inner: V,
    /// It makes a struct.
    is_object: bool,
}

impl<V> Visit<V> {
    fn any(inner: V) -> Self {
        Self { inner, is_object: false }
    }

    fn object(inner: V) -> Self {
        Self { inner, is_object: true }
    }
}

macro_rules! visit {
    ($($method:ident: $type:ty),*) => {$(
        fn $method<E: de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method::<JsonError>(value).map_err(E::custom)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Visit<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128,
        visit_f64: f64, visit_char: char, visit_str: &str, visit_borrowed_str: &'de str,
        visit_string: String, visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8],
        visit_byte_buf: Vec<u8>
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none::<JsonError>().map_err(E::custom)
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit::<JsonError>().map_err(E::custom)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Strict(reader)).map_err(D::Error::custom)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, reader: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Strict(reader)).map_err(D::Error::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        if self.is_object {
            return Err(A::Error::custom("a list in the place of an object"));
        }
        self.inner.visit_seq(Strict(items)).map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        // serde itself finds a field of a struct that stands twice.
        let seen = (!self.is_object).then(HashSet::new);
        self.inner.visit_map(Entries { entries, seen }).map_err(A::Error::custom)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(Strict(variant)).map_err(A::Error::custom)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Visit<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Strict(reader)).map_err(D::Error::custom)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = JsonError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, JsonError> {
        self.0.next_element_seed(Visit::any(seed)).map_err(JsonError::custom)
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

/// The entries of an object, and the keys so far where serde does not look itself.
struct Entries<A> {
    entries: A,
    seen: Option<HashSet<String>>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<A> {
    type Error = JsonError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, JsonError> {
        let Some(seen) = &mut self.seen else {
            return self.entries.next_key_seed(Visit::any(seed)).map_err(JsonError::custom);
        };
        let key: Option<String> = self.entries.next_key().map_err(JsonError::custom)?;
        let Some(key) = key else { return Ok(None) };
        let reader: StrDeserializer<'_, JsonError> = key.as_str().into_deserializer();
        let read = seed.deserialize(reader)?;
        let shown = name(&key);
        if seen.insert(key) {
            Ok(Some(read))
        } else {
            Err(JsonError::custom(format_args!("the key {shown} stands twice")))
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, JsonError> {
        self.entries.next_value_seed(Visit::any(seed)).map_err(JsonError::custom)
    }

    fn size_hint(&self) -> Option<usize> {
        self.entries.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Strict<A> {
    type Error = JsonError;
    type Variant = Strict<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), JsonError> {
        let (value, variant) = self.0.variant_seed(Visit::any(seed)).map_err(JsonError::custom)?;
        Ok((value, Strict(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Strict<A> {
    type Error = JsonError;

    fn unit_variant(self) -> Result<(), JsonError> {
        self.0.unit_variant().map_err(JsonError::custom)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, JsonError> {
        self.0.newtype_variant_seed(Visit::any(seed)).map_err(JsonError::custom)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.newtype_variant_seed(Content(Visit::any(visitor)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.newtype_variant_seed(Content(Visit::object(visitor)))
    }
}

/// What belongs to a word, as whatever is there.
struct Content<V>(Visit<V>);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Content<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<V::Value, D::Error> {
        reader.deserialize_any(self.0)
    }
}
