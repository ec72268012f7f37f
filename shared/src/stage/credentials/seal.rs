//! Sealing: a token is stored encrypted, and only as what it is: another destination's, or another version, does not open.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::configuration::{Secret, SecretKey};

/// Seals and opens with the key of the configuration.
pub struct Seal(LessSafeKey);

/// What a token is sealed as.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Whose it is.
    pub destination: &'a str,
    /// Which one.
    pub version: i64,
}

/// The system gave no random bytes, or refused the key.
#[derive(Debug, thiserror::Error)]
#[error("a token cannot be sealed")]
pub struct Unsealable;

impl Seal {
    /// With this key.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn new(key: &SecretKey) -> Result<Self, Unsealable> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.expose()).map_err(|_| Unsealable)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals: a random nonce, then what is encrypted. A key seals a few tokens a day: no nonce comes twice.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn seal(&self, place: Place<'_>, token: &Secret) -> Result<Vec<u8>, Unsealable> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| Unsealable)?;
        let mut bytes = token.expose().as_bytes().to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), place.bytes(), &mut bytes)
            .map_err(|_| Unsealable)?;
        Ok([nonce.as_slice(), &bytes].concat())
    }

    /// Opens; `None` if it was sealed with another key, or as something else.
    #[must_use]
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Option<Secret> {
        let (nonce, bytes) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = bytes.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let token = self.0.open_in_place(nonce, place.bytes(), &mut bytes).ok()?;
        std::str::from_utf8(token)
            .ok()
            .map(|token| Secret::new(token.to_owned()))
    }
}

impl Place<'_> {
    /// The version stands first: whatever a name holds, no two places have the same bytes.
    fn bytes(&self) -> Aad<Vec<u8>> {
        Aad::from([self.version.to_be_bytes().as_slice(), self.destination.as_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(digit: &str) -> Seal {
        let key: SecretKey = serde_json::from_value(digit.repeat(64).into()).unwrap();
        Seal::new(&key).unwrap()
    }

    fn place(destination: &str, version: i64) -> Place<'_> {
        Place { destination, version }
    }

    #[test]
    fn only_the_same_key_opens_it_and_only_as_what_it_is() {
        let token = Secret::new("a token".to_owned());
        let sealed = seal("0").seal(place("fiscal", 7), &token).unwrap();
        assert!(!sealed.windows(5).any(|bytes| bytes == b"token"));
        assert_eq!(seal("0").open(place("fiscal", 7), &sealed), Some(token.clone()));
        assert_eq!(seal("1").open(place("fiscal", 7), &sealed), None);
        assert_eq!(seal("0").open(place("fiscal", 8), &sealed), None);
        assert_eq!(seal("0").open(place("other", 7), &sealed), None);
        for wrong in [&sealed[..sealed.len() - 1], &sealed[..11], &[]] {
            assert_eq!(seal("0").open(place("fiscal", 7), wrong), None);
        }
        let again = seal("0").seal(place("fiscal", 7), &token).unwrap();
        assert_ne!(sealed, again, "the same twice shows nothing");
    }
}
