//! The context of an image build: a folder without the paths that its `.dockerignore` excludes. The same files always
//! give the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::beneath::Folder;
use super::dockerfile::Feature;
use super::ignore::Ignore;

/// Maximum bytes of a Dockerfile, and of a `.dockerignore`.
const MOST_BYTES: u64 = 1 << 20;

/// A build context folder.
#[derive(Debug)]
pub struct Context {
    folder: Folder,
    ignore: Ignore,
    /// Always sent, whatever `.dockerignore` says: the builder needs it.
    dockerfile: PathBuf,
    /// The Dockerfile's text from its first read: the checked text is the text that is sent.
    text: OnceLock<String>,
}

impl Context {
    /// Opens a context by an absolute path without links. An object that replaces the folder later is not read.
    /// `dockerfile` is a path in the folder.
    ///
    /// # Errors
    /// An error if the folder or the Dockerfile cannot be read, or `.dockerignore` contains an invalid pattern.
    pub fn open(folder: &Path, dockerfile: &str) -> Result<Self, String> {
        let file = folder.join(dockerfile);
        let cannot = |path: &Path, error: io::Error| format!("cannot read '{}': {error}", path.display());
        let held = Folder::open(folder).map_err(|error| cannot(folder, error))?;
        let found = held.find(Path::new(dockerfile)).map_err(|error| match is_outside(&error) {
            true => format!("'{}' is outside the context", file.display()),
            false => cannot(&file, error),
        })?;
        // `Dockerfile.dockerignore` beside a Dockerfile takes precedence over the folder's own file.
        let own = PathBuf::from(format!("{}.dockerignore", found.within.display()));
        let mut ignore = Ignore::default();
        for path in [own, PathBuf::from(".dockerignore")] {
            let text = match held.read_text(&path, MOST_BYTES) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if is_outside(&error) => {
                    return Err(format!("'{}' leads out of the context", folder.join(path).display()));
                }
                Err(error) => return Err(cannot(&folder.join(path), error)),
            };
            ignore = Ignore::parse(&text)?;
            break;
        }
        Ok(Self { dockerfile: found.within, folder: held, ignore, text: OnceLock::new() })
    }

    fn text(&self) -> io::Result<&str> {
        if self.text.get().is_none() {
            let read = self.folder.read_text(&self.dockerfile, MOST_BYTES)?;
            let _ = self.text.set(read);
        }
        Ok(self.text.get().map_or("", String::as_str))
    }

    /// Returns the images that the Dockerfile reads from, with these build arguments, on an engine of this
    /// architecture (as `uname -m` prints it).
    ///
    /// # Errors
    /// An error if it cannot be read, or a name in it cannot be determined.
    pub fn images(&self, args: &BTreeMap<String, String>, architecture: &str) -> io::Result<Vec<String>> {
        let text = self.text()?;
        super::dockerfile::images(text, args, architecture).map_err(io::Error::other)
    }

    /// Returns the frontends that the Dockerfile and the build arguments name, see [`super::dockerfile::frontends`].
    ///
    /// # Errors
    /// An error if the Dockerfile cannot be read.
    pub fn frontends(&self, args: &BTreeMap<String, String>) -> io::Result<Vec<String>> {
        Ok(super::dockerfile::frontends(self.text()?, args))
    }

    /// Returns the features that not every builder has, see [`super::dockerfile::features`].
    ///
    /// # Errors
    /// An error if the Dockerfile cannot be read.
    pub fn features(&self) -> io::Result<Vec<Feature>> {
        Ok(super::dockerfile::features(self.text()?))
    }

    /// Returns whether `.dockerignore` leaves the Dockerfile out. The legacy builder removes it from the context after
    /// reading it; BuildKit keeps it.
    pub fn leaves_dockerfile_out(&self) -> bool {
        self.ignore.leaves_out(&self.dockerfile)
    }

    /// Returns the name of the Dockerfile in the archive.
    pub fn dockerfile(&self) -> String {
        self.dockerfile.display().to_string()
    }

    /// Writes the archive. The same files give the same bytes, whatever their owners and times.
    ///
    /// # Errors
    /// An error if a file cannot be read.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut builder = tar::Builder::new(to);
        self.add(&mut builder, &self.folder, Path::new(""))?;
        let list = Path::new(".dockerignore");
        if self.leaves_dockerfile_out()
            && (self.ignore.leaves_out(list) || !self.folder.about(list.as_os_str()).is_ok_and(|about| about.is_file()))
        {
            // With this file the engine removes both from the context after reading them.
            let special = |c: char| matches!(c, '*' | '?' | '[' | '\\');
            let name: String = self.dockerfile().chars().fold(String::new(), |mut name, c| {
                name.extend(special(c).then_some('\\'));
                name.push(c);
                name
            });
            let text = format!("./{name}\n.dockerignore\n");
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, list, text.as_bytes())?;
        }
        builder.into_inner()?.flush()
    }

    fn add(&self, builder: &mut tar::Builder<&mut dyn Write>, folder: &Folder, within: &Path) -> io::Result<()> {
        let at = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        for entry in folder.names(usize::MAX).map_err(|error| at(folder.path(), error))? {
            let (path, name) = (folder.path().join(&entry), within.join(&entry));
            let meta = folder.about(&entry).map_err(|error| at(&path, error))?;
            let needed = name == self.dockerfile;
            let left_out = self.ignore.leaves_out(&name) && !needed;
            let mut header = tar::Header::new_gnu();
            // Without owner and time, which differ from clone to clone; a build sees the modes.
            header.set_metadata_in_mode(&meta, tar::HeaderMode::Deterministic);
            header.set_mode(meta.permissions().mode() & 0o7777);
            if meta.is_dir() {
                if !left_out {
                    header.set_size(0);
                    builder.append_data(&mut header, &name, io::empty()).map_err(|error| at(&path, error))?;
                }
                // An object below may be re-included, or be the Dockerfile.
                if !left_out || self.ignore.takes_back() || self.dockerfile.starts_with(&name) {
                    let inner = folder.child(&entry).map_err(|error| at(&path, error))?;
                    self.add(builder, &inner, &name)?;
                }
            } else if left_out {
                continue;
            } else if meta.is_symlink() {
                header.set_size(0);
                let target = folder.link(&entry).map_err(|error| at(&path, error))?;
                builder.append_link(&mut header, &name, target).map_err(|error| at(&path, error))?;
            } else if meta.is_file() {
                if let Some(text) = self.text.get().filter(|_| needed) {
                    header.set_size(text.len() as u64);
                    builder.append_data(&mut header, &name, text.as_bytes()).map_err(|error| at(&path, error))?;
                    continue;
                }
                let (file, meta) = folder.file(&entry).map_err(|error| at(&path, error))?;
                header.set_size(meta.len());
                let padded = file.take(meta.len()).chain(io::repeat(0)).take(meta.len());
                builder.append_data(&mut header, &name, padded).map_err(|error| at(&path, error))?;
            }
        }
        Ok(())
    }
}

/// Returns whether a path leads out of its folder. For other denied operations, the error has a system error number.
fn is_outside(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

#[cfg(test)]
mod tests {
    use super::super::beneath::tests::{Place, Swapper};
    use super::*;

    fn names(context: &Context) -> Vec<String> {
        let mut bytes = Vec::new();
        context.write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
    }

    #[test]
    fn a_context_is_the_same_for_the_same_files_and_has_what_the_builder_needs() {
        let dir = std::env::temp_dir().join(format!("wharf-context-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("docker/deep")).unwrap();
        std::fs::create_dir_all(dir.join("keep")).unwrap();
        for (name, text) in [
            ("docker/Dockerfile", "FROM host:5000/a AS b\nfrom --platform=x c\nFROM $D\n"),
            ("docker/deep/x", ""),
            ("keep/secret.txt", ""),
            ("keep/plain", "1"),
            (".dockerignore", "docker\n**/secret.*\n"),
        ] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let context = Context::open(&dir, "docker/Dockerfile").unwrap();
        assert_eq!(names(&context), [".dockerignore", "docker/Dockerfile", "keep", "keep/plain"]);
        assert_eq!(context.images(&BTreeMap::new(), "x86_64").unwrap(), ["host:5000/a", "c"]);
        let mut first = Vec::new();
        context.write(&mut first).unwrap();
        let file = std::fs::File::options().write(true).open(dir.join("keep/plain")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let mut second = Vec::new();
        context.write(&mut second).unwrap();
        assert!(first == second);
        // A build sees modes.
        std::fs::set_permissions(dir.join("keep/plain"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut third = Vec::new();
        context.write(&mut third).unwrap();
        assert!(first != third);
        let mut archive = tar::Archive::new(&third[..]);
        let modes = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap())
        });
        assert!(modes.into_iter().any(|(name, mode)| name == "keep/plain" && mode == 0o600));
        assert!(Context::open(&dir, "../Dockerfile").is_err());
        assert!(Context::open(&dir, "none").unwrap_err().contains("none"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    /// Any process in a workspace can do this while an image of its project is built (number 8).
    #[test]
    fn two_hundred_contexts_whose_folders_are_exchanged_have_nothing_from_outside() {
        let place = Place::new("context");
        let project = place.project();
        std::fs::write(project.join("Dockerfile"), "FROM scratch\n").unwrap();
        for number in 0..40 {
            std::fs::write(project.join(format!("sub/{number}")), "inside").unwrap();
            std::fs::write(place.0.join(format!("outside/{number}")), "OUTSIDE").unwrap();
        }
        std::fs::write(project.join("plain"), "inside").unwrap();
        std::os::unix::fs::symlink("../outside/file", project.join("other")).unwrap();
        std::os::unix::fs::symlink("../outside", project.join("way")).unwrap();
        let swapper = Swapper::new(&project, &[("sub", "way"), ("plain", "other")]);
        let mut whole = 0;
        for _ in 0..2_000 {
            let mut bytes = Vec::new();
            let written = Context::open(&project, "Dockerfile").map(|context| context.write(&mut bytes));
            whole += usize::from(matches!(written, Ok(Ok(()))));
            assert!(!bytes.windows(7).any(|window| window == b"OUTSIDE"), "a context has what lies outside");
            if whole == 200 {
                break;
            }
        }
        drop(swapper);
        assert!(whole > 20, "{whole} contexts were written to their end");
    }
}
