//! The installation's key: an Ed25519 key pair that signs the beginning and the end of the chain of decision records.
//!
//! It proves that this installation recorded the chain, to everyone who cannot read its state folder. A person who can
//! read it counts as the installation.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::Error;

/// Name of its file in the state folder.
const FILE: &str = "installation.key";
/// The prefix of the file's content.
const MARK: &str = "wharf-ed25519 ";

/// The key pair.
pub(super) struct Key(Ed25519KeyPair);

/// A signed text: canonical JSON, the signer's public key, and the signature, both in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The signed text, byte for byte.
    pub body: String,
    /// The signer.
    pub public_key: String,
    /// The signature of the body.
    pub signature: String,
}

impl Key {
    /// Reads the key of a state folder, or makes one that only this user can read.
    pub(super) fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let unusable = |cause: String| Error::Unusable { path: path.clone(), cause };
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make(dir, &path).map_err(|error| unusable(error.to_string()))?;
                std::fs::read_to_string(&path).map_err(|error| unusable(error.to_string()))?
            }
            read => read.map_err(|error| unusable(error.to_string()))?,
        };
        let mode = std::fs::metadata(&path).map_err(|error| unusable(error.to_string()))?.mode();
        if mode & 0o077 != 0 {
            return Err(unusable(format!("its mode is {:o}, so others can read it; change it to 600", mode & 0o777)));
        }
        let seed = text.trim().strip_prefix(MARK).and_then(|seed| hex::decode(seed).ok());
        let pair = seed.and_then(|seed| Ed25519KeyPair::from_seed_unchecked(&seed).ok());
        pair.map(Self).ok_or_else(|| unusable("it is not a key of Wharf; restore the right key".into()))
    }

    /// Returns the public key in hex.
    pub(super) fn public(&self) -> String {
        hex::encode(self.0.public_key().as_ref())
    }

    /// Signs a text.
    pub(super) fn sign(&self, body: String) -> Signed {
        let signature = hex::encode(self.0.sign(body.as_bytes()).as_ref());
        Signed { public_key: self.public(), signature, body }
    }
}

impl Signed {
    /// Returns whether the signature matches the public key and the body.
    pub fn genuine(&self) -> bool {
        let (public, signature) = (hex::decode(&self.public_key), hex::decode(&self.signature));
        let (Ok(public), Ok(signature)) = (public, signature) else { return false };
        UnparsedPublicKey::new(&ED25519, public).verify(self.body.as_bytes(), &signature).is_ok()
    }
}

/// Writes a new key. If two processes do so concurrently, the first key stays.
fn make(dir: &Path, path: &Path) -> std::io::Result<()> {
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| std::io::Error::other("the system has no random numbers"))?;
    let aside = dir.join(format!("{FILE}.{}", uuid::Uuid::now_v7().simple()));
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(&aside)?;
    file.write_all(format!("{MARK}{}\n", hex::encode(seed)).as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&aside, path);
    std::fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Dir;

    #[test]
    fn a_key_is_made_once_is_closed_to_others_and_signs_what_only_it_can() {
        let dir = Dir::new("key");
        std::fs::create_dir_all(&dir.0).unwrap();
        let keys: Vec<String> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| Key::load(&dir.0).unwrap().public())).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 1, "nothing else is left");
        assert_eq!(std::fs::metadata(dir.0.join(FILE)).unwrap().mode() & 0o777, 0o600);
        let signed = Key::load(&dir.0).unwrap().sign("a".into());
        assert!(signed.genuine());
        assert!(!Signed { body: "b".into(), ..signed.clone() }.genuine());
        assert!(!Signed { signature: "zz".into(), ..signed.clone() }.genuine());
        assert!(!Signed { public_key: "00".repeat(32), ..signed }.genuine());
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = Dir::new("key-bad");
        std::fs::create_dir_all(&dir.0).unwrap();
        Key::load(&dir.0).unwrap();
        std::fs::set_permissions(dir.0.join(FILE), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Key::load(&dir.0).err().unwrap().to_string().contains("change it to 600"));
        std::fs::set_permissions(dir.0.join(FILE), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(dir.0.join(FILE), "nonsense").unwrap();
        assert!(Key::load(&dir.0).err().unwrap().to_string().contains("not a key of Wharf"));
    }
}
