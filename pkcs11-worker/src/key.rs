//! Exactly one private key, and the public key that belongs to it.

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use signing_core::Algorithm;
use signing_core::key::{KeyKind, spki_of_point, spki_of_rsa};
use signing_core::worker::Start;

use crate::names;
use crate::token_error::TokenError;

/// A key on the token.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Its handle, the same in every session.
    pub(crate) handle: ObjectHandle,
    /// Its kind.
    pub(crate) kind: KeyKind,
    /// DER SubjectPublicKeyInfo.
    pub(crate) spki_der: Vec<u8>,
}

/// Finds the key that `start` names.
pub(crate) fn find(
    session: &Session,
    start: &Start,
    (algorithm, kind): (Algorithm, KeyKind),
) -> Result<Key, TokenError> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
    if let Some(label) = &start.key_label {
        template.push(Attribute::Label(label.clone().into_bytes()));
    }
    if let Some(id) = &start.key_id {
        let id = hex::decode(id).map_err(|_| {
            TokenError::key(format!("key_id {id:?} is not an even number of hex digits"))
        })?;
        template.push(Attribute::Id(id));
    }
    let named = named(start);
    let handle = match search(session, &template)?.as_slice() {
        [only] => *only,
        [] => {
            let all = search(session, &[Attribute::Class(ObjectClass::PRIVATE_KEY)])?;
            let there = match all.as_slice() {
                [] => "it shows this user no private key at all".to_owned(),
                all => format!("it holds {}", described(session, all)),
            };
            return Err(TokenError::key(format!(
                "the token {:?} holds no private key with {named}; correct it, or make the key; \
                 {there}",
                start.token_label
            )));
        }
        several => {
            return Err(TokenError::key(format!(
                "the token {:?} holds {} private keys with {named}; name both key_label and \
                 key_id: {}",
                start.token_label,
                several.len(),
                described(session, several)
            )));
        }
    };
    let private = Held::read(session, handle)?;
    let Some(key_type) = key_type(kind) else {
        return Err(TokenError::key(kind.signs_on_tokens().err().unwrap_or_default()));
    };
    if private.key_type != Some(key_type) {
        return Err(TokenError::key(format!(
            "the key with {named} is of another kind than {algorithm} needs; correct signers.json, \
             or name another key"
        )));
    }
    if private.signs == Some(false) {
        return Err(TokenError::key(format!(
            "the key with {named} may not sign (CKA_SIGN is false); name another key"
        )));
    }
    if private.always_authenticate == Some(true) {
        return Err(TokenError::key(format!(
            "the key with {named} wants the PIN for every signature (CKA_ALWAYS_AUTHENTICATE), \
             which is not supported; make one without"
        )));
    }
    let spki_der = public(session, &private)?
        .and_then(|public| public.spki(kind))
        // Some tokens hold the public half with the private key.
        .or_else(|| private.spki(kind))
        .ok_or_else(|| {
            TokenError::key(format!(
                "the token holds no public key of {algorithm} that belongs to the private key with \
                 {named}; import it with the same CKA_ID"
            ))
        })?;
    Ok(Key { handle, kind, spki_der })
}

/// What is read of an object.
#[derive(Debug, Default)]
struct Held {
    key_type: Option<KeyType>,
    id: Vec<u8>,
    label: Vec<u8>,
    signs: Option<bool>,
    always_authenticate: Option<bool>,
    point: Option<Vec<u8>>,
    modulus: Option<Vec<u8>>,
    exponent: Option<Vec<u8>>,
}

impl Held {
    fn read(session: &Session, object: ObjectHandle) -> Result<Self, TokenError> {
        let of_any = [AttributeType::KeyType, AttributeType::Id, AttributeType::Label];
        let mut held = Self::default();
        held.take(session, object, &of_any)
            .map_err(|error| TokenError::new("the key does not say what it is", &error))?;
        // One by one: tokens differ in what they do about an attribute that they lack.
        for wanted in [
            AttributeType::Sign,
            AttributeType::AlwaysAuthenticate,
            AttributeType::EcPoint,
            AttributeType::Modulus,
            AttributeType::PublicExponent,
        ] {
            // An attribute that cannot be read is one that is not there.
            let _ = held.take(session, object, &[wanted]);
        }
        Ok(held)
    }

    fn take(
        &mut self,
        session: &Session,
        object: ObjectHandle,
        wanted: &[AttributeType],
    ) -> cryptoki::error::Result<()> {
        for attribute in session.get_attributes(object, wanted)? {
            match attribute {
                Attribute::KeyType(key_type) => self.key_type = Some(key_type),
                Attribute::Id(id) => self.id = id,
                Attribute::Label(label) => self.label = label,
                Attribute::Sign(signs) => self.signs = Some(signs),
                Attribute::AlwaysAuthenticate(always) => self.always_authenticate = Some(always),
                Attribute::EcPoint(point) => self.point = Some(point),
                Attribute::Modulus(modulus) => self.modulus = Some(modulus),
                Attribute::PublicExponent(exponent) => self.exponent = Some(exponent),
                _ => {}
            }
        }
        Ok(())
    }

    /// Of which curve it is, the registry says: on another curve it is no point, or the first
    /// signature does not verify.
    fn spki(&self, kind: KeyKind) -> Option<Vec<u8>> {
        match kind {
            KeyKind::Rsa => spki_of_rsa(self.modulus.as_ref()?, self.exponent.as_ref()?),
            of_a_point => spki_of_point(of_a_point, self.point.as_ref()?),
        }
    }
}

/// The public key with the private key's id, or without one, with its label. Which key it
/// really is tells the first signature.
fn public(session: &Session, private: &Held) -> Result<Option<Held>, TokenError> {
    let same = if private.id.is_empty() {
        Attribute::Label(private.label.clone())
    } else {
        Attribute::Id(private.id.clone())
    };
    let mut template = vec![Attribute::Class(ObjectClass::PUBLIC_KEY), same];
    template.extend(private.key_type.map(Attribute::KeyType));
    match search(session, &template)?.first() {
        Some(object) => Held::read(session, *object).map(Some),
        None => Ok(None),
    }
}

fn search(session: &Session, template: &[Attribute]) -> Result<Vec<ObjectHandle>, TokenError> {
    session
        .find_objects(template)
        .map_err(|error| TokenError::new("the token does not look for the key", &error))
}

/// The names of keys, as the configuration would write them.
fn described(session: &Session, keys: &[ObjectHandle]) -> String {
    let read = |key: &ObjectHandle| {
        let mut held = Held::default();
        for wanted in [AttributeType::Label, AttributeType::Id] {
            let _ = held.take(session, *key, &[wanted]);
        }
        let label = String::from_utf8_lossy(&held.label).into_owned();
        format!("key_label {label:?} key_id {:?}", hex::encode(held.id))
    };
    // No more are read than are shown.
    let shown = keys.iter().take(names::NAMED_MAX).map(read);
    let rest = keys.iter().skip(names::NAMED_MAX).map(|_| String::new());
    names::several(&shown.chain(rest).collect::<Vec<_>>())
}

fn named(start: &Start) -> String {
    let label = start.key_label.as_ref().map(|label| format!("key_label {label:?}"));
    let id = start.key_id.as_ref().map(|id| format!("key_id {id:?}"));
    label.into_iter().chain(id).collect::<Vec<_>>().join(" and ")
}

/// None: PKCS#11 has such keys from version 3.2 on only.
fn key_type(kind: KeyKind) -> Option<KeyType> {
    match kind {
        KeyKind::Ed25519 => Some(KeyType::EC_EDWARDS),
        KeyKind::P256 | KeyKind::Secp256k1 | KeyKind::P384 | KeyKind::P521 => Some(KeyType::EC),
        KeyKind::Rsa => Some(KeyType::RSA),
        KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => None,
    }
}
