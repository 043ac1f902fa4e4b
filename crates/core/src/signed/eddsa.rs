//! The one signature algorithm, given to the JWS library: Ed25519, verified strictly.

use std::sync::Once;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes the library use this algorithm and no other. The first call of a process counts.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    // Already installed is as good as installed.
    ONCE.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

/// A private key as the library carries it: the 32 bytes of its seed.
pub(super) fn encoding_key(key: &SigningKey) -> EncodingKey {
    EncodingKey::from_ed_der(&key.to_bytes())
}

/// A public key as the library carries it: its 32 bytes.
pub(super) fn decoding_key(key: &VerifyingKey) -> DecodingKey {
    DecodingKey::from_ed_der(key.as_bytes())
}

fn bytes(bytes: &[u8]) -> Result<[u8; 32], Error> {
    bytes.try_into().map_err(|_| ErrorKind::InvalidEddsaKey.into())
}

fn only_eddsa(algorithm: &Algorithm) -> Result<(), Error> {
    match algorithm {
        Algorithm::EdDSA => Ok(()),
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    only_eddsa(algorithm)?;
    Ok(Box::new(Private(SigningKey::from_bytes(&bytes(key.as_bytes())?))))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    only_eddsa(algorithm)?;
    let key = VerifyingKey::from_bytes(&bytes(key.try_get_as_bytes()?)?);
    Ok(Box::new(Public(key.map_err(|_| ErrorKind::InvalidEddsaKey)?)))
}

struct Private(SigningKey);

impl signature::Signer<Vec<u8>> for Private {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.0.sign(message).to_bytes().to_vec())
    }
}

impl JwtSigner for Private {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

struct Public(VerifyingKey);

impl signature::Verifier<Vec<u8>> for Public {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let signature = Signature::from_slice(signature).map_err(|_| signature::Error::new())?;
        // Strict: no small-order keys, and one signature has one form.
        self.0.verify_strict(message, &signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Public {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}
