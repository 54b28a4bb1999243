//! A toolchain from Debian's packages, for machines that reach package registries but not rustup's server.
//!
//! Debian ships a recent rustc for building browsers (`rustc-web`) together with the sources of its standard library.
//! The packages are unpacked into a private cache folder, never installed, and used only for guests: this rustc has
//! another version than the installed one, and the two can't be mixed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::command;

/// The required packages; their dependencies are looked up.
const ROOTS: [&str; 2] = ["rustc-web", "rust-web-src"];

/// The oldest Rust that the workspace builds with.
const LEAST: &str = env!("CARGO_PKG_RUST_VERSION");

/// The prefix of a complete toolchain folder inside the cache folder; the packages' version follows.
const COMPLETE: &str = "debian-";

/// The prefix of a folder that is still being filled; the ID of the process follows.
const PARTIAL: &str = ".partial-";

/// The age from which a partial folder counts as abandoned: no set-up takes this long.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// An unpacked toolchain.
pub struct Unpacked {
    prefix: PathBuf,
}

impl Unpacked {
    /// Returns the toolchain that an earlier run left in the cache folder, if any.
    pub fn cached() -> Result<Option<Self>> {
        let Ok(entries) = fs::read_dir(cache_folder()?) else { return Ok(None) };
        // A toolchain that an older checkout fetched may be too old by now; then a new one is fetched beside it.
        let is_usable = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix(COMPLETE).is_some_and(|version| minor(version) >= minor(LEAST))
        };
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_usable).collect();
        found.sort();
        Ok(found.pop().map(|prefix| Self { prefix }))
    }

    /// Downloads and unpacks the packages into the cache folder.
    ///
    /// # Errors
    /// When this is not Debian, or the packages are unavailable, too old, or lack a required library.
    pub fn fetch() -> Result<Self> {
        let cache = cache_folder()?;
        fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        remove_abandoned(&cache);
        let partial = cache.join(format!("{PARTIAL}{}", std::process::id()));
        let result = Self::fetch_into(&partial, &cache);
        // A remaining folder is harmless: the next set-up removes it.
        let _ = fs::remove_dir_all(&partial);
        result
    }

    fn fetch_into(partial: &Path, cache: &Path) -> Result<Self> {
        eprintln!("fetching a toolchain for the plugins from Debian's packages (once, about 130 MB)");
        let debs = partial.join("debs");
        fs::create_dir_all(&debs)?;
        // The package lists may be missing, or so old that they name versions which the archive no longer has.
        let packages = match packages().and_then(|packages| download(&packages, &debs).map(|()| packages)) {
            Ok(packages) => packages,
            Err(_) => {
                command::output(Command::new("apt-get").args(["update", "-qq"]))?;
                let packages = packages()?;
                download(&packages, &debs)?;
                packages
            }
        };
        let root = partial.join("root");
        for deb in fs::read_dir(&debs)? {
            command::output(Command::new("dpkg-deb").arg("-x").arg(deb?.path()).arg(&root))?;
        }
        prune(&root)?;
        let unpacked = Self { prefix: root };
        let mut rustc = Command::new(unpacked.rustc());
        command::output(rustc.arg("-vV").env("LD_LIBRARY_PATH", unpacked.libraries()))
            .context("the unpacked rustc does not run here")?;

        let version = packages.get(ROOTS[0]).map_or("unknown", String::as_str).replace(':', "_");
        let prefix = cache.join(format!("{COMPLETE}{version}"));
        if let Err(error) = fs::rename(&unpacked.prefix, &prefix) {
            // Another run may have been faster; its folder is equivalent.
            if !prefix.is_dir() {
                return Err(error).with_context(|| format!("cannot make {}", prefix.display()));
            }
        }
        Ok(Self { prefix })
    }

    /// Returns the path of the compiler.
    pub fn rustc(&self) -> PathBuf {
        self.prefix.join("usr/bin/rustc")
    }

    /// Returns the folder of the compiler's shared libraries: `usr/lib/<architecture>`.
    pub fn libraries(&self) -> PathBuf {
        let lib = self.prefix.join("usr/lib");
        let holds_driver = |folder: &PathBuf| {
            fs::read_dir(folder).is_ok_and(|entries| {
                entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("librustc_driver"))
            })
        };
        let folders = fs::read_dir(&lib).into_iter().flatten().flatten().map(|entry| entry.path());
        folders.into_iter().find(holds_driver).unwrap_or(lib)
    }

    /// Returns the folder above the standard library's sources.
    pub fn sources(&self) -> PathBuf {
        self.prefix.join("usr/src")
    }
}

/// Returns `$WHARF_TOOLCHAIN_DIR`, else `wharf-xtask` in the user's cache folder: shared by all clones on a machine.
fn cache_folder() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("WHARF_TOOLCHAIN_DIR") {
        return std::path::absolute(&folder).with_context(|| format!("WHARF_TOOLCHAIN_DIR={}", folder.display()));
    }
    let caches = set("XDG_CACHE_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    Ok(caches.context("there is no home folder; set WHARF_TOOLCHAIN_DIR")?.join("wharf-xtask"))
}

/// Looks up the packages to download, with their versions.
fn packages() -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut queue: Vec<String> = ROOTS.map(str::to_owned).to_vec();
    while let Some(name) = queue.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let text = command::output(Command::new("apt-cache").args(["show", "--no-all-versions", &name]))?;
        let record = Record::parse(&text).with_context(|| format!("apt knows no package {name}"))?;
        queue.extend(record.depends.into_iter().filter(|dependency| is_needed(dependency)));
        found.insert(name, record.version);
    }
    let version = found.get(ROOTS[0]).map(String::as_str).unwrap_or_default();
    if minor(version) < minor(LEAST) {
        bail!("{} is {version}, and {LEAST} is needed", ROOTS[0]);
    }
    Ok(found)
}

/// The record of a package from `apt-cache show`.
#[derive(Debug, PartialEq)]
struct Record {
    version: String,
    /// Names only; of alternatives the first.
    depends: Vec<String>,
}

impl Record {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let depends = field("Depends").unwrap_or_default();
        Some(Self {
            version: field("Version")?.to_owned(),
            depends: depends.split(", ").filter_map(|one| Some(one.split([' ', ':']).next()?.to_owned())).collect(),
        })
    }
}

/// Returns whether a dependency is a part of the toolchain, or a shared library that this machine lacks. A C compiler
/// is a dependency too, but every machine that builds Rust natively has it.
fn is_needed(package: &str) -> bool {
    if package.contains("rust-web") || package.starts_with("libllvm") {
        return true;
    }
    let library = package.starts_with("lib") && !package.ends_with("-dev");
    let status = ["-W", "-f", "${db:Status-Status}", package];
    library && command::output(Command::new("dpkg-query").args(status)).ok().as_deref() != Some("installed")
}

/// Returns major and minor of a version such as `1.96.0+dfsg1-1`.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

fn download(packages: &BTreeMap<String, String>, folder: &Path) -> Result<()> {
    let mut apt = Command::new("apt-get");
    // As root, apt would drop its privileges and then warn that it can't write here.
    apt.current_dir(folder).args(["download", "-qq", "-o", "APT::Sandbox::User=root"]);
    apt.args(packages.iter().map(|(name, version)| format!("{name}={version}")));
    command::output(&mut apt).map(drop)
}

/// Removes the sources of the compiler itself, which are two thirds of everything and are not used.
fn prune(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root.join("usr/src"))? {
        for unused in ["compiler", "src"] {
            let folder = entry.as_ref().map_or_else(|_| PathBuf::new(), |entry| entry.path().join(unused));
            if folder.is_dir() {
                fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
            }
        }
    }
    Ok(())
}

fn remove_abandoned(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let partial = entry.file_name().to_string_lossy().starts_with(PARTIAL);
        let modified = entry.metadata().and_then(|data| data.modified()).unwrap_or_else(|_| SystemTime::now());
        if partial && modified.elapsed().is_ok_and(|age| age > ABANDONED_AFTER) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Record, minor};

    #[test]
    fn a_package_record_gives_the_version_and_the_names_of_its_dependencies() {
        let text = "Package: a\nVersion: 1:22.1-1\nDepends: libc6 (>= 2.34), libz1:any (>= 1) | libz2, gcc\nSize: 1\n";
        let expected =
            Record { version: "1:22.1-1".into(), depends: ["libc6", "libz1", "gcc"].map(str::to_owned).to_vec() };
        assert_eq!(Record::parse(text), Some(expected));
        assert_eq!(Record::parse(""), None);
    }

    #[test]
    fn versions_compare_by_number_and_not_by_text() {
        assert!(minor("1.96.0+dfsg1-1~deb12u2") > minor("1.95"));
        assert!(minor("1.100.0") > minor("1.95"));
        assert!(minor("garbage") < minor("1.95"));
    }
}
