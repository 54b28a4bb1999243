//! A second copy of the end of the chain, outside the database: the file `decisions.head` in the state folder, signed
//! like the one in the database. If the end in the database is cut off, including its head, this file still names it.
//!
//! The order of writes is: a record and the head in the database in one transaction, then this file. A process that
//! dies between the two leaves the file behind the database, which is harmless: the record that the file names is in
//! the chain. A file ahead of the database means that records are gone. The only causes are a deliberate cut, a machine
//! that lost its power before the database's last pages reached the disk, or an older copy of the database in its
//! place. An admin who knows the cause acknowledges it (`acknowledge`).

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Head, Signed};
use crate::store::Error;
use crate::store::key::Key;

/// Its name in the state folder.
pub(super) const FILE: &str = "decisions.head";
/// A limit that exceeds any valid size.
const MOST: u64 = 64 << 10;

/// The content of the file.
pub(super) enum Outside {
    Missing,
    /// The file exists, but this program has not signed its content.
    Unusable(String),
    Signed(Signed, Head),
}

impl Outside {
    /// Reads the file, without a check of its signer.
    pub(super) fn read(dir: &Path) -> Self {
        let path = dir.join(FILE);
        if let Err(error) = std::fs::symlink_metadata(&path)
            && error.kind() == ErrorKind::NotFound
        {
            return Self::Missing;
        }
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) => return Self::Unusable(format!("cannot be read: {error}")),
        };
        let Ok(signed) = serde_json::from_slice::<Signed>(&bytes) else { return Self::Unusable("was changed".into()) };
        match serde_json::from_str(&signed.body) {
            Ok(head) if signed.genuine() => Self::Signed(signed, head),
            _ => Self::Unusable("was changed: its signature does not match".into()),
        }
    }

    /// Returns the end that it names, if this key has signed it for this installation.
    pub(super) fn head(self, key: &Key, host: &str) -> Option<Head> {
        match self {
            Self::Signed(signed, head) if signed.public_key == key.public() && head.host == host => Some(head),
            _ => None,
        }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes the file, unless it already names a later end: of two processes, the later end stays. The very first file is
/// on the disk before this returns.
///
/// # Errors
/// When the state folder cannot be written.
pub(super) fn write(dir: &Path, key: &Key, host: &str, signed: &Signed, head: &Head) -> Result<(), Error> {
    let path = dir.join(FILE);
    let unusable = |error: std::io::Error| Error::Unusable { path: path.clone(), cause: error.to_string() };
    let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(dir.join("locks/_head.lock"));
    let lock = lock.map_err(unusable)?;
    lock.lock().map_err(unusable)?;
    let before = Outside::read(dir);
    let first = matches!(before, Outside::Missing);
    if before.head(key, host).is_some_and(|before| before.number > head.number) {
        return Ok(());
    }
    let put = || -> std::io::Result<()> {
        // The lock allows one writer, so no other process uses this name. A dead process has at most left an incomplete
        // file.
        let aside = dir.join(format!(".{FILE}.new"));
        let _ = std::fs::remove_file(&aside);
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&aside)?;
        file.write_all(&serde_json::to_vec(signed)?)?;
        if first {
            file.sync_all()?;
        }
        std::fs::rename(&aside, &path)?;
        if first { File::open(dir)?.sync_all() } else { Ok(()) }
    };
    put().map_err(unusable)
}
